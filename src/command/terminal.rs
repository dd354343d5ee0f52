//! What may be written to the terminal that we run on.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use crate::cli::ColorChoice;
use crate::config::Complaints;
use crate::model::escaped_lines;
use crate::report::live::Size;
use crate::report::table::Look;

/// What `--color` said, once for the whole process; what nobody has said is `auto`.
static CHOICE: OnceLock<ColorChoice> = OnceLock::new();

/// Keeps what `--color` said.
pub(super) fn choose(choice: ColorChoice) {
    CHOICE.get_or_init(|| choice);
}

/// Whether a stream may have colours. stdout and stderr are judged apart: one of them may be a file.
pub(super) fn colour(stream: &impl IsTerminal) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let wanted = stream.is_terminal() && !is_dumb() && !no_color;
    match CHOICE.get().unwrap_or(&ColorChoice::Auto) {
        ColorChoice::Auto => wanted,
        ColorChoice::Always => true,
        ColorChoice::Never => false,
    }
}

/// A terminal that says of itself that it knows no codes, or does not say what it is.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Whether stdout is a terminal: advice is lost on a program.
pub(super) fn is_read_by_a_person() -> bool {
    std::io::stdout().is_terminal()
}

/// How tables on stdout may look.
pub(super) fn look() -> Look {
    let stdout = std::io::stdout();
    Look {
        colour: colour(&stdout),
        width: stdout.is_terminal().then(width).flatten(),
    }
}

fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// The size of the terminal on stdout, now; what it does not say is that of the first ones.
pub(super) fn size() -> Size {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let or =
        |number: Option<u16>, usual| number.map(usize::from).filter(|n| *n > 0).unwrap_or(usual);
    Size {
        width: or(size.map(|size| size.ws_col), 80),
        height: or(size.map(|size| size.ws_row), 24),
    }
}

/// Whether stdout is a terminal on which text can be updated in place.
pub(super) fn can_be_drawn_on() -> bool {
    std::io::stdout().is_terminal() && !is_dumb()
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

/// Says on stderr what is wrong with a file, in colours if it may.
pub(super) fn complain_about(file: &Complaints) {
    print_error(&file.rendered(colour(&std::io::stderr())));
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
