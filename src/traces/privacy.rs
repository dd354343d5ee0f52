//! What is not kept of a span, because of what it may hold.
//!
//! Two rules. *Content*: what users typed, what tools and models answered, and who they were; it is telemetry of people,
//! not of servers, and is kept only by those who say so (`keep_content`). *Credentials*: whatever lets one in; it is never kept.
//! Attributes of spans, events, links and resources are judged alike, by their keys alone: a value that looks like a
//! secret is not looked for, because a rule that works half of the time is one that nobody should rely on.

use std::borrow::Cow;

/// What becomes of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It stays.
    Keep,
    /// It holds content.
    Content,
    /// It holds a credential.
    Credential,
    /// A URL, of which user, password and the values of its query may be credentials.
    Url,
    /// The query of one.
    Query,
}

/// Content by its whole key, whose words are too ordinary to be the beginning of something.
const CONTENT: &[&str] = &[
    // OpenInference.
    "input.value",
    "output.value",
    "llm.prompts",
    "llm.invocation_parameters",
    "tool.parameters",
    "embedding.text",
    "metadata",
    // Logfire's MCP instrumentation: whole messages of JSON-RPC.
    "request",
    "response",
    // Vercel's AI SDK.
    "ai.response.text",
    "ai.response.object",
    "ai.response.toolcalls",
    "ai.toolcall.args",
    "ai.toolcall.result",
    // MLflow.
    "mlflow.spaninputs",
    "mlflow.spanoutputs",
    // Google's ADK.
    "gcp.vertex.agent.llm_request",
    "gcp.vertex.agent.llm_response",
    "gcp.vertex.agent.tool_call_args",
    "gcp.vertex.agent.tool_response",
    // Who it was.
    "enduser.id",
    "langfuse.user.id",
    "user.id",
    "user.name",
    "user.email",
    "user.full_name",
    // OpenTelemetry's GenAI conventions, and the events of their older versions.
    "gen_ai.system_instructions",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.tool.call.result",
    "gen_ai.tool.definitions",
    "gen_ai.event.content",
    // mcp-devtools and the tracing guide, which says itself that arguments are not to be recorded.
    "mcp.tool.result",
    "mcp.tool_arguments",
    "mcp.tool_result",
    "mcp.result",
    "mcp.request.params",
    "mcp.response.result",
    // Statements with their parameters put in; `db.query.text` and `db.statement` hold placeholders by convention and
    // say which query was slow: they stay.
    "db.query.parameters",
    "db.statement.parameters",
    "http.request.body",
    "http.response.body",
    "rpc.request.body",
    "rpc.response.body",
];

/// Content by how its key begins: lists with an index in the key, and families.
const CONTENT_STARTS: &[&str] = &[
    "ai.prompt",
    "gen_ai.prompt.",
    "gen_ai.completion.",
    "gen_ai.input.messages.",
    "gen_ai.output.messages.",
    "gen_ai.tool.call.arguments.",
    "gen_ai.tool.call.result.",
    "llm.input_messages",
    "llm.output_messages",
    "llm.prompts.",
    "llm.prompt_template.",
    "retrieval.documents",
    "reranker.input_documents",
    "reranker.output_documents",
    "reranker.query",
    "embedding.embeddings",
    "mcp.request.argument.",
    "mcp.tool.arguments.",
    "mcp.tool.result.content",
    "db.query.parameter.",
    "http.request.body.",
    "http.response.body.",
    "langfuse.observation.input",
    "langfuse.observation.output",
    "langfuse.trace.input",
    "langfuse.trace.output",
];

/// Content by the last word of its key, whoever made the key up: `heimdall.input`, `traceloop.entity.output`,
/// `gen_ai.tool.call.arguments`, `gen_ai.prompt`.
const CONTENT_ENDS: &[&str] = &[
    "input",
    "inputs",
    "output",
    "outputs",
    "arguments",
    "args",
    "prompt",
    "completion",
];

/// Numbers of content: tokens, and what they cost.
const NUMBER_STARTS: &[&str] = &[
    "llm.token_count.",
    "llm.cost.",
    "gen_ai.usage.",
    "ai.usage.",
];

