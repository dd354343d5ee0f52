//! Incidents, silences and history from another shell: what is told of them, in tables and in JSON, and what people
//! say to them.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::support::{Small, free_port, json_answer, mcpprobe};

/// A file with a dead server and one that says evil things.
struct Fleet {
    folder: tempfile::TempDir,
    _evil: Small,
}

/// What would act on a terminal.
const EVIL: &str = "bad\u{1b}[31m\u{202e}news";

impl Fleet {
    fn new() -> Self {
        let evil = Small::start(|_| {
            let error = serde_json::json!({ "code": -32000, "message": EVIL });
            let answer = serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": error });
            json_answer("500 Oh No", &answer)
        });
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[[server]]\nname = \"dead\"\nurl = \"http://127.0.0.1:{}/mcp\"\ntags = [\"prod\"]\n\
             [[server]]\nname = \"evil\"\nurl = \"{}\"\n\
             [alerting]\nconfirm = 0\n",
            free_port(),
            evil.url()
        );
        fs::write(folder.path().join("servers.toml"), text).unwrap();
        Self {
            folder,
            _evil: evil,
        }
    }

    /// One round, in which both fail.
    fn failed() -> Self {
        let fleet = Self::new();
        let output = fleet.run(&["watch", "--once", "servers.toml"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        fleet
    }

    /// Runs in the folder: without a file it is `servers.toml`.
    fn run(&self, args: &[&str]) -> Output {
        mcpprobe()
            .args(args)
            .current_dir(self.folder.path())
            .env("LOGNAME", "ann")
            .env_remove("SUDO_USER")
            .output()
            .unwrap()
    }

    fn said(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            !text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{args:?}: {text:?}"
        );
        text
    }

    fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["--format", "json"]].concat();
        let document: Value = serde_json::from_str(&self.said(&args)).unwrap();
        assert_eq!(document["schema"], 1);
        document
    }

    fn refused(&self, args: &[&str], word: &str) {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {output:?}");
        assert!(error.contains(word), "{args:?}: {error}");
    }

    /// The id of the server's only incident.
    fn incident(&self, server: &str) -> String {
        let document = self.json(&["incidents", "--server", server]);
        let incidents = document["incidents"].as_array().unwrap();
        assert_eq!(incidents.len(), 1, "{document:#}");
        incidents[0]["id"].as_str().unwrap().to_owned()
    }
}

fn keys(value: &Value) -> String {
    let keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    keys.join(" ")
}

const INCIDENT: &str = "id server kind severity state failed_layer reason message trace_id first_failed_at opened_at \
     resolved_at resolution flapping acknowledged suppressed verdict verdict_reason provisional";

