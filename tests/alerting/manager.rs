//! Those who look whether we live: systemd, and a service that waits for a heartbeat.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Mutex};

use super::servers::{QUICK, Servers};
use crate::support::{PATIENCE, Small, Watch, empty_answer, eventually};

/// systemd's end of the socket.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
    /// As it stands in `NOTIFY_SOCKET`.
    name: String,
    _folder: tempfile::TempDir,
}

impl Manager {
    fn start(is_abstract: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify").display().to_string();
        let (address, name) = if is_abstract {
            (
                SocketAddr::from_abstract_name(&path).unwrap(),
                format!("@{path}"),
            )
        } else {
            (SocketAddr::from_pathname(&path).unwrap(), path)
        };
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            socket,
            heard: Vec::new(),
            name,
            _folder: folder,
        }
    }

    /// What has been told, up to what begins so.
    fn until(&mut self, begin: &str) -> String {
        loop {
            let mut piece = [0; 4096];
            let length = self.socket.recv(&mut piece);
            let length = length.unwrap_or_else(|_| panic!("no {begin}: {:?}", self.heard));
            let text = String::from_utf8_lossy(&piece[..length]).into_owned();
            self.heard.push(text.clone());
            if text.starts_with(begin) {
                return text;
            }
        }
    }
}

#[test]
fn systemd_is_told_of_every_step() {
    for is_abstract in [false, true] {
        let mut manager = Manager::start(is_abstract);
        let servers = Servers::start();
        let config = format!("{QUICK}{}", servers.server("a"));
        let by = [
            "env".to_owned(),
            format!("NOTIFY_SOCKET={}", manager.name),
            "WATCHDOG_USEC=2000000".to_owned(),
        ];
        let mut watch = Watch::start_by(by.to_vec(), &config);
        let ready = manager.until("READY=1");
        assert!(ready.contains("\nSTATUS=watching 1 servers"), "{ready}");
        assert_eq!(manager.heard.len(), 1, "{:?}", manager.heard);
        manager.until("WATCHDOG=1");
        manager.until("WATCHDOG=1");
        assert!(servers.probes("a") > 0);
        // A reload ends, whatever the file says.
        for text in [&*config, "no TOML", &*config] {
            std::fs::write(watch.file(), text).unwrap();
            watch.program.signal("HUP");
            let reloading = manager.until("RELOADING=1");
            let since = reloading.split_once("\nMONOTONIC_USEC=").unwrap().1;
            assert!(since.trim().parse::<u64>().unwrap() > 0, "{reloading}");
            manager.until("READY=1");
        }
        watch.program.signal("TERM");
        manager.until("STOPPING=1");
        assert_eq!(watch.program.wait(), 0);
    }
}

#[test]
fn a_heartbeat_goes_out_while_probes_finish() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let hears = Arc::clone(&heard);
    let service = Small::start(move |asked| {
        hears.lock().unwrap().push(asked.target.clone());
        empty_answer("200 OK")
    });
    let servers = Servers::start();
    let watch = Watch::start(&format!(
        "{QUICK}{}[heartbeat]\nurl = \"http://127.0.0.1:{}/ping\"\nevery = \"10s\"\n",
        servers.server("a"),
        service.port
    ));
    eventually("a heartbeat", || heard.lock().unwrap().first().cloned());
    assert_eq!(heard.lock().unwrap()[0], "/ping");
    eventually("the heartbeat in the status", || {
        let last = watch.asked(&["status"])["last_heartbeat"].clone();
        humantime::parse_rfc3339(last.as_str()?).ok()
    });
}
