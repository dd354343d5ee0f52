//! Which service in the traces is the target's, learnt from probes that passed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::asking::Asking;
use super::backend::{Backend, BackendSpan};
use super::budget::Claim;
use super::span::{has_mcp_attributes, is_foreign_mcp, is_health_check, is_own};
use crate::model::{ServiceName, SpanKind, Text, TraceId, Window};

/// Resource attributes by which two deployments of one service are told apart.
pub(super) const PLACES: [&str; 3] = [
    "deployment.environment.name",
    "deployment.environment",
    "service.namespace",
];

/// Joined traces that have to name the same service before it counts as the target's.
const JOINED_TO_LEARN: usize = 3;

/// What passed probes' traces say of the target's instrumentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// The service that owns the spans of MCP in at least three traces.
    pub service: Option<String>,
    /// For each trace that was asked for, whether there was a span of the target in it.
    pub joined: Vec<bool>,
}

/// Asks the backend about passed probes' traces only, in order to learn the target's service;
/// `configured` is the one that the user has named.
///
/// # Errors
/// When the backend cannot say.
pub async fn learn(
    backend: &Backend,
    traces: &[TraceId],
    around: Window,
    configured: Option<&ServiceName>,
) -> Result<Learnt, Text> {
    let asking = Asking::by(Claim::Learning);
    let answer = backend.api().traces(traces, around, &asking).await?;
    let answers = by_trace(traces, &answer.spans);
    let configured = configured.and_then(|service| backend.service(Some(service)));
    let is_targets = |span: &BackendSpan| match &configured {
        Some(service) => {
            span.service == service.name
                && span.resource_matches(service)
                && !is_health_check(span)
                && (span.kind == SpanKind::Server || has_mcp_attributes(span))
        }
        None => is_foreign_mcp(span),
    };
    let joined = answers
        .iter()
        .map(|spans| spans.iter().any(is_targets))
        .collect();
    Ok(Learnt {
        service: learnt_service(&answers),
        joined,
    })
}

/// The spans of each trace, in the order of `ids`.
pub(super) fn by_trace(ids: &[TraceId], spans: &[BackendSpan]) -> Vec<Vec<BackendSpan>> {
    let mut traces: HashMap<TraceId, Vec<BackendSpan>> =
        ids.iter().map(|id| (*id, Vec::new())).collect();
    for span in spans {
        if let Some(trace) = traces.get_mut(&span.trace_id) {
            trace.push(span.clone());
        }
    }
    ids.iter()
        .map(|id| traces.remove(id).unwrap_or_default())
        .collect()
}

/// Whether a service that speaks of MCP is only a gateway: another service takes requests below it.
fn is_gateway(service: &str, trace: &[BackendSpan]) -> bool {
    let by_id: HashMap<_, _> = trace.iter().map(|span| (span.span_id, span)).collect();
    let is_below = |span: &BackendSpan| {
        let mut next = span.parent.and_then(|parent| by_id.get(&parent));
        for _ in 0..by_id.len() {
            match next {
                Some(above) if above.service == service => return true,
                Some(above) => next = above.parent.and_then(|parent| by_id.get(&parent)),
                None => return false,
            }
        }
        false
    };
    trace.iter().any(|span| {
        !is_own(span) && span.service != service && span.kind == SpanKind::Server && is_below(span)
    })
}

/// The service that owns the spans of MCP in enough traces, if it is always the same one.
pub(super) fn learnt_service(traces: &[Vec<BackendSpan>]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for trace in traces {
        let services: BTreeSet<_> = trace
            .iter()
            .filter(|span| is_foreign_mcp(span) && !is_gateway(&span.service, trace))
            .map(|span| span.service.as_str())
            .collect();
        for service in services {
            *counts.entry(service).or_default() += 1;
        }
    }
    let enough: Vec<_> = counts
        .into_iter()
        .filter(|(_, count)| *count >= JOINED_TO_LEARN)
        .collect();
    match enough.as_slice() {
        // An MCP gateway in front speaks of MCP as well: then nobody can tell but the user.
        [(service, _)] => Some((*service).to_owned()),
        _ => None,
    }
}

