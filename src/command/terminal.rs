//! What may be written to the terminal that we run on.

use std::io::{IsTerminal, Write};

use crate::model::escaped_lines;
use crate::report::table::Look;

/// How tables on stdout may look: colours only on a terminal, and not against `NO_COLOR`.
pub(super) fn look() -> Look {
    let terminal = std::io::stdout().is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Look {
        colour: terminal && !no_color,
        width: terminal.then(width).flatten(),
    }
}

fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Writes to stdout. A reader that has gone away (`| head`) is no error.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .ok();
}

/// Says a sentence on stderr. Whatever it repeats (a path, an argument, an error's words), nothing in it acts on the
/// terminal.
pub fn complain(text: &str) {
    print_error(&escaped_lines(text));
}

/// Writes a line to stderr as it is. `eprintln!` would panic when nobody reads it any more, and a watch must go on.
pub(super) fn print_error(text: &str) {
    let mut err = std::io::stderr().lock();
    let end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    write!(err, "{text}{end}").and_then(|()| err.flush()).ok();
}

/// A line on stderr that replaces itself, if stderr is a terminal.
pub(super) struct Progress {
    on: bool,
    shown: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            on: std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    pub(super) fn show(&mut self, text: &str) {
        if self.on {
            write!(std::io::stderr(), "\r\x1b[K{text}").ok();
            self.shown = true;
        }
    }

    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            write!(std::io::stderr(), "\r\x1b[K").ok();
        }
    }
}
