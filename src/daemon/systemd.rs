//! What systemd is told of us (`Type=notify-reload`, `WatchdogSec=`), by sd_notify(3)'s protocol.

use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, MissedTickBehavior};

use super::progress::{Progress, Watcher};
use crate::model::Text;

/// systemd's socket for us; without one everything here does nothing.
#[derive(Debug, Default)]
pub struct Systemd {
    way: Option<(UnixDatagram, SocketAddr)>,
    /// How long we may be silent before we are ended.
    watchdog: Option<Duration>,
    /// The last status line.
    shown: Mutex<String>,
}

impl Systemd {
    /// As the variables say that systemd sets; `process` is our own id.
    pub fn of_environment(env: impl Fn(&str) -> Option<String>, process: u32) -> Self {
        let Some(way) = env("NOTIFY_SOCKET").and_then(|name| way(&name)) else {
            return Self::default();
        };
        // Both are inherited: they may be meant for who started us.
        let is_ours = env("WATCHDOG_PID").is_none_or(|id| id.parse() == Ok(process));
        let micros = env("WATCHDOG_USEC").and_then(|text| text.parse().ok());
        let watchdog = micros.filter(|micros| *micros > 0 && is_ours);
        Self {
            way: Some(way),
            watchdog: watchdog.map(Duration::from_micros),
            shown: Mutex::default(),
        }
    }

    /// The first probes are about to start, or a reload is over.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\n{}", status_line(status)));
    }

    /// The configuration is being read again; [`Systemd::ready`] ends it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// What `systemctl status` shows, if that has become something else.
    pub fn refresh(&self, status: &str) {
        let Ok(mut shown) = self.shown.lock() else {
            return;
        };
        if *shown != status {
            status.clone_into(&mut shown);
            self.status(status);
        }
    }

    /// What `systemctl status` shows.
    pub fn status(&self, status: &str) {
        self.tell(&status_line(status));
    }

    /// Tells systemd that we live, twice within its time, as long as probes go on; never returns. Without a watchdog it
    /// tells nothing.
    pub async fn watch(&self, progress: &Progress) {
        let Some(limit) = self.watchdog else {
            return std::future::pending().await;
        };
        let mut tick = tokio::time::interval(limit / 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watcher = Watcher::default();
        // systemd counts from READY on, when no probe can have finished.
        tick.tick().await;
        loop {
            tick.tick().await;
            if watcher.looks_well(progress, Instant::now()) {
                self.tell("WATCHDOG=1");
            } else {
                self.status("probes do not finish any more");
            }
        }
    }

    fn tell(&self, message: &str) {
        if let Some((socket, address)) = &self.way {
            // There is nobody else to complain to, and the socket never blocks us.
            socket.send_to_addr(message.as_bytes(), address).ok();
        }
    }
}

fn status_line(status: &str) -> String {
    format!("STATUS={}", Text::new(status))
}

/// A path, or the name of an abstract socket behind an `@`.
fn way(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(name) => abstract_address(name)?,
        None if name.starts_with('/') => SocketAddr::from_pathname(name).ok()?,
        None => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address))
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &str) -> Option<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name).ok()
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &str) -> Option<SocketAddr> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// systemd's end.
    struct Manager {
        socket: UnixDatagram,
        name: String,
        _folder: tempfile::TempDir,
    }

    impl Manager {
        fn at_path() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("notify");
            Self {
                socket: UnixDatagram::bind(&path).unwrap(),
                name: path.display().to_string(),
                _folder: folder,
            }
        }

        fn systemd(&self, others: &[(&str, &str)]) -> Systemd {
            let env = |name: &str| {
                let other = others.iter().find(|(other, _)| *other == name);
                match name {
                    "NOTIFY_SOCKET" => Some(self.name.clone()),
                    _ => other.map(|(_, value)| (*value).to_owned()),
                }
            };
            Systemd::of_environment(env, 42)
        }

        fn told(&self) -> Vec<String> {
            self.socket.set_nonblocking(true).unwrap();
            let mut buffer = [0; 4096];
            let mut told = Vec::new();
            while let Ok(length) = self.socket.recv(&mut buffer) {
                told.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
            told
        }
    }

    #[test]
    fn every_word_of_the_protocol_arrives() {
        let manager = Manager::at_path();
        let systemd = manager.systemd(&[]);
        systemd.ready("watching 3 servers");
        systemd.status("1 down\nREADY=0");
        systemd.reloading();
        systemd.stopping();
        let told = manager.told();
        assert_eq!(told[0], "READY=1\nSTATUS=watching 3 servers");
        assert_eq!(told[1], "STATUS=1 down\\nREADY=0");
        let micros = told[2].strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        assert!(micros.unwrap().parse::<u64>().unwrap() > 0);
        assert_eq!(told[3], "STOPPING=1");
        assert_eq!(told.len(), 4);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_socket_is_found_behind_its_sign() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("mcpprobe-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = Manager {
            socket: UnixDatagram::bind_addr(&address).unwrap(),
            name: format!("@{name}"),
            _folder: tempfile::tempdir().unwrap(),
        };
        manager.systemd(&[]).ready("here");
        assert_eq!(manager.told(), ["READY=1\nSTATUS=here"]);
    }

    #[test]
    fn without_systemd_nothing_is_told_and_nothing_fails() {
        for name in ["", "relative", "vsock:2:1", "/no/such/socket"] {
            let systemd = Systemd::of_environment(|_| Some(name.to_owned()), 42);
            systemd.ready("nobody");
        }
        Systemd::of_environment(|_| None, 42).stopping();
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_only_while_probes_go_on() {
        let manager = Manager::at_path();
        let systemd = manager.systemd(&[("WATCHDOG_USEC", "60000000"), ("WATCHDOG_PID", "42")]);
        let progress = Progress::default();
        // Ticks come every 30 s: the ends lie between two, so that no order of timers matters.
        let minutes = async |count: u64| {
            let time = Duration::from_secs(60 * count - 15);
            tokio::time::timeout(time, systemd.watch(&progress))
                .await
                .unwrap_err();
            manager.told()
        };
        progress.begun(Duration::from_secs(10), Instant::now());
        assert_eq!(minutes(1).await, ["WATCHDOG=1"]);
        // It has begun a minute ago and should have ended long since.
        let told = minutes(2).await;
        assert!(!told.is_empty());
        assert!(!told.iter().any(|word| word == "WATCHDOG=1"), "{told:?}");
        progress.finished(Instant::now());
        progress.waits_until(Some(Instant::now() + Duration::from_secs(3600)));
        let told = minutes(60).await;
        assert!(told.iter().all(|word| word == "WATCHDOG=1"), "{told:?}");
        // The hour is over, and nothing began.
        let told = minutes(5).await;
        assert!(told.last().unwrap().starts_with("STATUS="), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn another_process_watchdog_is_not_fed() {
        let manager = Manager::at_path();
        for others in [
            &[("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "43")][..],
            &[("WATCHDOG_USEC", "0")],
            &[("WATCHDOG_USEC", "soon")],
            &[],
        ] {
            let systemd = manager.systemd(others);
            let (progress, time) = (Progress::default(), Duration::from_secs(60));
            progress.waits_until(None);
            tokio::time::timeout(time, systemd.watch(&progress))
                .await
                .unwrap_err();
            assert!(manager.told().is_empty(), "{others:?}");
        }
    }
}
