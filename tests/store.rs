//! The store against everything that can happen to its file: nothing that counts is lost, and it is said loudly.

mod rig;

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use mcpprobe::model::{Acknowledgement, Silence, State, Text};
use mcpprobe::store::{Write, fact, orders, upkeep};

use crate::support::eventually;
use rig::{Rig, at, delivered, opening};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcpprobe.db");
    (folder, path)
}

#[test]
fn what_is_written_is_there_after_a_restart() {
    let (_folder, path) = folder();
    let mut rig = Rig::open(&path);
    rig.pass(20);
    rig.probe("weather", State::Down, opening("inc1", "weather"));
    rig.until_told("inc1");
    rig.write(Write::Conversation {
        incident: "inc1".to_owned(),
        text: "> POST".to_owned(),
    });
    rig.write(Write::Fact {
        key: fact::RELOAD_ERROR.to_owned(),
        value: Some("line 3".to_owned()),
    });
    rig.close();
    let mut rig = Rig::open(&path);
    assert_eq!(rig.recalled.incidents.len(), 1);
    assert_eq!(rig.recalled.pending.len(), 1);
    assert_eq!(rig.recalled.heads[0].sequence, 1);
    assert_eq!(rig.recalled.facts[fact::RELOAD_ERROR], "line 3");
    let (status, remembered) = rig.recalled.target(&rig::target("weather"));
    assert_eq!(status.incident.as_deref(), Some("inc1"));
    assert_eq!(remembered.memory.as_deref(), Some("memory 21"));
    rig.write(Write::Delivery(delivered("inc1", "hook", 1)));
    rig.flush();
    let detail = rig.reader().incident_detail("inc1").unwrap().unwrap();
    assert_eq!(detail.timeline.len(), 2, "{detail:?}");
    assert!(detail.notices[0].delivered_at.is_some());
    assert_eq!(detail.conversation.as_deref(), Some("> POST"));
    assert!(rig.reader().pending().unwrap().is_empty());
    assert_eq!(rig.recorded(), 21);
    rig.close();
    assert_eq!(Rig::open(&path).recalled.heads.len(), 1);
}

#[test]
fn a_notice_is_on_the_disk_and_handed_over_without_waiting_for_others() {
    let (_folder, path) = folder();
    let mut rig = Rig::open(&path);
    rig.pass(1);
    let mut times: Vec<_> = (0..9)
        .map(|n| {
            let id = format!("inc{n}");
            let begun = Instant::now();
            rig.probe("weather", State::Down, opening(&id, "weather"));
            while !rig
                .heard
                .lock()
                .unwrap()
                .notices
                .iter()
                .any(|n| n.incident.id == id)
            {
                assert!(begun.elapsed() < crate::support::PATIENCE);
                std::thread::sleep(Duration::from_millis(1));
            }
            let took = begun.elapsed();
            assert_eq!(rig.reader().pending().unwrap().len(), n + 1);
            took
        })
        .collect();
    times.sort();
    assert!(times[4] < Duration::from_millis(150), "{times:?}");
}

#[test]
fn a_second_writer_is_refused_and_a_newer_file_is_left_untouched() {
    let (_folder, path) = folder();
    let mut rig = Rig::open(&path);
    rig.pass(1);
    let refused = Rig::try_open(&path).err().unwrap();
    assert!(refused.contains("another `mcpprobe watch`"), "{refused}");
    rig.close();
    let newer = rusqlite_with(&path, "PRAGMA user_version = 5;");
    drop(newer);
    let before = fs::read(&path).unwrap();
    let refused = Rig::try_open(&path).err().unwrap();
    assert!(refused.contains("version 5") && refused.contains("untouched"));
    assert_eq!(fs::read(&path).unwrap(), before);
}

fn rusqlite_with(path: &Path, sql: &str) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

