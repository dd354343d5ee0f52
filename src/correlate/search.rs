//! The search for a service's spans, as far as a backend answers it whole.

use std::time::Duration;

use super::clock::Skew;
use super::jaeger::{BackendSpan, Jaeger, SEARCH_LIMIT, Unavailable};
use crate::model::{BackendState, ServiceName, Text, Window};

/// A baseline is not made shorter than this: its last quarter would hold nothing.
const SHORTEST_BASELINE: Duration = Duration::from_secs(10);

/// Searches for the spans of one service, in its own clock.
pub(super) struct Search<'a> {
    pub(super) jaeger: &'a Jaeger,
    pub(super) service: &'a ServiceName,
    pub(super) skew: Skew,
}

impl Search<'_> {
    /// Every span in `window`, or the backend is not to be believed.
    pub(super) async fn all(&self, window: Window, backend: &mut BackendState) -> Vec<BackendSpan> {
        match self.once(window).await {
            Ok((spans, false)) => spans,
            Ok((spans, true)) => {
                *backend = BackendState::Truncated(Text::new(format!(
                    "{SEARCH_LIMIT} traces of {} since the last passed probe, and perhaps more",
                    self.service.name
                )));
                spans
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
    ) -> Vec<BackendSpan> {
        loop {
            match self.once(*baseline).await {
                Ok((spans, false)) => return spans,
                Ok((_, true)) if baseline.length() > SHORTEST_BASELINE => {
                    baseline.from = baseline.to - baseline.length() / 2;
                }
                Ok((spans, true)) => {
                    *backend = BackendState::Truncated(Text::new(format!(
                        "{SEARCH_LIMIT} traces of {} in the last seconds before the failure, and perhaps more",
                        self.service.name
                    )));
                    return spans;
                }
                Err(why) => {
                    *backend = BackendState::Unavailable(why);
                    return Vec::new();
                }
            }
        }
    }

    async fn once(&self, window: Window) -> Result<(Vec<BackendSpan>, bool), Unavailable> {
        let window = Window {
            from: self.skew.theirs(window.from),
            to: self.skew.theirs(window.to),
        };
        self.jaeger.search(&self.service.name, window).await
    }
}
