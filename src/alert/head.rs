//! What one channel has been told of one incident.

use std::time::SystemTime;

use crate::model::{Incident, Notice, NoticeEvent, Severity, Verdict};

/// The last notice, and what was in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its sequence.
    pub sequence: u32,
    /// When it was decided on.
    pub last_at: SystemTime,
    /// The channel was told of the end.
    pub ended: bool,
    /// The verdict that it knows.
    pub verdict: Option<Verdict>,
    /// The severity that it knows.
    pub severity: Severity,
}

impl Head {
    /// What a channel knows after this notice.
    pub fn after(notice: &Notice) -> Self {
        Self {
            sequence: notice.sequence,
            last_at: notice.created_at,
            ended: notice.event == NoticeEvent::Resolved,
            verdict: notice.incident.verdict,
            severity: notice.incident.severity,
        }
    }

    /// There is something that the channel should know: the incident became graver, or a verdict came or changed.
    pub(super) fn is_behind(&self, incident: &Incident) -> bool {
        let verdict = incident
            .verdict
            .filter(|verdict| *verdict != Verdict::NotInstrumented);
        incident.severity > self.severity || (verdict.is_some() && verdict != self.verdict)
    }
}
