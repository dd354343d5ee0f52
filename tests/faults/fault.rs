//! `data/faults/*.toml`: what is run, what is broken in it, and which verdicts are right for that.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use mcpprobe::model::Verdict;

use crate::support::here;

/// Fewer would mean that files were lost.
const FAULTS_AT_LEAST: usize = 24;

/// A backend that is asked.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Of `watch` itself.
    Embedded,
    Jaeger,
    Zipkin,
    /// As it was recorded.
    Tempo,
}

/// One file; its name is the target's and, unless the file says otherwise, the service's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    #[serde(skip)]
    pub(super) name: String,
    /// What is broken, in a sentence.
    pub(super) says: String,
    #[serde(default)]
    pub(super) server: Program,
    /// Further arguments of the server.
    #[serde(default)]
    pub(super) arguments: Vec<String>,
    /// Further environment of the server.
    #[serde(default)]
    pub(super) environment: BTreeMap<String, String>,
    /// What stands between us and the server.
    pub(super) front: Option<Front>,
    /// What somebody else goes on calling, straight at the server.
    pub(super) others: Option<String>,
    /// Another server of the same service name that is not broken, with this further environment; others call it.
    pub(super) twin: Option<BTreeMap<String, String>>,
    /// Something behind the server.
    #[serde(default)]
    pub(super) database: bool,
    /// The way of the server's spans.
    #[serde(default)]
    pub(super) spans: Spans,
    /// A backend of its own, with all of `watch` for it alone.
    pub(super) backend: Option<Own>,
    /// Backends that it makes sense with; all of them otherwise.
    only: Option<Vec<Kind>>,
    /// Further keys of its `[[server]]`.
    #[serde(default)]
    pub(super) target: String,
    /// What is broken before the baseline.
    #[serde(default)]
    pub(super) early: Vec<String>,
    /// What is broken then.
    pub(super) broken: Vec<String>,
    /// Our probes do not see it: no verdict is right.
    #[serde(default)]
    pub(super) stays_up: bool,
    #[serde(default)]
    right: Vec<Right>,
}

/// A verdict that is right.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Right {
    verdict: Verdict,
    /// Why, for who reads the file.
    because: String,
    only: Option<Vec<Kind>>,
}

/// A real MCP server with tracing.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Program {
    #[default]
    Demo,
    Python,
    Go,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Front {
    /// toxiproxy.
    Tcp,
    /// A gateway of ours that speaks HTTP.
    Http,
    /// TLS of ours, before such a gateway.
    Tls,
    /// A name of a name server of ours, for such a gateway.
    Name,
    /// A cable to another network.
    Network,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Spans {
    #[default]
    Straight,
    /// Through a collector that holds them for a while.
    Late,
    /// There are none.
    Nowhere,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Own {
    Straight,
    /// Through a collector, as are ours.
    Collector,
    /// Through a collector that holds them for half a minute, as are ours.
    Lagging,
}

impl Fault {
    /// Those that make sense with a backend.
    pub(super) fn all(kind: Kind) -> Vec<Self> {
        let mut faults: Vec<_> = std::fs::read_dir(here("data/faults"))
            .unwrap()
            .map(|entry| Self::read(&entry.unwrap().path()))
            .collect();
        faults.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(
            faults.len() >= FAULTS_AT_LEAST,
            "only {} faults",
            faults.len()
        );
        faults.retain(|fault| holds_for(fault.only.as_ref(), kind));
        faults
    }

    fn read(path: &std::path::Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut fault: Self =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fault.name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let name = &fault.name;
        assert!(!fault.says.is_empty() && !fault.broken.is_empty(), "{name}");
        assert_eq!(fault.right.is_empty(), fault.stays_up, "{name}");
        let sentences = fault.right.iter().map(|right| &right.because);
        assert!(sentences.into_iter().all(|why| why.len() > 20), "{name}");
        fault
    }

    /// The verdicts that are right with a backend.
    pub(super) fn right(&self, kind: Kind) -> BTreeSet<&'static str> {
        self.right
            .iter()
            .filter(|right| holds_for(right.only.as_ref(), kind))
            .map(|right| right.verdict.as_str())
            .collect()
    }
}

fn holds_for(only: Option<&Vec<Kind>>, kind: Kind) -> bool {
    only.is_none_or(|kinds| kinds.contains(&kind))
}
