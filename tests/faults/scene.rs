//! Servers under one `watch`, all broken at the same time.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::backend::{Backend, Collector};
use super::fault::{Fault, Kind, Own, Spans};
use super::front::{Front, Toxiproxy};
use super::network::{NEAR, Network, port};
use super::others::Others;
use super::server::{Plan, Server};
use crate::support::{PATIENCE, Watch, eventually};

/// So long is what is broken early broken before the rest: as many probes as are looked at, and longer than a span may be
/// late, so that the passed probes before the fault count.
const EARLY: Duration = Duration::from_secs(15);

/// From one fault to the next: a backend that is asked about all of them in the same second may need longer than its
/// answer is waited for.
const BETWEEN: Duration = Duration::from_millis(100);

/// What every server of a scene shares.
struct Stage<'n> {
    backend: Backend,
    late: Option<Collector>,
    toxiproxy: Toxiproxy,
    network: &'n Network,
    /// Where OTLP is taken for those on the other end of the cable.
    near_otlp: u16,
}

/// A fault's server with all that belongs to it.
struct Target<'s> {
    fault: &'s Fault,
    server: Server,
    front: Option<Front<'s>>,
    table: String,
    database: Option<TcpListener>,
    _twin: Option<Server>,
    _others: Option<Others>,
}

/// What is wrong with the verdicts on a fault.
pub(super) struct Complaint<'f> {
    pub(super) fault: &'f Fault,
    /// Nobody was blamed: a machine that does too much at once makes that of a fault too.
    pub(super) is_shrug: bool,
    pub(super) text: String,
}

/// Plays faults that share a backend, and complains about wrong verdicts.
pub(super) fn play<'f>(
    kind: Kind,
    own: Option<Own>,
    faults: &[&'f Fault],
    network: &Network,
) -> Vec<Complaint<'f>> {
    let stage = Stage::set(kind, own, faults, network);
    let targets: Vec<Target> = thread::scope(|scope| {
        let starting: Vec<_> = faults
            .iter()
            .map(|fault| scope.spawn(|| stage.start(fault)))
            .collect();
        starting
            .into_iter()
            .map(|one| one.join().unwrap())
            .collect()
    });
    let watch = stage.watch(&targets);
    for fault in faults {
        watch.until_state(&fault.name, "up");
    }
    for target in targets
        .iter()
        .filter(|target| !target.fault.early.is_empty())
    {
        let name = &target.fault.name;
        eventually(&format!("spans of {name}"), || {
            is_instrumented(&watch, name).then_some(())
        });
        target.each(&target.fault.early, &stage, &watch);
    }
    thread::sleep(EARLY);
    // What an overloaded machine has broken before is not what this is about.
    for fault in faults {
        watch.until_state(&fault.name, "up");
    }
    let before = incidents(&watch);
    thread::scope(|scope| {
        for target in &targets {
            scope.spawn(|| target.each(&target.fault.broken, &stage, &watch));
            thread::sleep(BETWEEN);
        }
    });
    let until = Instant::now() + PATIENCE;
    let is_last = |line: &Value| line["provisional"] == false;
    let is_judged =
        |fault: &Fault| fault.stays_up || verdicts(fault, &watch, &before).iter().any(is_last);
    while !faults.iter().all(|fault| is_judged(fault)) && Instant::now() < until {
        thread::sleep(Duration::from_millis(200));
    }
    faults
        .iter()
        .filter_map(|fault| complaint(fault, kind, &watch, &before))
        .collect()
}

impl<'n> Stage<'n> {
    fn set(kind: Kind, own: Option<Own>, faults: &[&Fault], network: &'n Network) -> Self {
        let backend = Backend::start(kind, own);
        let lags = faults.iter().any(|fault| fault.spans == Spans::Late);
        let (toxiproxy, near_otlp) = (Toxiproxy::start(), port());
        toxiproxy.add("near", &format!("{NEAR}:{near_otlp}"), backend.otlp());
        Self {
            late: lags.then(|| backend.late()),
            backend,
            toxiproxy,
            network,
            near_otlp,
        }
    }

    fn start<'s>(&'s self, fault: &'s Fault) -> Target<'s> {
        let is_far = fault.front == Some(super::fault::Front::Network);
        let otlp = match fault.spans {
            Spans::Nowhere => None,
            Spans::Late => self.late.as_ref().map(|collector| collector.otlp),
            Spans::Straight if is_far => Some(self.near_otlp),
            Spans::Straight => Some(self.backend.otlp()),
        };
        let database = fault.database.then(database);
        let plan = Plan {
            program: fault.server,
            service: &fault.name,
            arguments: &fault.arguments,
            environment: &fault.environment,
            otlp,
            database: database.as_ref().map(|d| d.local_addr().unwrap().port()),
            far: is_far.then_some(self.network),
        };
        let server = Server::start(&plan);
        let twin = fault.twin.as_ref().map(|environment| {
            Server::start(&Plan {
                environment,
                ..plan
            })
        });
        let called = twin.as_ref().map_or(server.port, |twin| twin.port);
        let others = fault.others.as_ref();
        let others = others.map(|method| Others::start(called, method));
        let direct = format!("http://127.0.0.1:{}/mcp", server.port);
        let (front, url, keys) = match fault.front {
            None => (None, direct, String::new()),
            Some(kind) => {
                let (front, url, keys) = Front::start(
                    kind,
                    &fault.name,
                    server.port,
                    &self.toxiproxy,
                    self.network,
                );
                (Some(front), url, keys)
            }
        };
        let table = format!(
            "[[server]]\nname = \"{}\"\nurl = \"{url}\"\n{keys}{}\n",
            fault.name, fault.target
        );
        Target {
            fault,
            server,
            front,
            table,
            database,
            _twin: twin,
            _others: others,
        }
    }

