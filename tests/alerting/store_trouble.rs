//! The disk is full, somebody else holds the store, it is broken or gone: probing and alerting go on, it is said, and
//! the store knows everything afterwards.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;

use super::hook::Hook;
use super::servers::{QUICK, Servers};
use crate::support::{Program, Watch, eventually, run};

/// One server has an open incident from before the trouble, another one gets one in it.
struct Scene {
    servers: Servers,
    hook: Hook,
    watch: Watch,
    /// The incident of before.
    old: String,
}

impl Scene {
    fn start() -> Self {
        Self::start_with(Watch::start)
    }

    fn start_with(start: impl FnOnce(&str) -> Watch) -> Self {
        let (servers, hook) = (Servers::start(), Hook::start());
        servers.fail("old", true);
        let fleet: String = ["old", "new", "short"]
            .map(|name| servers.server(name))
            .concat();
        let watch = start(&format!("{QUICK}{fleet}{}", hook.channel("hook")));
        let told = hook.until("old", 1);
        let scene = Self {
            servers,
            hook,
            watch,
            old: told[0].incident().to_owned(),
        };
        scene.until_stored(&scene.old, 1);
        scene.watch.until_state("new", "up");
        scene.watch.until_state("short", "up");
        scene
    }

    fn store(&self) -> PathBuf {
        self.watch.folder().join("mcpprobe.db")
    }

    /// An outage begins in the trouble, and another one begins and ends in it: people are told.
    fn outages_are_told(&self) {
        self.servers.fail("new", true);
        self.servers.fail("short", true);
        self.hook.until("new", 1);
        self.hook.until("short", 1);
        self.servers.fail("short", false);
        self.hook.until("short", 2);
    }

    /// Waits until it is said.
    fn until_said(&self, what: &str) {
        eventually(what, || {
            let lines = self.watch.lines();
            let mut warnings = lines.iter().filter(|line| line["event"] == "warning");
            let said = warnings.any(|line| line["message"].as_str().unwrap().contains(what));
            said.then_some(())
        });
    }

    /// Waits until the store knows that an incident's notices have been delivered.
    fn until_stored(&self, incident: &str, notices: usize) {
        eventually(&format!("the notices of {incident} in the store"), || {
            let known = self.watch.incidents();
            known.iter().find(|known| known["id"] == incident)?;
            let shown = self.watch.incident(incident);
            let delivered = shown["notices"].as_array().unwrap().iter();
            let delivered = delivered.filter(|notice| notice["delivered_at"].is_string());
            (delivered.count() == notices).then_some(())
        });
    }

    /// The trouble is over: the store knows all of it, and so does the next run.
    fn everything_is_known(self) {
        self.known_with(&["old", "new"]);
    }

    /// The same with the timelines of these open incidents.
    fn known_with(mut self, timelines: &[&str]) {
        let new = self.hook.until("new", 1)[0].incident().to_owned();
        let short = self.hook.until("short", 1)[0].incident().to_owned();
        self.until_stored(&self.old, 1);
        self.until_stored(&new, 1);
        self.until_stored(&short, 2);
        for (name, incident) in [("old", &self.old), ("new", &new)] {
            assert_eq!(self.watch.status(name)["incident"], **incident);
            if !timelines.contains(&name) {
                continue;
            }
            let whats: Vec<_> = self.watch.incident(incident)["timeline"]
                .as_array()
                .unwrap()
                .iter()
                .map(|entry| entry["what"].as_str().unwrap().to_owned())
                .collect();
            assert!(whats.iter().any(|what| what == "opened"), "{whats:?}");
        }
        assert_eq!(
            self.watch.incident(&short)["incident"]["resolution"],
            "recovered"
        );
        assert_eq!(self.watch.incidents().len(), 3);
        self.watch.restart();
        for name in ["old", "new", "short"] {
            self.servers.until_probed(name, 2);
        }
        assert_eq!(self.watch.status("old")["incident"], *self.old);
        for name in ["old", "new"] {
            self.servers.fail(name, false);
            self.hook.until(name, 2);
        }
        self.until_stored(&self.old, 2);
        self.until_stored(&new, 2);
        for name in ["old", "new", "short"] {
            assert_eq!(self.hook.events(name), ["opened", "resolved"], "{name}");
        }
        let status = self.watch.asked(&["status"]);
        assert_eq!(status["incidents"].as_array().unwrap().len(), 0);
        assert_eq!(status["undelivered"].as_array().unwrap().len(), 0);
    }

    fn is_sound(&self) {
        let output = run(&["store", "check", &self.watch.file()]);
        assert!(output.status.success(), "{output:?}");
    }
}

/// A small disk of its own, which nobody else sees.
struct Disk {
    holder: Program,
    id: u32,
    folder: tempfile::TempDir,
}

