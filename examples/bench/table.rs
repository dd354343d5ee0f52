//! The figures as a table.

use super::command::Run;
use super::storm::Storm;
use super::window::Window;

/// What the project promises: `check` of a server on the same machine, in milliseconds, and a `watch`
/// against the bare loop.
const CHECK_MS: f64 = 15.0;
const EFFICIENCY: f64 = 0.4;
/// The engine alone against the bare loop, and against rmcp's client.
const ENGINE: f64 = 0.6;
const RMCP: f64 = 5.0;

/// All bad servers at once.
const STORM_SECONDS: f64 = 4.0;
const STORM_MB: f64 = 100.0;

/// How far from its pace a program may be for its windows to mean anything.
const PACE_TOLERANCE: f64 = 0.02;

/// Everything measured.
pub(crate) struct Figures {
    pub(crate) check_url: Vec<Run>,
    pub(crate) check_file: Vec<Run>,
    /// The bare loop first.
    pub(crate) paced: Vec<Paced>,
    /// What runs as fast as it can: the bare loop, the engine, rmcp.
    pub(crate) flat_out: Vec<Paced>,
}

/// What runs at a pace.
pub(crate) struct Paced {
    name: &'static str,
    /// Turn by turn; the others' turns lie between.
    pub(crate) turns: Vec<Vec<Window>>,
    /// At its peak, in kB.
    pub(crate) memory: u64,
}

impl Paced {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            turns: Vec::new(),
            memory: 0,
        }
    }

    fn windows(&self) -> impl Iterator<Item = &Window> {
        self.turns.iter().flatten()
    }

    fn efficiency(&self) -> Spread {
        Spread::of(self.windows().map(|window| window.efficiency))
    }

    fn pace(&self) -> Spread {
        Spread::of(self.windows().map(|window| window.pace))
    }

    /// Its efficiency as a share of `bare`'s, each turn with the one beside it: how far their ratio
    /// is to be believed.
    fn shares(&self, bare: &Self) -> Spread {
        let median = |turn: &[Window]| Spread::of(turn.iter().map(|w| w.efficiency)).median;
        let pairs = self.turns.iter().zip(&bare.turns);
        Spread::of(pairs.map(|(own, bare)| median(own) / median(bare)))
    }
}

/// Prints all of it; `targets` is the pace that was asked for.
#[expect(clippy::cast_precision_loss, reason = "some thousands")]
pub(crate) fn print(figures: &Figures, targets: usize) {
    println!("{:<42}{:>10}{:>10}{:>10}", "", "median", "least", "most");
    let wall = Spread::of(figures.check_url.iter().map(|r| r.wall.as_secs_f64() * 1e3));
    wall.print("check URL, ms from start to exit", 1);
    let each = 1e3 / targets as f64;
    let cpu = Spread::of(
        figures
            .check_file
            .iter()
            .map(|r| r.cpu.as_secs_f64() * each),
    );
    cpu.print("check FILE, 64 at once, CPU ms/handshake", 3);
    for paced in &figures.paced {
        let efficiency = paced.efficiency();
        efficiency.print(&format!("{}, handshakes/CPU s", paced.name), 0);
    }
    for subject in &figures.flat_out {
        let efficiency = subject.efficiency();
        efficiency.print(&format!("{}, handshakes/CPU s", subject.name), 0);
    }
    for paced in &figures.paced {
        paced.pace().print(&format!("{}, starts/s", paced.name), 0);
    }
    for paced in &figures.paced {
        let what = format!("{}, MB at most", paced.name);
        println!("{what:<42}{:>10.1}", paced.memory as f64 / 1024.0);
    }
    println!();
    let promise = format!("at most {CHECK_MS}");
    judge(
        "check URL, ms",
        wall.median,
        &promise,
        wall.median <= CHECK_MS,
    );
    if let Some((bare, watches)) = figures.paced.split_first() {
        for watch in watches {
            compare(watch, bare, EFFICIENCY);
        }
    }
    if let [bare, engine, rmcp, without_roots] = figures.flat_out.as_slice() {
        compare(engine, bare, ENGINE);
        compare(engine, rmcp, RMCP);
        let ratio = engine.efficiency().median / without_roots.efficiency().median;
        let what = format!("{} / {}", engine.name, without_roots.name);
        println!("{what:<42}{ratio:>10.2}");
    }
    for paced in &figures.paced {
        complain(paced, targets as f64);
    }
    println!("\nrepeat: cargo build --release --bins && cargo run --release --example bench");
}

/// Prints what the bad servers took.
#[expect(clippy::cast_precision_loss, reason = "some thousands")]
pub(crate) fn print_storm(storm: &Storm) {
    let (wall, memory) = (storm.wall.as_secs_f64(), storm.memory as f64 / 1024.0);
    println!(
        "{} bad servers at once in one check, 3 s each:",
        storm.servers
    );
    judge("seconds", wall, "about 4", wall <= STORM_SECONDS);
    judge("MB at most", memory, "about 100", memory <= STORM_MB);
}

/// The ratio of medians, which is what is promised.
fn compare(watch: &Paced, bare: &Paced, least_promised: f64) {
    let ratio = watch.efficiency().median / bare.efficiency().median;
    let Spread { least, most, .. } = watch.shares(bare);
    let promise = format!("at least {least_promised}; by turns {least:.2} to {most:.2}");
    let what = format!("{} / {}", watch.name, bare.name);
    judge(&what, ratio, &promise, ratio >= least_promised);
}

fn judge(what: &str, found: f64, promise: &str, kept: bool) {
    let kept = if kept { "kept" } else { "NOT KEPT" };
    println!("{what:<42}{found:>10.2}  {kept}: {promise}");
}

fn complain(paced: &Paced, wanted: f64) {
    let name = paced.name;
    let pace = paced.pace().median;
    // Written so that a pace that is no number is wrong too.
    let right = (pace / wanted - 1.0).abs() <= PACE_TOLERANCE;
    if !right {
        println!(
            "WRONG PACE: {name} began {pace:.0} handshakes a second instead of {wanted:.0}: its figures mean nothing"
        );
    }
    let discovers: u64 = paced.windows().map(|window| window.discovers).sum();
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
        let below = if numbers.len().is_multiple_of(2) {
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
