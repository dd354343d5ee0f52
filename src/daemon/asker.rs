//! Results that wait for the controls: whether it is us has to be known before a failure counts.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::Ended;
use crate::model::ControlPoint;

/// Between two looks at the controls while all is well: what they were before is known well enough.
const EVERY: Duration = Duration::from_secs(60);

/// While it is, or may be, us.
const WHEN_UNEASY: Duration = Duration::from_secs(5);

/// The controls, and what waits for them.
pub(super) struct Asker {
    pub(super) controls: Vec<ControlPoint>,
    asking: bool,
    asked: Option<Instant>,
    waiting: VecDeque<Ended>,
    names: HashSet<String>,
}

impl Asker {
    pub(super) fn new(controls: Vec<ControlPoint>) -> Self {
        Self {
            controls,
            asking: false,
            asked: None,
            waiting: VecDeque::new(),
            names: HashSet::new(),
        }
    }

    /// Other controls from now on.
    pub(super) fn replace(&mut self, controls: Vec<ControlPoint>) {
        self.controls = controls;
        self.asked = None;
    }

    /// Which controls are among those that have worked in an earlier run, a line each.
    pub(super) fn worked(&self, known: &str) -> Vec<bool> {
        let is_known = |control: &ControlPoint| {
            let name = control.to_string();
            known.lines().any(|line| line == name)
        };
        self.controls.iter().map(is_known).collect()
    }

    /// An earlier result of this target waits already: order is kept.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(super) fn hold(&mut self, ended: Ended) {
        self.names.insert(ended.target.name.clone());
        self.waiting.push_back(ended);
    }

    /// Whether to ask now: something waits, or it is time.
    pub(super) fn should_ask(&self, uneasy: bool, now: Instant) -> bool {
        let every = if uneasy { WHEN_UNEASY } else { EVERY };
        let due = self.asked.is_none_or(|asked| now >= asked + every);
        !self.asking && !self.controls.is_empty() && (due || !self.waiting.is_empty())
    }

    pub(super) fn begin(&mut self, now: Instant) -> Vec<ControlPoint> {
        self.asking = true;
        self.asked = Some(now);
        self.controls.clone()
    }

    /// The answer is there; what waited for it.
    pub(super) fn end(&mut self) -> VecDeque<Ended> {
        self.asking = false;
        self.names.clear();
        std::mem::take(&mut self.waiting)
    }
}
