//! The two clocks: one that nobody can set, and the one on the wall.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The same moment by two clocks, which need not agree on how much time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the start, on the clock that nobody can set.
    pub offset: Duration,
    /// On the wall clock.
    pub wall: SystemTime,
}

/// Where the time comes from.
pub struct Clock {
    origin: Instant,
    wall: Box<dyn Fn() -> SystemTime + Send>,
}

impl Clock {
    /// The machine's clocks; offset zero is now.
    pub fn system() -> Self {
        Self::with_wall(SystemTime::now)
    }

    /// With another wall clock; offset zero is now.
    pub fn with_wall(wall: impl Fn() -> SystemTime + Send + 'static) -> Self {
        Self {
            origin: Instant::now(),
            wall: Box::new(wall),
        }
    }

    /// What both clocks show.
    pub fn now(&self) -> Now {
        Now {
            offset: self.origin.elapsed(),
            wall: (self.wall)(),
        }
    }

    /// The instant of an offset.
    pub fn instant(&self, offset: Duration) -> Instant {
        self.origin + offset
    }
}
