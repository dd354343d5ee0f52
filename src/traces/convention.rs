//! What a span says of MCP, in whichever of the namings it says it.
//!
//! | naming | known by |
//! |---|---|
//! | OpenTelemetry's conventions for MCP and GenAI | `mcp.method.name`, `gen_ai.*` |
//! | the tracing guide's | `mcp.operation`, `mcp.tool_name`, `mcp.session_id`; names `mcp.tool_call` and the like |
//! | mcp-devtools | `mcp.tool.name`, `mcp.tool.result.success` |
//! | Heimdall | `heimdall.*`, `mcp.type` |
//! | OpenInference | `openinference.span.kind`, `tool.name`, `session.id` |
//! | Highflame | `guardrail.*`, `highflame.*` |

use std::borrow::Cow;

use serde::Serialize;

use super::raw::{RawAttribute, RawSpan, RawValue, find};
use crate::model::{Attribute, AttributeValue, RecordedKind, RecordedSpan, SpanStatus};

/// How it went: what the span's status and the attributes of its naming say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nobody says that it failed.
    #[default]
    Ok = 0,
    /// It failed.
    Error = 1,
    /// A guardrail did not let it through.
    Blocked = 2,
}

impl Outcome {
    pub(super) fn of_number(number: u8) -> Self {
        match number {
            1 => Self::Error,
            2 => Self::Blocked,
            _ => Self::Ok,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Blocked => "blocked",
        }
    }
}

/// The words of [`Outcome::as_str`]; `None` for any other.
pub fn outcome_of_word(word: &str) -> Option<Outcome> {
    [Outcome::Ok, Outcome::Error, Outcome::Blocked]
        .into_iter()
        .find(|outcome| outcome.as_str() == word)
}

/// What can be asked for its attributes.
pub trait Attributed {
    /// The value of a span's own attribute, as text.
    fn own(&self, key: &str) -> Option<Cow<'_, str>>;
    /// The value of an attribute of its resource, as text.
    fn of_resource(&self, key: &str) -> Option<Cow<'_, str>>;
    /// Its name.
    fn name(&self) -> &str;
    /// Whether any key of its own passes.
    fn any_key(&self, test: &dyn Fn(&str) -> bool) -> bool;
    /// Its status is an error.
    fn is_error(&self) -> bool;
}

impl Attributed for RecordedSpan {
    fn own(&self, key: &str) -> Option<Cow<'_, str>> {
        self.attribute(key).map(text)
    }

    fn of_resource(&self, key: &str) -> Option<Cow<'_, str>> {
        self.resource_attribute(key).map(text)
    }

    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn any_key(&self, test: &dyn Fn(&str) -> bool) -> bool {
        let key = |attribute: &Attribute| test(attribute.key.as_str());
        self.attributes.iter().any(key)
    }

    fn is_error(&self) -> bool {
        matches!(self.status, SpanStatus::Error(_))
    }
}

fn text(value: &AttributeValue) -> Cow<'_, str> {
    match value.as_str() {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(value.plain()),
    }
}

/// A span in a buffer, with its resource.
pub(super) struct WithResource<'s, 'a> {
    pub(super) span: &'s RawSpan<'a>,
    pub(super) resource: &'s [RawAttribute<'a>],
}

impl Attributed for WithResource<'_, '_> {
    fn own(&self, key: &str) -> Option<Cow<'_, str>> {
        self.span.attribute(key).map(raw_text)
    }

    fn of_resource(&self, key: &str) -> Option<Cow<'_, str>> {
        find(self.resource, key).map(raw_text)
    }

    fn name(&self) -> &str {
        &self.span.name
    }

    fn any_key(&self, test: &dyn Fn(&str) -> bool) -> bool {
        self.span.attributes.iter().any(|a| test(&a.key))
    }

    fn is_error(&self) -> bool {
        self.span.status == 2
    }
}

pub(super) fn raw_text<'v>(value: &'v RawValue<'_>) -> Cow<'v, str> {
    match value {
        RawValue::Text(text) | RawValue::Json(text) => Cow::Borrowed(text),
        RawValue::Int(number) => Cow::Owned(number.to_string()),
        RawValue::Double(number) => Cow::Owned(number.to_string()),
        RawValue::Bool(true) => Cow::Borrowed("true"),
        RawValue::Bool(false) => Cow::Borrowed("false"),
        RawValue::Bytes(_) | RawValue::Empty => Cow::Borrowed(""),
    }
}

/// The first of `keys` that the span has with something in it.
fn first<'s>(span: &'s impl Attributed, keys: &[&str]) -> Option<Cow<'s, str>> {
    keys.iter()
        .filter_map(|key| span.own(key))
        .find(|value| !value.is_empty())
}

