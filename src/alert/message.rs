//! What goes to a channel at once: a notice, or several of one cause.

use crate::model::Notice;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The earliest; its key is the message's.
    pub first: Notice,
    /// Others of the same cause (`group`), in the order of time.
    pub others: Vec<Notice>,
}

impl Message {
    /// A message of one notice.
    pub fn of(notice: Notice) -> Self {
        Self {
            first: notice,
            others: Vec::new(),
        }
    }

    /// The same on every attempt, and of no other message.
    pub fn key(&self) -> String {
        self.first.key()
    }

    /// All of its notices, the earliest first.
    pub fn notices(&self) -> impl Iterator<Item = &Notice> + Clone {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// How many incidents it is about.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }
}