impl Disk {
    fn start(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let script = format!(
            "mount -t tmpfs -o size={size} tmpfs {path} && touch {path}/mounted && exec sleep 600"
        );
        let mut command = Command::new("unshare");
        let holder = Program::spawn(command.args(["-rm", "sh", "-c", &script]));
        let id = holder.id();
        let mut disk = Self { holder, id, folder };
        let mounted = disk.seen("mounted");
        eventually("the small disk", || {
            assert!(
                disk.holder.is_running(),
                "unshare -rm is not permitted here"
            );
            mounted.exists().then_some(())
        });
        disk
    }

    /// A file of it, as seen from outside.
    fn seen(&self, name: &str) -> PathBuf {
        let inside = self.folder.path().join(name);
        let inside = inside.strip_prefix("/").unwrap();
        Path::new(&format!("/proc/{}/root", self.id)).join(inside)
    }

    /// What starts a program in sight of it.
    fn enter(&self) -> Vec<String> {
        let id = self.id.to_string();
        ["nsenter", "-U", "-m", "--preserve-credentials", "-t", &id]
            .map(str::to_owned)
            .to_vec()
    }

    /// Nothing more fits.
    fn fill(&self) {
        let mut file = File::create(self.seen("ballast")).unwrap();
        for piece in [4096, 1] {
            while file.write(&vec![0; piece]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.seen("ballast")).unwrap();
    }
}

#[test]
fn a_full_disk() {
    let disk = Disk::start("2m");
    let scene = Scene::start_with(|config| {
        let store = disk.folder.path().join("mcpprobe.db");
        let config = format!("{config}[store]\npath = \"{}\"\n", store.display());
        Watch::start_by(disk.enter(), &config)
    });
    disk.fill();
    scene.outages_are_told();
    scene.until_said("results cannot be stored");
    disk.make_room();
    scene.until_said("results can be stored again");
    scene.until_said("nothing is lost");
    scene.everything_is_known();
}

#[test]
fn a_store_that_another_process_has_locked() {
    let scene = Scene::start();
    let other = Connection::open(scene.store()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    scene.outages_are_told();
    // A short lock is nobody's business; this one is held until it is said.
    scene.until_said("results cannot be stored");
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    scene.until_said("results can be stored again");
    scene.is_sound();
    scene.everything_is_known();
}

#[test]
fn a_store_that_is_locked_when_we_start() {
    let mut scene = Scene::start();
    scene.watch.program.signal("TERM");
    scene.watch.program.wait();
    let other = Connection::open(scene.store()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    scene.watch.start_again();
    scene.servers.until_probed("new", 1);
    scene.servers.until_probed("short", 1);
    // To be asked to read the file again must not end it.
    scene.watch.program.signal("HUP");
    scene.outages_are_told();
    scene.until_said("results cannot be stored");
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    scene.until_said("results can be stored again");
    scene.is_sound();
    scene.everything_is_known();
}

#[test]
fn a_store_that_is_overwritten_while_we_run() {
    let scene = Scene::start();
    // The log too: what stands in it would mend the file, now or at the next checkpoint.
    for file in [scene.store(), beside(&scene.store(), "-wal")] {
        overwrite(&file, 0);
    }
    scene.until_said("is broken");
    scene.outages_are_told();
    scene.until_said("set aside");
    scene.is_sound();
    // Of the old one's timeline not a byte was left.
    scene.known_with(&["new"]);
}

#[test]
fn a_store_that_was_damaged_before_the_start() {
    let mut scene = Scene::start();
    scene.watch.program.signal("TERM");
    assert_eq!(scene.watch.program.wait(), 0);
    let page = {
        let store = Connection::open(scene.store()).unwrap();
        let sql = "SELECT rootpage FROM sqlite_master WHERE name = 'probe_of_target'";
        store
            .query_row(sql, [], |row| row.get::<_, u64>(0))
            .unwrap()
    };
    overwrite(&scene.store(), page);
    scene.watch.start_again();
    scene.until_said("is broken");
    scene.outages_are_told();
    scene.is_sound();
    scene.everything_is_known();
}

#[test]
fn a_store_that_is_deleted() {
    let scene = Scene::start();
    fs::remove_file(scene.store()).unwrap();
    scene.until_said("is gone");
    scene.outages_are_told();
    scene.is_sound();
    scene.everything_is_known();
}

/// Nonsense in a page of a store, numbered from 1; in all of them for 0.
fn beside(store: &Path, end: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn overwrite(store: &Path, page: u64) {
    use std::os::unix::fs::FileExt;
    let file = File::options().write(true).open(store).unwrap();
    let (from, length) = match page {
        0 => (0, file.metadata().unwrap().len()),
        page => ((page - 1) * 4096, 4096),
    };
    let nonsense = vec![0xa5; usize::try_from(length).unwrap()];
    file.write_all_at(&nonsense, from).unwrap();
    file.sync_all().unwrap();
}
