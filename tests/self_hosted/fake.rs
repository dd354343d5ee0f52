//! A backend that looks as its documentation says, and is broken as it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mcpprobe::model::TraceId;
use serde::Deserialize;

use super::SECRET;
use super::scene::{SERVICE, Scene, Span, served, trace};
use crate::support::{Asked, Small, empty_answer};

/// How a backend looks from outside. In every text `{name}` is replaced: of a span `{trace}`, `{trace64}`, `{id}`,
/// `{id64}`, `{parent}`, `{name}`, `{kind}`, `{status}`, `{service}`, `{scope}`, `{message}`, `{attributes}`,
/// `{start_ns}`, ...; of a trace `{spans}`; of a page `{traces}`, or `{spans}` where they are not kept by trace.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Look {
    /// Keys of its `[traces]`, but for `url`.
    pub(super) settings: String,
    /// The path of `url`.
    #[serde(default)]
    pub(super) base: String,
    /// Where a person looks at the trace of the first failed probe; `{base}` is the URL.
    link: Option<String>,
    /// Every request is one of these, and each of these comes when the server is gone.
    request: Vec<Expected>,
    /// What a search is told by in the path.
    search_path: Option<String>,
    by_id: Page,
    /// Where it is another than by id.
    search: Option<Page>,
    /// What it answers when a trace is not there; else a page without any.
    missing: Option<Missing>,
    /// A search answers with whole traces.
    #[serde(default)]
    whole_traces: bool,
    /// It does not keep the service: a search is answered with everything.
    #[serde(default)]
    no_service: bool,
    /// Answers to what asks for no spans, by path.
    #[serde(default)]
    other: BTreeMap<String, String>,
    words: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    page: String,
    #[serde(default)]
    trace: Option<String>,
    span: String,
    #[serde(default)]
    parent: String,
    attribute: String,
    /// For each `.` in an attribute's key.
    #[serde(default)]
    dot: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Missing {
    status: u16,
    body: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    method: String,
    /// `{trace}` is one of ours.
    path: String,
    /// Every parameter that it has: `*` is anything, `~text` holds the text.
    #[serde(default)]
    query: BTreeMap<String, String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// What has to be in the body.
    #[serde(default)]
    body: Vec<String>,
}

/// What goes wrong, and what is made of it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    /// `search`, `traces` (by id), or a part of the request: one after the other.
    pub(super) on: Vec<String>,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// `{secret}` is our credential, `{whole}` what would have been answered.
    #[serde(default)]
    body: String,
    /// In what would have been answered, this is another.
    #[serde(default)]
    replace: Option<[String; 2]>,
    #[serde(default)]
    pub(super) hang: bool,
    /// This many traces more of others, before the failure.
    #[serde(default)]
    others: u32,
    /// `unavailable`, `truncated`, `sampled`.
    pub(super) state: String,
    /// What is said of it.
    pub(super) says: String,
}

fn ok() -> u16 {
    200
}

impl Fault {
    pub(super) fn at(&self, on: &str) -> Self {
        Self {
            on: vec![on.to_owned()],
            ..self.clone()
        }
    }
}

impl Look {
    pub(super) fn link(&self, port: u16) -> Option<String> {
        let base = format!("http://127.0.0.1:{port}{}", self.base);
        self.link.as_ref().map(|link| {
            link.replace("{base}", &base)
                .replace("{trace}", &trace(0xf1).to_string())
        })
    }
}

#[derive(Default)]
struct Seen {
    /// How often each expected request came.
    counts: Vec<usize>,
    complaints: Vec<String>,
    met: bool,
}

pub(super) struct Fake {
    server: Small,
    look: Look,
    seen: Arc<Mutex<Seen>>,
}

impl Fake {
    pub(super) fn start(look: Look, scene: Scene, fault: Option<Fault>) -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            counts: vec![0; look.request.len()],
            ..Seen::default()
        }));
        let (shown, noted) = (look.clone(), Arc::clone(&seen));
        let mut spans = scene.spans();
        spans.extend(others(fault.as_ref().map_or(0, |fault| fault.others)));
        let server =
            Small::start(move |asked| answer(asked, &shown, &spans, fault.as_ref(), &noted));
        Self { server, look, seen }
    }

    pub(super) fn port(&self) -> u16 {
        self.server.port
    }

    pub(super) fn was_met(&self) -> bool {
        self.seen.lock().unwrap().met
    }

    /// What was not asked as it should be, and with `all` what was not asked at all.
    pub(super) fn complaints(&self, all: bool) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let mut complaints = seen.complaints.clone();
        for (expected, count) in self.look.request.iter().zip(&seen.counts) {
            if all && *count == 0 {
                complaints.push(format!(
                    "never asked: {} {} {:?}",
                    expected.method, expected.path, expected.query
                ));
            }
        }
        complaints
    }
}

