//! Incidents that are one: they opened together, and the same is wrong with all of them.

use std::time::{Duration, SystemTime};

use super::{Incident, IncidentKind, Layer, Reason, Verdict};

/// Incidents that opened within this of the first may have its cause: a probe a minute finds it out, and a confirmation
/// takes a while.
const TOGETHER: Duration = Duration::from_secs(120);

/// Servers that are named in a sentence.
const NAMED: usize = 5;

/// What several incidents have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonCause {
    /// Ids of the incidents, the first to open first.
    pub incidents: Vec<String>,
    /// Their servers.
    pub servers: Vec<String>,
    /// The host of all of them, where it is one.
    pub host: Option<String>,
    /// What they are about.
    pub kind: IncidentKind,
    /// The layer that fails.
    pub layer: Option<Layer>,
    /// Why.
    pub reason: Option<Reason>,
    /// What the traces say of all of them, where they were asked.
    pub verdict: Option<Verdict>,
    /// The first failed probe of all.
    pub since: SystemTime,
}

impl CommonCause {
    /// Every group of two or more among open incidents, the largest first; `host_of` knows where a server is.
    pub fn all(incidents: &[Incident], host_of: impl Fn(&str) -> Option<String>) -> Vec<Self> {
        let mut open: Vec<_> = incidents
            .iter()
            .filter(|incident| incident.resolved_at.is_none() && incident.server.is_some())
            .collect();
        open.sort_by_key(|incident| (incident.opened_at, &incident.id));
        let mut groups: Vec<Vec<&Incident>> = Vec::new();
        for incident in open {
            let group = groups
                .iter_mut()
                .find(|group| group.first().is_some_and(|first| is_one(first, incident)));
            match group {
                Some(group) => group.push(incident),
                None => groups.push(vec![incident]),
            }
        }
        let mut causes: Vec<_> = groups
            .iter()
            .filter(|group| group.len() > 1)
            .filter_map(|group| Self::of(group, &host_of))
            .collect();
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.incidents.len()));
        causes
    }

    fn of(group: &[&Incident], host_of: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let first = group.first()?;
        let servers: Vec<_> = group.iter().filter_map(|i| i.server.clone()).collect();
        let mut hosts = servers.iter().map(|server| host_of(server));
        let host = hosts.next().flatten();
        let is_one_host = hosts.all(|other| other == host);
        Some(Self {
            incidents: group.iter().map(|incident| incident.id.clone()).collect(),
            host: host.filter(|_| is_one_host),
            kind: first.kind,
            layer: first.failed_layer,
            reason: first.reason,
            verdict: first.verdict,
            since: group.iter().map(|i| i.first_failed_at).min()?,
            servers,
        })
    }

    /// "7 servers behind 203.0.113.7, all connection_refused, no traces since 10:02".
    pub fn says(&self) -> String {
        let behind = self.host.as_ref().map(|host| format!(" behind {host}"));
        let behind = behind.unwrap_or_default();
        let what = match (self.reason, self.layer) {
            (Some(reason), _) => reason.as_str(),
            (None, Some(layer)) => layer.as_str(),
            (None, None) => self.kind.as_str(),
        };
        let at = humantime::format_rfc3339_seconds(self.since).to_string();
        let minute = at.get(11..16).unwrap_or_default().to_owned();
        let told = match self.verdict {
            Some(Verdict::Infrastructure) => format!("no traces since {minute}"),
            Some(verdict) => format!("verdict {verdict}, since {minute}"),
            None => format!("since {minute}"),
        };
        format!("{} servers{behind}, all {what}, {told}", self.servers.len())
    }

    /// The same with their names.
    pub fn says_of_whom(&self) -> String {
        let mut names: Vec<_> = self.servers.iter().take(NAMED).cloned().collect();
        let more = self.servers.len().saturating_sub(NAMED);
        if more > 0 {
            names.push(format!("{more} more"));
        }
        format!("{} ({})", self.says(), names.join(", "))
    }
}

fn is_one(first: &Incident, other: &Incident) -> bool {
    let apart = other.opened_at.duration_since(first.opened_at);
    apart.unwrap_or_default() <= TOGETHER
        && first.kind == other.kind
        && first.failed_layer == other.failed_layer
        && first.reason == other.reason
        && first.verdict == other.verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Severity, State, Text};

    fn incident(server: &str, opened: u64) -> Incident {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(36_120 + opened);
        Incident {
            id: format!("{server}-{opened}"),
            server: Some(server.to_owned()),
            kind: IncidentKind::Outage,
            severity: Severity::Critical,
            state: State::Down,
            failed_layer: Some(Layer::Transport),
            reason: Some(Reason::ConnectionRefused),
            message: Text::new("refused"),
            trace_id: None,
            first_failed_at: at,
            opened_at: at,
            resolved_at: None,
            resolution: None,
            flapping: false,
            acknowledged: None,
            suppressed: None,
            verdict: Some(Verdict::Infrastructure),
            verdict_reason: None,
            provisional: Some(false),
        }
    }

    fn told(incidents: &[Incident]) -> Vec<String> {
        let host = |server: &str| (!server.starts_with('x')).then(|| "203.0.113.7".to_owned());
        let causes = CommonCause::all(incidents, host);
        causes.iter().map(CommonCause::says).collect()
    }

    #[test]
    fn what_opened_together_with_the_same_trouble_is_one() {
        let seven: Vec<_> = (0..7).map(|n| incident(&format!("s{n}"), n * 20)).collect();
        let sentence =
            "7 servers behind 203.0.113.7, all connection_refused, no traces since 10:02";
        assert_eq!(told(&seven), [sentence]);
        let named = CommonCause::all(&seven, |_| None)[0].says_of_whom();
        assert!(named.ends_with("(s0, s1, s2, s3, s4, 2 more)"), "{named}");
        assert!(!named.contains("behind"));
        // A host of its own makes it no other cause, but the host is none of all.
        let two = [incident("x", 0), incident("a", 1)];
        assert_eq!(
            told(&two),
            ["2 servers, all connection_refused, no traces since 10:02"]
        );
    }

    #[test]
    fn what_differs_is_not_one() {
        let first = incident("a", 0);
        let others: [fn(&mut Incident); 6] = [
            |i| i.opened_at += Duration::from_secs(111),
            |i| i.reason = Some(Reason::ConnectTimeout),
            |i| i.failed_layer = Some(Layer::Http),
            |i| i.verdict = None,
            |i| i.kind = IncidentKind::Degraded,
            |i| i.resolved_at = Some(i.opened_at),
        ];
        let mut same = incident("b", 10);
        assert_eq!(told(&[first.clone(), same.clone()]).len(), 1);
        for change in others {
            same = incident("b", 10);
            change(&mut same);
            assert_eq!(told(&[first.clone(), same.clone()]), [""; 0], "{same:?}");
        }
        assert_eq!(told(&[first]), [""; 0]);
    }
}
