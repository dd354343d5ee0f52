//! The file is changed while we run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::hook::Hook;
use super::servers::{QUICK, Servers};
use crate::support::{Watch, eventually, here};

const INTERVAL: &str = "every = \"3s\"\n";

/// The files that cannot be used.
fn broken() -> Vec<PathBuf> {
    let files = fs::read_dir(here("data/reload")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "{files:?}");
    files
}

/// What is said of a file stands in its first line; of one without a word, that it is none.
fn says(file: &Path) -> String {
    let bytes = fs::read(file).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix("# says: ") {
        Some(says) => says.to_owned(),
        None if bytes.is_empty() => "no [[server]]".to_owned(),
        None => "not TOML".to_owned(),
    }
}

/// What must not change.
fn standing(watch: &Watch) -> Vec<Value> {
    let of = |name| {
        let status = watch.status(name);
        ["state", "since", "incident", "reason"].map(|key| status[key].clone())
    };
    ["well", "ill"].into_iter().flat_map(of).collect()
}

fn reload_error(watch: &Watch) -> Value {
    watch.asked(&["status"])["reload_error"].clone()
}

fn until_refused(watch: &Watch, says: &str, what: &str) {
    eventually(&format!("the refusal of {what}"), || {
        let error = reload_error(watch);
        error.as_str()?.contains(says).then_some(())
    });
}

fn until_taken(watch: &Watch, what: &str) {
    eventually(&format!("the reload after {what}"), || {
        reload_error(watch).is_null().then_some(())
    });
}

/// How many times a file was taken in.
fn reloads(watch: &Watch) -> usize {
    watch.text().matches("read again: ").count()
}

/// Writes another file, tells the program so, and waits until it has been taken in.
fn reload(watch: &Watch, text: &str) {
    let before = reloads(watch);
    fs::write(watch.file(), text).unwrap();
    watch.program.signal("HUP");
    eventually("the reload", || (reloads(watch) > before).then_some(()));
}

/// `status` cannot read the file while it is broken, and tells by another one of the same store.
fn beside(watch: &Watch, good: &str) -> String {
    let path = watch.folder().join("beside.toml");
    fs::write(&path, good).unwrap();
    path.display().to_string()
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    let (servers, hook) = (Servers::start(), Hook::start());
    servers.fail("ill", true);
    let good = format!(
        "{QUICK}{}{}{}",
        servers.server("well"),
        servers.server("ill"),
        hook.channel("hook")
    );
    let watch = Watch::start(&good);
    watch.until_state("well", "up");
    watch.until_state("ill", "down");
    hook.until("ill", 1);
    let beside = beside(&watch, &good);
    let watch = watch.looked_at_by(beside);
    let before = standing(&watch);
    for (number, file) in broken().iter().enumerate() {
        let what = file.file_name().unwrap().display().to_string();
        let probes = servers.probes("well");
        fs::copy(file, watch.file()).unwrap();
        // Both ways lead to it; the file itself is looked at less often.
        let by_signal = number % 12 != 0;
        if by_signal {
            watch.program.signal("HUP");
        }
        until_refused(&watch, &says(file), &what);
        let told = watch.lines().into_iter().rev().find(|line| {
            line["event"] == "warning"
                && line["message"].as_str().unwrap().contains("cannot be used")
        });
        let told = told.expect("a warning")["message"].to_string();
        assert!(
            told.contains(&says(file).replace('"', "\\\"")),
            "{what}: {told}"
        );
        eventually("a further probe", || {
            (servers.probes("well") > probes).then_some(())
        });
        assert_eq!(standing(&watch), before, "{what}");
        fs::write(watch.file(), &good).unwrap();
        if by_signal {
            watch.program.signal("HUP");
        }
        until_taken(&watch, &what);
    }
    // What is no file at all.
    fs::remove_file(watch.file()).unwrap();
    watch.program.signal("HUP");
    until_refused(&watch, "cannot read", "no file");
    fs::create_dir(watch.file()).unwrap();
    watch.program.signal("HUP");
    until_refused(&watch, "directory", "a folder");
    fs::remove_dir(watch.file()).unwrap();
    fs::write(watch.file(), &good).unwrap();
    until_taken(&watch, "a folder");
    assert_eq!(standing(&watch), before);
    // A start takes the file in as well as a reload does.
    fs::write(watch.file(), "no TOML").unwrap();
    watch.program.signal("HUP");
    until_refused(&watch, "not TOML", "the last one");
    fs::write(watch.file(), &good).unwrap();
    let mut watch = watch;
    watch.restart();
    until_taken(&watch, "a restart");
    servers.until_probed("ill", 1);
    assert_eq!(hook.events("ill"), ["opened"]);
    servers.fail("ill", false);
    hook.until("ill", 2);
    assert_eq!(hook.events("ill"), ["opened", "resolved"]);
}

