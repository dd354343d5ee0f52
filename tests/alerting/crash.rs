//! `kill -9` at random moments, in a storm of incidents, with a channel that fails half of the time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use super::hook::{Fate, Hook, Received};
use super::servers::{QUICK, Servers};
use crate::support::{Watch, eventually};

/// `MCPPROBE_TESTS_CRASHES` says otherwise.
const CRASHES: u32 = 300;

const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

/// Between an answer's last byte and the commit of its record are: the client that reads it, the outbox, the loop, the
/// writer. All of them together take some milliseconds; a machine of tests may stand still in between, if not each time.
const UNRECORDED: Duration = Duration::from_secs(1);

/// Most of a life is short, so that there are many ends; some are long enough to get everything done.
fn life(random: &mut Rng) -> Duration {
    Duration::from_millis(match random.u8(..10) {
        0 => random.u64(1_000..2_000),
        1 => random.u64(..30),
        _ => random.u64(..350),
    })
}

#[test]
fn no_notice_is_lost_or_doubled_however_often_we_are_killed() {
    let count = std::env::var("MCPPROBE_TESTS_CRASHES");
    let count = count.map_or(CRASHES, |count| count.parse().unwrap());
    let mut random = Rng::with_seed(5);
    let servers = Servers::start();
    let mut fate = random.fork();
    let hook = Hook::start_with(move || match fate.u8(..6) {
        0..3 => Fate::Accepted,
        3 => Fate::Refused,
        4 => Fate::Reset,
        _ => Fate::HungUp,
    });
    let fleet: String = NAMES.iter().map(|name| servers.server(name)).collect();
    let mut watch = Watch::start(&format!("{QUICK}{fleet}{}", hook.channel("hook")));
    let mut kills = Vec::new();
    for _ in 0..count {
        let until = Instant::now() + life(&mut random);
        while Instant::now() < until {
            let name = random.choice(NAMES).unwrap();
            servers.fail(name, random.bool());
            std::thread::sleep(Duration::from_millis(20));
        }
        watch.kill();
        kills.push(Instant::now());
        watch.start_again();
    }
    for name in NAMES {
        servers.fail(name, false);
    }
    hook.answer_with(|| Fate::Accepted);
    eventually("the end of all incidents", || {
        let status = watch.asked(&["status"]);
        let open = status["incidents"].as_array().unwrap().len();
        let waiting = status["undelivered"].as_array().unwrap().len();
        let up = status["targets"].as_array().unwrap().iter();
        let up = up.filter(|target| target["state"] == "up").count();
        (open + waiting == 0 && up == NAMES.len()).then_some(())
    });
    watch.program.signal("TERM");
    assert_eq!(watch.program.wait(), 0);
    let told = hook.by_incident();
    let said = watch.text();
    assert!(
        !said.contains("panicked") && !said.contains("is broken"),
        "{said}"
    );
    judge(&watch, &told, &kills);
    // It was a storm.
    let received = hook.received();
    for fate in [Fate::Accepted, Fate::Refused, Fate::HungUp] {
        let met = received
            .iter()
            .filter(|received| received.fate == fate)
            .count();
        assert!(met * 20 > count as usize, "{met} times {fate:?}");
    }
    assert!(told.len() * 4 > count as usize, "{} incidents", told.len());
}

fn judge(watch: &Watch, told: &BTreeMap<String, Vec<Received>>, kills: &[Instant]) {
    let incidents = watch.incidents();
    let known: Vec<_> = incidents
        .iter()
        .map(|incident| incident["id"].as_str().unwrap())
        .collect();
    for id in told.keys() {
        assert!(known.contains(&id.as_str()), "the store has forgotten {id}");
    }
    let mut doubles = 0;
    for incident in &incidents {
        let id = incident["id"].as_str().unwrap();
        let none = Vec::new();
        let arrived = told.get(id).unwrap_or(&none);
        let notices = watch.incident(id)["notices"].clone();
        let notices = notices.as_array().unwrap();
        let expected: Vec<_> = notices
            .iter()
            .map(|notice| {
                (
                    notice["sequence"].as_u64().unwrap(),
                    notice["event"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(expected, [(1, "opened"), (2, "resolved")], "{incident}");
        let mut first: Vec<&Received> = Vec::new();
        for received in arrived {
            let Some(before) = first.iter().find(|before| before.id == received.id) else {
                first.push(received);
                continue;
            };
            assert_eq!(before.body, received.body, "one key, two notices");
            assert_doubled_by_a_kill(before, received, kills);
            doubles += 1;
        }
        let first: Vec<_> = first
            .iter()
            .map(|received| (received.sequence(), received.event()))
            .collect();
        assert_eq!(first, expected, "{incident}");
        for notice in notices {
            assert!(notice["delivered_at"].is_string(), "{notice}");
        }
    }
    assert!(
        doubles * 10 <= kills.len(),
        "{doubles} notices came twice: records wait"
    );
    assert_one_at_a_time(&incidents);
}

/// Only what was under way when we were killed may come twice.
fn assert_doubled_by_a_kill(first: &Received, second: &Received, kills: &[Instant]) {
    let kill = kills
        .iter()
        .find(|kill| **kill > first.at && **kill < second.at);
    let Some(kill) = kill else {
        panic!("twice, and nobody was killed in between: {first:?} {second:?}");
    };
    let before = *kill - first.at;
    eprintln!(
        "{} came twice: it was accepted {before:?} before a kill",
        first.id
    );
    assert!(before < UNRECORDED, "{before:?} before a kill: {first:?}");
}

/// A server never has two open incidents of a kind.
fn assert_one_at_a_time(incidents: &[Value]) {
    let mut spans: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for incident in incidents {
        assert_eq!(incident["resolution"], "recovered", "{incident}");
        let time = |key: &str| incident[key].as_str().unwrap();
        let span = (time("first_failed_at"), time("resolved_at"));
        let of_server = spans.entry(incident["server"].as_str().unwrap());
        of_server.or_default().push(span);
    }
    for spans in spans.values_mut() {
        spans.sort();
        for pair in spans.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "{pair:?}");
        }
    }
}
