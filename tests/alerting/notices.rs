//! Who is told what, and who is not: silences, acknowledgements, maintenance, parents, routes, fallbacks, groups.

use serde_json::{Value, json};

use super::hook::{Fate, Hook};
use super::servers::{QUICK, Servers};
use crate::support::{Watch, eventually, free_port, mcpprobe, run};

/// What happened to an incident.
fn timeline(watch: &Watch, incident: &str) -> Vec<(String, String)> {
    let shown = watch.incident(incident);
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let entries = shown["timeline"].as_array().unwrap().iter();
    entries
        .map(|entry| (text(entry, "what"), text(entry, "text")))
        .collect()
}

fn until_in_timeline(watch: &Watch, incident: &str, what: &str, text: &str) {
    eventually(&format!("{what}: {text}"), || {
        let found = timeline(watch, incident);
        let mut found = found.iter().filter(|entry| entry.0 == what);
        found.find(|entry| entry.1.contains(text)).map(drop)
    });
}

/// Waits for the open incident of a server.
fn until_open(watch: &Watch, server: &str) -> String {
    eventually(&format!("an incident of {server}"), || {
        let status = watch.status(server);
        status["incident"].as_str().map(str::to_owned)
    })
}

/// Runs a command that has to succeed.
fn done(words: &[&str]) -> String {
    let output = run(words);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Adds a silence; answers its id, and when it ends.
fn silence(watch: &Watch, what: &[&str], length: &str) -> (String, String) {
    let file = watch.file();
    let mut words = vec![
        "silence", "add", &file, "--for", length, "--reason", "deploy",
    ];
    words.extend(what);
    done(&words);
    let list = watch.asked(&["silence", "list"]);
    let last = list["silences"].as_array().unwrap().last().unwrap();
    let text = |key: &str| last[key].as_str().unwrap().to_owned();
    (text("id"), text("until"))
}

fn config(servers: &Servers, names: &[&str], more: &str) -> String {
    let fleet: String = names.iter().map(|name| servers.server(name)).collect();
    format!("{QUICK}{fleet}{more}")
}

#[test]
fn what_is_silenced_is_recorded_and_told_when_the_silence_has_ended() {
    let (servers, hook) = (Servers::start(), Hook::start());
    servers.fail("before", true);
    let names = ["before", "stays", "passes", "other"];
    let watch = Watch::start(&config(&servers, &names, &hook.channel("hook")));
    hook.until("before", 1);
    let before = until_open(&watch, "before");
    let (id, _) = silence(&watch, &["--server", "before,stays,passes"], "1h");
    // From here on it is known to hold.
    until_in_timeline(
        &watch,
        &before,
        "suppressed",
        &format!("silence {id}: deploy"),
    );
    for name in ["stays", "passes", "other"] {
        servers.fail(name, true);
    }
    let [stays, passes] = ["stays", "passes"].map(|name| until_open(&watch, name));
    for incident in [&stays, &passes] {
        until_in_timeline(&watch, incident, "suppressed", "no notice: silence");
    }
    servers.fail("passes", false);
    servers.fail("before", false);
    // An end is never held back, and who was not told of the beginning hears nothing of it.
    hook.until("before", 2);
    hook.until("other", 1);
    eventually("the end of the other one", || {
        watch.status("passes")["incident"].is_null().then_some(())
    });
    assert_eq!(hook.events("stays"), [""; 0]);
    done(&["silence", "end", &id, &watch.file()]);
    hook.until("stays", 1);
    until_in_timeline(&watch, &stays, "suppressed", "notices go out again");
    servers.fail("stays", false);
    hook.until("stays", 2);
    assert_eq!(hook.events("stays"), ["opened", "resolved"]);
    assert_eq!(hook.events("before"), ["opened", "resolved"]);
    assert_eq!(hook.events("passes"), [""; 0]);
}

#[test]
fn a_silence_ends_by_itself() {
    let (servers, hook) = (Servers::start(), Hook::start());
    let tagged = format!("{}tags = [\"prod\"]\n", servers.server("a"));
    let watch = Watch::start(&format!("{QUICK}{tagged}{}", hook.channel("hook")));
    watch.until_state("a", "up");
    let (_, until) = silence(&watch, &["--tag", "prod"], "10s");
    // It is heard of within a second or two; what is told before that is not what this is about.
    std::thread::sleep(std::time::Duration::from_secs(3));
    servers.fail("a", true);
    let incident = until_open(&watch, "a");
    until_in_timeline(&watch, &incident, "suppressed", "no notice");
    let told = hook.until("a", 1);
    let sent = told[0].body["sent_at"].as_str().unwrap();
    let [sent, until] = [sent, &until].map(|time| humantime::parse_rfc3339(time).unwrap());
    assert!(sent >= until, "{sent:?} {until:?}");
}

#[test]
fn who_has_acknowledged_is_reminded_no_more_and_nobody_else_is_woken() {
    let (servers, hook, boss) = (Servers::start(), Hook::start(), Hook::start());
    for name in ["taken", "free"] {
        servers.fail(name, true);
    }
    let more = format!(
        "{}{}[[route]]\nchannels = [\"hook\"]\nrepeat = \"60s\"\n\
         [[route]]\nchannels = [\"boss\"]\nafter = \"40s\"\n",
        hook.channel("hook"),
        boss.channel("boss")
    );
    let watch = Watch::start(&config(&servers, &["taken", "free"], &more));
    hook.until("taken", 1);
    hook.until("free", 1);
    let taken = until_open(&watch, "taken");
    done(&["incidents", "ack", &taken, &watch.file(), "--by", "ada"]);
    until_in_timeline(&watch, &taken, "acknowledged", "ada");
    boss.until("free", 1);
    // A reminder comes after a minute, which is as long as anything is waited for.
    std::thread::sleep(std::time::Duration::from_secs(10));
    hook.until("free", 2);
    servers.fail("taken", false);
    servers.fail("free", false);
    hook.until("taken", 2);
    hook.until("free", 3);
    boss.until("free", 2);
    assert_eq!(hook.events("free"), ["opened", "reminder", "resolved"]);
    assert_eq!(hook.events("taken"), ["opened", "resolved"]);
    assert_eq!(boss.events("free"), ["opened", "resolved"]);
    assert_eq!(boss.events("taken"), [""; 0]);
}

#[test]
fn maintenance_holds_notices_until_the_window_is_gone() {
    let (servers, hook) = (Servers::start(), Hook::start());
    let window = "[[maintenance]]\nname = \"deploy\"\ncron = \"* * * * *\"\nduration = \"2m\"\nservers = [\"a\"]\n";
    let open = config(&servers, &["a", "b"], &hook.channel("hook"));
    let watch = Watch::start(&format!("{open}{window}"));
    servers.fail("a", true);
    servers.fail("b", true);
    hook.until("b", 1);
    let incident = until_open(&watch, "a");
    until_in_timeline(&watch, &incident, "suppressed", "maintenance deploy");
    assert_eq!(hook.events("a"), [""; 0]);
    std::fs::write(watch.file(), &open).unwrap();
    watch.program.signal("HUP");
    hook.until("a", 1);
    assert_eq!(hook.events("a"), ["opened"]);
}

#[test]
fn children_are_quiet_while_their_parent_is_down() {
    let (servers, hook) = (Servers::start(), Hook::start());
    let child = |name: &str| format!("{}parent = \"gateway\"\n", servers.server(name));
    let fleet = [servers.server("gateway"), child("stays"), child("follows")].concat();
    let watch = Watch::start(&format!("{QUICK}{fleet}{}", hook.channel("hook")));
    for name in ["gateway", "stays", "follows"] {
        watch.until_state(name, "up");
    }
    for name in ["gateway", "stays", "follows"] {
        servers.fail(name, true);
    }
    hook.until("gateway", 1);
    for name in ["stays", "follows"] {
        let incident = until_open(&watch, name);
        until_in_timeline(
            &watch,
            &incident,
            "suppressed",
            "its parent gateway is down",
        );
    }
    servers.fail("follows", false);
    servers.fail("gateway", false);
    hook.until("gateway", 2);
    hook.until("stays", 1);
    watch.until_state("follows", "up");
    servers.fail("stays", false);
    hook.until("stays", 2);
    assert_eq!(hook.events("gateway"), ["opened", "resolved"]);
    assert_eq!(hook.events("stays"), ["opened", "resolved"]);
    assert_eq!(hook.events("follows"), [""; 0]);
    let after = hook.accepted();
    let order: Vec<_> = after
        .iter()
        .map(|told| told.body["server"].as_str().unwrap())
        .collect();
    assert_eq!(order[0], "gateway");
}

#[test]
fn routes_say_who_hears_of_what() {
    let (servers, prod, network) = (Servers::start(), Hook::start(), Hook::start());
    let tagged = format!("{}tags = [\"prod\"]\n", servers.server("tagged"));
    let dead = format!(
        "[[server]]\nname = \"dead\"\nurl = \"http://127.0.0.1:{}/mcp\"\n",
        free_port()
    );
    let routes = "[[route]]\ntag = [\"prod\"]\nchannels = [\"prod\"]\n\
                  [[route]]\nlayer = [\"transport\"]\nseverity = [\"critical\"]\nchannels = [\"network\"]\n";
    for name in ["tagged", "plain"] {
        servers.fail(name, true);
    }
    let watch = Watch::start(&format!(
        "{QUICK}{tagged}{}{dead}{}{}{routes}",
        servers.server("plain"),
        prod.channel("prod"),
        network.channel("network")
    ));
    prod.until("tagged", 1);
    network.until("dead", 1);
    until_open(&watch, "plain");
    servers.fail("tagged", false);
    prod.until("tagged", 2);
    let told = |hook: &Hook| -> Vec<_> {
        let told = hook.accepted().into_iter();
        told.map(|told| told.body["server"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(told(&prod), ["tagged", "tagged"]);
    assert_eq!(told(&network), ["dead"]);
}

#[test]
fn what_a_channel_cannot_deliver_goes_to_its_fallback() {
    let (servers, hook, broken) = (Servers::start(), Hook::start(), Hook::start());
    broken.answer_with(|| Fate::Refused);
    let more = format!(
        "{}give_up_after = \"1s\"\nfallback = \"second\"\n{}[[route]]\nchannels = [\"first\"]\n",
        broken.channel("first"),
        hook.channel("second")
    );
    servers.fail("a", true);
    let mut watch = Watch::start(&config(&servers, &["a"], &more));
    hook.until("a", 1);
    eventually("what was given up, in the status", || {
        let status = watch.asked(&["status"]);
        let given_up = status["given_up"].as_array().unwrap().clone();
        given_up
            .iter()
            .find(|notice| notice["channel"] == "first")
            .map(drop)
    });
    watch.restart();
    servers.until_probed("a", 2);
    servers.fail("a", false);
    hook.until("a", 2);
    assert_eq!(hook.events("a"), ["opened", "resolved"]);
    assert!(broken.accepted().is_empty());
}

#[test]
fn incidents_of_one_cause_are_one_message() {
    let (servers, hook) = (Servers::start(), Hook::start());
    let names = ["a", "b", "c"];
    let more = format!("{}group = \"10s\"\n", hook.channel("hook"));
    let watch = Watch::start(&config(&servers, &names, &more));
    for name in names {
        watch.until_state(name, "up");
    }
    for name in names {
        servers.fail(name, true);
    }
    let told = eventually("the message", || hook.accepted().into_iter().next());
    let mut together: Vec<_> = told.body["notices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|notice| notice["server"].as_str().unwrap().to_owned())
        .collect();
    together.sort();
    assert_eq!(together, names);
    for name in names {
        until_open(&watch, name);
    }
    assert_eq!(hook.accepted().len(), 1);
}

#[test]
fn rounds_by_cron_alert_once_and_resolve_once() {
    let (servers, hook) = (Servers::start(), Hook::start());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    let more = hook.channel("hook");
    std::fs::write(&file, config(&servers, &["a", "b"], &more)).unwrap();
    let round = || {
        let output = mcpprobe()
            .args(["watch", "--once"])
            .arg(&file)
            .output()
            .unwrap();
        (output.status.code().unwrap(), hook.events("a"))
    };
    let none: [&str; 0] = [];
    assert_eq!(round(), (0, none.map(str::to_owned).to_vec()));
    // Nobody takes the first notice.
    hook.answer_with(|| Fate::Refused);
    servers.fail("a", true);
    assert_eq!(round(), (2, none.map(str::to_owned).to_vec()));
    hook.answer_with(|| Fate::Accepted);
    let opened = ["opened".to_owned()];
    assert_eq!(round(), (2, opened.to_vec()));
    assert_eq!(round(), (2, opened.to_vec()));
    servers.fail("a", false);
    let both = ["opened".to_owned(), "resolved".to_owned()];
    assert_eq!(round(), (0, both.to_vec()));
    assert_eq!(round(), (0, both.to_vec()));
    // The next outage is another incident.
    servers.fail("a", true);
    round();
    let ids: Vec<_> = hook
        .accepted()
        .iter()
        .map(|told| (json!(told.incident()), told.sequence()))
        .collect();
    assert_eq!(ids.len(), 3);
    assert_eq!((&ids[0].0, ids[0].1, ids[1].1), (&ids[1].0, 1, 2));
    assert!(ids[2].0 != ids[0].0 && ids[2].1 == 1);
}