#[test]
fn only_what_has_changed_is_probed_anew() {
    let (servers, hook) = (Servers::start(), Hook::start());
    servers.fail("ill", true);
    servers.fail("leaves", true);
    // Nothing is due again by itself while this test runs.
    let rare = QUICK.replace("every = \"1s\"", "every = \"6h\"");
    let file = |names: &[&str]| {
        let fleet: String = names.iter().map(|name| servers.server(name)).collect();
        format!("{rare}{}{fleet}", hook.channel("hook"))
    };
    let first = file(&["well", "ill", "leaves", "moves"]);
    let watch = Watch::start(&first);
    for (name, state) in [
        ("well", "up"),
        ("ill", "down"),
        ("leaves", "down"),
        ("moves", "up"),
    ] {
        watch.until_state(name, state);
    }
    let told = hook.until("leaves", 1);
    hook.until("ill", 1);
    let before = standing(&watch);
    let text = file(&["comes", "ill", "well", "moves"])
        .replace(&servers.url("moves"), &servers.url("elsewhere"));
    servers.fail("elsewhere", true);
    reload(&watch, &text);
    watch.until_state("comes", "up");
    let moved = watch.until_state("moves", "down");
    assert_eq!(moved["reason"], "http_status");
    let ended = hook.until("leaves", 2);
    assert_eq!(hook.events("leaves"), ["opened", "resolved"]);
    let incident = watch.incident(told[0].incident());
    assert_eq!(incident["incident"]["resolution"], "removed");
    assert_eq!(ended[1].body["incident"], told[0].body["incident"]);
    // Nothing has changed about these.
    assert_eq!(standing(&watch), before);
    let probes = ["well", "ill", "moves", "elsewhere", "comes"].map(|name| servers.probes(name));
    assert_eq!(probes, [1, 1, 1, 1, 1]);
    // The same file once more: nothing at all.
    reload(&watch, &text);
    reload(&watch, &text);
    assert_eq!(standing(&watch), before);
    let probes = ["well", "ill", "moves", "elsewhere", "comes"].map(|name| servers.probes(name));
    assert_eq!(probes, [1, 1, 1, 1, 1]);
    assert_eq!(hook.events("ill"), ["opened"]);
    // It comes back, which is a new incident.
    reload(&watch, &first);
    hook.until("leaves", 3);
    let ids: Vec<_> = hook.by_incident().into_keys().collect();
    assert_eq!(ids.len(), 4, "{ids:?}");
}

#[test]
fn what_was_learnt_of_a_server_outlives_a_reload() {
    let servers = Servers::start();
    let file = |more: &str| {
        let text = format!("{QUICK}{}{more}", servers.server("well"));
        text.replace("era = \"legacy\"\n", "")
    };
    let watch = Watch::start(&file(""));
    servers.until_probed("well", 2);
    // None is under way: what it finds would be learnt after the reload.
    let last = watch.status("well")["last_probe_at"].clone();
    eventually("the end of a probe", || {
        (watch.status("well")["last_probe_at"] != last).then_some(())
    });
    let asked = servers.asked("well", "server/discover").len();
    assert!(asked >= 1);
    reload(&watch, &file(&servers.server("comes")));
    servers.until_probed("comes", 1);
    servers.until_probed("well", 3);
    assert_eq!(servers.asked("well", "server/discover").len(), asked);
}

#[test]
fn servers_that_we_start_follow_and_others_keep_their_phase() {
    let servers = Servers::start();
    let folder = tempfile::tempdir().unwrap();
    let pid = |name: &str| folder.path().join(name);
    let start = |name: &str, file: &str| {
        format!(
            "{}start = [\"sh\", \"-c\", \"trap '' TERM; echo $$ > {}; while :; do sleep 0.1; done\"]\n",
            servers.server(name),
            pid(file).display()
        )
    };
    let config = QUICK.replace("every = \"1s\"\n", INTERVAL);
    let stays = start("stays", "stays");
    let watch = Watch::start(&format!(
        "{config}{}{stays}{}{}",
        servers.server("well"),
        start("goes", "goes"),
        start("changes", "before")
    ));
    let [stays_id, goes_id, before_id] =
        ["stays", "goes", "before"].map(|name| eventually(name, || read_id(&pid(name))));
    servers.until_probed("well", 2);
    reload(
        &watch,
        &format!(
            "{config}{}{stays}{}{}",
            servers.server("well"),
            start("changes", "after"),
            start("comes", "comes")
        ),
    );
    for name in ["after", "comes"] {
        let id = eventually(name, || read_id(&pid(name)));
        assert!(runs(id), "{name}");
    }
    assert!(runs(stays_id));
    assert_eq!(read_id(&pid("stays")), Some(stays_id));
    assert!(!runs(goes_id) && !runs(before_id));
    servers.until_probed("well", 3);
    // The end of the old ones has taken a second, for they did not listen to SIGTERM.
    let phases: Vec<_> = {
        let starts = servers.asked("well", "initialize");
        starts
            .iter()
            .skip(1)
            .map(|at| (*at - starts[1]).as_secs_f64() % 3.0)
            .collect()
    };
    let shift = |phase: &f64| phase.min(3.0 - phase);
    // The first round is quicker than the interval. One start that was late does not count.
    let nearest = phases[phases.len() - 3..]
        .iter()
        .map(shift)
        .fold(3.0, f64::min);
    assert!(nearest < 0.4, "{phases:?}");
}

fn read_id(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn runs(id: u32) -> bool {
    let found = Command::new("kill")
        .args(["-0", &id.to_string()])
        .output()
        .unwrap();
    found.status.success()
}
