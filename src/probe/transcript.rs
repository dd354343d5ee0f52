//! Takes down what is said in a probe, where somebody wants to read it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use url::Url;

use super::curl::Curl;
use crate::model::{Conversation, Endpoint, Remark, RemarkKind, Secret, Target, Text};

/// Bytes kept of one body. Enough for the tools that people read; the rest is counted.
const MAX_BODY: usize = 16 * 1024;
/// Requests that can be repeated: discover, initialize, initialized, the GET of HTTP+SSE and `tools/list`, each with a redirect.
const MAX_REQUESTS: usize = 10;
/// Entries: a probe of a hundred pages has some 400. Later ones are not kept.
const MAX_ENTRIES: usize = 512;

/// What was said so far.
#[derive(Default)]
pub(super) struct Transcript {
    entries: Vec<Entry>,
    /// Those that can be repeated.
    requests: Vec<Sent>,
    /// What follows is no part of the probe and is not worth repeating.
    closed: bool,
}

/// A request as it was sent. It becomes text when somebody reads it: most conversations are forgotten unread.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The URL that it is about; behind a proxy `uri` says less, or more.
    pub(super) url: Url,
    /// The user's headers and certificate may be sent there.
    pub(super) own: bool,
    /// The address that was connected to.
    pub(super) reached: Option<SocketAddr>,
}

/// What stands before a body.
pub(super) enum Head {
    Text(String),
    Request(Method, Uri, HeaderMap),
    Answer(Version, StatusCode, HeaderMap),
}

impl Head {
    /// A line has none.
    pub(super) fn none() -> Self {
        Self::Text(String::new())
    }

    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Request(method, uri, map) => format!("{method} {uri}{}", headers(&map)),
            Self::Answer(version, status, map) => {
                format!("{version:?} {status}{}", headers(&map))
            }
        }
    }
}

struct Entry {
    at: Duration,
    kind: RemarkKind,
    head: Head,
    body: Vec<u8>,
    /// Bytes of the body that were not kept.
    left_out: usize,
}

impl Transcript {
    pub(super) fn add(&mut self, at: Duration, kind: RemarkKind, head: Head, body: &[u8]) {
        if self.entries.len() >= MAX_ENTRIES {
            return;
        }
        let kept = body.get(..MAX_BODY).unwrap_or(body);
        self.entries.push(Entry {
            at,
            kind,
            head,
            body: kept.to_vec(),
            left_out: body.len() - kept.len(),
        });
    }

    /// More of what the last entry began: a body comes in pieces, and only the whole can be looked through for secrets.
    pub(super) fn go_on(&mut self, at: Duration, piece: &[u8]) {
        let Some(entry) = self
            .entries
            .last_mut()
            .filter(|entry| entry.kind == RemarkKind::Received)
        else {
            return self.add(at, RemarkKind::Received, Head::none(), piece);
        };
        let room = MAX_BODY.saturating_sub(entry.body.len());
        let kept = piece.get(..room).unwrap_or(piece);
        entry.body.extend_from_slice(kept);
        entry.left_out += piece.len() - kept.len();
    }

    pub(super) fn repeat(&mut self, request: Sent) {
        if self.closed {
            return;
        }
        // The first ones begin the session, the last one is to be repeated; pages between are left out.
        self.requests.truncate(MAX_REQUESTS - 1);
        self.requests.push(request);
    }

    /// The probe is over; what follows only cleans up.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// As it may be shown.
    pub(super) fn finish(self, target: &Target, learnt: &[Secret]) -> Conversation {
        let secrets = target.secrets.iter().chain(learnt);
        let secrets = secrets.map(Secret::expose);
        let commands: Vec<_> = match &target.endpoint {
            Endpoint::Http(endpoint) => {
                let command = |sent: &Sent| {
                    let curl = Curl {
                        endpoint,
                        url: &sent.url,
                        own: sent.own,
                        reached: sent.reached,
                    };
                    curl.command(&sent.method, &sent.headers, &sent.body)
                };
                self.requests.iter().map(command).collect()
            }
            Endpoint::Stdio(_) => Vec::new(),
        };
        let entries = self.entries.into_iter().map(|entry| {
            let body = String::from_utf8_lossy(&entry.body);
            let mut text = entry.head.text();
            if !body.is_empty() {
                if !text.is_empty() {
                    text.push_str("\n\n");
                }
                text.push_str(&body);
            }
            let mut text = Text::mask(&text, secrets.clone());
            if entry.left_out > 0 {
                cut_a_secret_off(&mut text, secrets.clone());
                let _ = write!(text, "\n... and {} bytes more", entry.left_out);
            }
            Remark {
                at: entry.at,
                kind: entry.kind,
                lines: text.trim_end().lines().map(Text::escape).collect(),
            }
        });
        Conversation {
            entries: entries.collect(),
            curl: script(&commands)
                .map(|script| Text::mask(&script, secrets.clone()))
                .map(|script| {
                    script
                        .lines()
                        .map(Text::escape)
                        .collect::<Vec<_>>()
                        .join("\n")
                }),
        }
    }
}

/// Where a body is cut, half a secret may be left, which nobody recognizes.
fn cut_a_secret_off<'s>(text: &mut String, secrets: impl Iterator<Item = &'s str>) {
    let longest = secrets.map(str::len).max().unwrap_or_default();
    let mut keep = text.len().saturating_sub(longest);
    while !text.is_char_boundary(keep) {
        keep -= 1;
    }
    text.truncate(keep);
}

/// Repeats the last request. The session that it belongs to has been ended: it takes a new one, which is begun first.
fn script(requests: &[String]) -> Option<String> {
    let last = requests.last()?;
    let Some(session) = session_of(last) else {
        return Some(last.clone());
    };
    let again = |request: &String| request.replace(&session, "\"mcp-session-id: $session\"");
    let begins = |request: &&String| request.contains("\"method\":\"initialize\"");
    let first = requests.iter().position(|request| begins(&request))?;
    let mut lines = vec![format!(
        "session=$({} | tr -d '\\r' | sed -n 's/^mcp-session-id: *//Ip')",
        requests.get(first)?
    )];
    lines.extend(requests.iter().skip(first + 1).map(again));
    Some(lines.join("\n"))
}

/// The word of a command that names the session.
fn session_of(request: &str) -> Option<String> {
    let from = request.find("'mcp-session-id: ")?;
    let rest = request.get(from..)?;
    let end = rest.get(1..)?.find('\'')?;
    rest.get(..end + 2).map(str::to_owned)
}

/// Headers, a line each. What may be a credential is starred out, whoever sent it.
fn headers(headers: &HeaderMap) -> String {
    let mut lines = String::new();
    for (name, value) in headers {
        let _ = write!(lines, "\n{name}: {}", shown(name, value));
    }
    lines
}

/// A value, unless it may be a credential.
pub(super) fn shown(name: &HeaderName, value: &HeaderValue) -> String {
    let secret = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE].contains(name);
    if secret || value.is_sensitive() {
        return "***".to_owned();
    }
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