/// What begins like content and is a name or a number of it.
const NO_CONTENT: &[&str] = &[
    "gen_ai.prompt.name",
    "gen_ai.prompt.id",
    "gen_ai.prompt.version",
    "http.request.body.size",
    "http.response.body.size",
    "llm.prompt_template.version",
];

/// Credentials by their whole key.
const CREDENTIALS: &[&str] = &[
    "authorization",
    "cookie",
    "api_key",
    "api.key",
    "password",
    "db.connection_string",
    "enduser.token",
    "process.command_args",
    "process.command_line",
    "process.environment_variables",
];

const CREDENTIAL_STARTS: &[&str] = &["process.environment_variable."];

/// Headers that let one in, of requests and of answers, whatever the part before them is.
const CREDENTIAL_HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "apikey",
    "x-auth-token",
    "x-amz-security-token",
    "x-goog-api-key",
    "mcp-session-token",
];

const URLS: &[&str] = &[
    "url.full",
    "http.url",
    "http.target",
    "server.url",
    "mcp.resource.uri",
];

/// What becomes of attributes of this key.
pub(super) fn rule(key: &str, keep_content: bool) -> Rule {
    let lower = key.to_ascii_lowercase();
    let lower = lower.as_str();
    if is_credential(lower) {
        return Rule::Credential;
    }
    if URLS.contains(&lower) {
        return Rule::Url;
    }
    if lower == "url.query" {
        return Rule::Query;
    }
    if !keep_content && is_content(lower) {
        return Rule::Content;
    }
    Rule::Keep
}

fn is_content(key: &str) -> bool {
    let begins = |starts: &[&str]| starts.iter().any(|start| key.starts_with(start));
    if NO_CONTENT.contains(&key) || begins(NUMBER_STARTS) {
        return false;
    }
    let last = key.rsplit('.').next().unwrap_or(key);
    CONTENT.contains(&key) || CONTENT_ENDS.contains(&last) || begins(CONTENT_STARTS)
}

fn is_credential(key: &str) -> bool {
    let header = [
        "http.request.header.",
        "http.response.header.",
        "rpc.grpc.request.metadata.",
        "rpc.request.metadata.",
    ]
    .iter()
    .find_map(|start| key.strip_prefix(start));
    match header {
        // Semantic conventions have written dashes as underscores.
        Some(header) => CREDENTIAL_HEADERS.contains(&header.replace('_', "-").as_str()),
        None => {
            CREDENTIALS.contains(&key)
                || CREDENTIAL_STARTS.iter().any(|start| key.starts_with(start))
        }
    }
}

/// What stands where a credential was.
const REDACTED: &str = "REDACTED";

/// A URL without user and password, and without the values of what in its query may be a credential.
pub(super) fn without_credentials(url: &str) -> Cow<'_, str> {
    let (rest, fragment) = url
        .split_once('#')
        .map_or((url, None), |(r, f)| (r, Some(f)));
    let (address, query) = rest
        .split_once('?')
        .map_or((rest, None), |(a, q)| (a, Some(q)));
    let address = without_user(address);
    let query = query.map(query_without_credentials);
    if matches!(address, Cow::Borrowed(_))
        && !matches!(query, Some(Cow::Owned(_)))
        && fragment.is_none()
    {
        return Cow::Borrowed(url);
    }
    let mut kept = address.into_owned();
    if let Some(query) = query {
        kept.push('?');
        kept.push_str(&query);
    }
    // Of implicit grants the token is the fragment; a server never sees one, so there is nothing to lose.
    Cow::Owned(kept)
}

fn without_user(address: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = address.split_once("://") else {
        return Cow::Borrowed(address);
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => Cow::Owned(format!("{scheme}://{REDACTED}:{REDACTED}@{host}{path}")),
        None => Cow::Borrowed(address),
    }
}

/// A query without the values of what may be a credential.
pub(super) fn query_without_credentials(query: &str) -> Cow<'_, str> {
    let secret = |pair: &&str| {
        pair.split_once('=')
            .is_some_and(|(name, _)| is_secret_name(name))
    };
    if !query.split('&').any(|pair| secret(&pair)) {
        return Cow::Borrowed(query);
    }
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret_name(name) => Cow::Owned(format!("{name}={REDACTED}")),
        _ => Cow::Borrowed(pair),
    });
    Cow::Owned(pairs.collect::<Vec<_>>().join("&"))
}

