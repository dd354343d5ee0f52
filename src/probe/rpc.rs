//! JSON-RPC: the requests that we write and the messages that we read.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fault::Fault;
use super::limits;
use crate::model::{Reason, SpanId, Target, TraceId};

/// The newest protocol version of the legacy era: what we offer in `initialize`.
pub(super) const LEGACY_VERSION: &str = "2025-11-25";

/// Versions of the modern era that we speak.
pub(super) const MODERN_VERSION: &str = "2026-07-28";

/// Versions that we can go on with when `initialize` answers them.
pub(super) const KNOWN_VERSIONS: [&str; 5] = [
    "2024-11-05",
    "2025-03-26",
    "2025-06-18",
    LEGACY_VERSION,
    MODERN_VERSION,
];

/// A request of the modern era for a protocol version that the server does not speak.
pub(super) const UNSUPPORTED_VERSION: i64 = -32022;
/// Headers and body of a modern request disagree.
pub(super) const HEADER_MISMATCH: i64 = -32020;
/// The server needs a capability that the client does not have.
pub(super) const MISSING_CAPABILITY: i64 = -32021;
/// JSON-RPC: method not found.
pub(super) const METHOD_NOT_FOUND: i64 = -32601;

/// `clientInfo`.
#[derive(Clone, Copy, Serialize)]
pub(super) struct ClientInfo {
    name: &'static str,
    version: &'static str,
}

pub(super) const CLIENT_INFO: ClientInfo = ClientInfo {
    name: "mcpprobe",
    version: env!("CARGO_PKG_VERSION"),
};

/// An empty JSON object.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Empty {}

/// `params._meta`: trace context (SEP-414, bare keys) and, in the modern era, what each request has to say of its client.
#[derive(Serialize)]
pub(super) struct Meta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    modern: Option<ModernMeta>,
}

#[derive(Clone, Copy, Serialize)]
struct ModernMeta {
    #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
    protocol_version: &'static str,
    #[serde(rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Empty,
    #[serde(rename = "io.modelcontextprotocol/clientInfo")]
    client_info: ClientInfo,
}

impl<'a> Meta<'a> {
    /// What `_meta` carries for this target, or `None` where it would be empty.
    pub(super) fn new(target: &'a Target, traceparent: &str, modern: bool) -> Option<Self> {
        let traced = target.trace_context.in_meta();
        let meta = Self {
            traceparent: traced.then(|| traceparent.to_owned()),
            tracestate: (traced && !target.tracestate.is_empty()).then_some(&*target.tracestate),
            modern: modern.then_some(ModernMeta {
                protocol_version: MODERN_VERSION,
                capabilities: Empty {},
                client_info: CLIENT_INFO,
            }),
        };
        (traced || modern).then_some(meta)
    }
}

/// `traceparent` of W3C Trace Context. The flags are always `01`: a server whose sampler follows its
/// parent must record the probe, whatever becomes of our own spans.
pub(super) fn traceparent(trace: TraceId, span: SpanId) -> String {
    format!("00-{trace}-{span}-01")
}

#[derive(Serialize)]
struct Request<'a, P> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<P>,
}

/// A request (`id`) or a notification (no `id`) in bytes.
pub(super) fn encode<P: Serialize>(id: Option<u64>, method: &str, params: Option<P>) -> Bytes {
    let request = Request {
        jsonrpc: "2.0",
        id,
        method,
        params,
    };
    // Plain structs with string keys always serialize.
    serde_json::to_vec(&request).unwrap_or_default().into()
}

/// A JSON-RPC error as it was answered.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RpcError {
    pub(super) code: i64,
    #[serde(default)]
    pub(super) message: String,
    pub(super) data: Option<serde_json::Value>,
}

/// The answer to one of our requests.
pub(super) type Answer = Result<Box<RawValue>, RpcError>;

/// A message from the server, as far as it concerns the request that we wait for.
#[derive(Debug)]
pub(super) enum Incoming {
    /// It is the answer.
    Answer(Answer),
    /// A request of the server's.
    Request(ServerRequest),
    /// A notification.
    Other,
    /// An answer to another request: its id, as it stands in the message.
    Mismatch(String),
}

/// A request of the server's, which a client of the legacy era has to answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerRequest {
    /// As it stands in the message.
    id: String,
    /// Its start.
    pub(super) method: String,
}

impl ServerRequest {
    /// Enough of a method to know it by.
    const MAX_METHOD: usize = 60;

