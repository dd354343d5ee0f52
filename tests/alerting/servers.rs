//! MCP servers of our own that fail and recover when they are told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::support::{Asked, Small, empty_answer, eventually, healthy};

/// Any number of servers on one port, by their path; all are well at first.
pub(super) struct Servers {
    pub(super) port: u16,
    failing: Arc<Mutex<BTreeMap<String, bool>>>,
    asked: Arc<Mutex<Vec<Question>>>,
}

struct Question {
    server: String,
    method: String,
    at: Instant,
}

impl Servers {
    pub(super) fn start() -> Self {
        let failing: Arc<Mutex<BTreeMap<String, bool>>> = Arc::default();
        let questions: Arc<Mutex<Vec<Question>>> = Arc::default();
        let (fails, asks) = (Arc::clone(&failing), Arc::clone(&questions));
        let small = Small::start(move |asked| {
            let name = asked.target.trim_start_matches('/').to_owned();
            asks.lock().unwrap().push(Question {
                server: name.clone(),
                method: asked.body["method"].as_str().unwrap_or_default().to_owned(),
                at: Instant::now(),
            });
            answer(asked, fails.lock().unwrap().get(&name) == Some(&true))
        });
        Self {
            port: small.port,
            failing,
            asked: questions,
        }
    }

    pub(super) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// A `[[server]]`.
    pub(super) fn server(&self, name: &str) -> String {
        format!(
            "[[server]]\nname = \"{name}\"\nurl = \"{}\"\n",
            self.url(name)
        )
    }

    pub(super) fn fail(&self, name: &str, fails: bool) {
        self.failing.lock().unwrap().insert(name.to_owned(), fails);
    }

    /// When a server was asked for this method.
    pub(super) fn asked(&self, name: &str, method: &str) -> Vec<Instant> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|question| question.server == name && question.method == method)
            .map(|question| question.at)
            .collect()
    }

    /// How many sessions have been begun with a server.
    pub(super) fn probes(&self, name: &str) -> usize {
        self.asked(name, "initialize").len()
    }

    /// Waits for further sessions with it.
    pub(super) fn until_probed(&self, name: &str, further: usize) {
        let before = self.probes(name);
        eventually(&format!("{further} probes of {name}"), || {
            (self.probes(name) >= before + further).then_some(())
        });
    }
}

fn answer(asked: &Asked, fails: bool) -> String {
    match fails {
        true => empty_answer("503 Service Unavailable"),
        false => healthy(asked),
    }
}

/// Probes each second, pages on the first failure and resolves on the first pass.
pub(super) const QUICK: &str = "[defaults]\nevery = \"1s\"\ntimeout = \"5s\"\nera = \"legacy\"\n\
     [alerting]\nconfirm = 0\nup_after = 1\nintermittent = \"off\"\nflapping = \"off\"\n";
