//! Arrays and maps as values: written as JSON, no deeper and no longer than what is kept of a value.

use crate::traces::limits;

/// A JSON text that stops growing. What did not fit is marked, so that it is no JSON any more.
#[derive(Default)]
pub(super) struct JsonText {
    text: String,
    is_full: bool,
}

impl JsonText {
    pub(super) fn into_text(mut self) -> String {
        if self.is_full {
            self.text.push(limits::MARK);
        }
        self.text
    }

    /// Whether anything more would be in vain.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn put(&mut self, piece: &str) {
        if self.is_full {
            return;
        }
        let room = limits::VALUE.saturating_sub(limits::MARK.len_utf8() + self.text.len());
        let (kept, cut) = limits::cut(piece, room);
        self.text.push_str(kept);
        self.is_full = cut;
    }

    pub(super) fn put_string(&mut self, string: &str) {
        // What is beyond would be cut anyway.
        let (string, _) = limits::cut(string, limits::VALUE);
        self.put(&serde_json::Value::from(string).to_string());
    }

    /// Too deep, or nothing.
    pub(super) fn put_null(&mut self) {
        self.put("null");
    }

    pub(super) fn put_double(&mut self, number: f64) {
        self.put(&serde_json::Value::from(number).to_string());
    }
}
