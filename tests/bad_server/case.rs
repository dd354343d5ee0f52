//! The format of `tests/data/servers/*.toml`: what is special about one server, and what has to be said of it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// One server. Without any key it is healthy: legacy, plain HTTP, JSON answers, with a session.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// The file's name.
    #[serde(skip)]
    pub(super) name: String,
    /// What the server speaks where no `[[on]]` says otherwise.
    #[serde(default)]
    pub(super) era: Speaks,
    /// `https`, with this certificate.
    pub(super) tls: Option<Certificate>,
    /// Something else than a server listens.
    pub(super) listen: Option<Listen>,
    /// What every connection gets, instead of TLS and HTTP.
    pub(super) accept: Option<Accept>,
    /// What becomes of a connection after a complete answer.
    #[serde(default)]
    pub(super) connection: Connection,
    /// The version that `initialize` answers.
    #[serde(default = "newest_legacy")]
    pub(super) version: String,
    /// `initialize` hands out a session.
    #[serde(default = "yes")]
    pub(super) session: bool,
    /// Length of the tool list.
    #[serde(default = "two")]
    pub(super) tools: usize,
    /// What is special, request by request: the first that matches answers.
    #[serde(default)]
    pub(super) on: Vec<On>,
    /// A stdio server instead: a Python script, below `stdio.py`.
    pub(super) stdio: Option<String>,
    /// SIGTERM for the program as soon as the server hangs.
    #[serde(default)]
    pub(super) interrupt: bool,
    /// Keys of the `[[server]]` in the program's configuration.
    #[serde(default)]
    pub(super) probe: toml::Table,
    pub(super) expect: Expect,
}

/// One special answer. Without `body`, `result`, `error`, `sse` and `raw` it is the healthy one when the status
/// is a success, an empty one when it is not, and none at all when there is only `then` or `endless`.
///
/// In every text, `$answer` is the healthy JSON-RPC answer, `$result` its result, `$id` the request's id, `$n` how
/// often this `[[on]]` was used, `$session` a new session id, `$token` the request's Authorization, `$origin` the
/// server's own origin and `$elsewhere` another origin that is this server too.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct On {
    /// JSON-RPC method, or `GET` or `DELETE`; every POST without one.
    pub(super) method: Option<String>,
    /// Path of the URL; any without one.
    pub(super) path: Option<String>,
    /// Only for the first so many requests.
    pub(super) times: Option<usize>,
    pub(super) delay_ms: u64,
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
    /// Each byte is a chunk of its own.
    pub(super) bytewise: bool,
    /// Bytes in the place of HTTP.
    pub(super) raw: Option<String>,
    /// Said again and again after the rest, until the other side has gone.
    pub(super) endless: Option<String>,
    /// In the middle of the answer.
    pub(super) then: Option<Then>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accept {
    #[serde(default)]
    pub(super) say: String,
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
    NotYetValid,
    OtherName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Listen {
    /// Connections are refused.
    Nobody,
    /// The queue of connections is full: nothing answers.
    Full,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Connection {
    #[default]
    #[serde(rename = "keep")]
    Keep,
    /// Closed, and said so.
    #[serde(rename = "close")]
    Close,
    /// Closed without a word.
    #[serde(rename = "drop")]
    Drop,
    /// Reset without a word.
    #[serde(rename = "reset")]
    Reset,
    /// Closed when its second request comes.
    #[serde(rename = "once")]
    Once,
    /// Closed, which is the only end of the body.
    #[serde(rename = "http/1.0")]
    Http10,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Then {
    Close,
    Hang,
    Reset,
}

/// What `mcpprobe check` has to say. `state`, `layer`, `reason` and the sessions are always compared, the others
/// where they are given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    #[serde(default = "up")]
    pub(super) state: String,
    pub(super) layer: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) http_status: Option<u16>,
    pub(super) jsonrpc_code: Option<i64>,
    pub(super) era: Option<String>,
    pub(super) protocol_version: Option<String>,
    pub(super) tools: Option<u32>,
    /// Part of the message.
    pub(super) message: Option<String>,
    /// Must not be in the output.
    pub(super) nowhere: Option<String>,
    /// Sessions handed out, of which none was ended by DELETE.
    #[serde(default)]
    pub(super) sessions_left: usize,
}

impl Case {
    /// Every file of `folder`, in the order of their names; all mistakes at once.
    pub(super) fn all(folder: &Path) -> Vec<Self> {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
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
        let name = file.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.strip_suffix(".toml")) else {
            return Err("is no .toml file".to_owned());
        };
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let case: Self = toml::from_str(&text).map_err(|error| error.to_string())?;
        for on in &case.on {
            let contents = [
                on.body.is_some(),
                on.result.is_some(),
                on.error.is_some(),
                on.sse.is_some(),
                on.raw.is_some(),
            ];
            if contents.into_iter().filter(|is| *is).count() > 1 {
                return Err("an [[on]] has only one of body, result, error, sse and raw".to_owned());
            }
        }
        Ok(Self {
            name: name.to_owned(),
            ..case
        })
    }
}

impl On {
    /// Nothing is said before `then`.
    pub(super) fn is_silent(&self) -> bool {
        self.then.is_some()
            && self.status.is_none()
            && self.headers.is_empty()
            && [&self.body, &self.raw, &self.endless].iter().all(|text| text.is_none())
            && self.result.is_none()
            && self.error.is_none()
            && self.sse.is_none()
    }
}

fn newest_legacy() -> String {
    "2025-11-25".to_owned()
}

fn yes() -> bool {
    true
}

fn two() -> usize {
    2
}

fn up() -> String {
    "up".to_owned()
}