/// Keys that [`outcome`] looks at: a span without any is judged by its status alone.
pub(super) fn tells_outcome(key: &str) -> bool {
    matches!(
        key,
        "guardrail.outcome"
            | "guardrail.action"
            | "highflame.outcome"
            | "highflame.status"
            | "highflame.action"
            | "security.action"
            | "heimdall.status"
            | "mcp.tool.result.success"
            | "mcp.tool.result.is_error"
            | "mcp.tool.result.error"
            | "mcp.tool.is_error"
    )
}

/// How it went.
pub fn outcome(span: &impl Attributed) -> Outcome {
    let is = |key: &str, words: &[&str]| {
        let value = span.own(key).unwrap_or_default();
        words.iter().any(|word| value.eq_ignore_ascii_case(word))
    };
    let blocked = [
        "guardrail.outcome",
        "guardrail.action",
        "highflame.outcome",
        "highflame.status",
        "highflame.action",
        "security.action",
    ]
    .iter()
    .any(|key| is(key, &["block", "blocked", "deny", "denied"]))
        || is("heimdall.status", &["blocked"]);
    if blocked {
        return Outcome::Blocked;
    }
    let failed = span.is_error()
        || is(
            "heimdall.status",
            &["error", "timeout", "cancelled", "canceled"],
        )
        || is("mcp.tool.result.success", &["false"])
        || is("mcp.tool.result.is_error", &["true"])
        || is("mcp.tool.is_error", &["true"])
        || span
            .own("mcp.tool.result.error")
            .is_some_and(|error| !error.is_empty() && error != "false");
    if failed { Outcome::Error } else { Outcome::Ok }
}

/// Whether it says anything of MCP.
pub fn is_mcp(span: &impl Attributed) -> bool {
    span.name().starts_with("mcp.")
        || span.any_key(&|key| {
            key.starts_with("mcp.") || key == "gen_ai.tool.name" || key == "heimdall.span_kind"
        })
}

/// The JSON-RPC method, in the protocol's own word where it is known: `tools/call`.
pub fn method(span: &impl Attributed) -> Option<Cow<'_, str>> {
    let said = first(span, &["mcp.method.name", "mcp.method", "rpc.method"]);
    if said.is_some() {
        return said;
    }
    let word = first(span, &["mcp.operation", "mcp.type", "heimdall.span_kind"])
        .map(Cow::into_owned)
        .or_else(|| span.name().strip_prefix("mcp.").map(str::to_owned))?;
    Some(match word.to_ascii_lowercase().as_str() {
        "initialize" => Cow::Borrowed("initialize"),
        "discover" => Cow::Borrowed("server/discover"),
        "tools_list" | "tools/list" => Cow::Borrowed("tools/list"),
        "tool" | "tool_call" | "tools_call" | "tool.execute" | "mcp_tool" => {
            Cow::Borrowed("tools/call")
        }
        "resource" | "resource_read" | "mcp_resource" => Cow::Borrowed("resources/read"),
        "prompt" | "prompt_get" | "mcp_prompt" => Cow::Borrowed("prompts/get"),
        _ => return None,
    })
}

/// The tool that was called.
pub fn tool(span: &impl Attributed) -> Option<Cow<'_, str>> {
    let keys = [
        "gen_ai.tool.name",
        "mcp.tool.name",
        "mcp.tool_name",
        "tool.name",
        "heimdall.tool_name",
        "heimdall.tool.name",
    ];
    if let Some(tool) = first(span, &keys) {
        return Some(tool);
    }
    // Heimdall's decorators name the span as the function, and say only what it is.
    let is_tool = |key| {
        span.own(key)
            .is_some_and(|kind| matches!(kind.to_ascii_lowercase().as_str(), "tool" | "mcp_tool"))
    };
    (is_tool("mcp.type") || is_tool("heimdall.span_kind")).then(|| Cow::Borrowed(span.name()))
}

/// The MCP session, or what its naming calls a session.
pub fn session(span: &impl Attributed) -> Option<Cow<'_, str>> {
    let keys = [
        "mcp.session.id",
        "mcp.session_id",
        "heimdall.session_id",
        "heimdall.session.id",
        "session.id",
        "gen_ai.conversation.id",
    ];
    first(span, &keys)
}

/// The conversation with a model.
pub fn conversation(span: &impl Attributed) -> Option<Cow<'_, str>> {
    let keys = [
        "gen_ai.conversation.id",
        "heimdall.conversation_id",
        "langfuse.session.id",
        "traceloop.association.properties.session_id",
    ];
    first(span, &keys)
}

/// Keys of a resource by which it belongs to a project, best first.
pub(super) const PROJECT_KEYS: [&str; 4] = [
    "heimdall.project_id",
    "heimdall.project.id",
    "openinference.project.name",
    "service.name",
];

