//! What is wrong with a configuration, shown at its line.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

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
        let title = level.primary_title(&complaint.title);
        let (path, text) = self.source_of(complaint);
        let lines = complaint
            .span
            .as_ref()
            .and_then(|span| lines_of(text, span));
        let mut group = match (&complaint.span, lines) {
            (Some(span), Some((lines, start, number))) => title.element(
                Snippet::source(lines)
                    .line_start(number)
                    .path(path)
                    .annotation(
                        AnnotationKind::Primary
                            .span(span.start - start..span.end - start)
                            .label(&complaint.label),
                    ),
            ),
            _ => Group::with_title(title),
        };
        if let Some(help) = &complaint.help {
            group = group.element(Level::HELP.message(help));
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

/// Complaints that are shown; nobody mends more at once, and the rest is counted.
const MAX_SHOWN: usize = 50;

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        let errors = self.errors.iter().map(|c| (Level::ERROR, c));
        let warnings = self.warnings.iter().map(|c| (Level::WARNING, c));
        for (level, complaint) in errors.chain(warnings).take(MAX_SHOWN) {
            writeln!(f, "{}\n", renderer.render(&[self.group(level, complaint)]))?;
        }
        let count = self.errors.len() + self.warnings.len();
        if count > MAX_SHOWN {
            writeln!(f, "and {} more\n", count - MAX_SHOWN)?;
        }
        Ok(())
    }
}
