//! The format of `tests/data/servers/*.toml`: what is special about one server, and what has to be said of it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::coding::Coding;

/// One server. Without any key it is healthy: legacy, plain HTTP, JSON answers, with a session.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Case {
    /// The file's name.
    #[serde(skip)]
    pub(super) name: String,
    /// What it speaks where no `[[on]]` says otherwise.
    pub(super) era: Speaks,
    /// The version that `initialize` answers, when not the newest.
    pub(super) version: Option<String>,
    /// `initialize` hands out no session.
    pub(super) stateless: bool,
    /// Length of the tool list, when not 2.
    pub(super) tools: Option<usize>,
    /// `https`, with this certificate.
    pub(super) tls: Option<Certificate>,
    /// No newer TLS than 1.2.
    pub(super) tls12: bool,
    /// Who has no certificate of our authority's is refused.
    pub(super) wants_certificate: bool,
    /// HTTP/2 is offered by ALPN.
    pub(super) http2: bool,
    /// HTTP+SSE of 2024-11-05: `GET /mcp` opens the stream, messages are posted to `/messages`.
    pub(super) http_sse: bool,
    pub(super) listen: Listen,
    /// What every connection gets, in the place of TLS and HTTP.
    pub(super) accept: Option<Accept>,
    /// What becomes of a connection after a complete answer.
    pub(super) connection: Connection,
    /// What is special, request by request: the first that matches answers.
    pub(super) on: Vec<On>,
    /// A stdio server instead: a Python script, to go on from `stdio.py`.
    pub(super) stdio: Option<String>,
    /// The program gets SIGTERM as soon as the server hangs.
    pub(super) interrupt: bool,
    /// A proxy that the program has to use.
    pub(super) proxy: Option<ProxyCase>,
    /// A name server for the program to ask.
    pub(super) resolver: Option<Zone>,
    /// What the program remembers of the server; without it nothing, as in `check`.
    pub(super) hint: Option<Hint>,
    /// Environment of the program. What `$` stands for here and in `probe` says `Server::settings`.
    pub(super) env: BTreeMap<String, String>,
    /// Keys of the `[[server]]` in the program's configuration.
    pub(super) probe: toml::Table,
    /// Text of `profile.toml`, which lies beside that configuration.
    pub(super) profile: Option<String>,
    /// Keys of a target of `check --format json`: `state` is `up`, `failed_layer` and `reason` are null when not given,
    /// of `message` a part is given. And `nowhere`: what must not be in the output; `notes`: a part of the result's notes;
    /// `outcomes`: those of the layers.
    pub(super) expect: Map<String, Value>,
}

