//! What a target was, and what a result makes of it. Pure.

use std::time::SystemTime;

use crate::model::{ProbeResult, State};

/// One target as `watch` knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tracked {
    /// State by the last probe.
    pub(crate) state: State,
    /// Start of the probe that first found it.
    pub(crate) since: Option<SystemTime>,
    /// The open incident.
    pub(crate) incident: Option<String>,
    /// A result of this run was seen: the first one is always shown.
    seen: bool,
}

/// What a result changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The state before, if it is another one now or was not shown yet.
    pub(crate) shown: Option<State>,
    /// An incident opened: its id.
    pub(crate) opened: Option<String>,
    /// An incident closed: its id.
    pub(crate) closed: Option<String>,
}

impl Tracked {
    /// A target as the store remembers it.
    pub(crate) fn remembered(
        state: State,
        since: Option<SystemTime>,
        incident: Option<String>,
    ) -> Self {
        Self {
            state,
            since,
            incident,
            seen: false,
        }
    }

    /// Takes in a result. Our own trouble (`unknown`) neither opens nor closes an incident.
    pub(crate) fn observe(&mut self, result: &ProbeResult) -> Change {
        let before = self.state;
        let shown = (before != result.state || !self.seen).then_some(before);
        self.seen = true;
        if before != result.state || self.since.is_none() {
            self.since = Some(result.started_at);
        }
        self.state = result.state;
        let mut change = Change {
            shown,
            opened: None,
            closed: None,
        };
        if result.state.failed() && self.incident.is_none() {
            let id = incident_id(result);
            self.incident = Some(id.clone());
            change.opened = Some(id);
        } else if result.state.works() {
            change.closed = self.incident.take();
        }
        change
    }
}

/// Stable, unique, and a way back to the first failed probe: the start of its trace id.
fn incident_id(result: &ProbeResult) -> String {
    let mut id = result.trace_id.to_string();
    id.truncate(12);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn result(state: State, at: u64) -> ProbeResult {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        ProbeResult {
            started_at: at,
            state,
            ..ProbeResult::passed()
        }
    }

    fn fresh() -> Tracked {
        Tracked::remembered(State::Unknown, None, None)
    }

    #[test]
    fn an_incident_lasts_from_the_first_failure_to_the_recovery() {
        let mut tracked = fresh();
        assert_eq!(tracked.observe(&result(State::Up, 1)).opened, None);
        let id = tracked.observe(&result(State::Down, 2)).opened.unwrap();
        assert_eq!(tracked.observe(&result(State::Unknown, 3)).closed, None);
        assert_eq!(
            tracked.observe(&result(State::AuthRequired, 4)).opened,
            None
        );
        assert_eq!(tracked.observe(&result(State::Up, 5)).closed, Some(id));
        assert_eq!(tracked.incident, None);
    }

    #[test]
    fn the_first_result_of_a_run_is_shown_even_if_nothing_changed() {
        let mut tracked = Tracked::remembered(State::Up, Some(SystemTime::UNIX_EPOCH), None);
        assert_eq!(
            tracked.observe(&result(State::Up, 1)).shown,
            Some(State::Up)
        );
        assert_eq!(tracked.observe(&result(State::Up, 2)).shown, None);
        assert_eq!(tracked.since, Some(SystemTime::UNIX_EPOCH));
    }

    proptest! {
        #[test]
        fn every_incident_opens_once_and_closes_once(states in proptest::collection::vec(0usize..5, 0..50)) {
            let mut tracked = fresh();
            let mut open: Option<String> = None;
            for (at, state) in states.into_iter().enumerate() {
                let change = tracked.observe(&result(State::ALL[state], at as u64));
                if let Some(id) = change.opened {
                    prop_assert_eq!(open.replace(id), None);
                }
                if let Some(id) = change.closed {
                    prop_assert_eq!(open.take(), Some(id));
                }
                prop_assert_eq!(&open, &tracked.incident);
            }
        }
    }
}