/// Requests of others to the server before the failure and after it was gone, each in a trace of its own.
fn others(count: u32) -> Vec<Span> {
    (0..count)
        .map(|number| {
            let at = super::scene::first_failure() - Duration::from_secs(6);
            let mut span = served(0x40, None, at, None);
            let [a, b, c, d] = number.to_be_bytes();
            span.trace = TraceId([0xcc, a, b, c, d, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
            span
        })
        .collect()
}

fn answer(
    asked: &Asked,
    look: &Look,
    spans: &[Span],
    fault: Option<&Fault>,
    seen: &Mutex<Seen>,
) -> String {
    // Another test's prober still asks at a port that was its server's.
    if asked.target == "/mcp" {
        return empty_answer("404 Not Found");
    }
    let url = url::Url::parse(&format!("http://backend{}", asked.target)).unwrap();
    let body = String::from_utf8_lossy(&asked.bytes).into_owned();
    {
        let mut seen = seen.lock().unwrap();
        let mut found = false;
        for (index, expected) in look.request.iter().enumerate() {
            if expected.difference(asked, &url, &body, look).is_none() {
                seen.counts[index] += 1;
                found = true;
            }
        }
        if !found {
            let why = look
                .request
                .iter()
                .filter_map(|expected| expected.difference(asked, &url, &body, look))
                .collect::<Vec<_>>();
            seen.complaints.push(format!(
                "{} {}{} is not as documented:\n  {}",
                asked.method,
                asked.target,
                body.chars().take(300).collect::<String>(),
                why.join("\n  ")
            ));
        }
    }
    let pairs: Vec<_> = url.query_pairs().map(|(k, v)| format!("{k}={v}")).collect();
    let text = format!("{} {} {body}", asked.target, pairs.join("&"));
    let named = |id: &TraceId| {
        let id = id.to_string();
        text.contains(&id) || text.contains(&format!("\"{}\"", id.trim_start_matches('0')))
    };
    let asks_by_id = text.contains("000b0102030405060708090a0b0c0d");
    let is_search = match &look.search_path {
        Some(path) => url.path().ends_with(path.as_str()),
        None => !asks_by_id,
    };
    if let Some((_, body)) = look
        .other
        .iter()
        .find(|(path, _)| url.path().ends_with(path.as_str()))
    {
        return whole(200, &BTreeMap::new(), body);
    }
    let page = match &look.search {
        Some(search) if is_search => search,
        _ => &look.by_id,
    };
    let chosen: Vec<_> = if asks_by_id {
        spans.iter().filter(|span| named(&span.trace)).collect()
    } else {
        let of_service: Vec<_> = spans
            .iter()
            .filter(|span| span.service == SERVICE)
            .map(|span| span.trace)
            .collect();
        spans
            .iter()
            .filter(|span| match (look.no_service, look.whole_traces) {
                (true, _) => true,
                (false, true) => of_service.contains(&span.trace),
                (false, false) => span.service == SERVICE,
            })
            .collect()
    };
    let (status, right) = match &look.missing {
        Some(missing) if chosen.is_empty() && !(is_search && look.search_path.is_some()) => {
            let id = text.split('/').next_back().unwrap_or_default();
            let id = id.split_whitespace().next().unwrap_or_default();
            (missing.status, missing.body.replace("{trace}", id))
        }
        _ => (200, page.render(&chosen, look)),
    };
    let Some(fault) = fault.filter(|fault| fault.is_on(is_search, &text)) else {
        return whole(status, &BTreeMap::new(), &right);
    };
    seen.lock().unwrap().met = true;
    if fault.hang {
        std::thread::sleep(Duration::from_secs(30));
    }
    if let Some([from, to]) = &fault.replace {
        assert!(right.contains(from.as_str()), "{from:?} is not in {right}");
        return whole(fault.status, &fault.headers, &right.replace(from, to));
    }
    if fault.others > 0 {
        return whole(status, &fault.headers, &right);
    }
    let said = fault
        .body
        .replace("{secret}", SECRET)
        .replace("{whole}", &right);
    whole(fault.status, &fault.headers, &said)
}

impl Fault {
    fn is_on(&self, is_search: bool, request: &str) -> bool {
        self.on.iter().any(|on| match on.as_str() {
            "search" => is_search,
            "traces" => !is_search,
            part => request.contains(part),
        })
    }
}

impl Expected {
    fn difference(&self, asked: &Asked, url: &url::Url, body: &str, look: &Look) -> Option<String> {
        if self.method != asked.method {
            return Some(format!("not {}", self.method));
        }
        let path = format!("{}{}", look.base, self.path);
        let is_path = match path.split_once("{trace}") {
            None => path == url.path(),
            Some((before, after)) => url
                .path()
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(after))
                .is_some_and(|id| id.len() == 32 && id.parse::<TraceId>().is_ok()),
        };
        if !is_path {
            return Some(format!("path: not {path}"));
        }
        let found: BTreeMap<String, String> = url
            .query_pairs()
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        if !found.keys().eq(self.query.keys()) {
            return Some(format!("parameters: {found:?}"));
        }
        for (key, value) in &self.query {
            if !is_as(value, &found[key]) {
                return Some(format!("{key}: {:?} is not {value:?}", found[key]));
            }
        }
        for (name, value) in &self.headers {
            let found = asked.header(name);
            if !is_as(&value.replace("{secret}", SECRET), &found) {
                return Some(format!("header {name}: {found:?}"));
            }
        }
        let missing = self.body.iter().find(|part| !body.contains(part.as_str()));
        missing.map(|part| format!("body lacks {part}"))
    }
}

fn is_as(expected: &str, found: &str) -> bool {
    match expected.strip_prefix('~') {
        Some(part) => found.contains(part),
        None => expected == "*" || expected == found,
    }
}

impl Page {
    fn render(&self, spans: &[&Span], look: &Look) -> String {
        let Some(trace) = &self.trace else {
            let all: Vec<_> = spans.iter().map(|span| self.span(span, look)).collect();
            return self
                .page
                .replace("{spans}", &all.join(","))
                .replace("{count}", &all.len().to_string());
        };
        let mut by_trace: BTreeMap<TraceId, Vec<String>> = BTreeMap::new();
        for span in spans {
            let text = self.span(span, look);
            by_trace.entry(span.trace).or_default().push(text);
        }
        let traces: Vec<_> = by_trace
            .iter()
            .map(|(id, spans)| {
                trace
                    .replace("{trace}", &id.to_string())
                    .replace("{stripped}", id.to_string().trim_start_matches('0'))
                    .replace("{count}", &spans.len().to_string())
                    .replace("{spans}", &spans.join(","))
            })
            .collect();
        self.page.replace("{traces}", &traces.join(","))
    }

    fn span(&self, span: &Span, look: &Look) -> String {
        use base64::Engine as _;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let word = |word: &str| look.words.get(word).cloned().unwrap_or(word.to_owned());
        let attributes: Vec<_> = span
            .attributes
            .iter()
            .map(|(key, value)| {
                let key = match &self.dot {
                    Some(dot) => key.replace('.', dot),
                    None => (*key).to_owned(),
                };
                self.attribute
                    .replace("{key}", &key)
                    .replace("{value}", value)
            })
            .collect();
        let parent = match &span.parent {
            Some(parent) => self
                .parent
                .replace("{parent}", &parent.to_string())
                .replace("{parent64}", &encode(&parent.0)),
            None => String::new(),
        };
        let since = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap();
        let (start, end) = (since(span.start), since(span.start + span.duration));
        let rfc = |at: SystemTime| humantime::format_rfc3339_nanos(at).to_string();
        let millis_rfc = |at: SystemTime| humantime::format_rfc3339_millis(at).to_string();
        let status = if span.error.is_some() { "error" } else { "ok" };
        // The attributes last: theirs may hold what looks like a name here.
        [
            ("{trace}", span.trace.to_string()),
            ("{trace64}", encode(&span.trace.0)),
            ("{id}", span.id.to_string()),
            ("{id64}", encode(&span.id.0)),
            ("{parent}", parent),
            ("{name}", span.name.to_owned()),
            ("{kind}", word(span.kind)),
            ("{status}", word(status)),
            (
                "{parent_or_null}",
                span.parent
                    .map_or("null".to_owned(), |id| format!("\"{id}\"")),
            ),
            (
                "{status_otlp}",
                format!("STATUS_CODE_{}", status.to_uppercase()),
            ),
            ("{has_error}", span.error.is_some().to_string()),
            ("{service}", span.service.to_owned()),
            ("{scope}", span.scope.to_owned()),
            ("{message}", span.error.unwrap_or_default().to_owned()),
            ("{start_ns}", start.as_nanos().to_string()),
            ("{end_ns}", end.as_nanos().to_string()),
            ("{start_us}", start.as_micros().to_string()),
            ("{start_ms}", start.as_millis().to_string()),
            ("{start_rfc}", rfc(span.start)),
            ("{end_rfc}", rfc(span.start + span.duration)),
            ("{start_rfc_ms}", millis_rfc(span.start)),
            ("{end_rfc_ms}", millis_rfc(span.start + span.duration)),
            ("{duration_ns}", span.duration.as_nanos().to_string()),
            ("{duration_us}", span.duration.as_micros().to_string()),
            ("{attributes}", attributes.join(",")),
        ]
        .iter()
        .fold(self.span.clone(), |text, (name, value)| {
            text.replace(name, value)
        })
    }
}

fn whole(status: u16, headers: &BTreeMap<String, String>, body: &str) -> String {
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!(
        "HTTP/1.1 {status} Said\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
