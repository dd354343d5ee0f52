//! A query over HTTP: bounded in time, size and number, and never more told of it than may be shown.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use reqwest::{Method, StatusCode};
use url::Url;

use super::asking::Asking;
use super::backend::Unavailable;
use super::budget::Budget;
use crate::model::{RemoteSettings, Text};

/// Bytes of one answer: a full search of ordinary traces is some 20 MB.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A backend's HTTP client.
pub(super) struct Http {
    client: reqwest::Client,
    base: Url,
    timeout: Duration,
    budget: Option<Arc<Budget>>,
    /// Masked in what a refusal says.
    secrets: Vec<String>,
}

/// An answer with its status: what that means is the backend's business.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Http {
    /// `timeout` is that of one query.
    pub(super) fn new(
        settings: &RemoteSettings,
        timeout: Duration,
        budget: Option<Arc<Budget>>,
    ) -> Result<Self, String> {
        let base = settings
            .url
            .clone()
            .ok_or_else(|| format!("{} has no URL to ask", settings.kind.as_str()))?;
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .default_headers(settings.headers.clone())
            // Credentials go to whom the user named.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("cannot make a client for the trace backend: {error}"))?;
        Ok(Self {
            client,
            base,
            timeout,
            budget,
            secrets: secrets(&settings.headers),
        })
    }

    /// `path` below the base, without a leading slash.
    pub(super) fn url(&self, path: &str) -> Result<Url, Unavailable> {
        let mut base = self.base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        base.join(path)
            .map_err(|error| Text::new(format!("{path}: {error}")))
    }

    /// A path below the base of which each segment is escaped.
    pub(super) fn below(&self, segments: &[&str]) -> Result<Url, Unavailable> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Text::new("its URL has no path"))?
            .pop_if_empty()
            .extend(segments);
        Ok(url)
    }

    /// The base as it may be shown: no user, no password, no query.
    pub(super) fn shown_base(&self) -> String {
        let mut base = self.base.clone();
        base.set_username("").ok();
        base.set_password(None).ok();
        base.set_query(None);
        base.set_fragment(None);
        base.to_string()
    }

    pub(super) async fn get(&self, url: Url, asking: &Asking) -> Result<Reply, Unavailable> {
        let query = url.query().map(|query| format!("?{query}"));
        asking.note(format!(
            "GET {}{}",
            self.shown_path(&url),
            query.unwrap_or_default()
        ));
        self.send(self.client.request(Method::GET, url), asking)
            .await
    }

    /// `shown` is what of the body tells a person what was asked.
    pub(super) async fn post_json(
        &self,
        url: Url,
        body: &serde_json::Value,
        shown: &str,
        asking: &Asking,
    ) -> Result<Reply, Unavailable> {
        asking.note(format!("POST {} {shown}", self.shown_path(&url)));
        self.send(self.client.request(Method::POST, url).json(body), asking)
            .await
    }

    /// The same of a body that is plain text.
    pub(super) async fn post_text(
        &self,
        url: Url,
        body: String,
        asking: &Asking,
    ) -> Result<Reply, Unavailable> {
        asking.note(format!("POST {} {body}", self.shown_path(&url)));
        self.send(self.client.request(Method::POST, url).body(body), asking)
            .await
    }

    /// Relative to the base, which may hold a credential in its path.
    fn shown_path(&self, url: &Url) -> String {
        let base = self.base.path().trim_end_matches('/');
        url.path().strip_prefix(base).unwrap_or_default().to_owned()
    }

    // No trace context goes along: a backend that traces itself would add spans to the very trace that is asked for.
    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        asking: &Asking,
    ) -> Result<Reply, Unavailable> {
        if let Some(budget) = &self.budget {
            asking.turn(budget).await?;
        }
        let mut answer = request.send().await.map_err(|error| self.why(&error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| self.why(&error))? {
            if body.len() + piece.len() > MAX_ANSWER {
                return Err(Text::new(format!(
                    "its answer is larger than {MAX_ANSWER} bytes"
                )));
            }
            body.extend_from_slice(&piece);
        }
        if !status.is_success() {
            // Some proxies say what they were sent.
            let said = String::from_utf8_lossy(&body);
            body = Text::mask(&said, self.secrets.iter().map(String::as_str)).into_bytes();
        }
        let reply = Reply {
            status,
            headers,
            body,
        };
        if let Some(budget) = &self.budget
            && status == StatusCode::TOO_MANY_REQUESTS
        {
            budget.pause(reply.wants_to_be_left_alone());
        }
        Ok(reply)
    }

    fn why(&self, error: &reqwest::Error) -> Text {
        if error.is_timeout() {
            return Text::new(format!(
                "no answer within {}",
                humantime::format_duration(self.timeout)
            ));
        }
        if error.is_connect() {
            return Text::new("no connection");
        }
        // The URL may hold credentials of the user's.
        let mut source = std::error::Error::source(error);
        let mut last = "the request failed".to_owned();
        while let Some(inner) = source {
            last = inner.to_string();
            source = inner.source();
        }
        Text::new(last)
    }
}