#[test]
fn people_are_heard_from_another_shell() {
    let (_folder, path) = folder();
    let mut rig = Rig::open(&path);
    rig.probe("weather", State::Down, opening("inc1", "weather"));
    rig.until_told("inc1");
    let silence = Silence {
        id: "s1".to_owned(),
        servers: vec!["weather".to_owned()],
        tags: Vec::new(),
        from: SystemTime::now(),
        until: SystemTime::now() + Duration::from_secs(600),
        reason: Text::new("deploy"),
        by: Text::new("ann"),
    };
    let ann = Acknowledgement {
        at: at(5),
        by: Text::new("ann"),
    };
    orders::add_silence(&path, &silence).unwrap();
    orders::acknowledge(&path, "inc1", &ann).unwrap();
    let heard = |silences, acknowledged| {
        eventually("the orders", || {
            let heard = rig.heard.lock().unwrap();
            let last = heard.orders.last()?;
            let counts = (last.silences.len(), last.acknowledged.len());
            (counts == (silences, acknowledged)).then_some(())
        });
    };
    heard(1, 1);
    let again = orders::acknowledge(&path, "inc1", &ann).unwrap_err();
    assert!(again.contains("already acknowledged, by ann"), "{again}");
    let unknown = orders::acknowledge(&path, "nope", &ann).unwrap_err();
    assert_eq!(unknown, "there is no incident nope");
    orders::end_silence(&path, "s1", SystemTime::now()).unwrap();
    heard(0, 1);
    let ended = orders::end_silence(&path, "s1", SystemTime::now()).unwrap_err();
    assert!(ended.contains("has ended"), "{ended}");
    // What alerting writes of the incident next, not having heard yet, does not take it away again.
    rig.probe("weather", State::Down, opening("inc1", "weather"));
    rig.flush();
    let incident = rig.reader().incident("inc1").unwrap().unwrap();
    assert_eq!(incident.acknowledged, Some(ann));
    let mut ended = rig::incident("inc1", "weather");
    ended.resolved_at = Some(at(9));
    let change = mcpprobe::model::AlertChange::Incident(Box::new(ended));
    rig.write(Write::Alert(vec![change]));
    rig.flush();
    let ann = Acknowledgement {
        at: at(5),
        by: Text::new("ann"),
    };
    let late = orders::acknowledge(&path, "inc1", &ann).unwrap_err();
    assert!(late.contains("has ended at"), "{late}");
}

/// Another process that holds the write lock for a while.
fn hold_lock(path: &Path, seconds: u32) {
    let program = "import sqlite3, sys, time\n\
        c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)\n\
        c.execute('BEGIN EXCLUSIVE')\nprint('locked', flush=True)\n\
        time.sleep(float(sys.argv[2]))\nc.execute('ROLLBACK')\n";
    let mut python = Command::new("python3")
        .args(["-c", program])
        .arg(path)
        .arg(seconds.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(python.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "locked\n");
    std::thread::spawn(move || python.wait());
}

#[test]
fn a_lock_of_another_process_holds_up_neither_notices_nor_probes() {
    let (_folder, path) = folder();
    let mut rig = Rig::open(&path);
    rig.pass(10);
    rig.flush();
    hold_lock(&path, 14);
    let begun = Instant::now();
    rig.probe("weather", State::Down, opening("inc1", "weather"));
    rig.until_told("inc1");
    assert!(begun.elapsed() < Duration::from_secs(4));
    rig.write(Write::Delivery(delivered("inc1", "hook", 1)));
    rig.pass(1_000);
    assert!(!rig.warned("cannot be stored"), "{:?}", rig.warnings());
    rig.until_warned("cannot be stored");
    rig.until_warned("can be stored again");
    assert!(rig.warned("nothing is lost"), "{:?}", rig.warnings());
    assert_eq!(rig.recorded(), 1_011);
    let detail = rig.reader().incident_detail("inc1").unwrap().unwrap();
    assert!(detail.notices[0].delivered_at.is_some());
}

#[test]
fn a_lock_at_the_start_is_waited_for_in_memory() {
    let (_folder, path) = folder();
    let mut rig = Rig::open(&path);
    rig.probe("weather", State::Down, opening("old", "weather"));
    rig.close();
    hold_lock(&path, 6);
    let mut rig = Rig::open(&path);
    rig.probe("files", State::Down, opening("new", "files"));
    rig.until_told("new");
    rig.pass(100);
    eventually("everything in the file", || {
        (rig.recorded() == 102).then_some(())
    });
    assert_eq!(rig.reader().open_incidents().unwrap().len(), 2);
    assert_eq!(rig.reader().pending().unwrap().len(), 2);
    // Whichever of the two statements met the lock: what the file knew was told, at once or late.
    let late: Vec<_> = {
        let heard = rig.heard.lock().unwrap();
        heard.recalled.iter().map(|r| r.incidents.len()).collect()
    };
    let at_once = rig.recalled.incidents.len();
    assert_eq!(at_once + late.iter().sum::<usize>(), 1, "{late:?}");
}

/// Overwrites a part of the file.
fn overwrite(path: &Path, from: u64, bytes: usize) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    file.write_all(&vec![0xa5; bytes]).unwrap();
}

