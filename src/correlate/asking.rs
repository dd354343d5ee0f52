//! One inquiry: what it asks, and by what right it takes its turns.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::backend::{Backend, Unavailable};
use super::budget::{Budget, Claim, Refusal, Ticket};
use crate::model::Query;

/// One inquiry: what it asked.
#[derive(Default)]
pub struct Asking {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queries: Vec<Query>,
    claim: Claim,
    /// Of an earlier one that was refused.
    ticket: Option<Ticket>,
    /// A turn that was taken and not used.
    has_turn: bool,
    refusal: Option<Refusal>,
}

impl Asking {
    /// By this right.
    pub fn by(claim: Claim) -> Self {
        let state = State {
            claim,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// The same, with the first turn taken already: waiting for it must not hold up who asks others. Where there is
    /// none in time, every query is refused with the reason.
    pub async fn admitted(backend: &Backend, claim: Claim, ticket: Option<Ticket>) -> Self {
        let asking = Self::by(claim);
        asking.lock().ticket = ticket;
        if let Some(budget) = backend.budget() {
            let has_turn = asking.turn(budget).await.is_ok();
            asking.lock().has_turn = has_turn;
        }
        asking
    }

    /// When something that was not asked for want of a turn can be asked again, and what keeps the place.
    pub fn refused_until(&self) -> Option<(SystemTime, Ticket)> {
        let state = self.lock();
        let refusal = state.refusal.as_ref()?;
        Some((refusal.again, refusal.ticket))
    }

    /// Remembers a query as it may be shown.
    pub(super) fn note(&self, query: String) {
        let at = SystemTime::now();
        self.lock().queries.push(Query { at, text: query });
    }

    /// The queries so far, for the verdict's evidence.
    pub fn into_queries(self) -> Vec<Query> {
        let state = self.state.into_inner();
        state.unwrap_or_else(PoisonError::into_inner).queries
    }

    /// Waits for a turn. Who was refused once is not asked for any more: a part of an answer is none.
    pub(super) async fn turn(&self, budget: &Budget) -> Result<(), Unavailable> {
        let (claim, ticket) = {
            let mut state = self.lock();
            if let Some(refusal) = &state.refusal {
                return Err(refusal.why.clone());
            }
            if std::mem::take(&mut state.has_turn) {
                return Ok(());
            }
            (state.claim, state.ticket.take())
        };
        let turn = budget.turn(claim, ticket).await;
        let mut state = self.lock();
        match turn {
            Ok(()) => {
                // Learning keeps to its share to the end.
                if claim != Claim::Learning {
                    state.claim = Claim::Begun;
                }
                Ok(())
            }
            Err(refusal) => {
                let why = refusal.why.clone();
                state.refusal = Some(refusal);
                Err(why)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
