//! One case: a file that says what is asked, answered, and made of it.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mcpprobe::correlate::{Asking, Backend, Claim, gather, judge};
use mcpprobe::model::{BackendState, Coverage, TracesSettings, Verdict};
use serde::Deserialize;

use super::fake::{Exchange, Fake};
use super::story::{self, Failure};

/// Credentials of every case: they may be seen by nobody but the vendor.
const SECRET: &str = "s3cret";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// What of `[[traces]]` is besides `url`.
    traces: toml::Table,
    #[serde(default)]
    failure: Failure,
    #[serde(default = "weather")]
    service: String,
    /// The failure was so many minutes earlier than usual.
    #[serde(default)]
    ago: u64,
    #[serde(default)]
    exchange: Vec<Exchange>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    verdict: Verdict,
    /// What the reason holds.
    says: String,
    /// `answered`, `unavailable` or `truncated`.
    backend: String,
    #[serde(default = "full")]
    coverage: String,
    spans: Option<usize>,
    /// The page of the failed probe's trace; `none` when there is none.
    link: Option<String>,
    /// A second inquiry is told this without asking.
    then: Option<String>,
}

fn weather() -> String {
    "weather-mcp".to_owned()
}

fn full() -> String {
    "full".to_owned()
}

impl Case {
    pub(super) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let ago = text.lines().find_map(|line| line.strip_prefix("ago = "));
        let ago = ago.map_or(0, |minutes| minutes.parse().unwrap());
        let text = with_times(&text, story::start(ago));
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// What is not as it should be.
    pub(super) async fn run(self) -> Vec<String> {
        let start = story::start(self.ago);
        let fake = Fake::start(self.exchange.clone()).await;
        let settings = self.settings(&fake.url);
        let backend = Backend::new(&settings).unwrap();
        let asking = Asking::default();
        let case = story::case(start, self.failure, &self.service);
        let evidence = gather(&case, &backend, &asking, story::now(start)).await;
        let judgement = judge(&evidence);
        let mut wrong = Vec::new();
        let mut check = |what: &str, came: String, expected: &str| {
            if !came.contains(expected) {
                wrong.push(format!("{what} is {came:?}, not {expected:?}"));
            }
        };
        check(
            "the verdict",
            judgement.verdict.to_string(),
            self.expect.verdict.as_str(),
        );
        check(
            "the reason",
            judgement.reason.to_string(),
            &self.expect.says,
        );
        check("the backend", word(&evidence.backend), &self.expect.backend);
        check(
            "the coverage",
            coverage(&evidence.coverage),
            &self.expect.coverage,
        );
        if let Some(spans) = self.expect.spans {
            check(
                "spans",
                format!("={}", evidence.spans.len()),
                &format!("={spans}"),
            );
        }
        if let Some(expected) = &self.expect.link {
            let link = backend.link(case.failed[0].trace_id, start);
            check(
                "the link",
                link.unwrap_or_else(|| "none".to_owned()),
                expected,
            );
        }
        if let Some(expected) = &self.expect.then {
            let evidence = gather(&case, &backend, &Asking::default(), story::now(start)).await;
            check(
                "the second reason",
                judge(&evidence).reason.to_string(),
                expected,
            );
        }
        let queries: Vec<_> = asking.into_queries().into_iter().map(|q| q.text).collect();
        let queries = queries.join("\n");
        let shown = format!("{queries}{judgement:?}{evidence:?}{settings:?}");
        if shown.contains(SECRET) {
            wrong.push(format!("the credential is shown: {shown}"));
        }
        wrong.extend(fake.end());
        wrong
    }

    /// As `servers.toml` gives them.
    fn settings(&self, url: &str) -> TracesSettings {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("servers.toml");
        let mut traces = self.traces.clone();
        let can_be_asked = !matches!(traces["backend"].as_str(), Some("highflame" | "lightstep"));
        if can_be_asked {
            traces.insert("url".to_owned(), url.into());
        }
        let mut document = toml::Table::new();
        document.insert("traces".to_owned(), traces.into());
        let server = "[[server]]\nname = \"weather\"\nurl = \"http://localhost:1/mcp\"\n";
        std::fs::write(&file, format!("{document}\n{server}")).unwrap();
        let loaded = mcpprobe::config::load(&file, None);
        let loaded = loaded.unwrap_or_else(|complaints| panic!("{complaints:?}"));
        loaded.config.traces.into_iter().next().unwrap()
    }
}

