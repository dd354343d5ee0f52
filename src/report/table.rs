//! Tables for people.

use std::time::Duration;

use tabled::builder::Builder;
use tabled::settings::object::Rows;
use tabled::settings::{Color, Modify, Padding, Style};

use super::columns::columns;
use super::{CheckReport, colour};
use crate::model::{ProbeResult, State, Target, escaped};

/// How a table may look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Colours and nothing else may be written as escape codes.
    pub colour: bool,
    /// Columns of the terminal, if it is one.
    pub width: Option<usize>,
}

/// The table of `check`.
pub fn check(report: &CheckReport<'_>, look: Look) -> String {
    let mut rows =
        vec![["NAME", "STATE", "LAYER", "TIME", "SERVER", "TOOLS", "WHY"].map(str::to_owned)];
    for (target, result) in &report.targets {
        rows.push(check_row(target, *result));
    }
    let states: Vec<_> = report
        .targets
        .iter()
        .map(|(_, result)| result.map_or(State::Unknown, |result| result.state))
        .collect();
    format!("{}\n\n{}\n", draw(rows, &states, look), summary(report))
}

/// Where to read on about the first target that failed.
pub fn hint(report: &CheckReport<'_>) -> Option<String> {
    let mut results = report.targets.iter().filter_map(|(_, result)| *result);
    let failure = results.find_map(|result| result.failure.as_ref())?;
    Some(format!(
        "`mcpprobe explain {}` says what that means and what to look at first.\n",
        failure.reason
    ))
}

fn check_row(target: &Target, result: Option<&ProbeResult>) -> [String; 7] {
    let Some(result) = result else {
        let why = "mcpprobe was stopped first".to_owned();
        return [
            target.name.clone(),
            "unknown".to_owned(),
            dash(),
            dash(),
            dash(),
            dash(),
            why,
        ];
    };
    let server = match (&result.server, &result.protocol_version) {
        (Some(server), Some(version)) => format!("{} {} ({version})", server.name, server.version),
        (None, Some(version)) => format!("({version})"),
        _ => dash(),
    };
    [
        target.name.clone(),
        result.state.as_str().to_owned(),
        result
            .failure
            .as_ref()
            .map_or_else(dash, |f| f.layer.as_str().to_owned()),
        short(result.duration),
        server,
        result.tools.map_or_else(dash, |tools| tools.to_string()),
        why(result),
    ]
}

fn why(result: &ProbeResult) -> String {
    let notes = result.deviations();
    match (result.reason(), result.message()) {
        (Some(reason), Some(message)) if notes.is_empty() => format!("{reason}: {message}"),
        (Some(reason), Some(message)) => {
            format!("{reason}: {message} (note: {})", notes.join("; "))
        }
        _ => result
            .notes
            .first()
            .map(|note| format!("note: {note}"))
            .unwrap_or_default(),
    }
}

pub(super) fn dash() -> String {
    "-".to_owned()
}

fn summary(report: &CheckReport<'_>) -> String {
    let counts: Vec<_> = State::ALL
        .into_iter()
        .filter_map(|state| match report.count(state) {
            0 => None,
            count => Some(format!("{count} {}", state.as_str())),
        })
        .collect();
    format!("{} in {}", counts.join(", "), short(report.duration))
}

/// `states` belong to the rows after the header, and colour their second cell; rows without one have none.
pub(super) fn draw<const N: usize>(rows: Vec<[String; N]>, states: &[State], look: Look) -> String {
    // Whatever a cell holds, only the codes that are added below act on the terminal.
    let rows: Vec<_> = rows
        .into_iter()
        .map(|row| row.map(|cell| escaped(&cell).into_owned()))
        .collect();
    let natural: Vec<_> = (0..N)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| columns(cell)).max().unwrap_or_default()
        })
        .collect();
    // Where nobody sees columns a row is a line.
    let rooms = look.width.map(|width| rooms(&natural, width));
    let rows = rows.into_iter().map(|mut row| {
        for (cell, room) in row.iter_mut().zip(rooms.iter().flatten()) {
            *cell = wrapped(cell, *room);
        }
        row
    });
    let mut table = Builder::from_iter(rows).build();
    table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
    if look.colour {
        table.with(Modify::new(Rows::first()).with(Color::BOLD));
        for (index, state) in states.iter().enumerate() {
            let (on, off) = colour::codes(*state);
            table.with(Modify::new((index + 1, 1)).with(Color::new(on, off)));
        }
    }
    let text = table.to_string();
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// Between two columns.
const GAP: usize = 2;

/// A column as narrow as this is never broken: names, times and layers are, and sentences are not.
const NARROW: usize = 30;

/// How wide each column may be in a table of `width`: the narrow ones as they are, the others share the rest.
fn rooms(natural: &[usize], width: usize) -> Vec<usize> {
    let all = natural.len() * GAP;
    let mut left = width.saturating_sub(all);
    let mut order: Vec<_> = (0..natural.len()).collect();
    order.sort_by_key(|column| natural.get(*column));
    let mut rooms = natural.to_vec();
    for (done, column) in order.iter().enumerate() {
        let share = left / (natural.len() - done);
        if let Some(room) = rooms.get_mut(*column) {
            if *room > NARROW {
                *room = (*room).min(share.max(NARROW));
            }
            left = left.saturating_sub(*room);
        }
    }
    rooms
}

/// Broken between words into lines of at most `room` columns; a longer word has a line of its own.
pub(super) fn wrapped(text: &str, room: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let length = lines.last().map_or(0, |line| columns(line));
        if length > 0 && length + 1 + columns(word) > room {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// `1.3 ms`, `812 ms`, `2.4 s`.
pub(super) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.01 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_columns_share_what_the_narrow_ones_leave() {
        assert_eq!(rooms(&[4, 20, 150, 100], 120), [4, 20, 44, 44]);
        assert_eq!(rooms(&[4, 20, 150, 35], 120), [4, 20, 53, 35]);
        assert_eq!(rooms(&[4, 20, 40, 50], 500), [4, 20, 40, 50]);
        assert_eq!(rooms(&[20, 150], 30), [20, 30]);
    }

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrapped("aa bb cc", 5), "aa bb\ncc");
        assert_eq!(wrapped("longer-than-that b", 5), "longer-than-that\nb");
        assert_eq!(wrapped("", 5), "");
    }
}
