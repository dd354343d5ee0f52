//! `data/verdicts.toml`: what [`judge`] has to say of each case there. Its head explains the keys.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use mcpprobe::correlate::{excerpt, judge};
use mcpprobe::model::{
    BackendState, ClockSkew, Coverage, Elsewhere, Evidence, FailedProbe, Fellows, Judgement, Layer,
    PassedProbe, Rule, ServerSpan, SpanId, SpanKind, Text, TraceId, Verdict, Window,
};

const TABLE: &str = include_str!("data/verdicts.toml");

/// Fewer would mean that the file was lost or cut.
const ROWS_AT_LEAST: usize = 50;

const SERVICE: &str = "weather-mcp";

/// Seconds.
const BASELINE: f64 = 300.0;

/// Seconds; the last asking after the first failure.
const LAST_ASKING: f64 = 180.0;

#[test]
fn every_case_gets_its_verdict_by_its_rule() {
    let rows = rows();
    let wrong: Vec<_> = rows.iter().filter_map(Row::complaint).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cases are judged wrongly:\n\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn what_is_stored_of_a_case_is_judged_the_same_to_the_word() {
    let mut shortened = 0;
    for row in rows() {
        let evidence = row.evidence();
        let kept = excerpt(&evidence);
        shortened += usize::from(kept.spans.len() < evidence.spans.len());
        let text = serde_json::to_string(&kept).unwrap();
        let read: Evidence = serde_json::from_str(&text).unwrap();
        assert_eq!(judge(&read), judge(&evidence), "{}: {text}", row.name);
    }
    assert!(shortened > 20, "only {shortened} cases lose spans");
}

#[test]
fn the_table_is_whole() {
    let rows = rows();
    assert!(rows.len() >= ROWS_AT_LEAST, "only {} cases", rows.len());
    let mut names = BTreeSet::new();
    for row in &rows {
        assert!(
            names.insert(&row.name),
            "two cases are called {:?}",
            row.name
        );
    }
    for rule in Rule::ALL {
        let word = rule.as_str();
        assert!(
            rows.iter().any(|row| row.rule == word),
            "no case for rule {word}"
        );
    }
    for verdict in Verdict::ALL {
        assert!(
            rows.iter().any(|row| row.verdict == verdict),
            "no case for {verdict}"
        );
    }
}

fn rows() -> Vec<Row> {
    let table: Table =
        toml::from_str(TABLE).unwrap_or_else(|error| panic!("verdicts.toml: {error}"));
    table.case
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    verdict: Verdict,
    rule: String,
    says: Option<String>,
    #[serde(default)]
    backend: Backend,
    failed: Option<Vec<Failed>>,
    passed_with_spans: Option<Vec<f64>>,
    passed_without_spans: Option<Vec<f64>>,
    #[serde(default)]
    service_unknown: bool,
    coverage: Option<Kept>,
    service_shared_with: Option<String>,
    #[serde(default)]
    candidates: BTreeSet<String>,
    #[serde(default)]
    never_instrumented: bool,
    last_asking: Option<f64>,
    silence_to: Option<f64>,
    asked_at: Option<f64>,
    #[serde(default)]
    later_on_its_way: bool,
    #[serde(default)]
    usual_lag: f64,
    #[serde(default)]
    clock: Clock,
    #[serde(default)]
    shares_our_network: bool,
    #[serde(default)]
    elsewhere: Elsewhere,
    others_heard: Option<usize>,
    #[serde(default)]
    spans: Vec<Spans>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    Unknown,
    Sampled,
    RetentionFiltered,
}

/// Seconds; a clock that is slow is behind.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clock {
    #[serde(default)]
    ahead: f64,
    #[serde(default)]
    behind: f64,
    #[serde(default)]
    spread: f64,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Backend {
    #[default]
    Answered,
    Unavailable,
    Truncated,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failed {
    at: Option<f64>,
    layer: Option<Layer>,
    status: Option<u16>,
    step: Option<[f64; 2]>,
    answered: Option<bool>,
    timed_out: Option<bool>,
    #[serde(default)]
    own_spans_missing: bool,
    #[serde(default)]
    at_proxy: bool,
    #[serde(default)]
    refused: bool,
}

/// One span, or `count` of them, one `every` so many seconds.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spans {
    at: f64,
    count: Option<u8>,
    every: Option<f64>,
    took: Option<f64>,
    failed_probe: Option<u8>,
    passed_probe: Option<u8>,
    #[serde(default)]
    under: Vec<Under>,
    service: Option<String>,
    #[serde(default)]
    other_resource: bool,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    mcp: bool,
    #[serde(default)]
    health_check: bool,
    #[serde(default)]
    error: bool,
    #[serde(default)]
    callers_fault: bool,
    status: Option<u16>,
    error_type: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    Server,
    Client,
    Other,
}

/// A span's ancestor: three of our own operations, or a gateway's span.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Under {
    Step,
    EarlierStep,
    Negotiation,
    Gateway,
}

