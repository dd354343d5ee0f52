//! What the backend said: of our probes' traces first, then of the service, or of both at once.

use super::asking::Asking;
use super::backend::{Answer, Api, BackendSpan, Question, Unavailable};
use super::search::Search;
use crate::model::{BackendState, Coverage, TraceId, Window};

/// Whether the backend can be believed so far, and what it said.
pub(super) struct Heard {
    pub(super) state: BackendState,
    pub(super) coverage: Coverage,
    /// The spans of our probes' traces, and others where everything was asked at once.
    pub(super) spans: Vec<BackendSpan>,
    has_everything: bool,
}

impl Heard {
    /// Asks for the traces; for everything, where the service is known and one answer holds it.
    pub(super) async fn of_traces(
        api: &dyn Api,
        ids: &[TraceId],
        around: Window,
        everything: Option<Question<'_>>,
        asking: &Asking,
    ) -> Self {
        let at_once = match everything {
            Some(question) => api.both(question, asking).await,
            None => None,
        };
        match at_once {
            // What does not fit is asked for in parts.
            None | Some(Ok(Answer { cut: Some(_), .. })) => {
                let mut heard = Self::new(api.traces(ids, around, asking).await);
                // Of what was kept of an earlier time nothing follows for the gap; of a sample it does.
                if !matches!(heard.coverage, Coverage::Sampled(_)) {
                    heard.coverage = Coverage::Full;
                }
                heard
            }
            Some(answer) => Self {
                has_everything: true,
                ..Self::new(answer)
            },
        }
    }

    fn new(answer: Result<Answer, Unavailable>) -> Self {
        let (state, answer) = match answer {
            Ok(mut answer) => match answer.cut.take() {
                Some(cut) => (BackendState::Truncated(cut), answer),
                None => (BackendState::Answered, answer),
            },
            Err(why) => (BackendState::Unavailable(why), Answer::default()),
        };
        Self {
            state,
            coverage: answer.coverage,
            spans: answer.spans,
            has_everything: false,
        }
    }

    /// The service's spans: since the last passed probe all of them, before it as far back as they can be had.
    pub(super) async fn of_service(
        &mut self,
        search: Search<'_>,
        since: Window,
        baseline: &mut Window,
    ) -> Vec<BackendSpan> {
        if self.has_everything {
            return search.among(&self.spans, &[since, *baseline]);
        }
        let (state, coverage) = (&mut self.state, &mut self.coverage);
        let mut found = search.all(since, state, coverage).await;
        // Who does not answer for the gap is not worth a second question.
        if *state == BackendState::Answered {
            let before = search.as_far_back_as_possible(baseline, state, coverage);
            found.extend(before.await);
        }
        found
    }

    /// Where there is nothing to search for: silence must be that of a backend that answers.
    pub(super) async fn of_nothing(&mut self, api: &dyn Api, asking: &Asking) {
        if let Err(why) = api.answers(asking).await {
            self.state = BackendState::Unavailable(why);
        }
    }
}
