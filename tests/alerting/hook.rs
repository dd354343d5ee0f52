//! The webhook of an operator: it writes down what comes, and answers as it is told to.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{PATIENCE, eventually};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// 200: the only one that is a delivery.
    Accepted,
    /// 500, after all of it was read.
    Refused,
    /// The connection breaks before all of it was read.
    Reset,
    /// All of it is read, and no answer comes: nobody but the receiver knows that it has arrived.
    HungUp,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Received {
    /// When the answer was given to the network.
    pub(super) at: Instant,
    /// `webhook-id`.
    pub(super) id: String,
    pub(super) body: Value,
    pub(super) fate: Fate,
}

impl Received {
    pub(super) fn incident(&self) -> &str {
        self.body["incident"].as_str().unwrap()
    }

    pub(super) fn sequence(&self) -> u64 {
        self.body["sequence"].as_u64().unwrap()
    }

    pub(super) fn event(&self) -> &str {
        self.body["event"].as_str().unwrap()
    }
}

/// Listens until the tests end.
pub(super) struct Hook {
    pub(super) port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    fate: Arc<Mutex<Box<dyn FnMut() -> Fate + Send>>>,
}

impl Hook {
    /// Accepts everything.
    pub(super) fn start() -> Self {
        Self::start_with(|| Fate::Accepted)
    }

    /// `fate` is asked about every request.
    pub(super) fn start_with(fate: impl FnMut() -> Fate + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hook = Self {
            port: listener.local_addr().unwrap().port(),
            received: Arc::default(),
            fate: Arc::new(Mutex::new(Box::new(fate))),
        };
        let (received, fate) = (Arc::clone(&hook.received), Arc::clone(&hook.fate));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let (received, fate) = (Arc::clone(&received), Arc::clone(&fate));
                std::thread::spawn(move || take(stream, &received, &fate));
            }
        });
        hook
    }

    /// From now on.
    pub(super) fn answer_with(&self, fate: impl FnMut() -> Fate + Send + 'static) {
        *self.fate.lock().unwrap() = Box::new(fate);
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// A `[[channel]]` that tries again quickly.
    pub(super) fn channel(&self, name: &str) -> String {
        format!(
            "[[channel]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{}\"\n\
             retry_first = \"100ms\"\nretry_max = \"1s\"\n",
            self.url()
        )
    }

    /// Everything, in the order of its end.
    pub(super) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// What has been delivered.
    pub(super) fn accepted(&self) -> Vec<Received> {
        let mut accepted = self.received();
        accepted.retain(|received| received.fate == Fate::Accepted);
        accepted
    }

    /// The events about a server that have been delivered, in order.
    pub(super) fn events(&self, server: &str) -> Vec<String> {
        self.accepted()
            .iter()
            .filter(|received| received.body["server"] == server)
            .map(|received| received.event().to_owned())
            .collect()
    }

    /// Waits until this many notices about a server have been delivered, and answers them.
    pub(super) fn until(&self, server: &str, count: usize) -> Vec<Received> {
        eventually(&format!("{count} notices about {server}"), || {
            let mut found = self.accepted();
            found.retain(|received| received.body["server"] == server);
            (found.len() >= count).then_some(found)
        })
    }

    /// What has been delivered, by incident.
    pub(super) fn by_incident(&self) -> BTreeMap<String, Vec<Received>> {
        let mut incidents: BTreeMap<String, Vec<Received>> = BTreeMap::new();
        for received in self.accepted() {
            let incident = received.incident().to_owned();
            incidents.entry(incident).or_default().push(received);
        }
        incidents
    }
}

fn take(
    mut stream: TcpStream,
    received: &Mutex<Vec<Received>>,
    fate: &Mutex<Box<dyn FnMut() -> Fate + Send>>,
) {
    stream.set_read_timeout(Some(PATIENCE)).ok();
    let fate = (fate.lock().unwrap())();
    if fate == Fate::Reset {
        // Closing with something unread resets.
        stream.read_exact(&mut [0; 1]).ok();
        std::thread::sleep(Duration::from_millis(1));
        return;
    }
    let Some((id, body)) = read(&mut stream) else {
        return;
    };
    let status = match fate {
        Fate::Accepted => "200 OK",
        _ => "500 Internal Server Error",
    };
    // Under the lock, so that what is delivered is known before anybody can act on it.
    let mut received = received.lock().unwrap();
    let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let is_whole = fate == Fate::HungUp || stream.write_all(answer.as_bytes()).is_ok();
    if is_whole {
        received.push(Received {
            at: Instant::now(),
            id,
            body,
            fate,
        });
    }
}

fn read(stream: &mut TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 8192];
    loop {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.to_owned())
        };
        let length: usize = header("content-length")?.parse().ok()?;
        if bytes.len() < end + 4 + length {
            continue;
        }
        let body = serde_json::from_slice(&bytes[end + 4..]).expect("a notice is JSON");
        return Some((header("webhook-id").expect("a key"), body));
    }
}