    fn watch(&self, targets: &[Target]) -> Watch {
        // It learns of some at a time, in their order. Who is waited for comes first.
        let (early, rest): (Vec<_>, Vec<_>) =
            targets.iter().partition(|t| !t.fault.early.is_empty());
        let in_order = early.into_iter().chain(rest);
        let tables: String = in_order.map(|target| target.table.as_str()).collect();
        Watch::start(&format!(
            "[defaults]\nevery = \"2s\"\ntimeout = \"2s\"\n\
             [alerting]\nconfirm = 1\nconfirm_delay = \"300ms\"\n\
             {}window = \"40s\"\nrecheck = {}\n{tables}",
            self.backend.tables(),
            self.backend.rechecks()
        ))
    }
}

impl Target<'_> {
    /// Takes one step after the other.
    fn each(&self, steps: &[String], stage: &Stage, watch: &Watch) {
        for step in steps {
            let words: Vec<_> = step.split(' ').collect();
            match words.as_slice() {
                ["signal", name] => self.server.signal(name),
                ["control", mode] => self.server.control(mode),
                ["front", mode] => self.front.as_ref().expect("a front").fail(mode),
                ["backend", name] => stage.backend.signal(name),
                ["collector", name] => stage.backend.signal_collector(name),
                ["database", "gone"] => self.close_database(),
                ["until", "verdict"] => self.until_judged(watch),
                ["until", state] => drop(watch.until_state(&self.fault.name, state)),
                _ => panic!("{}: nobody knows how to {step:?}", self.fault.name),
            }
        }
    }

    /// Waits for a verdict that is more than a shrug.
    fn until_judged(&self, watch: &Watch) {
        let name = &self.fault.name;
        eventually(&format!("a verdict on {name}"), || {
            let of = |line: &Value| line["event"] == "verdict" && line["name"] == **name;
            let judged = |line: &Value| of(line) && line["verdict"] != "inconclusive";
            watch.lines().iter().any(judged).then_some(())
        });
    }

    /// Nobody accepts any more, and the queue is as short as it can be: what connects is refused.
    fn close_database(&self) {
        let database = self.database.as_ref().expect("a database");
        rustix::net::shutdown(database, rustix::net::Shutdown::Both).unwrap();
    }
}

/// Takes connections, and that is all.
fn database() -> TcpListener {
    let listener = TcpListener::bind(("127.0.0.1", port())).unwrap();
    let accepting = listener.try_clone().unwrap();
    thread::spawn(move || while accepting.accept().is_ok() {});
    listener
}

/// Whether `watch` has seen joined spans of a target.
pub(super) fn is_instrumented(watch: &Watch, name: &str) -> bool {
    let store = rusqlite::Connection::open(watch.folder().join("mcpprobe.db")).unwrap();
    let sql = "SELECT instrumented FROM target WHERE name = ?1";
    store
        .query_row(sql, [name], |row| row.get(0))
        .unwrap_or(false)
}

/// Every incident so far.
fn incidents(watch: &Watch) -> BTreeSet<String> {
    let lines = watch.lines().into_iter();
    lines
        .filter_map(|line| Some(line["incident"].as_str()?.to_owned()))
        .collect()
}

/// Every verdict on a fault's incidents but for those of `before`.
fn verdicts(fault: &Fault, watch: &Watch, before: &BTreeSet<String>) -> Vec<Value> {
    let is_of = |line: &Value| line["event"] == "verdict" && line["name"] == *fault.name;
    let is_new = |line: &Value| {
        line["incident"]
            .as_str()
            .is_some_and(|id| !before.contains(id))
    };
    let lines = watch.lines().into_iter();
    lines.filter(|line| is_of(line) && is_new(line)).collect()
}

/// What is wrong with the verdicts on a fault, those that were not the last ones included.
fn complaint<'f>(
    fault: &'f Fault,
    kind: Kind,
    watch: &Watch,
    before: &BTreeSet<String>,
) -> Option<Complaint<'f>> {
    let right = fault.right(kind);
    let told: Vec<_> = verdicts(fault, watch, before)
        .into_iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            (text("verdict"), line["provisional"] == true, text("reason"))
        })
        .collect();
    for (verdict, provisional, reason) in &told {
        let mark = if *provisional { " (provisional)" } else { "" };
        println!("{kind:?} {}: {verdict}{mark}: {reason}", fault.name);
    }
    let wrong: Vec<_> = told
        .iter()
        // It is honest to say that nothing is known yet.
        .filter(|(verdict, provisional, _)| !*provisional || verdict != "inconclusive")
        .filter(|(verdict, ..)| !right.contains(verdict.as_str()))
        .collect();
    let is_shrug = wrong.iter().all(|(verdict, ..)| verdict == "inconclusive");
    let mut wrong: BTreeSet<String> = wrong
        .iter()
        .map(|(verdict, provisional, reason)| {
            format!("{verdict} (provisional: {provisional}): {reason}")
        })
        .collect();
    if !fault.stays_up && told.iter().all(|(_, provisional, _)| *provisional) {
        wrong.insert("the last verdict did not come".to_owned());
    }
    if fault.stays_up {
        let state = watch.status(&fault.name)["state"].clone();
        if state != "up" {
            wrong.insert(format!("it is {state}"));
        }
    }
    (!wrong.is_empty()).then(|| Complaint {
        fault,
        is_shrug,
        text: format!(
            "{kind:?}, {}: {}\n  right: {right:?}\n  was:   {}",
            fault.name,
            fault.says,
            wrong.into_iter().collect::<Vec<_>>().join("\n         ")
        ),
    })
}
