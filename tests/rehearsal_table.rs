//! `data/rehearsals.toml`: what [`rehearse`] has to say of each case there. Its head explains the keys.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use mcpprobe::correlate::rehearse;
use mcpprobe::model::{
    BackendState, ClockSkew, Coverage, Evidence, Fellows, PassedProbe, ServerSpan, SpanId,
    SpanKind, Staging, Text, TraceId, Window,
};

const TABLE: &str = include_str!("data/rehearsals.toml");

/// Fewer would mean that the file was lost or cut.
const ROWS_AT_LEAST: usize = 20;

#[test]
fn every_case_is_told_what_is_missing() {
    let table: Table = toml::from_str(TABLE).unwrap();
    assert!(table.case.len() >= ROWS_AT_LEAST);
    let mut codes = BTreeSet::new();
    for row in &table.case {
        let found = rehearse(&row.staging(), Some(&row.evidence()));
        let missing: Vec<_> = found.lacks.iter().map(|lack| lack.code()).collect();
        assert_eq!(missing, row.missing, "{}: {found:?}", row.name);
        assert_eq!(found.reach.as_str(), row.reach, "{}: {found:?}", row.name);
        let is_able = ["reachable", "limited"].contains(&row.reach.as_str());
        assert_eq!(found.proof.is_some(), is_able, "{}: {found:?}", row.name);
        assert!(
            found
                .lacks
                .iter()
                .all(|lack| lack.says().as_str().len() > 20)
        );
        codes.extend(missing);
    }
    assert_eq!(codes.len(), 14, "a lack without a case: {codes:?}");
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
    reach: String,
    missing: Vec<String>,
    #[serde(default)]
    no_traces: bool,
    #[serde(default)]
    no_telemetry: bool,
    #[serde(default)]
    context_off: bool,
    #[serde(default)]
    unavailable: bool,
    passed: Option<Vec<Passed>>,
    #[serde(default)]
    service_unknown: bool,
    shared_with: Option<String>,
    #[serde(default)]
    candidates: BTreeSet<String>,
    #[serde(default)]
    never: bool,
    #[serde(default)]
    sampled: bool,
    #[serde(default)]
    clock_behind: f64,
    #[serde(default)]
    beside_us: bool,
    heard: Option<usize>,
    #[serde(default)]
    others: u8,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Passed {
    ago: f64,
    #[serde(default)]
    silent: bool,
    #[serde(default)]
    lost: bool,
}

impl Row {
    fn staging(&self) -> Staging {
        Staging {
            has_traces: !self.no_traces,
            has_telemetry: !self.no_telemetry,
            sends_context: !self.context_off,
            silence: Duration::from_secs(180),
        }
    }

    fn evidence(&self) -> Evidence {
        let usual = [5.0, 65.0, 125.0, 185.0].map(|ago| Passed {
            ago,
            silent: false,
            lost: false,
        });
        let passed: Vec<_> = (1..)
            .zip(self.passed.as_deref().unwrap_or(&usual))
            .map(|(number, passed)| PassedProbe {
                trace_id: TraceId([number; 16]),
                ended_at: ago(passed.ago),
                joined: !passed.silent,
                own_spans_found: !passed.lost,
            })
            .collect();
        let end = passed.first().map_or(ago(0.0), |probe| probe.ended_at);
        Evidence {
            backend: match self.unavailable {
                true => BackendState::Unavailable("no connection".into()),
                false => BackendState::Answered,
            },
            coverage: match self.sampled {
                true => Coverage::Sampled("1 in 10".into()),
                false => Coverage::Full,
            },
            failed: Vec::new(),
            service: (!self.service_unknown).then(|| "weather-mcp".into()),
            service_shared_with: self.shared_with.as_ref().map(Text::new),
            candidates: self.candidates.iter().map(Text::new).collect(),
            ever_instrumented: !self.never,
            baseline: Window {
                from: end - Duration::from_secs(300),
                to: end,
            },
            gap: Window {
                from: end,
                to: ago(0.0),
            },
            silence_to: ago(0.0),
            asked_at: ago(0.0),
            later_on_its_way: false,
            usual_lag: Duration::ZERO,
            clock: ClockSkew {
                by: Duration::from_secs_f64(self.clock_behind),
                ahead: false,
                spread: Duration::ZERO,
            },
            shares_our_network: self.beside_us,
            elsewhere: Default::default(),
            others_heard: self.heard,
            spans: (0..self.others)
                .map(|number| request(number, end))
                .collect(),
            probe_traces: passed.iter().map(|probe| probe.trace_id).collect(),
            negotiation: BTreeSet::new(),
            passed,
        }
    }
}

fn request(number: u8, end: SystemTime) -> ServerSpan {
    ServerSpan {
        trace_id: TraceId([100 + number; 16]),
        span_id: SpanId([100 + number; 8]),
        ancestors: Vec::new(),
        service: "weather-mcp".into(),
        resource_matches: true,
        name: "tools/call".into(),
        kind: SpanKind::Server,
        has_mcp_attributes: true,
        is_health_check: false,
        start: end - Duration::from_secs(1 + u64::from(number)),
        duration: Duration::from_millis(20),
        is_error: false,
        is_callers_fault: false,
        http_status: None,
        error_type: None,
        message: None,
        fellows: Fellows::default(),
    }
}

fn ago(seconds: f64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000) - Duration::from_secs_f64(seconds)
}
