//! The table that `watch` keeps up to date on a terminal. Pure: from rows, a time and a size to text.

mod layout;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::colour::painted;
use super::columns::{columns, cut};
use crate::model::{ProbeResult, State, Target, Timing};
use layout::{Layout, age};

/// One target as it is shown.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which.
    pub target: Arc<Target>,
    /// State by the last probe, or as the last run left it.
    pub state: State,
    /// A first failure that is not confirmed yet.
    pub suspect: bool,
    /// Start of the probe that first found the state.
    pub since: Option<SystemTime>,
    /// The last probe of this run.
    pub last: Option<Arc<ProbeResult>>,
}

/// Columns and rows of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// The part of the terminal's rows that is left to events.
const EVENTS_SHARE: usize = 4;

/// From the worst to the best, which is the order of rows.
const WORST_FIRST: [State; 5] = [
    State::Down,
    State::AuthRequired,
    State::Degraded,
    State::Unknown,
    State::Up,
];

/// The whole table, in lines that fit: a headline, then the worst targets in the order of the file, then how many
/// there are besides.
pub fn frame(rows: &[Row], now: SystemTime, size: Size, colour: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    // The last column stays empty: some terminals begin a new line as soon as it is written.
    let width = size.width.saturating_sub(1);
    let room = size.height - size.height / EVENTS_SHARE;
    let mut lines = vec![headline(rows, now, width, colour)];
    // Headline, heads and the count of the others.
    let fits = room.saturating_sub(2);
    let fits = if rows.len() > fits {
        fits.saturating_sub(1)
    } else {
        fits
    };
    let (shown, rest) = worst(rows, fits);
    if !shown.is_empty() {
        let layout = Layout::new(&shown, width);
        lines.push(layout.heads());
        lines.extend(shown.iter().map(|row| layout.line(row, now, colour)));
    }
    if !rest.is_empty() && room > 1 {
        let others = rest.len();
        let counts = counts(rest.into_iter());
        let counts = counts.iter().map(|(_, text)| text.as_str());
        let counts = counts.collect::<Vec<_>>().join(", ");
        lines.push(cut(&format!("and {others} more: {counts}"), width));
    }
    lines.join("\n")
}

/// The first `fits` rows by how bad they are, and all others.
fn worst(rows: &[Row], fits: usize) -> (Vec<&Row>, Vec<&Row>) {
    let mut sorted: Vec<_> = rows.iter().collect();
    // Stable: within a state the order of the file stays.
    sorted.sort_by_key(|row| badness(row));
    let rest = sorted.split_off(fits.min(sorted.len()));
    (sorted, rest)
}

/// Failed ones come first, then those that may have, then the others.
fn badness(row: &Row) -> (bool, bool, usize) {
    let place = WORST_FIRST.iter().position(|state| *state == row.state);
    (
        !row.state.failed(),
        !row.suspect,
        place.unwrap_or(WORST_FIRST.len()),
    )
}

fn headline(rows: &[Row], now: SystemTime, width: usize, colour: bool) -> String {
    let next = rows.iter().map(|row| due(row, now)).min();
    let next = match next.unwrap_or_default() {
        Duration::ZERO => "next probe now".to_owned(),
        wait => format!("next probe in {}", age(wait)),
    };
    let counts = counts(rows.iter());
    let joined = |colour| {
        let words = counts
            .iter()
            .map(|(state, text)| painted(text, *state, colour));
        format!("{}  {next}", words.collect::<Vec<_>>().join(", "))
    };
    let plain = joined(false);
    if columns(&plain) > width {
        return cut(&plain, width);
    }
    joined(colour)
}

/// Until the next probe: starts are `every` apart, or as `cron` says.
fn due(row: &Row, now: SystemTime) -> Duration {
    let next = match (&row.target.timing, &row.last) {
        (Timing::Every(every), Some(last)) => Some(last.started_at + *every),
        (Timing::Every(_), None) => None,
        (Timing::Cron(cron), _) => cron.next_after(now),
    };
    next.and_then(|next| next.duration_since(now).ok())
        .unwrap_or_default()
}