fn corrupt_copies(path: &Path) -> Vec<PathBuf> {
    let entries = path.parent().unwrap().read_dir().unwrap();
    let names = entries.map(|entry| entry.unwrap().path());
    names
        .filter(|name| {
            let name = name.to_string_lossy();
            name.contains(".db.corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .collect()
}

/// A store with an outage, and so many passed probes that most pages are theirs.
fn filled(path: &Path, probes: usize) {
    let mut rig = Rig::open(path);
    rig.probe("weather", State::Down, opening("inc1", "weather"));
    rig.pass(probes);
    rig.probe("files", State::Down, opening("inc2", "files"));
    rig.close();
}

#[test]
fn a_file_broken_in_the_middle_is_set_aside_at_the_start_and_salvaged() {
    let (_folder, path) = folder();
    filled(&path, 20_000);
    let size = fs::metadata(&path).unwrap().len();
    // The root of the probes' table and some pages of its middle: whatever touches probes finds it out.
    overwrite(&path, size / 2, 64 * 1024);
    break_table(&path, "target");
    let mut rig = Rig::open(&path);
    assert!(rig.warned("set aside"), "{:?}", rig.warnings());
    assert_eq!(corrupt_copies(&path).len(), 1);
    let mut ids: Vec<_> = rig
        .recalled
        .incidents
        .iter()
        .map(|i| i.id.as_str())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["inc1", "inc2"]);
    assert_eq!(rig.recalled.pending.len(), 2);
    rig.pass(50);
    rig.until_warned("old probes");
    rig.flush();
    assert_eq!(upkeep::check(&path).unwrap(), Vec::<String>::new());
    assert_eq!(rig.reader().open_incidents().unwrap().len(), 2);
}

/// Overwrites the first page of a table.
fn break_table(path: &Path, table: &str) {
    let connection = rusqlite_with(path, "PRAGMA wal_checkpoint(TRUNCATE);");
    let root: u64 = connection
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?1",
            [table],
            |row| row.get(0),
        )
        .unwrap();
    drop(connection);
    overwrite(path, (root - 1) * 4096, 4096);
}

#[test]
fn probes_behind_and_before_a_broken_page_are_saved() {
    let (_folder, path) = folder();
    filled(&path, 20_000);
    // Pages of the index of probes are passed over, those of their table cost what stood on them.
    break_table(&path, "probe_of_target");
    let mut rig = Rig::open(&path);
    rig.pass(10);
    rig.until_warned("old probes");
    rig.flush();
    let kept = rig.recorded();
    assert_eq!(kept, 20_012, "{:?}", rig.warnings());
    assert_eq!(upkeep::check(&path).unwrap(), Vec::<String>::new());
}

#[test]
fn a_head_overwritten_at_the_start_costs_what_was_in_it_but_no_watching() {
    let (_folder, path) = folder();
    filled(&path, 100);
    overwrite(&path, 0, 100);
    let mut rig = Rig::open(&path);
    assert!(rig.warned("set aside"), "{:?}", rig.warnings());
    rig.probe("weather", State::Down, opening("inc3", "weather"));
    rig.until_told("inc3");
    assert_eq!(rig.reader().open_incidents().unwrap().len(), 1);
}

#[test]
fn a_head_overwritten_while_running_costs_nothing_that_counts() {
    let (_folder, path) = folder();
    let mut rig = Rig::open(&path);
    rig.probe("weather", State::Down, opening("inc1", "weather"));
    rig.pass(100);
    rig.flush();
    // A head that the log has too is as good as whole: the next checkpoint writes it again.
    drop(rusqlite_with(&path, "PRAGMA wal_checkpoint(TRUNCATE);"));
    overwrite(&path, 0, 100);
    rig.until_warned("set aside");
    rig.probe("files", State::Down, opening("inc2", "files"));
    rig.until_told("inc2");
    rig.flush();
    assert_eq!(rig.reader().open_incidents().unwrap().len(), 2);
    assert_eq!(rig.reader().pending().unwrap().len(), 2);
    let status = rig.reader().status("weather").unwrap();
    assert_eq!(status.incident.as_deref(), Some("inc1"));
    rig.close();
    let again = Rig::open(&path);
    let (_, remembered) = again.recalled.target(&rig::target("t9"));
    assert!(remembered.memory.is_some());
}

#[test]
fn pages_overwritten_while_running_cost_only_what_stood_on_them() {
    let (_folder, path) = folder();
    let mut rig = Rig::open(&path);
    rig.probe("weather", State::Down, opening("inc1", "weather"));
    rig.pass(30_000);
    rig.flush();
    drop(rusqlite_with(&path, "PRAGMA wal_checkpoint(TRUNCATE);"));
    let size = fs::metadata(&path).unwrap().len();
    // Everything but the head and the first tables.
    overwrite(&path, 40 * 4096, usize::try_from(size).unwrap() - 40 * 4096);
    for _ in 0..200 {
        rig.pass(100);
        rig.flush();
        if rig.warned("set aside") {
            break;
        }
    }
    assert!(rig.warned("set aside"), "{:?}", rig.warnings());
    rig.probe("files", State::Down, opening("inc2", "files"));
    rig.until_told("inc2");
    rig.flush();
    assert_eq!(rig.reader().open_incidents().unwrap().len(), 2);
    assert_eq!(upkeep::check(&path).unwrap(), Vec::<String>::new());
}

#[test]
fn a_file_deleted_while_running_comes_back_with_everything() {
    let (_folder, path) = folder();
    let mut rig = Rig::open(&path);
    rig.probe("weather", State::Down, opening("inc1", "weather"));
    rig.pass(5_000);
    rig.flush();
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        fs::remove_file(name).unwrap();
    }
    rig.until_warned("is gone");
    rig.until_warned("old probes");
    rig.pass(10);
    rig.flush();
    assert_eq!(rig.recorded(), 5_011);
    assert_eq!(rig.reader().open_incidents().unwrap().len(), 1);
    let detail = rig.reader().incident_detail("inc1").unwrap().unwrap();
    assert_eq!((detail.timeline.len(), detail.notices.len()), (1, 1));
    assert_eq!(upkeep::check(&path).unwrap(), Vec::<String>::new());
    rig.close();
    assert_eq!(Rig::open(&path).recalled.pending.len(), 1);
}