/// Characters of a refusal's own words.
const MAX_SAID: usize = 200;

/// Every header's value, what stands after `Bearer` in it, and the password in basic authentication.
fn secrets(headers: &HeaderMap) -> Vec<String> {
    use base64::Engine as _;
    let mut secrets = Vec::new();
    for value in headers.values().filter_map(|value| value.to_str().ok()) {
        secrets.push(value.to_owned());
        let Some((_, after)) = value.split_once(' ') else {
            continue;
        };
        secrets.push(after.to_owned());
        let decoded = base64::engine::general_purpose::STANDARD.decode(after);
        let both = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, password)) = both.as_deref().and_then(|both| both.split_once(':')) {
            secrets.push(password.to_owned());
        }
    }
    secrets
}

impl Reply {
    /// For how long, where it says so.
    pub(super) fn wants_to_be_left_alone(&self) -> Option<Duration> {
        let header = |name: &str| self.headers.get(name)?.to_str().ok();
        let seconds = |text: &str| text.trim().parse().ok().map(Duration::from_secs);
        let retry_after = header("retry-after").and_then(|text| {
            seconds(text).or_else(|| {
                let at = chrono::DateTime::parse_from_rfc2822(text).ok()?;
                let at = SystemTime::from(at);
                Some(at.duration_since(SystemTime::now()).unwrap_or_default())
            })
        });
        // Seconds from now (Datadog), or since 1970 (Axiom).
        let reset = ["x-ratelimit-reset", "x-querylimit-reset"]
            .iter()
            .find_map(|name| header(name).and_then(seconds));
        let reset = reset.map(|reset| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            reset.checked_sub(now.unwrap_or_default()).unwrap_or(reset)
        });
        retry_after.or(reset)
    }

    /// The body, where the status is a success; else why the backend could not say, with what it says of it.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Unavailable> {
        if !self.status.is_success() {
            return Err(self.refusal(""));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            Text::new(format!(
                "HTTP {} and an answer that cannot be read: {error}",
                self.status
            ))
        })
    }

    /// The same where the backend says in plain text why it refuses.
    pub(super) fn plain_refusal(&self) -> Unavailable {
        let text = String::from_utf8_lossy(&self.body);
        let text = text.trim();
        // A page is for people who look at it.
        let is_page = text.starts_with('<');
        let short: String = text.chars().take(MAX_SAID).collect();
        self.refusal(if is_page { "" } else { &short })
    }

    /// A refusal in words: the status, the backend's message, and when it may be asked again.
    pub(super) fn refusal(&self, message: &str) -> Unavailable {
        let hint = match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ": it does not accept our credential"
            }
            StatusCode::TOO_MANY_REQUESTS => ": it was asked too often",
            _ => "",
        };
        let message = match message {
            "" => String::new(),
            message => format!(": {message}"),
        };
        let again = self.headers.get(http::header::RETRY_AFTER);
        let again = again
            .and_then(|value| value.to_str().ok())
            .map(|after| format!(" (again after {after})"))
            .unwrap_or_default();
        Text::new(format!("HTTP {}{hint}{message}{again}", self.status))
    }
}