/// What several inquiries about the same came to.
pub(super) struct Repeated {
    pub(super) verdicts: Vec<&'static str>,
    /// The reason of one more, by another `[[traces]]` of the same account.
    pub(super) beside: String,
    pub(super) refused_until: SystemTime,
    pub(super) complaints: Vec<String>,
}

impl Case {
    pub(super) async fn repeatedly(self, times: usize) -> Repeated {
        let start = story::start(self.ago);
        // The columns are asked for once.
        let again = self.exchange.iter().skip(1).cloned();
        let again = std::iter::repeat_n(again.collect::<Vec<_>>(), times).flatten();
        let all = self.exchange.iter().take(1).cloned().chain(again);
        let fake = Fake::start(all.collect()).await;
        let mut settings = self.settings(&fake.url);
        let backend = Backend::new(&settings).unwrap();
        let case = story::case(start, self.failure, &self.service);
        let mut verdicts = Vec::new();
        for _ in 0..times {
            let asking = Asking::default();
            let evidence = gather(&case, &backend, &asking, story::now(start)).await;
            assert_eq!(asking.refused_until(), None);
            verdicts.push(judge(&evidence).verdict.as_str());
        }
        assert!(backend.is_made_by(&settings));
        settings.name = "other".to_owned();
        assert!(!backend.is_made_by(&settings));
        let beside = Backend::beside(&settings, &[&backend]).unwrap();
        let asking = Asking::admitted(&beside, Claim::NeverAsked, None).await;
        let evidence = gather(&case, &beside, &asking, story::now(start)).await;
        let judgement = judge(&evidence);
        assert_eq!(judgement.verdict, Verdict::Inconclusive);
        Repeated {
            verdicts,
            beside: judgement.reason.to_string(),
            refused_until: asking.refused_until().unwrap().0,
            complaints: fake.end(),
        }
    }
}

fn word(state: &BackendState) -> String {
    match state {
        BackendState::Answered => "answered".to_owned(),
        BackendState::Unavailable(why) => format!("unavailable: {why}"),
        BackendState::Truncated(what) => format!("truncated: {what}"),
    }
}

fn coverage(coverage: &Coverage) -> String {
    match coverage {
        Coverage::Full => "full".to_owned(),
        Coverage::Unknown => "unknown".to_owned(),
        Coverage::Sampled(why) => format!("sampled: {why}"),
        Coverage::RetentionFiltered(why) => format!("retention_filtered: {why}"),
    }
}

/// `{iso3+1.5}` is 1.5 seconds after the failure in RFC 3339 with 3 digits, `{iso9-60}` a minute before it with 9;
/// `{ms+1}` and `{s-0.5}` count from 1970.
fn with_times(text: &str, start: SystemTime) -> String {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        made.push_str(before);
        let time = from.find('}').and_then(|close| {
            let inner = &from[1..close];
            let sign = inner.find(['+', '-'])?;
            let (kind, offset) = inner.split_at(sign);
            Some((close, written(kind, offset.parse().ok()?, start)?))
        });
        match time {
            Some((close, time)) => {
                made.push_str(&time);
                rest = &from[close + 1..];
            }
            None => {
                made.push('{');
                rest = &from[1..];
            }
        }
    }
    made + rest
}

fn written(kind: &str, offset: f64, start: SystemTime) -> Option<String> {
    let by = Duration::try_from_secs_f64(offset.abs()).ok()?;
    let at = if offset < 0.0 { start - by } else { start + by };
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    Some(match kind {
        "iso3" => humantime::format_rfc3339_millis(at).to_string(),
        "iso9" => humantime::format_rfc3339_nanos(at).to_string(),
        "ms" => since.as_millis().to_string(),
        "s" if since.subsec_nanos() == 0 => since.as_secs().to_string(),
        "s" => format!("{:.3}", since.as_secs_f64()),
        _ => return None,
    })
}