/// Whose trace a span is in; probes are numbered from 1 in the order of the evidence.
#[derive(Clone, Copy)]
enum Owner {
    Failed(u8),
    Passed(u8),
    Others(u8),
}

impl Owner {
    fn number(self) -> [u8; 2] {
        match self {
            Self::Failed(number) => [1, number],
            Self::Passed(number) => [2, number],
            Self::Others(number) => [3, number],
        }
    }

    fn trace(self) -> TraceId {
        let [kind, number] = self.number();
        TraceId([kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number])
    }

    fn span(self, under: Under) -> SpanId {
        let [kind, number] = self.number();
        SpanId([kind, number, 0, 0, 0, 0, 0, under as u8])
    }
}

impl Row {
    /// What is wrong with the judgement, for a person.
    fn complaint(&self) -> Option<String> {
        let judged = judge(&self.evidence());
        let right = judged.verdict == self.verdict
            && judged.rule.as_str() == self.rule
            && self
                .says
                .as_ref()
                .is_none_or(|says| judged.reason.as_str().contains(says));
        (!right).then(|| self.shown(&judged))
    }

    fn shown(&self, judged: &Judgement) -> String {
        let says = self.says.as_ref().map(|says| format!(", saying {says:?}"));
        format!(
            "{}\n  expected {} by {}{}\n  judged   {} by {}: {}",
            self.name,
            self.verdict,
            self.rule,
            says.unwrap_or_default(),
            judged.verdict,
            judged.rule.as_str(),
            judged.reason
        )
    }

    fn evidence(&self) -> Evidence {
        let failed = self.failed_probes();
        let passed = self.passed_probes();
        let first = failed
            .first()
            .map_or_else(|| at(0.0), |probe| probe.started_at);
        let baseline_end = passed.first().map_or(first, |probe| probe.ended_at);
        let last_asking = if failed.is_empty() { 0.0 } else { LAST_ASKING };
        let owners: Vec<_> = (1..=count(failed.len()))
            .map(Owner::Failed)
            .chain((1..=count(passed.len())).map(Owner::Passed))
            .collect();
        Evidence {
            backend: match self.backend {
                Backend::Answered => BackendState::Answered,
                Backend::Unavailable => BackendState::Unavailable("no connection".into()),
                Backend::Truncated => {
                    BackendState::Truncated("1500 traces and perhaps more".into())
                }
            },
            coverage: match &self.coverage {
                None => Coverage::Full,
                Some(Kept::Unknown) => Coverage::Unknown,
                Some(Kept::Sampled) => Coverage::Sampled("1 in 10".into()),
                Some(Kept::RetentionFiltered) => Coverage::RetentionFiltered("15 minutes".into()),
            },
            service: (!self.service_unknown).then(|| SERVICE.into()),
            service_shared_with: self.service_shared_with.as_ref().map(Text::new),
            candidates: self.candidates.iter().map(Text::new).collect(),
            ever_instrumented: !self.never_instrumented,
            baseline: Window {
                from: baseline_end - Duration::from_secs_f64(BASELINE),
                to: baseline_end,
            },
            gap: Window {
                from: baseline_end,
                to: at(self.last_asking.unwrap_or(last_asking)),
            },
            silence_to: at(self.silence_to.or(self.last_asking).unwrap_or(last_asking)),
            asked_at: at(self.asked_at.unwrap_or(LAST_ASKING)),
            later_on_its_way: self.later_on_its_way,
            usual_lag: Duration::from_secs_f64(self.usual_lag),
            clock: ClockSkew {
                by: Duration::from_secs_f64(self.clock.ahead + self.clock.behind),
                ahead: self.clock.behind == 0.0,
                spread: Duration::from_secs_f64(self.clock.spread),
            },
            shares_our_network: self.shares_our_network,
            elsewhere: self.elsewhere,
            others_heard: self.others_heard,
            spans: self.all_spans(&passed),
            probe_traces: owners.iter().map(|owner| owner.trace()).collect(),
            negotiation: owners
                .iter()
                .map(|owner| owner.span(Under::Negotiation))
                .collect(),
            failed,
            passed,
        }
    }

    fn failed_probes(&self) -> Vec<FailedProbe> {
        let usual = vec![Failed::default(); 3];
        let failed = self.failed.as_ref().unwrap_or(&usual);
        (1..)
            .zip(failed)
            .map(|(number, probe)| probe.evidence(number))
            .collect()
    }

