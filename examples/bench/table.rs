//! The figures as a table.

use super::command::Run;
use super::window::Window;

/// What the project promises: `check` of a server on the same machine, in milliseconds, and a `watch`
/// against the bare loop.
const CHECK_MS: f64 = 15.0;
const EFFICIENCY: f64 = 0.4;

/// How far from its pace a program may be for its windows to mean anything.
const PACE_TOLERANCE: f64 = 0.02;

/// Everything measured.
pub(crate) struct Figures {
    pub(crate) check_url: Vec<Run>,
    pub(crate) check_file: Vec<Run>,
    /// The bare loop first.
    pub(crate) paced: Vec<Paced>,
}

/// What runs at a pace.
pub(crate) struct Paced {
    name: &'static str,
    pub(crate) windows: Vec<Window>,
    /// At its peak, in kB.
    pub(crate) memory: u64,
}

impl Paced {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            windows: Vec::new(),
            memory: 0,
        }
    }

    fn efficiency(&self) -> Spread {
        Spread::of(self.windows.iter().map(|window| window.efficiency))
    }
}

/// Prints all of it; `targets` is the pace that was asked for.
#[expect(clippy::cast_precision_loss, reason = "some thousands")]
pub(crate) fn print(figures: &Figures, targets: usize) {
    println!("{:<42}{:>10}{:>10}{:>10}", "", "median", "least", "most");
    let wall = Spread::of(
        figures
            .check_url
            .iter()
            .map(|run| run.wall.as_secs_f64() * 1e3),
    );
    wall.print("check URL, ms from start to exit", 1);
    let each = 1e3 / targets as f64;
    let cpu = Spread::of(
        figures
            .check_file
            .iter()
            .map(|run| run.cpu.as_secs_f64() * each),
    );
    cpu.print("check FILE, 64 at once, CPU ms/handshake", 3);
    for paced in &figures.paced {
        paced
            .efficiency()
            .print(&format!("{}, handshakes/CPU s", paced.name), 0);
    }
    for paced in &figures.paced {
        let pace = Spread::of(paced.windows.iter().map(|window| window.pace));
        pace.print(&format!("{}, starts/s", paced.name), 0);
    }
    for paced in &figures.paced {
        println!(
            "{:<42}{:>10.1}",
            format!("{}, MB at most", paced.name),
            paced.memory as f64 / 1024.0
        );
    }
    println!();
    judge(
        "check URL",
        wall.median,
        "at most",
        CHECK_MS,
        wall.median <= CHECK_MS,
    );
    for (watch, ratio) in ratios(&figures.paced) {
        judge(
            &format!("{watch} / loop"),
            ratio,
            "at least",
            EFFICIENCY,
            ratio >= EFFICIENCY,
        );
    }
    for paced in &figures.paced {
        complain(paced, targets as f64);
    }
}

/// Each `watch` against the loop, medians of one run.
fn ratios(paced: &[Paced]) -> Vec<(&'static str, f64)> {
    let Some((bare, watches)) = paced.split_first() else {
        return Vec::new();
    };
    let bare = bare.efficiency().median;
    let ratio = |watch: &Paced| (watch.name, watch.efficiency().median / bare);
    watches.iter().map(ratio).collect()
}

fn judge(what: &str, found: f64, relation: &str, promised: f64, kept: bool) {
    let kept = if kept { "kept" } else { "NOT KEPT" };
    println!("{what:<42}{found:>10.2}   promised: {relation} {promised}: {kept}");
}

fn complain(paced: &Paced, pace: f64) {
    let name = paced.name;
    let found = Spread::of(paced.windows.iter().map(|window| window.pace)).median;
    if (found / pace - 1.0).abs() > PACE_TOLERANCE {
        println!(
            "WRONG PACE: {name} began {found:.0} handshakes a second instead of {pace:.0}: its figures mean nothing"
        );
    }
    let discovers: u64 = paced.windows.iter().map(|window| window.discovers).sum();
    if discovers > 0 {
        println!(
            "WRONG REQUESTS: {name} asked {discovers} times for the era, which it should have known"
        );
    }
}

/// The middle of some numbers and their ends.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        let mut numbers: Vec<_> = numbers.collect();
        numbers.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| numbers.get(index).copied().unwrap_or(f64::NAN);
        let middle = numbers.len() / 2;
        let below = if numbers.len() % 2 == 0 {
            middle.saturating_sub(1)
        } else {
            middle
        };
        Self {
            least: at(0),
            median: f64::midpoint(at(below), at(middle)),
            most: at(numbers.len().saturating_sub(1)),
        }
    }

    fn print(&self, what: &str, decimals: usize) {
        let Self {
            least,
            median,
            most,
        } = self;
        println!("{what:<42}{median:>10.decimals$}{least:>10.decimals$}{most:>10.decimals$}");
    }
}