/// The project, or the service, which is one of its own without a project. It is the resource's: a project is a process'
/// and not a span's.
pub fn project(span: &impl Attributed) -> Option<Cow<'_, str>> {
    PROJECT_KEYS
        .iter()
        .filter_map(|key| span.of_resource(key))
        .find(|value| !value.is_empty())
}

/// What it is in a chain of agents, models and tools: `tool`, `llm`, `agent`, `chain`, `retriever`, ... in lower case.
pub fn role(span: &impl Attributed) -> Option<String> {
    if let Some(kind) = first(span, &["openinference.span.kind", "traceloop.span.kind"]) {
        return Some(kind.to_ascii_lowercase());
    }
    let operation = span.own("gen_ai.operation.name");
    let role = match operation.as_deref() {
        Some("execute_tool") => "tool",
        Some("chat" | "text_completion" | "generate_content") => "llm",
        Some("invoke_agent" | "create_agent") => "agent",
        Some("embeddings") => "embedding",
        _ if tool(span).is_some() => "tool",
        _ => return None,
    };
    Some(role.to_owned())
}

pub(super) fn kind_of_number(number: u8) -> RecordedKind {
    match number {
        2 => RecordedKind::Server,
        3 => RecordedKind::Client,
        4 => RecordedKind::Producer,
        5 => RecordedKind::Consumer,
        _ => RecordedKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a span of some name and attributes says: outcome, method, tool, session, and its role.
    fn said(name: &str, status: u8, attributes: &[(&str, &str)]) -> [String; 5] {
        let attribute = |(key, value): &(&str, &str)| RawAttribute {
            key: Cow::Owned((*key).to_owned()),
            value: match *value {
                "true" => RawValue::Bool(true),
                "false" => RawValue::Bool(false),
                text => RawValue::Text(Cow::Owned(text.to_owned())),
            },
        };
        let raw = RawSpan {
            name: Cow::Owned(name.to_owned()),
            status,
            attributes: attributes.iter().map(attribute).collect(),
            ..RawSpan::default()
        };
        let span = WithResource {
            span: &raw,
            resource: &[],
        };
        let text = |said: Option<Cow<'_, str>>| said.unwrap_or_default().into_owned();
        [
            outcome(&span).as_str().to_owned(),
            text(method(&span)),
            text(tool(&span)),
            text(session(&span)),
            role(&span).unwrap_or_default(),
        ]
    }

    #[test]
    fn every_naming_says_the_same() {
        let semantic = [
            ("mcp.method.name", "tools/call"),
            ("gen_ai.tool.name", "weather"),
            ("gen_ai.operation.name", "execute_tool"),
            ("mcp.session.id", "s"),
        ];
        let guide = [
            ("mcp.operation", "tool_call"),
            ("mcp.tool_name", "weather"),
            ("mcp.session_id", "s"),
        ];
        let devtools = [
            ("mcp.operation", "tool.execute"),
            ("mcp.tool.name", "weather"),
            ("mcp.session.id", "s"),
            ("mcp.tool.result.success", "false"),
        ];
        let heimdall = [
            ("mcp.type", "tool"),
            ("heimdall.session_id", "s"),
            ("heimdall.status", "TIMEOUT"),
        ];
        let inference = [
            ("openinference.span.kind", "TOOL"),
            ("tool.name", "weather"),
            ("session.id", "s"),
        ];
        let expected = ["error", "tools/call", "weather", "s", "tool"];
        assert_eq!(said("tools/call weather", 2, &semantic), expected);
        assert_eq!(said("mcp.tool_call", 2, &guide), expected);
        assert_eq!(said("mcp.tool.execute", 0, &devtools), expected);
        assert_eq!(said("weather", 0, &heimdall), expected);
        assert_eq!(
            said("weather", 2, &inference),
            ["error", "", "weather", "s", "tool"]
        );
        assert_eq!(said("GET /", 0, &[]), ["ok", "", "", "", ""]);
    }

    #[test]
    fn what_a_guardrail_stopped_is_blocked_and_not_an_error() {
        for attributes in [
            ("guardrail.outcome", "block"),
            ("highflame.status", "Blocked"),
            ("security.action", "block"),
        ] {
            assert_eq!(said("tools/call", 2, &[attributes])[0], "blocked");
        }
        for (key, value) in [
            ("guardrail.outcome", "allow"),
            ("mcp.tool.result.success", "true"),
            ("mcp.tool.result.error", ""),
            ("heimdall.status", "OK"),
        ] {
            assert_eq!(said("tools/call", 0, &[(key, value)])[0], "ok", "{key}");
            assert!(tells_outcome(key), "{key}");
        }
        assert_eq!(
            said("a", 0, &[("heimdall.status", "CANCELLED")])[0],
            "error"
        );
    }
}
