//! What is wrong with a configuration, shown at its line.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::model::{escaped, escaped_lines, is_unsafe};

/// One thing that is wrong, or doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong, in a few words.
    pub title: String,
    /// Bytes of the file that are marked; the whole file when absent.
    pub span: Option<Range<usize>>,
    /// Stands under the mark.
    pub label: String,
    /// What to do.
    pub help: Option<String>,
    /// The file that `span` is about, when it is another one than that of the [`Complaints`].
    pub file: Option<Arc<Source>>,
}

/// A file that another one names, such as a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path.
    pub path: String,
    /// Its text, masked.
    pub text: String,
}

impl Complaint {
    /// A complaint about the bytes in `span`.
    pub fn at(span: Range<usize>, title: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            span: Some(span),
            label: label.into(),
            help: None,
            file: None,
        }
    }

    /// The same with advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All complaints about one file, with its text to show them in.
#[derive(Clone, Debug)]
pub struct Complaints {
    /// The file as the user named it.
    pub path: String,
    /// Its text.
    pub source: String,
    /// What is wrong; a configuration with any of these is not used.
    pub errors: Vec<Complaint>,
    /// What is doubtful.
    pub warnings: Vec<Complaint>,
}

impl Complaints {
    /// The number of the line, from 1, in which a complaint's mark starts.
    pub fn line(&self, complaint: &Complaint) -> Option<usize> {
        let (_, text) = self.source_of(complaint);
        let (_, _, line) = lines_of(text, complaint.span.as_ref()?)?;
        Some(line)
    }

    /// The path and the text of the file that a complaint is about.
    fn source_of<'a>(&'a self, complaint: &'a Complaint) -> (&'a str, &'a str) {
        match &complaint.file {
            Some(file) => (&file.path, &file.text),
            None => (&self.path, &self.source),
        }
    }

    fn group<'a>(&'a self, level: Level<'a>, complaint: &'a Complaint) -> Group<'a> {
        let title = level.primary_title(escaped_lines(&complaint.title));
        let (path, text) = self.source_of(complaint);
        let lines = complaint
            .span
            .as_ref()
            .and_then(|span| lines_of(text, span));
        let mut group = match (&complaint.span, lines) {
            (Some(span), Some((lines, start, number))) => title.element(
                Snippet::source(visible(lines))
                    .line_start(number)
                    .path(escaped(path))
                    .annotation(
                        AnnotationKind::Primary
                            .span(span.start - start..span.end - start)
                            .label(escaped_lines(&complaint.label)),
                    ),
            ),
            _ => Group::with_title(title),
        };
        if let Some(help) = &complaint.help {
            group = group.element(Level::HELP.message(escaped_lines(help)));
        }
        group
    }
}

/// The whole lines that a span touches, where they start, and the number of the first.
fn lines_of<'a>(text: &'a str, span: &Range<usize>) -> Option<(&'a str, usize, usize)> {
    let before = text.get(..span.start)?;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let rest = text.get(span.end..)?;
    let end = span.end + rest.find('\n').unwrap_or(rest.len());
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    Some((text.get(start..end)?, start, line))
}

/// Lines of the file in which nothing acts on a terminal, byte by byte as long, so that marks keep their place.
fn visible(lines: &str) -> Cow<'_, str> {
    // The renderer shows ASCII's as pictures of control characters, and tabs as spaces.
    let acts = |c: char| !c.is_ascii() && is_unsafe(c);
    if !lines.contains(acts) {
        return Cow::Borrowed(lines);
    }
    let shown = lines.chars().map(|c| match c.len_utf8() {
        2 if acts(c) => "\u{bf}".to_owned(),
        3 if acts(c) => "\u{fffd}".to_owned(),
        4 if acts(c) => "?\u{fffd}".to_owned(),
        _ => c.to_string(),
    });
    Cow::Owned(shown.collect())
}

/// Complaints that are shown; nobody mends more at once, and the rest is counted.
const MAX_SHOWN: usize = 50;

impl Complaints {
    /// All of them, each at its line; in colours if a terminal shows them.
    pub fn rendered(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut text = String::new();
        let errors = self.errors.iter().map(|c| (Level::ERROR, c));
        let warnings = self.warnings.iter().map(|c| (Level::WARNING, c));
        for (level, complaint) in errors.chain(warnings).take(MAX_SHOWN) {
            text.push_str(&renderer.render(&[self.group(level, complaint)]));
            text.push_str("\n\n");
        }
        let count = self.errors.len() + self.warnings.len();
        if count > MAX_SHOWN {
            text.push_str(&format!("and {} more\n\n", count - MAX_SHOWN));
        }
        text
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that the renderer would not make harmless by itself, and some that it would.
    const EVIL: &str =
        "a\u{1b}[31m\u{7f}\u{9b}1m\u{ad}\u{200b}\u{202e}\u{2066}\u{2028}\u{feff}\u{e0041}b";

    #[test]
    fn nothing_in_a_complaint_acts_on_the_terminal() {
        let source = format!("first = 1\n\tname = \"{EVIL}\"");
        let at = source.len() - 2..source.len() - 1;
        let complaints = Complaints {
            path: EVIL.to_owned(),
            source,
            errors: vec![Complaint::at(at, EVIL, EVIL).help(EVIL)],
            warnings: Vec::new(),
        };
        let text = complaints.to_string();
        assert!(!text.contains(|c| is_unsafe(c) && c != '\n'), "{text:?}");
        // The mark stands under the `b` at the end.
        let line = text.lines().find(|line| line.contains("name =")).unwrap();
        let mark = text.lines().find(|line| line.contains('^')).unwrap();
        let columns = |text: &str| text.chars().count();
        assert_eq!(
            columns(line.rsplit_once('b').unwrap().0),
            columns(mark.split_once('^').unwrap().0),
            "{text}"
        );
    }
}