/// One special answer: the healthy one but for what is given. It is empty when the status is no success, and nothing
/// at all is said when there is only `then`.
///
/// In every text, `$answer` is the healthy JSON-RPC answer (for a GET that of the last POST), `$result` its result,
/// `$id` the request's id, `$n` how often this `[[on]]` was used, `$session` a new session id, `$token` the request's
/// Authorization, `$origin` the server's own origin, `$elsewhere` another origin that is this server too, `$x40k` 40,000
/// letters, `$many` 1,100 notifications on a stream and `$pings` as many requests.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct On {
    /// JSON-RPC method, or `GET` or `DELETE`; `POST` is our answer to a request of the server's; every other POST without
    /// one.
    pub(super) method: Option<String>,
    /// Path of the URL; any without one.
    pub(super) path: Option<String>,
    /// Only for the first so many requests.
    pub(super) times: Option<usize>,
    /// The `Cookie` that the request has to have; empty for none.
    pub(super) cookie: Option<String>,
    pub(super) delay_ms: u64,
    /// Before each piece of an event stream.
    pub(super) pause_ms: u64,
    pub(super) status: Option<u16>,
    /// On top of the usual ones; an empty value takes one away.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Option<String>,
    /// The result of a JSON-RPC answer.
    pub(super) result: Option<Value>,
    /// The error of a JSON-RPC answer.
    pub(super) error: Option<Value>,
    /// The pieces of an event stream, each a chunk of its own.
    pub(super) sse: Option<Vec<String>>,
    /// Our answers, each a JSON text, that have to come before the last piece or event is said.
    pub(super) awaits: Vec<String>,
    /// HTTP+SSE: what a POST makes arrive on the stream, before it is answered itself.
    pub(super) stream: Option<Vec<String>>,
    pub(super) stream_delay_ms: u64,
    /// HTTP+SSE: thereafter the stream ends.
    pub(super) stream_ends: bool,
    /// The body is compressed, and `Content-Encoding` says so.
    pub(super) coded: Option<Coding>,
    /// Bytes that are missing at the end of what is compressed.
    pub(super) coded_less: usize,
    /// Each byte is a chunk of its own.
    pub(super) bytewise: bool,
    /// In the place of HTTP.
    pub(super) raw: Option<String>,
    /// Said again and again after the rest, until the other side has gone.
    pub(super) endless: Option<String>,
    /// In the middle of the answer.
    pub(super) then: Option<Then>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accept {
    /// After TLS, not in its place.
    #[serde(default)]
    pub(super) after_tls: bool,
    #[serde(default)]
    pub(super) say: String,
    /// Thereafter, again and again until the other side has gone.
    pub(super) endless: Option<String>,
    pub(super) then: Then,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Speaks {
    #[default]
    Legacy,
    Modern,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Certificate {
    Good,
    Untrusted,
    Expired,
    /// In five days.
    EndsSoon,
    NotYetValid,
    OtherName,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Listen {
    #[default]
    Server,
    /// Connections are refused.
    Nobody,
    /// The queue of connections is full: nothing answers.
    Full,
    /// At a Unix-domain socket.
    Unix,
    /// There was a Unix-domain socket, and its file is left.
    UnixNobody,
}

/// What is special about a proxy. Without any key it does what a proxy does.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProxyCase {
    /// Said to every request in the place of an answer.
    pub(super) say: Option<String>,
    pub(super) then: Option<Then>,
    /// Nobody is there.
    pub(super) gone: bool,
    /// `user:password` that every request has to carry.
    pub(super) credential: Option<String>,
    /// Nothing may be asked of it.
    pub(super) unused: bool,
}

/// What a name server answers, whatever the name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Zone {
    pub(super) a: Vec<std::net::Ipv4Addr>,
    pub(super) aaaa: Vec<std::net::Ipv6Addr>,
    /// The name is another one's alias.
    pub(super) cname: Option<String>,
    /// Response code of every answer.
    pub(super) code: u8,
    /// Says who would know, as a real name server does for what there is not.
    pub(super) soa: bool,
    pub(super) manner: Manner,
    /// Types that have to be asked, and no others.
    pub(super) asked: Option<Vec<u16>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Manner {
    #[default]
    Usual,
    Mute,
    /// Over UDP nothing but "ask by TCP".
    Truncated,
    Garbage,
    WrongId,
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Hint {
    Legacy,
    HttpSse,
    Modern,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Connection {
    #[default]
    Keep,
    /// Closed, and said so.
    Close,
    /// Closed without a word.
    Drop,
    /// Reset without a word.
    Reset,
    /// Closed when its second request comes.
    Once,
    /// HTTP/1.0: closed, which is the only end of the body.
    Http10,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Then {
    Close,
    Hang,
    Reset,
    /// HTTP/2.
    Goaway,
}

impl Case {
    /// Every file of `folder`, in the order of their names; all mistakes at once.
    pub(super) fn all(folder: &Path) -> Vec<Self> {
        let files = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        let (mut cases, mut mistakes) = (Vec::new(), Vec::new());
        for file in files {
            match Self::read(&file) {
                Ok(case) => cases.push(case),
                Err(mistake) => mistakes.push(format!("{}: {mistake}", file.display())),
            }
        }
        assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
        cases
    }

    fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let mut case: Self = toml::from_str(&text).map_err(|error| error.to_string())?;
        case.name = file.file_stem().unwrap().to_string_lossy().into_owned();
        for (key, value) in [
            ("state", json!("up")),
            ("failed_layer", Value::Null),
            ("reason", Value::Null),
        ] {
            case.expect.entry(key).or_insert(value);
        }
        Ok(case)
    }

    /// The text of an expectation.
    pub(super) fn expects(&self, key: &str) -> Option<&str> {
        self.expect.get(key)?.as_str()
    }

    /// Its server resets connections.
    pub(super) fn resets(&self) -> bool {
        let thens = self
            .on
            .iter()
            .map(|on| on.then)
            .chain([self.accept.as_ref().map(|accept| accept.then)]);
        self.connection == Connection::Reset || thens.flatten().any(|then| then == Then::Reset)
    }
}