    /// A message with an id that can be sent back and a method.
    fn of(id: Option<&RawValue>, method: &RawValue) -> Option<Self> {
        let id = id?.get();
        let is_id = id.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
        let method: String = serde_json::from_str(method.get()).ok()?;
        (is_id && id.len() <= limits::MAX_SERVER_ID).then(|| Self {
            id: id.to_owned(),
            method: method.chars().take(Self::MAX_METHOD).collect(),
        })
    }

    /// `ping` is all that we can: we have said that we have no capabilities.
    pub(super) fn reply(&self) -> Bytes {
        let id = &self.id;
        let reply = match self.method.as_str() {
            "ping" => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
            _ => format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{METHOD_NOT_FOUND},"message":"Method not found"}}}}"#
            ),
        };
        reply.into()
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// Reads one message while waiting for the answer to request `id`.
pub(super) fn decode(bytes: &[u8], id: u64) -> Result<Incoming, Fault> {
    if deeper_than(bytes, limits::MAX_DEPTH) {
        return Err(Fault::new(
            Reason::TooDeep,
            format!(
                "the answer's JSON is nested deeper than {}",
                limits::MAX_DEPTH
            ),
        ));
    }
    let envelope: Envelope<'_> =
        serde_json::from_slice(bytes).map_err(|error| not_a_message(bytes, &error))?;
    if envelope.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
        return Err(invalid("the answer lacks \"jsonrpc\": \"2.0\""));
    }
    let answer = match (envelope.result, envelope.error) {
        (Some(result), None) => Ok(result.to_owned()),
        (None, Some(error)) => Err(serde_json::from_str::<RpcError>(error.get())
            .map_err(|_| invalid("the answer's error has no integer code"))?),
        (None, None) if let Some(method) = envelope.method => {
            let request = ServerRequest::of(envelope.id, method);
            return Ok(request.map_or(Incoming::Other, Incoming::Request));
        }
        _ => {
            return Err(invalid(
                "the answer has neither a result nor an error, or both",
            ));
        }
    };
    match envelope.id.map(RawValue::get) {
        Some(found) if is_id(found, id) => Ok(Incoming::Answer(answer)),
        // An error may come before the server has read our id: null, absent, or a word in its place.
        found if answer.is_err() && found.is_none_or(|found| found.starts_with('"')) => {
            Ok(Incoming::Answer(answer))
        }
        found => Ok(Incoming::Mismatch(found.unwrap_or("null").to_owned())),
    }
}

/// `1`, and what the SDKs' clients take for it: `"1"` and `1.0`.
fn is_id(found: &str, id: u64) -> bool {
    let number = found.trim_matches('"');
    let number = number.strip_suffix(".0").unwrap_or(number);
    number.parse() == Ok(id)
}

/// A JSON-RPC error in the body of an error status, whatever its id.
pub(super) fn decode_error(bytes: &[u8]) -> Option<RpcError> {
    if deeper_than(bytes, limits::MAX_DEPTH) {
        return None;
    }
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).ok()?;
    envelope
        .jsonrpc
        .filter(|version| version.get() == "\"2.0\"")?;
    serde_json::from_str(envelope.error?.get()).ok()
}

pub(super) fn invalid(message: &str) -> Fault {
    Fault::new(Reason::InvalidMessage, message)
}

fn not_a_message(bytes: &[u8], error: &serde_json::Error) -> Fault {
    if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        return invalid("the answer is JSON, but no JSON-RPC message");
    }
    let start = String::from_utf8_lossy(bytes.get(..bytes.len().min(60)).unwrap_or_default());
    let what = if error.is_eof() {
        "is cut off"
    } else {
        "is not JSON"
    };
    Fault::new(
        Reason::InvalidJson,
        format!("the answer {what}; it starts with: {start}"),
    )
}

