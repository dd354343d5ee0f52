//! One POST to a receiver over HTTP, and what its answer means.

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};

use super::Failure;

/// Bytes of an answer that are read: enough for an error in words. The rest is left.
const MAX_ANSWER: usize = 16 * 1024;

/// What an answer said.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The start of its body.
    pub(super) body: String,
    retry_after: Option<Duration>,
}

/// The client that all channels share. It follows no redirect: a secret URL, a signature and a token are for the
/// host that the user has named. It keeps no connection: notices are rare, and a stale one costs a repetition.
///
/// # Errors
/// When none can be made on this machine.
pub fn http_client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent(concat!("mcpprobe/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// A POST of JSON with further headers.
pub(super) async fn post(
    client: &Client,
    url: &str,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: impl Into<reqwest::Body>,
) -> Result<Answer, Failure> {
    let mut request = client
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .body(body);
    // The user's own and that of another format stand in the place of ours.
    request = request.headers(headers.into_iter().collect());
    let mut answer = request.send().await.map_err(|error| why(&error, url))?;
    let status = answer.status();
    let retry_after = answer
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| wait(value.to_str().ok()?, SystemTime::now()));
    let mut body = Vec::new();
    // What breaks off after the status has said all that counts.
    while let Ok(Some(piece)) = answer.chunk().await {
        let room = MAX_ANSWER - body.len();
        body.extend_from_slice(piece.get(..room).unwrap_or(&piece));
        if body.len() >= MAX_ANSWER {
            break;
        }
    }
    Ok(Answer {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
        retry_after,
    })
}

impl Answer {
    /// 2xx is a delivery; everything else a failure that says what came from where.
    pub(super) fn accepted(self, url: &str) -> Result<Self, Failure> {
        let status = self.status;
        if status.is_success() {
            return Ok(self);
        }
        let mut why = format!("HTTP {status} from {}", origin(url));
        if status.is_redirection() {
            why.push_str(", a redirect, which is not followed");
        }
        let passes = matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
        Err(Failure {
            retry_after: self.retry_after,
            whole_channel: status == StatusCode::TOO_MANY_REQUESTS,
            is_lasting: !passes && !status.is_server_error(),
            ..Failure::new(why).said(self.body)
        })
    }

    /// The same where a receiver says in its body how long to wait.
    pub(super) fn accepted_or_wait(
        self,
        url: &str,
        seconds: impl Fn(&serde_json::Value) -> Option<f64>,
    ) -> Result<Self, Failure> {
        let told = serde_json::from_str(&self.body)
            .ok()
            .and_then(|body| seconds(&body))
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        self.accepted(url).map_err(|failure| Failure {
            retry_after: failure.retry_after.max(told),
            ..failure
        })
    }
}

/// Scheme and host: the path of a hook is as good as a password.
pub(super) fn origin(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(url) => url.origin().ascii_serialization(),
        Err(_) => "an unusable URL".to_owned(),
    }
}

/// `Retry-After`: seconds, or a date.
fn wait(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(value.trim()).ok()?;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(date.timestamp().try_into().ok()?);
    Some(at.duration_since(now).unwrap_or_default())
}

fn why(error: &reqwest::Error, url: &str) -> Failure {
    let origin = origin(url);
    // The error itself would show the whole URL; its sources do not.
    let mut source = std::error::Error::source(error);
    let mut last = "the request failed".to_owned();
    while let Some(inner) = source {
        last = inner.to_string();
        source = inner.source();
    }
    if error.is_connect() {
        return Failure::new(format!("no connection to {origin}: {last}"));
    }
    Failure::new(format!("no answer from {origin}: {last}"))
}

/// A header whose value is never shown.
pub(super) fn sensitive(value: &str) -> Result<HeaderValue, Failure> {
    let mut header = HeaderValue::from_str(value)
        .map_err(|_| Failure::lasting("a value of a header cannot be sent"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_shown_by_its_host_only() {
        assert_eq!(
            origin("https://user:pw@hooks.example:8443/services/T0/B0/x?key=1"),
            "https://hooks.example:8443"
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480 - 30);
        assert_eq!(wait("120", now), Some(Duration::from_secs(120)));
        assert_eq!(
            wait("Wed, 21 Oct 2015 07:28:00 GMT", now),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            wait("Wed, 21 Oct 2015 07:00:00 GMT", now),
            Some(Duration::ZERO)
        );
        assert_eq!(wait("soon", now), None);
    }
}