    /// Newest first.
    fn passed_probes(&self) -> Vec<PassedProbe> {
        let usual = match (&self.failed, &self.passed_without_spans) {
            (Some(failed), _) if failed.is_empty() => Vec::new(),
            (_, None) => vec![-60.0, -120.0, -180.0, -240.0],
            (_, Some(_)) => Vec::new(),
        };
        let with = self.passed_with_spans.as_ref().unwrap_or(&usual).iter();
        let without = self.passed_without_spans.iter().flatten();
        let mut passed: Vec<_> = with
            .map(|ended| (*ended, true))
            .chain(without.map(|ended| (*ended, false)))
            .collect();
        passed.sort_by(|a, b| b.0.total_cmp(&a.0));
        (1..)
            .zip(passed)
            .map(|(number, (ended, joined))| PassedProbe {
                trace_id: Owner::Passed(number).trace(),
                ended_at: at(ended),
                joined,
                own_spans_found: true,
            })
            .collect()
    }

    /// The row's spans, and the one that every joined probe has left.
    fn all_spans(&self, passed: &[PassedProbe]) -> Vec<ServerSpan> {
        let usual = Spans {
            mcp: true,
            under: vec![Under::EarlierStep],
            ..Spans::default()
        };
        let mut spans: Vec<ServerSpan> = Vec::new();
        for (number, probe) in (1..).zip(passed) {
            if probe.joined {
                let start = probe.ended_at - Duration::from_millis(200);
                spans.push(usual.span(Owner::Passed(number), start, spans.len()));
            }
        }
        for entry in &self.spans {
            for turn in 0..entry.count.unwrap_or(1) {
                let owner = match (entry.failed_probe, entry.passed_probe) {
                    (Some(number), None) => Owner::Failed(number),
                    (None, Some(number)) => Owner::Passed(number),
                    (None, None) => Owner::Others(count(spans.len())),
                    (Some(_), Some(_)) => panic!("{}: a span in two traces", self.name),
                };
                let start = at(entry.at + f64::from(turn) * entry.every.unwrap_or_default());
                spans.push(entry.span(owner, start, spans.len()));
            }
        }
        spans
    }
}

impl Failed {
    fn evidence(&self, number: u8) -> FailedProbe {
        let start = self.at.unwrap_or(f64::from(number - 1) * 3.0);
        let layer = self.layer.unwrap_or(Layer::Transport);
        let usual = (layer > Layer::Transport).then_some([start + 0.1, start + 0.2]);
        let step = self.step.or(usual).map(|[from, to]| Window {
            from: at(from),
            to: at(to),
        });
        let owner = Owner::Failed(number);
        let answered = self.answered.unwrap_or(self.status.is_some());
        FailedProbe {
            trace_id: owner.trace(),
            started_at: at(start),
            ended_at: step.map_or_else(|| at(start + 0.1), |step| step.to),
            layer,
            at_proxy: self.at_proxy,
            http_status: self.status,
            failed_span: step.map(|_| owner.span(Under::Step)),
            failed_step: step,
            answered,
            timed_out: self.timed_out.unwrap_or(step.is_some() && !answered),
            own_spans_found: !self.own_spans_missing,
            refused_by_host: self.refused,
        }
    }
}

impl Spans {
    fn span(&self, owner: Owner, start: SystemTime, number: usize) -> ServerSpan {
        ServerSpan {
            trace_id: owner.trace(),
            span_id: SpanId([9, 0, 0, 0, 0, 0, 0, count(number)]),
            ancestors: self.under.iter().map(|under| owner.span(*under)).collect(),
            service: self.service.as_deref().unwrap_or(SERVICE).into(),
            resource_matches: !self.other_resource,
            name: "POST /mcp".into(),
            kind: match self.kind {
                Kind::Server => SpanKind::Server,
                Kind::Client => SpanKind::Client,
                Kind::Other => SpanKind::Other,
            },
            has_mcp_attributes: self.mcp,
            is_health_check: self.health_check,
            start,
            duration: Duration::from_secs_f64(self.took.unwrap_or(0.02)),
            is_error: self.error || self.callers_fault,
            is_callers_fault: self.callers_fault,
            http_status: self.status,
            error_type: self.error_type.as_ref().map(Text::new),
            message: None,
            fellows: Fellows::default(),
        }
    }
}

/// The moment `seconds` after the first failure.
fn at(seconds: f64) -> SystemTime {
    let first_failure = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let distance = Duration::from_secs_f64(seconds.abs());
    if seconds < 0.0 {
        first_failure - distance
    } else {
        first_failure + distance
    }
}

fn count(number: usize) -> u8 {
    u8::try_from(number).unwrap()
}