/// Whether arrays and objects are nested deeper than `limit`. One pass, no recursion, no memory.
fn deeper_than(bytes: &[u8], limit: usize) -> bool {
    // Nearly always the first, quick look is enough.
    let brackets = bytes
        .iter()
        .filter(|byte| matches!(byte, b'[' | b'{'))
        .count();
    if brackets <= limit {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

impl From<&RpcError> for Fault {
    fn from(error: &RpcError) -> Self {
        let message = if error.message.is_empty() {
            format!("JSON-RPC error {}", error.code)
        } else {
            format!("JSON-RPC error {}: {}", error.code, error.message)
        };
        Fault::new(Reason::JsonrpcError, message).with_code(error.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(bytes: &str) -> Reason {
        decode(bytes.as_bytes(), 1).unwrap_err().reason
    }

    #[test]
    fn tells_answers_from_everything_else() {
        let read = |text: &str| decode(text.as_bytes(), 1).unwrap();
        assert!(matches!(
            read(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
            Incoming::Answer(Ok(_))
        ));
        for id in ["1", "null", r#""server-error""#] {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32600,"message":"no"}}}}"#
            );
            assert!(matches!(read(&text), Incoming::Answer(Err(_))), "{id}");
        }
        assert!(matches!(
            read(r#"{"jsonrpc":"2.0","error":{"code":1}}"#),
            Incoming::Answer(Err(_))
        ));
        assert!(matches!(
            read(r#"{"jsonrpc":"2.0","method":"notifications/message"}"#),
            Incoming::Other
        ));
        assert!(matches!(
            read(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#),
            Incoming::Mismatch(_)
        ));
    }

    #[test]
    fn answers_requests_of_the_servers_own() {
        let reply = |id: &str, method: &str| {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}}}"#);
            match decode(text.as_bytes(), 1).unwrap() {
                Incoming::Request(request) => String::from_utf8(request.reply().into()).unwrap(),
                _ => String::new(),
            }
        };
        for id in ["1", "-1", r#""a\"b""#] {
            let pong = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
            assert_eq!(reply(id, r#""ping""#), pong);
            assert!(reply(id, r#""roots/list""#).contains("-32601"));
        }
        let long = format!("\"{}\"", "x".repeat(limits::MAX_SERVER_ID));
        for id in ["null", "{}", "[1]", "true", &long] {
            assert_eq!(reply(id, r#""ping""#), "", "{id}");
        }
        assert_eq!(reply("1", "7"), "");
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(reason("<html>"), Reason::InvalidJson);
        assert_eq!(reason(r#"{"jsonrpc":"2.0","id":1,"#), Reason::InvalidJson);
        assert_eq!(reason("[]"), Reason::InvalidMessage);
        assert_eq!(reason(r#"{"id":1,"result":{}}"#), Reason::InvalidMessage);
        assert_eq!(
            reason(r#"{"jsonrpc":"2.0","id":1}"#),
            Reason::InvalidMessage
        );
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(reason(&deep), Reason::TooDeep);
        let brackets_in_a_string = format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":"\"{}"}}"#,
            "[".repeat(200)
        );
        assert!(decode(brackets_in_a_string.as_bytes(), 1).is_ok());
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            "\\PC{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 6, |inner| {
            let key = prop_oneof![
                Just("jsonrpc".to_owned()),
                Just("id".to_owned()),
                Just("result".to_owned()),
                Just("error".to_owned()),
                Just("code".to_owned()),
                Just("message".to_owned()),
                "[a-z]{0,3}",
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::hash_map(key, inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, 1);
            let _ = decode_error(&bytes);
        }

        /// Whatever it holds, JSON is never said to be none.
        #[test]
        fn any_json_is_survived(json in any_json()) {
            let text = json.to_string();
            if let Err(fault) = decode(text.as_bytes(), 1) {
                prop_assert!(fault.reason != Reason::InvalidJson, "{text}");
            }
            let _ = decode_error(text.as_bytes());
        }

        /// A message that is cut off anywhere is no message, and says so.
        #[test]
        fn a_cut_message_is_invalid_json(json in any_json(), cut in any::<prop::sample::Index>()) {
            let text = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "result": [json] }).to_string();
            prop_assert!(matches!(decode(text.as_bytes(), 1), Ok(Incoming::Answer(Ok(_)))));
            let part = &text.as_bytes()[..cut.index(text.len())];
            prop_assert_eq!(decode(part, 1).unwrap_err().reason, Reason::InvalidJson);
        }

        /// Exactly beyond the limit, wherever the brackets stand.
        #[test]
        fn depth_is_counted_exactly(depth in 100usize..160, objects in any::<bool>()) {
            let (open, close) = if objects { (r#"{"a":"#, "}") } else { ("[", "]") };
            // The message itself is one level.
            let nested = format!("{}1{}", open.repeat(depth - 1), close.repeat(depth - 1));
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{nested}}}"#);
            let reason = decode(text.as_bytes(), 1).err().map(|fault| fault.reason);
            let expected = (depth > limits::MAX_DEPTH).then_some(Reason::TooDeep);
            prop_assert_eq!(reason, expected);
        }

        #[test]
        fn the_answer_is_told_by_its_id(id in any::<u64>(), ours in any::<u64>(), quoted in any::<bool>()) {
            let found = if quoted { format!("\"{id}\"") } else { id.to_string() };
            let text = format!(r#"{{"jsonrpc":"2.0","id":{found},"result":{{}}}}"#);
            let is_ours = matches!(decode(text.as_bytes(), ours), Ok(Incoming::Answer(_)));
            prop_assert_eq!(is_ours, id == ours);
            prop_assert!(matches!(decode(text.as_bytes(), id), Ok(Incoming::Answer(_))));
        }
    }
}