/// Parameters that let one in: those that the HTTP conventions redact, and words that nobody uses for anything else.
fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    const WORDS: [&str; 9] = [
        "token",
        "secret",
        "password",
        "passwd",
        "signature",
        "credential",
        "api_key",
        "apikey",
        "auth",
    ];
    matches!(
        name.as_str(),
        "sig" | "key" | "code" | "jwt" | "sas" | "pwd" | "awsaccesskeyid" | "session" | "sessionid"
    ) || WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_said_is_content_in_every_naming() {
        let content = [
            "gen_ai.tool.call.arguments",
            "gen_ai.tool.call.result",
            "gen_ai.input.messages",
            "gen_ai.output.messages",
            "gen_ai.prompt",
            "gen_ai.prompt.0.content",
            "gen_ai.completion.0.content",
            "gen_ai.system_instructions",
            "mcp.tool.arguments",
            "mcp.tool.result",
            "mcp.request.argument.city",
            "heimdall.input",
            "Heimdall.Output",
            "input.value",
            "output.value",
            "llm.input_messages.0.message.content",
            "llm.output_messages.0.message.content",
            "llm.prompts",
            "llm.invocation_parameters",
            "tool.parameters",
            "retrieval.documents.0.document.content",
            "traceloop.entity.input",
            "http.request.body",
            "db.query.parameter.0",
            "request",
            "response",
            "ai.prompt",
            "ai.prompt.messages",
            "ai.response.text",
            "ai.response.object",
            "ai.response.toolCalls",
            "ai.toolCall.args",
            "ai.toolCall.result",
            "mlflow.spanInputs",
            "mlflow.spanOutputs",
            "gcp.vertex.agent.llm_request",
            "gcp.vertex.agent.llm_response",
            "gcp.vertex.agent.tool_call_args",
            "gcp.vertex.agent.tool_response",
            "traceloop.entity.output",
            "enduser.id",
            "user.email",
            "user.full_name",
            "user.id",
            "user.name",
            "langfuse.user.id",
            "anybody.input",
            "anybody.inputs",
            "anybody.output",
            "anybody.outputs",
            "anybody.call.arguments",
            "anybody.args",
            "anybody.prompt",
            "anybody.completion",
            "input",
        ];
        for key in content {
            assert_eq!(rule(key, false), Rule::Content, "{key}");
            assert_eq!(rule(key, true), Rule::Keep, "{key}");
        }
    }

    #[test]
    fn names_and_flags_stay() {
        let kept = [
            "mcp.tool.name",
            "mcp.tool.result.success",
            "mcp.tool.result.error",
            "gen_ai.tool.name",
            "gen_ai.prompt.name",
            "gen_ai.usage.input_tokens",
            "http.request.body.size",
            "http.request.header.user-agent",
            "db.query.text",
            "db.statement",
            "mcp.session.id",
            "exception.stacktrace",
            "ai.usage.promptTokens",
            "gen_ai.usage.prompt",
            "llm.token_count.prompt",
            "llm.token_count.completion",
            "llm.cost.prompt",
            "http.response.status_code",
        ];
        for key in kept {
            assert_eq!(rule(key, false), Rule::Keep, "{key}");
        }
    }

    #[test]
    fn credentials_are_never_kept() {
        for key in [
            "http.request.header.authorization",
            "http.request.header.Set_Cookie",
            "authorization",
            "http.response.header.set-cookie",
        ] {
            assert_eq!(rule(key, true), Rule::Credential, "{key}");
        }
        for (url, kept) in [
            (
                "https://user:pass@api.example/search?q=test",
                "https://REDACTED:REDACTED@api.example/search?q=test",
            ),
            (
                "https://api.example/search?api_key=s3&q=test",
                "https://api.example/search?api_key=REDACTED&q=test",
            ),
            ("/mcp?access_token=abc#x", "/mcp?access_token=REDACTED"),
            (
                "https://a.example/path@1?page=2",
                "https://a.example/path@1?page=2",
            ),
        ] {
            assert_eq!(without_credentials(url), kept);
        }
    }
}
