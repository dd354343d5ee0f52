//! The format of `tests/data/real/*.toml`: how one server is started, and what has to be said of it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// One server: `start` and `url`, or `command`.
///
/// In every text, `{port}` is a free port, `{cache}` what `tests/install` filled, `{here}` the folder `tests/servers`
/// and `{examples}` where cargo puts our own examples.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// The file's name.
    #[serde(skip)]
    pub(super) name: String,
    /// The program that is the server, ready when it listens on `{port}`.
    pub(super) start: Option<Vec<String>>,
    /// On top of our own environment, for `start`.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// Where `start` serves.
    pub(super) url: Option<String>,
    /// A stdio server.
    pub(super) command: Option<Vec<String>>,
    /// Further keys of the `[[server]]` in the program's configuration.
    #[serde(default)]
    pub(super) probe: toml::Table,
    /// The name that it gives itself.
    pub(super) server: String,
    /// From how many tools to how many: some change their list while they run.
    pub(super) tools: [u64; 2],
    /// How to count its living sessions, where it allows to end them. They have to be 0.
    pub(super) sessions: Option<Sessions>,
    auto: Expected,
    legacy: Option<Expected>,
    modern: Option<Expected>,
    both: Option<Expected>,
}

/// What has to be said with one `era` in the configuration: keys of a target of `check --format json`, of `message` a
/// part. `state` is `up`, `failed_layer` and `reason` are null, and `era`, `protocol_version` and `transport` are what
/// follows, where they are not given.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Expected {
    pub(super) keys: Map<String, Value>,
}

/// Where the number of living sessions is found.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Sessions {
    /// `{"sessions": N}` at this path.
    Path(String),
    /// Lines of its output, one for each session that began or ended.
    Log { begun: String, ended: String },
    /// Processes that it started, beyond so many that it always has.
    ProcessesBeyond(usize),
}

impl Case {
    /// Every file of `folder`, in the order of their names; all mistakes at once.
    pub(super) fn all(folder: &Path) -> Vec<Self> {
        let files = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        let (mut cases, mut mistakes) = (Vec::new(), Vec::new());
        for file in files {
            match Self::read(&file) {
                Ok(case) => cases.push(case),
                Err(mistake) => mistakes.push(format!("{}: {mistake}", file.display())),
            }
        }
        assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
        cases
    }

    fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let mut case: Self = toml::from_str(&text).map_err(|error| error.to_string())?;
        case.name = file.file_stem().unwrap().to_string_lossy().into_owned();
        if case.start.is_some() != case.url.is_some()
            || case.url.is_some() == case.command.is_some()
        {
            return Err("a server has start and url, or command".to_owned());
        }
        let transport = if case.command.is_some() {
            "stdio"
        } else {
            "streamable_http"
        };
        case.auto.complete("auto", transport);
        let others = [
            ("legacy", &mut case.legacy),
            ("modern", &mut case.modern),
            ("both", &mut case.both),
        ];
        for (era, expected) in others {
            if let Some(expected) = expected {
                expected.complete(era, transport);
            }
        }
        Ok(case)
    }

    /// What is expected with each `era` in which it is to be probed.
    pub(super) fn expectations(&self) -> impl Iterator<Item = (&'static str, &Expected)> {
        let others = [
            ("legacy", &self.legacy),
            ("modern", &self.modern),
            ("both", &self.both),
        ];
        let others = others
            .into_iter()
            .filter_map(|(era, expected)| Some((era, expected.as_ref()?)));
        std::iter::once(("auto", &self.auto)).chain(others)
    }

    /// What is expected with this `era`.
    pub(super) fn expectation(&self, era: &str) -> &Expected {
        let found = self.expectations().find(|(known, _)| *known == era);
        found
            .unwrap_or_else(|| panic!("{}: no [{era}]", self.name))
            .1
    }
}

impl Expected {
    pub(super) fn is_up(&self) -> bool {
        self.keys["state"] == "up"
    }

    fn complete(&mut self, era: &str, transport: &str) {
        let mut default = |key: &str, value: Value| self.keys.entry(key).or_insert(value).clone();
        default("transport", json!(transport));
        if default("state", json!("up")) == "up" {
            default("failed_layer", Value::Null);
            default("reason", Value::Null);
            // Every SDK of today agrees to the newest version of its era.
            let version = match default("era", json!(era)).as_str() {
                Some("modern" | "both") => "2026-07-28",
                _ => "2025-11-25",
            };
            default("protocol_version", json!(version));
        }
    }
}
