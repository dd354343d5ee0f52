//! Spans that this process recorded itself: they come in without a network between.

use std::time::SystemTime;

use super::pending::{Encoding, Intake, Taken};
use crate::model::Text;

impl Intake {
    /// Takes in an `ExportTraceServiceRequest` in protobuf that this process made.
    ///
    /// # Errors
    /// Why its spans are not there, or not all.
    pub fn record(&self, request: &[u8], now: SystemTime) -> Result<(), Text> {
        match self.take(Encoding::Protobuf, request, now) {
            Taken::In(tally) if tally.rejected() == 0 => Ok(()),
            Taken::In(tally) => Err(Text::new(tally.message())),
            Taken::Undecodable(_) => Err(Text::new("it cannot be read")),
            Taken::Full => Err(Text::new("too much waits for the disk")),
        }
    }
}