#[test]
fn a_folder_that_comes_late_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let late = folder.path().join("late");
    let mut rig = Rig::open(&late.join("mcpprobe.db"));
    assert!(rig.warned("cannot be stored"), "{:?}", rig.warnings());
    rig.probe("weather", State::Down, opening("inc1", "weather"));
    rig.until_told("inc1");
    rig.pass(50);
    fs::create_dir(&late).unwrap();
    rig.until_warned("can be stored again");
    assert_eq!(rig.recorded(), 51);
    // The lock has been taken late, too.
    assert!(Rig::try_open(&rig.path).is_err());
}

/// Runs one of the tests that are ignored otherwise in a mount namespace of its own, with a small disk.
pub(crate) fn on_a_small_disk(test: &str) {
    let disk = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=3m tmpfs \"$DISK\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("DISK", disk.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{output:?}"
    );
}

pub(crate) fn small_disk() -> PathBuf {
    std::env::var_os("DISK").expect("a disk").into()
}

#[test]
fn a_full_disk_loses_nothing() {
    on_a_small_disk("store::full_disk");
}

#[test]
#[ignore = "run by another test, in its own mount namespace"]
fn full_disk() {
    let disk = small_disk();
    let path = disk.join("mcpprobe.db");
    let mut rig = Rig::open(&path);
    rig.pass(100);
    rig.flush();
    let ballast = disk.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    rig.probe("weather", State::Down, opening("inc1", "weather"));
    rig.until_told("inc1");
    rig.write(Write::Delivery(delivered("inc1", "hook", 1)));
    rig.pass(3_000);
    rig.until_warned("cannot be stored");
    rig.probe("files", State::Down, opening("inc2", "files"));
    rig.until_told("inc2");
    rig.flush();
    assert!(rig.recorded() < 3_102);
    fs::remove_file(&ballast).unwrap();
    rig.until_warned("can be stored again");
    assert!(rig.warned("nothing is lost"), "{:?}", rig.warnings());
    assert_eq!(rig.recorded(), 3_102);
    assert_eq!(rig.reader().open_incidents().unwrap().len(), 2);
    assert_eq!(rig.reader().pending().unwrap().len(), 1);
    assert_eq!(upkeep::check(&path).unwrap(), Vec::<String>::new());
    rig.close();
    let facts = Rig::open(&path).recalled.facts;
    assert!(facts[fact::STORE_TROUBLE].contains("full"), "{facts:?}");
}