/// `2 down`, `97 up`; the worst first.
fn counts<'r>(rows: impl Iterator<Item = &'r Row>) -> Vec<(State, String)> {
    let mut numbers = [0; WORST_FIRST.len()];
    for row in rows {
        let place = WORST_FIRST.iter().position(|state| *state == row.state);
        if let Some(number) = place.and_then(|place| numbers.get_mut(place)) {
            *number += 1;
        }
    }
    let counts = WORST_FIRST.into_iter().zip(numbers);
    counts
        .filter(|(_, number)| *number > 0)
        .map(|(state, number)| (state, format!("{number} {}", state.as_str())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AdHoc;
    use crate::model::{Failure, Layer, LayerResult, Outcome, Reason, Text};

    const WIDE: Size = Size {
        width: 101,
        height: 40,
    };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn row(name: &str, state: State) -> Row {
        let url = "http://127.0.0.1:9/mcp".to_owned();
        let mut target = AdHoc::Url(url).target(None, &|_| None).unwrap();
        name.clone_into(&mut target.name);
        Row {
            target: Arc::new(target),
            state,
            suspect: false,
            since: None,
            last: None,
        }
    }

    /// Probed at 1,000 s; since 815 s.
    fn probed(name: &str, state: State, message: &str) -> Row {
        let fails = state.failed();
        let outcomes = if fails {
            [
                Outcome::Ok,
                Outcome::Failed,
                Outcome::NotReached,
                Outcome::NotReached,
            ]
        } else {
            [Outcome::Ok; 4]
        };
        let result = ProbeResult {
            started_at: at(1_000),
            duration: Duration::from_micros(1_300),
            state,
            failure: fails.then(|| Failure {
                layer: Layer::Http,
                reason: Reason::HttpStatus,
                message: Text::new(message),
                http_status: None,
                jsonrpc_code: None,
            }),
            layers: outcomes.map(|outcome| LayerResult {
                outcome,
                ..LayerResult::default()
            }),
            ..ProbeResult::passed()
        };
        Row {
            since: Some(at(815)),
            last: Some(Arc::new(result)),
            ..row(name, state)
        }
    }

    fn names(frame: &str) -> Vec<&str> {
        let rows = frame.lines().skip(2);
        rows.filter_map(|line| line.split_whitespace().next())
            .collect()
    }

    #[test]
    fn a_frame_tells_the_worst_first() {
        let mut doubtful = probed("doubtful", State::Up, "");
        doubtful.suspect = true;
        let rows = [
            probed("fine", State::Up, ""),
            row("new", State::Unknown),
            doubtful,
            probed("slow", State::Degraded, ""),
            probed("locked", State::AuthRequired, "HTTP 401"),
            probed("broken", State::Down, "HTTP 503 Service Unavailable"),
        ];
        let shown = frame(&rows, at(1_012), WIDE, false);
        let expected = "\
1 down, 1 auth_required, 1 degraded, 1 unknown, 2 up  next probe now
NAME      STATE          SINCE   LAST    LAYERS  TOOK    WHY
broken    down           3m17s   12s     +x..    1.3 ms  http_status: HTTP 503 Service Unavailable
locked    auth_required  3m17s   12s     +x..    1.3 ms  http_status: HTTP 401
doubtful  up?            3m17s   12s     ++++    1.3 ms
slow      degraded       3m17s   12s     ++++    1.3 ms
new       unknown        -       -       -       -       not probed yet
fine      up             3m17s   12s     ++++    1.3 ms";
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_headline_says_when_the_next_probe_is_due() {
        let rows = [probed("a", State::Up, ""), probed("b", State::Up, "")];
        let shown = frame(&rows, at(1_012), WIDE, false);
        assert!(shown.starts_with("2 up  next probe in 48s\n"), "{shown}");
        let shown = frame(&rows, at(2_000), WIDE, false);
        assert!(shown.starts_with("2 up  next probe now\n"), "{shown}");
    }

    #[test]
    fn of_many_targets_the_worst_are_shown_and_the_others_counted() {
        let mut rows: Vec<_> = (0..10_000)
            .map(|n| probed(&format!("server-{n}"), State::Up, ""))
            .collect();
        rows[7_000] = probed("broken", State::Down, "x");
        let size = Size {
            width: 80,
            height: 24,
        };
        let shown = frame(&rows, at(1_000), size, false);
        assert_eq!(shown.lines().count(), 18, "a quarter is left to events");
        assert_eq!(names(&shown)[..3], ["broken", "server-0", "server-1"]);
        assert!(shown.ends_with("\nand 9985 more: 9985 up"), "{shown}");
    }

    #[test]
    fn a_frame_fits_every_terminal() {
        let mut rows: Vec<_> = (0..30)
            .map(|n| probed(&format!("server-{n}"), State::Up, ""))
            .collect();
        rows.push(probed(
            &"天".repeat(50),
            State::AuthRequired,
            &"words ".repeat(60),
        ));
        rows.push(row("new", State::Unknown));
        for width in 1..130 {
            for height in [1, 2, 3, 4, 5, 8, 24, 60] {
                let size = Size { width, height };
                let shown = frame(&rows, at(1_000), size, false);
                assert!(shown.lines().count() <= height, "{size:?}:\n{shown}");
                for line in shown.lines() {
                    assert!(columns(line) < width, "{size:?}: {line:?}");
                }
                let bare: String = without_colours(&frame(&rows, at(1_000), size, true));
                assert_eq!(bare.replace(' ', ""), shown.replace(' ', ""), "{size:?}");
            }
        }
    }

    fn without_colours(text: &str) -> String {
        let mut parts = text.split("\u{1b}[");
        let first = parts.next().unwrap().to_owned();
        first
            + &parts
                .map(|part| part.split_once('m').unwrap().1)
                .collect::<String>()
    }

    #[test]
    fn a_narrow_terminal_keeps_what_matters() {
        let rows = [probed(
            "broken",
            State::Down,
            "HTTP 503 Service Unavailable",
        )];
        let lines = |width| {
            let size = Size { width, height: 24 };
            frame(&rows, at(1_000), size, false)
                .lines()
                .last()
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            lines(63),
            "broken  down   3m05s   0s      http_status: HTTP 503 Service …"
        );
        assert_eq!(lines(35), "broken  down   http_status: HTTP …");
        assert_eq!(lines(14), "broken  down");
    }

    #[test]
    fn only_states_are_coloured_and_nothing_that_a_user_wrote_acts() {
        let rows = [probed("a\u{202e}b\u{9b}1m", State::Down, "x")];
        let shown = frame(&rows, at(1_000), WIDE, true);
        assert!(shown.contains("\u{1b}[31mdown "), "{shown:?}");
        assert!(shown.starts_with("\u{1b}[31m1 down\u{1b}[39m"), "{shown:?}");
        assert!(shown.contains("a\\u{202e}b\\u{9b}1m"), "{shown:?}");
        assert!(!frame(&rows, at(1_000), WIDE, false).contains('\u{1b}'));
    }

    #[test]
    fn nothing_to_show_is_no_frame() {
        assert_eq!(frame(&[], at(1_000), WIDE, true), "");
    }

    #[test]
    fn ages_are_short() {
        let ages = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 370_000];
        let ages = ages.map(|seconds| age(Duration::from_secs(seconds)));
        let expected = [
            "0s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d00h", "4d06h",
        ];
        assert_eq!(ages, expected);
    }
}
