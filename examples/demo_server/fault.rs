//! The ways in which the demo fails.

/// What is wrong with the server, one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// 503 before anything is traced, as from a gateway whose server is gone.
    Http,
    /// 500, and a span that says so.
    HttpSpan,
    /// JSON-RPC error to the handshake of either era.
    Initialize,
    /// JSON-RPC error to `tools/list`.
    ToolsList,
    /// Takes requests and never answers; their spans end when the fault does.
    Hang,
    /// Does the work and its span, then closes the connection instead of answering.
    Drop,
    /// All is well, but no span is made any more.
    TracingOff,
    /// The MCP port refuses connections, and those that were open are closed.
    Transport,
    /// The process is gone at once, with the spans not yet exported.
    Exit,
}

impl Fault {
    const NAMES: [(Self, &str); 10] = [
        (Self::None, "none"),
        (Self::Http, "http"),
        (Self::HttpSpan, "http-span"),
        (Self::Initialize, "initialize"),
        (Self::ToolsList, "tools_list"),
        (Self::Hang, "hang"),
        (Self::Drop, "drop"),
        (Self::TracingOff, "tracing-off"),
        (Self::Transport, "transport"),
        (Self::Exit, "exit"),
    ];

    /// The fault of that name in `/control?fail=NAME`.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(_, n)| *n == name)
            .map(|(fault, _)| *fault)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(fault, _)| *fault == self)
            .map_or("", |(_, name)| name)
    }

    /// All names, for a person who mistyped one.
    pub(crate) fn names() -> String {
        Self::NAMES.map(|(_, name)| name).join(", ")
    }

    /// Whether this method is answered with a JSON-RPC error.
    pub(crate) fn refuses(self, method: &str) -> bool {
        match self {
            Self::Initialize => matches!(method, "initialize" | "server/discover"),
            Self::ToolsList => method == "tools/list",
            _ => false,
        }
    }
}
