//! What is wrong with a configuration, shown at its line.

use std::fmt;
use std::ops::Range;

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
}

impl Complaint {
    /// A complaint about the bytes in `span`.
    pub fn at(span: Range<usize>, title: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            span: Some(span),
            label: label.into(),
            help: None,
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
        let start = complaint.span.as_ref()?.start;
        let before = self.source.get(..start)?;
        Some(before.bytes().filter(|byte| *byte == b'\n').count() + 1)
    }

    fn group<'a>(&'a self, level: Level<'a>, complaint: &'a Complaint) -> Group<'a> {
        let title = level.primary_title(&complaint.title);
        let mut group = match &complaint.span {
            Some(span) if span.end <= self.source.len() => title.element(
                Snippet::source(&self.source).path(&self.path).annotation(
                    AnnotationKind::Primary
                        .span(span.clone())
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

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        let errors = self.errors.iter().map(|c| (Level::ERROR, c));
        let warnings = self.warnings.iter().map(|c| (Level::WARNING, c));
        for (level, complaint) in errors.chain(warnings) {
            writeln!(f, "{}\n", renderer.render(&[self.group(level, complaint)]))?;
        }
        Ok(())
    }
}