#[test]
fn a_disk_that_cannot_be_written_is_watched_from_memory_and_caught_up() {
    on_a_small_disk("store::read_only_disk");
}

#[test]
#[ignore = "run by another test, in its own mount namespace"]
fn read_only_disk() {
    let disk = small_disk();
    let path = disk.join("mcpprobe.db");
    filled(&path, 10);
    let remount = |how: &str| {
        let mounted = Command::new("mount")
            .args(["-o", how])
            .arg(&disk)
            .status()
            .unwrap();
        assert!(mounted.success());
    };
    remount("remount,ro");
    let mut rig = Rig::open(&path);
    assert!(rig.warned("cannot be stored"), "{:?}", rig.warnings());
    rig.probe("weather", State::Down, opening("inc3", "weather"));
    rig.until_told("inc3");
    rig.pass(50);
    remount("remount,rw");
    rig.until_warned("can be stored again");
    assert_eq!(rig.recorded(), 12 + 51);
    assert_eq!(rig.reader().open_incidents().unwrap().len(), 3);
    assert_eq!(rig.heard.lock().unwrap().recalled[0].incidents.len(), 2);
}

#[test]
fn a_copy_and_a_vacuum_beside_a_writer_are_whole() {
    let (folder, path) = folder();
    let mut rig = Rig::open(&path);
    rig.probe("weather", State::Down, opening("inc1", "weather"));
    rig.pass(2_000);
    rig.flush();
    let copy = folder.path().join("copy.db");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                rig.pass(20);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let copied = upkeep::backup(&path, &copy);
        let shrunk = upkeep::vacuum(&path);
        let whole = upkeep::check(&path);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(copied.unwrap() > 100_000);
        shrunk.unwrap();
        assert_eq!(whole.unwrap(), Vec::<String>::new());
    });
    assert!(
        upkeep::backup(&path, &copy)
            .unwrap_err()
            .contains("already")
    );
    assert_eq!(upkeep::check(&copy).unwrap(), Vec::<String>::new());
    let names: Vec<_> = folder
        .path()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("copy"))
        .collect();
    assert_eq!(names, ["copy.db"]);
    let mut of_copy = Rig::open(&copy);
    assert_eq!(of_copy.recalled.incidents.len(), 1);
    of_copy.close();
}

#[test]
fn the_commands_take_care_of_a_configurations_store() {
    let (folder, path) = folder();
    filled(&path, 100);
    let file = folder.path().join("servers.toml");
    fs::write(
        &file,
        "[store]\nkeep = \"14d\"\nmax_size = \"2GB\"\n[[server]]\nname = \"a\"\nurl = \"http://a.example/\"\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let copy = folder.path().join("copy.db");
    for args in [
        vec!["store", "check", file],
        vec!["store", "backup", copy.to_str().unwrap(), file],
        vec!["store", "vacuum", file],
    ] {
        let output = crate::support::run(&args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!output.stdout.is_empty());
    }
    break_table(&path, "timeline");
    let output = crate::support::run(&["store", "check", file]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}
