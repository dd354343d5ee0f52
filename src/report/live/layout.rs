//! Which columns a row of the live table has, and what stands in them.

use std::time::{Duration, SystemTime};

use super::Row;
use crate::model::{Outcome, escaped};
use crate::report::colour::painted;
use crate::report::columns::{columns, cut, fitted};
use crate::report::table::short;

/// A longer name is cut: the reason is worth more.
const MAX_NAME: usize = 32;

/// Columns that the reason must keep, or others go: enough for the longest code.
const MIN_WHY: usize = 30;

/// What stands between state and reason, with the columns that each takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Since,
    Last,
    Took,
    Layers,
}

impl Detail {
    /// In the order of the table, and in the order in which they go when it is narrow, last first.
    const ALL: [Self; 4] = [Self::Since, Self::Last, Self::Layers, Self::Took];

    fn head(self) -> &'static str {
        match self {
            Self::Since => "SINCE",
            Self::Last => "LAST",
            Self::Layers => "LAYERS",
            Self::Took => "TOOK",
        }
    }

    /// Of its longest text: `59m59s`, `++++x`, `9.9 ms`.
    const WIDTH: usize = 6;

    fn of(self, row: &Row, now: SystemTime) -> String {
        let ago = |at: SystemTime| age(now.duration_since(at).unwrap_or_default());
        let last = row.last.as_ref();
        let text = match self {
            Self::Since => row.since.map(ago),
            Self::Last => last.map(|last| ago(last.started_at)),
            Self::Took => last.map(|last| short(last.duration)),
            Self::Layers => last.map(|last| {
                let marks = last.layers.iter().map(|layer| mark(layer.outcome));
                marks.collect()
            }),
        };
        text.unwrap_or_else(|| "-".to_owned())
    }
}

fn mark(outcome: Outcome) -> char {
    match outcome {
        Outcome::Ok => '+',
        Outcome::Failed => 'x',
        Outcome::Skipped => '-',
        Outcome::NotReached => '.',
    }
}

/// What is shown where.
pub(super) struct Layout {
    width: usize,
    name: usize,
    state: usize,
    details: Vec<Detail>,
}

/// Columns between two cells.
const GAP: usize = 2;

impl Layout {
    pub(super) fn new(rows: &[&Row], width: usize) -> Self {
        let names = rows.iter().map(|row| columns(&escaped(&row.target.name)));
        let states = rows.iter().map(|row| columns(&state_of(row)));
        let state = states.max().unwrap_or_default().max("STATE".len());
        let most = width.saturating_sub(state + GAP);
        let name = names
            .max()
            .unwrap_or_default()
            .clamp("NAME".len(), MAX_NAME);
        let mut layout = Self {
            width,
            name: name.min(most),
            state: state.min(width),
            details: Detail::ALL.to_vec(),
        };
        while layout.why() < MIN_WHY && layout.details.pop().is_some() {}
        layout
    }

    /// Columns that are left for the reason.
    fn why(&self) -> usize {
        let details = self.details.len() * (Detail::WIDTH + GAP);
        let taken = self.name + GAP + self.state + details + GAP;
        self.width.saturating_sub(taken)
    }

    pub(super) fn heads(&self) -> String {
        let details = self.details.iter().map(|d| d.head().to_owned());
        self.joined("NAME", fitted("STATE", self.state), details, "WHY")
    }

    pub(super) fn line(&self, row: &Row, now: SystemTime, colour: bool) -> String {
        let state = fitted(&state_of(row), self.state);
        let state = painted(&state, row.state, colour);
        let details = self.details.iter().map(|detail| detail.of(row, now));
        self.joined(&escaped(&row.target.name), state, details, &why(row))
    }

    fn joined(
        &self,
        name: &str,
        state: String,
        details: impl Iterator<Item = String>,
        why: &str,
    ) -> String {
        let gap = " ".repeat(GAP);
        let mut cells = vec![state];
        if self.name > 0 {
            cells.insert(0, fitted(name, self.name));
        }
        cells.extend(details.map(|detail| fitted(&detail, Detail::WIDTH)));
        if self.why() > 0 {
            cells.push(cut(why, self.why()));
        }
        cells.join(&gap).trim_end().to_owned()
    }
}

fn state_of(row: &Row) -> String {
    let mark = if row.suspect { "?" } else { "" };
    format!("{}{mark}", row.state.as_str())
}

fn why(row: &Row) -> String {
    let Some(last) = &row.last else {
        return "not probed yet".to_owned();
    };
    match (&last.failure, last.notes.first()) {
        (Some(failure), _) => format!("{}: {}", failure.reason, failure.message),
        (None, Some(note)) => format!("note: {note}"),
        (None, None) => String::new(),
    }
}

/// `12s`, `3m17s`, `2h05m`, `4d03h`.
pub(super) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if minutes == 0 {
        format!("{seconds}s")
    } else if hours == 0 {
        format!("{minutes}m{:02}s", seconds % 60)
    } else if days == 0 {
        format!("{hours}h{:02}m", minutes % 60)
    } else {
        format!("{days}d{:02}h", hours % 24)
    }
}