/// With the environment and namespace that its spans in `traces` tell of, so that another deployment of the same name is
/// not taken for it. What the user has named is left as it is.
pub(super) fn in_its_place(service: ServiceName, traces: &[Vec<BackendSpan>]) -> ServiceName {
    if !service.attributes.is_empty() {
        return service;
    }
    let spans: Vec<_> = traces
        .iter()
        .flatten()
        .filter(|span| !is_own(span) && span.service == service.name)
        .collect();
    let place = |key: &str| {
        let told = spans.first()?.resource.get(key)?;
        let by_all = spans
            .iter()
            .all(|span| span.resource.get(key) == Some(told));
        by_all.then(|| (key.to_owned(), told.clone()))
    };
    ServiceName {
        attributes: PLACES.into_iter().filter_map(place).collect(),
        name: service.name,
    }
}

/// Another deployment of the same name, where it tells a place in which none of the target's own spans say that they are.
pub(super) fn other_deployment(
    service: &ServiceName,
    traces: &[Vec<BackendSpan>],
    found: &[BackendSpan],
) -> Option<Text> {
    let is_of = |span: &&BackendSpan| span.service == service.name && !is_own(span);
    let ours: Vec<_> = traces.iter().flatten().filter(is_of).collect();
    let is_unknown = |key: &&str| ours.iter().all(|span| !span.resource.contains_key(*key));
    let unknown: Vec<_> = PLACES.into_iter().filter(is_unknown).collect();
    let place = |span: &BackendSpan| {
        let told = |key: &&str| Some(format!("{key}={}", span.resource.get(*key)?));
        unknown.iter().find_map(told)
    };
    let theirs = found.iter().filter(is_of);
    let theirs = theirs.filter(|span| span.resource_matches(service));
    let mut places: BTreeSet<_> = theirs.filter_map(place).collect();
    // Where no span of ours tells, one place may be the target's own.
    let is_doubtful = places.len() > usize::from(ours.is_empty());
    let other = places.pop_first().filter(|_| is_doubtful)?;
    Some(Text::new(format!("a deployment that says {other}")))
}

/// Services with spans in our traces that may or may not be the target's.
pub(super) fn candidates(
    traces: &[Vec<BackendSpan>],
    service: Option<&ServiceName>,
) -> BTreeSet<Text> {
    if service.is_some() {
        return BTreeSet::new();
    }
    traces
        .iter()
        .flatten()
        .filter(|span| !is_own(span) && span.kind == SpanKind::Server)
        .map(|span| Text::new(&span.service))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::model::SpanId;

    fn span(service: &str, resource: &[(&str, &str)]) -> BackendSpan {
        let pairs = resource.iter();
        BackendSpan {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([1; 8]),
            parent: None,
            service: service.to_owned(),
            name: "tools/list".to_owned(),
            kind: SpanKind::Server,
            start: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            is_error: false,
            message: None,
            tags: HashMap::new(),
            resource: pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn named(attributes: &[(&str, &str)]) -> ServiceName {
        let pairs = attributes.iter();
        ServiceName {
            name: "weather".to_owned(),
            attributes: pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn who_says_where_it_is_may_be_another_than_who_does_not() {
        let staging = span("weather", &[("deployment.environment.name", "staging")]);
        let other = |ours: &[BackendSpan]| {
            let found = other_deployment(
                &named(&[]),
                &[ours.to_vec()],
                std::slice::from_ref(&staging),
            );
            found.map(|other| other.to_string())
        };
        assert_eq!(
            other(&[span("weather", &[])]).as_deref(),
            Some("a deployment that says deployment.environment.name=staging")
        );
        assert_eq!(other(std::slice::from_ref(&staging)), None);
        // It may be the only one.
        assert_eq!(other(&[span("gateway", &[])]), None);
        let production = span("weather", &[("deployment.environment.name", "prod")]);
        let both = other_deployment(&named(&[]), &[], &[staging.clone(), production]);
        assert!(both.is_some());
    }

    #[test]
    fn a_deployment_is_told_by_what_all_of_its_spans_agree_on() {
        let env = ("deployment.environment.name", "prod");
        let of_prod = span(
            "weather",
            &[env, ("host.name", "a"), ("service.namespace", "x")],
        );
        let elsewhere = span("weather", &[env, ("service.namespace", "y")]);
        let in_front = span("gateway", &[("deployment.environment.name", "edge")]);
        let found = in_its_place(
            named(&[]),
            &[vec![of_prod.clone(), in_front], vec![elsewhere]],
        );
        assert_eq!(found, named(&[env]));
        // The user knows better, and nothing is known without spans.
        let user = named(&[("service.namespace", "z")]);
        assert_eq!(in_its_place(user.clone(), &[vec![of_prod]]), user);
        assert_eq!(in_its_place(named(&[]), &[]), named(&[]));
    }
}
