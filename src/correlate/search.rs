//! The search for a service's spans, as far as a backend answers it whole.

use std::time::Duration;

use super::asking::Asking;
use super::backend::{Answer, Api, BackendSpan, Unavailable};
use crate::model::{BackendState, ClockSkew, Coverage, ServiceName, Text, Window};

/// A baseline is not made shorter than this: its last quarter would hold nothing.
const SHORTEST_BASELINE: Duration = Duration::from_secs(10);

/// Searches for the spans of one service, in its own clock.
pub(super) struct Search<'a> {
    pub(super) api: &'a dyn Api,
    pub(super) asking: &'a Asking,
    pub(super) service: &'a ServiceName,
    pub(super) skew: ClockSkew,
}

impl Search<'_> {
    /// Every span in `window`, or the backend is not to be believed.
    pub(super) async fn all(
        &self,
        window: Window,
        backend: &mut BackendState,
        coverage: &mut Coverage,
    ) -> Vec<BackendSpan> {
        match self.once(window).await {
            Ok(answer) => {
                if let Some(cut) = answer.cut {
                    *backend = BackendState::Truncated(Text::new(format!(
                        "{cut} since the last passed probe, and perhaps more"
                    )));
                }
                *coverage = std::mem::take(coverage).and(answer.coverage);
                answer.spans
            }
            Err(why) => {
                *backend = BackendState::Unavailable(why);
                Vec::new()
            }
        }
    }

    /// A busy service has more traces in the baseline than one answer holds. What matters is its end: the
    /// baseline is halved until it can be answered whole.
    pub(super) async fn as_far_back_as_possible(
        &self,
        baseline: &mut Window,
        backend: &mut BackendState,
        coverage: &mut Coverage,
    ) -> Vec<BackendSpan> {
        loop {
            let answer = match self.once(*baseline).await {
                Ok(answer) => answer,
                Err(why) => {
                    *backend = BackendState::Unavailable(why);
                    return Vec::new();
                }
            };
            // Of what was kept of an earlier time nothing follows for a later one; of a sample it does.
            if let Coverage::Sampled(_) = &answer.coverage {
                *coverage = std::mem::take(coverage).and(answer.coverage);
            }
            match answer.cut {
                None => return answer.spans,
                Some(_) if baseline.length() > SHORTEST_BASELINE => {
                    baseline.from = baseline.to - baseline.length() / 2;
                }
                Some(cut) => {
                    *backend = BackendState::Truncated(Text::new(format!(
                        "{cut} in the last seconds before the failure, and perhaps more"
                    )));
                    return answer.spans;
                }
            }
        }
    }

    /// Of spans that were asked for together with something else, those that a search in these windows finds.
    pub(super) fn among(&self, spans: &[BackendSpan], windows: &[Window]) -> Vec<BackendSpan> {
        let is_in = |span: &&BackendSpan| {
            let start = self.skew.ours(span.start);
            windows.iter().any(|window| window.holds(start))
        };
        let of_service = spans
            .iter()
            .filter(|span| span.service == self.service.name);
        of_service.filter(is_in).cloned().collect()
    }

    async fn once(&self, window: Window) -> Result<Answer, Unavailable> {
        let theirs = Window {
            from: self.skew.theirs(window.from),
            to: self.skew.theirs(window.to),
        };
        let mut answer = self.api.search(self.service, theirs, self.asking).await?;
        let is_filtered = matches!(answer.coverage, Coverage::RetentionFiltered(_));
        if is_filtered && self.skew != ClockSkew::NONE {
            // What a backend has kept is told by its own clock: nobody has taken spans of a server's future yet.
            let ours = self.api.search(self.service, window, self.asking).await?;
            answer.coverage = ours.coverage;
        }
        Ok(answer)
    }
}
