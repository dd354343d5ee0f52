//! `canary`: a tool that is called after every layer has passed, for servers that trace nothing else.

use std::ops::Range;

use serde_json::{Map, Value};

use super::checked::Findings;
use super::complaint::Complaint;
use super::keys::{Keys, Typed};
use crate::model::{Layer, Profile, ToolCall};

/// `canary` as it was typed.
pub(super) struct RawCanary {
    span: Range<usize>,
    tool: Typed<String>,
    arguments: Map<String, Value>,
}

/// A tool's name, or a table of it and of its arguments.
pub(super) fn read(keys: &mut Keys<'_, '_>) -> Option<RawCanary> {
    let span = keys.span("canary");
    if !keys.is_table("canary") {
        return Some(RawCanary {
            span,
            tool: keys.text("canary")?,
            arguments: Map::new(),
        });
    }
    let mut table = keys.inner("canary", "`canary`", &["tool", "arguments"])?;
    let arguments = table.json_table("arguments").unwrap_or_default();
    if !table.has("tool") {
        table.complain(
            Complaint::at(span, "`canary` without a `tool`", "add one")
                .help("canary = { tool = \"health\", arguments = { verbose = true } }"),
        );
        return None;
    }
    Some(RawCanary {
        span,
        tool: table.text("tool")?,
        arguments,
    })
}

impl RawCanary {
    /// The tool is only known to the server. That its arguments are what they are is the user's: nothing is put in.
    pub(super) fn check(&self, profile: Option<&Profile>, out: &mut Findings) -> Option<ToolCall> {
        if self.tool.value.trim().is_empty() {
            out.error(Complaint::at(
                self.tool.span.clone(),
                "`canary` names no tool",
                "empty",
            ));
            return None;
        }
        if profile.is_some_and(|profile| profile.depth < Layer::ToolsList) {
            out.error(
                Complaint::at(
                    self.span.clone(),
                    "this has no effect here",
                    "the profile ends before tools are listed",
                )
                .help("a tool is called in a session that works, after its tools were listed"),
            );
        }
        Some(ToolCall {
            tool: self.tool.value.clone(),
            arguments: self.arguments.clone(),
        })
    }
}