#[test]
fn incidents_are_listed_and_shown_with_all_that_is_known() {
    let fleet = Fleet::failed();
    let all = fleet.json(&["incidents"]);
    let all = all["incidents"].as_array().unwrap();
    assert_eq!(all.len(), 2, "{all:#?}");
    for incident in all {
        assert_eq!(keys(incident), INCIDENT);
        assert_eq!(incident["kind"], "outage");
        assert_eq!(incident["resolved_at"], Value::Null);
    }
    let id = fleet.incident("dead");
    let shown = fleet.json(&["incidents", "show", &id]);
    assert_eq!(
        keys(&shown),
        "schema incident timeline notices conversation verdict"
    );
    assert_eq!(shown["incident"]["reason"], "connection_refused");
    let table = fleet.said(&["incidents", "show", &id]);
    for word in ["connection_refused", &id, "timeline", "mcpprobe explain"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    let table = fleet.said(&["incidents", "--open", "--since", "1h"]);
    assert!(table.contains("dead") && table.contains("evil"), "{table}");
    assert!(
        fleet
            .said(&["incidents", "show", &fleet.incident("evil")])
            .contains("bad")
    );
}

#[test]
fn an_incident_is_taken_once_and_status_shows_who_has_it() {
    let fleet = Fleet::failed();
    let id = fleet.incident("dead");
    // No watch runs.
    let said = fleet.said(&["incidents", "ack", &id]);
    assert!(said.contains("ann"), "{said}");
    fleet.refused(
        &["incidents", "ack", &id, "--by", "bob"],
        "already acknowledged",
    );
    let shown = fleet.json(&["incidents", "show", &id]);
    assert_eq!(shown["incident"]["acknowledged"]["by"], "ann");
    assert!(fleet.said(&["status"]).contains("[acknowledged by ann]"));
    let evil = fleet.incident("evil");
    let by = format!("b\u{1b}[31mob {EVIL}");
    assert!(
        fleet
            .said(&["incidents", "ack", &evil, "--by", &by])
            .contains("ob bad")
    );
    let status = fleet.json(&["status"]);
    let open = status["incidents"].as_array().unwrap();
    assert_eq!(open.len(), 2);
    assert!(
        open.iter()
            .all(|incident| incident["acknowledged"].is_object())
    );
}

#[test]
fn what_there_is_not_is_said() {
    let fleet = Fleet::new();
    assert_eq!(fleet.said(&["incidents"]), "no incidents\n");
    assert_eq!(fleet.said(&["silence", "list"]), "no silences\n");
    fleet.refused(&["incidents", "show", "nosuch"], "no store");
    fleet.refused(&["history", "--server", "dead"], "no store");
    let fleet = Fleet::failed();
    fleet.refused(&["incidents", "show", "nosuch"], "no incident nosuch");
    fleet.refused(&["incidents", "ack", "nosuch"], "no incident nosuch");
    fleet.refused(&["incidents", "--server", "daed"], "did you mean dead?");
    fleet.refused(&["history", "--server", "x"], "there are: dead, evil");
    fleet.refused(&["silence", "end", "nosuch"], "no silence nosuch");
    fleet.refused(&["incidents", "nosuch.toml"], "nosuch.toml");
}

#[test]
fn a_silence_is_begun_seen_and_ended() {
    let fleet = Fleet::failed();
    let said = fleet.said(&[
        "silence", "add", "--tag", "prod", "--for", "30m", "--reason", "deploy",
    ]);
    let id = said.split([' ', ':']).nth(1).unwrap().to_owned();
    let listed = fleet.json(&["silence", "list"]);
    let silence = &listed["silences"][0];
    assert_eq!(keys(silence), "id state servers tags from until reason by");
    assert_eq!(silence["id"], *id);
    assert_eq!(
        (&silence["state"], &silence["by"]),
        (&"active".into(), &"ann".into())
    );
    let status = fleet.json(&["status"]);
    let quiet = status["quiet"].as_object().unwrap();
    assert_eq!(quiet.keys().collect::<Vec<_>>(), ["dead"]);
    assert!(quiet["dead"].as_str().unwrap().contains("deploy"));
    assert!(fleet.said(&["status"]).contains("[silenced until"));
    fleet.said(&["silence", "end", &id]);
    fleet.refused(&["silence", "end", &id], "has ended");
    assert_eq!(fleet.said(&["silence", "list"]), "no silences\n");
    let all = fleet.said(&["silence", "list", "--all"]);
    assert!(all.contains("ended"), "{all}");
    assert!(
        fleet.json(&["status"])["quiet"]
            .as_object()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_silence_has_to_be_of_something_and_at_some_time() {
    let fleet = Fleet::failed();
    let add = |args: &[&'static str]| [&["silence", "add", "--reason", "r"], args].concat();
    for (args, word) in [
        (&["--for", "30m"][..], "--all"),
        (&["--server", "dead"], "--for"),
        (
            &["--server", "dead,daed", "--for", "30m"],
            "did you mean dead?",
        ),
        (&["--tag", "prid", "--for", "30m"], "did you mean prod?"),
        (&["--all", "--server", "dead", "--for", "30m"], "--all"),
        (&["--all", "--for", "0s"], "from 1s to"),
        (&["--all", "--for", "32days"], "from 1s to"),
        (
            &["--all", "--for", "1h", "--from", "2020-01-01T00:00:00Z"],
            "over already",
        ),
    ] {
        fleet.refused(&add(args), word);
    }
    assert_eq!(fleet.said(&["silence", "list", "--all"]), "no silences\n");
    fleet.said(&add(&[
        "--all",
        "--for",
        "1h",
        "--from",
        "2096-01-01T00:00:00Z",
    ]));
    assert_eq!(
        fleet.json(&["silence", "list"])["silences"][0]["state"],
        "waiting"
    );
}

#[test]
fn history_counts_what_was_found() {
    let fleet = Fleet::failed();
    fleet.run(&["watch", "--once", "servers.toml"]);
    let history = fleet.json(&["history", "--server", "dead", "--since", "1h"]);
    assert_eq!(
        keys(&history),
        "schema server since until availability probes layers reasons latency summed_up"
    );
    assert_eq!(history["availability"], 0.0);
    assert_eq!(history["probes"]["failed"], 2);
    assert_eq!(history["layers"]["transport"], 2);
    assert_eq!(history["reasons"][0]["reason"], "connection_refused");
    assert_eq!(history["reasons"][0]["count"], 2);
    let table = fleet.said(&["history", "--server", "dead"]);
    assert!(table.contains("0 % available: 0 of 2 probes"), "{table}");
    let nothing = fleet.json(&["history", "--server", "evil", "--since", "0s"]);
    assert_eq!(nothing["availability"], Value::Null);
}
