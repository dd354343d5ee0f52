//! Expectations, judged on a finished probe. Pure.

use std::time::Duration;

use crate::model::{
    Endpoint, Expectation, Failure, Layer, Outcome, ProbeResult, Reason, Shortfall, State, Target,
};

/// Missing tools that a message names; the rest is counted.
const NAMED_TOOLS: usize = 5;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// An expectation that did not hold.
#[derive(Debug)]
struct Unmet {
    expectation: Expectation,
    /// The layer that it belongs to.
    layer: Layer,
    /// What was found, and what was expected.
    what: String,
}

/// Judges what is expected of `target`. `missing` are the expected tools that were not listed.
///
/// A probe that failed is judged no further, but for the failure that is expected.
pub(super) fn judge(target: &Target, missing: &[String], mut result: ProbeResult) -> ProbeResult {
    let challenged = expects_challenge(target) && take_challenge(&mut result);
    if result.failure.is_some() {
        return result;
    }
    let mut unmet: Vec<_> = unchallenged(target, challenged, &result)
        .into_iter()
        .chain(unmet_tools(target, missing, &result))
        .chain(unmet_times(target, &result))
        .chain(unmet_certificate(target, &result))
        .collect();
    // The worst decides; a stable sort keeps the order among the others.
    unmet.sort_by_key(|unmet| !target.expect.is_outage(unmet.expectation));
    let mut unmet = unmet.into_iter();
    if let Some(worst) = unmet.next() {
        decide(target, worst, &mut result);
    }
    for other in unmet {
        let note = format!("expectation {}", sentence(&other));
        result.notes.push(note.into());
    }
    result
}

fn sentence(unmet: &Unmet) -> String {
    format!("{}: {}", unmet.expectation.as_str(), unmet.what)
}

/// Makes the target `down` or `degraded`.
fn decide(target: &Target, unmet: Unmet, result: &mut ProbeResult) {
    let message = sentence(&unmet).into();
    let layer = unmet.layer;
    if !target.expect.is_outage(unmet.expectation) {
        result.state = State::Degraded;
        result.shortfall = Some(Shortfall { layer, message });
        return;
    }
    result.state = State::Down;
    set_outcome(result, layer, Outcome::Failed);
    let operation = result
        .operations
        .iter_mut()
        .rfind(|operation| operation.kind.covers(layer));
    let http_status = operation.and_then(|operation| {
        operation.error = Some(Reason::Expectation.as_str().into());
        operation.http_status
    });
    result.failure = Some(Failure {
        layer,
        reason: Reason::Expectation,
        message,
        http_status,
        jsonrpc_code: None,
    });
}

fn set_outcome(result: &mut ProbeResult, layer: Layer, outcome: Outcome) {
    let slots = Layer::ALL.into_iter().zip(&mut result.layers);
    for (_, slot) in slots.filter(|(slot, _)| *slot == layer) {
        slot.outcome = outcome;
    }
}

/// Whether a challenge is expected and could come: a connection alone asks for nothing, nor does a program.
fn expects_challenge(target: &Target) -> bool {
    target.expect.auth_challenge == Some(true)
        && target.profile.depth >= Expectation::AuthChallenge.needs()
        && matches!(target.endpoint, Endpoint::Http(_))
}

/// The challenge that is expected is no failure: the layer has passed with it, later ones are not asked for.
fn take_challenge(result: &mut ProbeResult) -> bool {
    let Some(failure) = result
        .failure
        .take_if(|failure| failure.reason == Reason::AuthRequired)
    else {
        return false;
    };
    result.state = State::Up;
    for (layer, slot) in Layer::ALL.into_iter().zip(&mut result.layers) {
        if layer == failure.layer {
            slot.outcome = Outcome::Ok;
        } else if layer > failure.layer {
            slot.outcome = Outcome::Skipped;
        }
    }
    if let Some(operation) = result.operations.last_mut() {
        operation.error = None;
    }
    // First, for it is what a table shows of a server that is up.
    let note = format!("{}, as expected", failure.message);
    result.notes.insert(0, note.into());
    true
}

