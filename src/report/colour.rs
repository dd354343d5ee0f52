//! The colour of a state. One colour means one thing in every table and line.

use crate::model::State;

/// The codes that begin and end a state's colour, for tables that have a type for it.
pub(super) fn codes(state: State) -> (&'static str, &'static str) {
    const FOREGROUND_OFF: &str = "\u{1b}[39m";
    match state {
        State::Up => ("\u{1b}[32m", FOREGROUND_OFF),
        State::Degraded | State::AuthRequired => ("\u{1b}[33m", FOREGROUND_OFF),
        State::Down => ("\u{1b}[31m", FOREGROUND_OFF),
        // Dim and not grey, which some colour schemes make the background.
        State::Unknown => ("\u{1b}[2m", "\u{1b}[22m"),
    }
}

/// `text` in the colour of `state`, if there are colours at all.
pub(super) fn painted(text: &str, state: State, colour: bool) -> String {
    if !colour {
        return text.to_owned();
    }
    let (on, off) = codes(state);
    format!("{on}{text}{off}")
}
