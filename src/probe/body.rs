//! The body of an answer.

use hyper::body::Incoming;

use super::coding::Coding;
use super::fault::Fault;
use super::head::Head;

/// What comes after a head: bytes as they are meant, however they were coded.
pub(super) struct Body {
    pub(super) incoming: Incoming,
    /// Boxed: nearly every answer has none.
    pub(super) coding: Option<Box<Coding>>,
}

impl Body {
    /// To be read.
    pub(super) fn of(head: Head) -> Result<Self, Fault> {
        let coding = Coding::named_by(head.headers())
            .map_err(|fault| fault.with_status(head.status().as_u16()))?;
        Ok(Self {
            incoming: head.into_body(),
            coding: coding.map(Box::new),
        })
    }

    /// Of no interest: only its end is waited for.
    pub(super) fn unread(head: Head) -> Self {
        Self {
            incoming: head.into_body(),
            coding: None,
        }
    }

    /// What is wrong where it ended before its coding did.
    pub(super) fn cut_off(&self) -> Option<Fault> {
        self.coding.as_ref()?.cut_off()
    }
}