fn unchallenged(target: &Target, challenged: bool, result: &ProbeResult) -> Option<Unmet> {
    (expects_challenge(target) && !challenged).then(|| Unmet {
        expectation: Expectation::AuthChallenge,
        layer: last_layer(result),
        what: "the server asked for no credential".to_owned(),
    })
}

/// The last layer that was reached.
fn last_layer(result: &ProbeResult) -> Layer {
    Layer::ALL
        .into_iter()
        .zip(&result.layers)
        .filter(|(_, slot)| slot.outcome == Outcome::Ok)
        .map(|(layer, _)| layer)
        .next_back()
        .unwrap_or(Layer::Transport)
}

fn unmet_tools(target: &Target, missing: &[String], result: &ProbeResult) -> Vec<Unmet> {
    let Some(listed) = result.tools else {
        return Vec::new();
    };
    let unmet = |expectation, what| Unmet {
        expectation,
        layer: Layer::ToolsList,
        what,
    };
    let mut all = Vec::new();
    if !missing.is_empty() {
        let named: Vec<_> = missing.iter().take(NAMED_TOOLS).map(|t| &**t).collect();
        let more = match missing.len().saturating_sub(NAMED_TOOLS) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let what = format!("{}{more} not among the {listed} listed", named.join(", "));
        all.push(unmet(Expectation::Tools, what));
    }
    if let Some(least) = target.expect.min_tools.filter(|least| listed < *least) {
        let what = format!("{listed}, at least {least}");
        all.push(unmet(Expectation::MinTools, what));
    }
    all
}

fn unmet_times(target: &Target, result: &ProbeResult) -> Vec<Unmet> {
    let expect = &target.expect;
    let slow = |expectation, layer, took: Duration, most: Option<Duration>| {
        let most = most.filter(|most| took > *most)?;
        let most = humantime::format_duration(most);
        Some(Unmet {
            expectation,
            layer,
            what: format!("{}, at most {most}", rounded_up(took)),
        })
    };
    let whole = slow(
        Expectation::MaxLatency,
        last_layer(result),
        result.duration,
        expect.max_latency,
    );
    let layers = Layer::ALL.into_iter().zip(&result.layers);
    let layers = layers
        .zip(expect.max_layers)
        .filter_map(|((layer, slot), most)| {
            let passed = slot.outcome == Outcome::Ok;
            slow(
                Expectation::MaxLayer(layer),
                layer,
                slot.duration,
                most.filter(|_| passed),
            )
        });
    whole.into_iter().chain(layers).collect()
}

/// Up, so that what was too long never looks like what is allowed.
fn rounded_up(took: Duration) -> String {
    let millis = took.as_secs_f64() * 1e3;
    if millis < 1e3 {
        format!("{:.1} ms", (millis * 10.0).ceil() / 10.0)
    } else {
        format!("{:.3} s", millis.ceil() / 1e3)
    }
}

fn unmet_certificate(target: &Target, result: &ProbeResult) -> Option<Unmet> {
    let least = target.expect.certificate_days?;
    let end = result.certificate_expires?;
    let left = end.duration_since(result.started_at).unwrap_or_default();
    (left < DAY * least).then(|| Unmet {
        expectation: Expectation::CertificateDays,
        layer: Layer::Transport,
        what: format!(
            "{}, at least {least}: the certificate ends on {}",
            left.as_secs() / DAY.as_secs(),
            humantime::format_rfc3339_seconds(end),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AdHoc;
    use crate::model::Expect;
    use std::time::SystemTime;

    fn target(expect: Expect) -> Target {
        let url = "https://a.example/mcp".parse().unwrap();
        let mut target = AdHoc::Url(url).target(None, &|_| None).unwrap();
        target.expect = expect;
        target
    }

    /// A second for each layer, three tools, and a certificate for ten days.
    fn passed() -> ProbeResult {
        ProbeResult {
            tools: Some(3),
            certificate_expires: Some(SystemTime::UNIX_EPOCH + DAY * 10),
            ..ProbeResult::passed()
        }
    }

    /// State and message with these expectations, and no tool missing.
    fn judged(expect: Expect) -> (State, String) {
        let result = judge(&target(expect), &[], passed());
        let message = result.message().map(ToString::to_string);
        (result.state, message.unwrap_or_default())
    }

    #[test]
    fn each_holds_up_to_its_limit_and_no_further() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let up = (State::Up, String::new());
        let mut expect = Expect {
            min_tools: Some(3),
            max_latency: seconds(4),
            max_layers: [seconds(1); 4],
            certificate_days: Some(10),
            ..Expect::default()
        };
        assert_eq!(judged(expect.clone()), up);
        assert_eq!(judged(Expect::default()), up);
        let late = |change: &dyn Fn(&mut Expect)| {
            let mut expect = expect.clone();
            change(&mut expect);
            let (state, message) = judged(expect);
            assert_eq!(state, State::Degraded);
            message
        };
        assert_eq!(late(&|e| e.min_tools = Some(4)), "min_tools: 3, at least 4");
        assert_eq!(
            late(&|e| e.max_latency = Some(Duration::from_millis(3_999))),
            "max_latency: 4.000 s, at most 3s 999ms"
        );
        assert_eq!(
            late(&|e| *e.max_layer(Layer::Http) = Some(Duration::from_millis(1))),
            "max_http: 1.000 s, at most 1ms"
        );
        assert_eq!(
            late(&|e| e.certificate_days = Some(11)),
            "certificate_days: 10, at least 11: the certificate ends on 1970-01-11T00:00:00Z"
        );
        expect.down = Some(vec![Expectation::MinTools]);
        assert_eq!(judged(expect).0, State::Up, "`down` expects nothing itself");
    }

    #[test]
    fn what_was_too_long_never_looks_like_what_is_allowed() {
        for (micros, shown) in [
            (500_001, "500.1 ms"),
            (999_950, "1000.0 ms"),
            (2_000_001, "2.001 s"),
            (1_500_000, "1.500 s"),
        ] {
            assert_eq!(rounded_up(Duration::from_micros(micros)), shown);
        }
    }

    #[test]
    fn the_worst_decides_and_the_others_are_notes() {
        let expect = Expect {
            min_tools: Some(4),
            max_latency: Some(Duration::from_secs(1)),
            certificate_days: Some(14),
            down: Some(vec![Expectation::CertificateDays]),
            ..Expect::default()
        };
        let missing = ["get_forecast".to_owned()];
        let result = judge(&target(expect), &missing, passed());
        assert_eq!(result.state, State::Down);
        let failure = result.failure.unwrap();
        assert_eq!(failure.layer, Layer::Transport);
        assert!(failure.message.as_str().starts_with("certificate_days: 10"));
        let [transport, http, ..] = &result.layers;
        assert_eq!(
            (transport.outcome, http.outcome),
            (Outcome::Failed, Outcome::Ok)
        );
        let notes: Vec<_> = result.notes.iter().map(|note| note.as_str()).collect();
        assert_eq!(
            notes,
            [
                "expectation tools: get_forecast not among the 3 listed",
                "expectation min_tools: 3, at least 4",
                "expectation max_latency: 4.000 s, at most 1s",
            ]
        );
    }

    #[test]
    fn a_layer_that_was_not_asked_for_is_not_judged() {
        let mut result = passed();
        let [.., initialize, tools_list] = &mut result.layers;
        initialize.outcome = Outcome::Skipped;
        tools_list.outcome = Outcome::Skipped;
        result.tools = None;
        result.certificate_expires = None;
        let expect = Expect {
            min_tools: Some(4),
            max_layers: [None, None, Some(Duration::ZERO), Some(Duration::ZERO)],
            certificate_days: Some(14),
            ..Expect::default()
        };
        assert_eq!(judge(&target(expect), &[], result).state, State::Up);
    }

    #[test]
    fn a_challenge_cannot_come_from_a_connection_alone() {
        let mut target = target(Expect {
            auth_challenge: Some(true),
            ..Expect::default()
        });
        assert_eq!(judge(&target, &[], passed()).state, State::Down);
        target.profile.depth = Layer::Transport;
        assert_eq!(judge(&target, &[], passed()).state, State::Up);
    }
}
