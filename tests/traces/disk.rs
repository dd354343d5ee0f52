//! A disk that does not work, a file that is broken, a store that is too large, a process that is killed: receiving goes
//! on, it is said, and it works again.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant, SystemTime};

use mcpprobe::model::Window;
use mcpprobe::traces::{ForwardSettings, Reader, TraceFilter};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use reqwest::header::HeaderMap;
use rusqlite::Connection;
use tonic_types::StatusExt;

use super::rig::{Options, PROTOBUF, Rig, attribute, request, span, text};
use crate::store::{on_a_small_disk, small_disk};
use crate::support::eventually;

/// Some megabytes that do not compress, in one span after the other.
fn bulk(trace: u128, from: u64) -> Vec<u8> {
    let noise = |n: u64| {
        let mut random = fastrand::Rng::with_seed(n);
        (0..4_000)
            .map(|_| random.alphanumeric())
            .collect::<String>()
    };
    let spans = (from..from + 1_000).map(|n| {
        let mut large = span(trace, n + 1);
        large.attributes = vec![attribute("noise", text(&noise(n)))];
        large
    });
    request("bulk", spans.collect()).encode_to_vec()
}

/// Sends until somebody is turned away; answers how many requests were taken.
async fn send_until_turned_away(rig: &Rig) -> u64 {
    for n in 0..200 {
        let answer = rig.post(PROTOBUF, bulk(1, n * 1_000)).await;
        if answer.status() == 429 {
            assert_eq!(answer.headers()["retry-after"], "2");
            return n;
        }
        assert_eq!(answer.status(), 200);
    }
    panic!("nobody was turned away");
}

#[tokio::test]
async fn who_sends_more_than_can_be_written_is_told_to_come_again() {
    let rig = Rig::start();
    let lock = Connection::open(&rig.path).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let taken = send_until_turned_away(&rig).await;
    let endpoint = format!("http://{}", rig.receiver.grpc.unwrap());
    let mut grpc = TraceServiceClient::connect(endpoint).await.unwrap();
    let refused = grpc
        .export(request("good", vec![span(7, 1)]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    let refused_at = SystemTime::now();
    let again = refused.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(again, Some(Duration::from_secs(2)));
    lock.execute_batch("COMMIT").unwrap();
    eventually("room", || {
        rig.store.flush();
        let spans = rig.store.reader().stats().unwrap().spans;
        (spans == taken * 1_000).then_some(())
    });
    assert_eq!(rig.post(PROTOBUF, bulk(2, 0)).await.status(), 200);
    let whole = rig.store.reader().completeness().unwrap();
    // What was turned away had begun before, and the last of it counts as the first does.
    let lost = whole.losses.iter().any(|loss| {
        let begun = refused_at - Duration::from_secs(30);
        loss.reason.as_str() == "turned_away" && loss.first <= begun && refused_at <= loss.last
    });
    assert!(lost, "{:?}", whole.losses);
    let now = SystemTime::now();
    let window = Window {
        from: now - Duration::from_secs(60),
        to: now,
    };
    assert!(!whole.is_whole(window));
}

#[test]
fn a_full_disk_is_told_and_works_again() {
    on_a_small_disk("traces::disk::full_disk");
}

#[tokio::test]
#[ignore = "run by another test, in its own mount namespace"]
async fn full_disk() {
    let disk = small_disk();
    let rig = Rig::start_with(Options {
        path: Some(disk.join("traces.db")),
        ..Options::default()
    });
    rig.put("good", vec![span(7, 1)]).await;
    assert_eq!(rig.trace(7).len(), 1);
    let ballast = disk.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    send_until_turned_away(&rig).await;
    assert!(rig.warned("cannot be stored"), "{:?}", rig.warnings());
    assert_eq!(rig.trace(7).len(), 1);
    fs::remove_file(&ballast).unwrap();
    // What waits is larger than the disk; so it stays full until there is another.
    let remounted = std::process::Command::new("mount")
        .args(["-o", "remount,size=400m"])
        .arg(&disk)
        .status();
    assert!(remounted.unwrap().success());
    eventually("it to work again", || {
        rig.store.flush();
        rig.warned("are stored").then_some(())
    });
    // What has waited here is written, what has waited before the door comes next.
    let good = request("good", vec![span(7, 2)]).encode_to_vec();
    while rig.post(PROTOBUF, good.clone()).await.status() != 200 {
        rig.store.flush();
    }
    assert_eq!(rig.trace(7).len(), 2);
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_a_new_one_is_begun() {
    let rig = Rig::start();
    assert_eq!(rig.post(PROTOBUF, bulk(1, 0)).await.status(), 200);
    rig.store.flush();
    let check = Connection::open(&rig.path).unwrap();
    check
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(check);
    let mut file = fs::OpenOptions::new().write(true).open(&rig.path).unwrap();
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&vec![0x55; usize::try_from(length).unwrap()])
        .unwrap();
    drop(file);
    eventually("the damage to be told", || {
        // Whoever meets it first.
        rig.store.reader().services().ok();
        rig.store.flush();
        rig.warned("set aside").then_some(())
    });
    rig.put("good", vec![span(7, 1)]).await;
    assert_eq!(rig.trace(7).len(), 1);
    let folder = fs::read_dir(rig.path.parent().unwrap()).unwrap();
    let names: Vec<_> = folder.map(|entry| entry.unwrap().file_name()).collect();
    let aside = |name: &std::ffi::OsString| name.to_string_lossy().contains("corrupt-");
    assert!(names.iter().any(aside), "{names:?}");
}

#[tokio::test]
async fn a_file_that_is_taken_away_is_made_anew() {
    let rig = Rig::start();
    rig.put("good", vec![span(7, 1)]).await;
    assert_eq!(rig.trace(7).len(), 1);
    fs::remove_file(&rig.path).unwrap();
    rig.put("good", vec![span(7, 2)]).await;
    assert_eq!(rig.trace(7).len(), 1);
}

#[tokio::test]
async fn the_oldest_go_when_there_are_too_many() {
    let rig = Rig::start_with(Options {
        max_size: Some(20_000_000),
        ..Options::default()
    });
    rig.put("good", vec![span(7, 1)]).await;
    for n in 0..20 {
        assert_eq!(rig.post(PROTOBUF, bulk(1, n * 1_000)).await.status(), 200);
        rig.store.flush();
    }
    rig.put("good", vec![span(8, 1)]).await;
    rig.store.tidy();
    let stats = rig.store.reader().stats().unwrap();
    assert!(stats.bytes <= 20_000_000, "{stats:?}");
    assert!(rig.trace(7).is_empty());
    assert_eq!(rig.trace(8).len(), 1);
    let whole = rig.store.reader().completeness().unwrap();
    let now = SystemTime::now();
    assert!(!whole.is_whole(Window {
        from: now - Duration::from_secs(3_600),
        to: now
    }));
}

/// Blocks are merged, and what was in the small ones is in others then.
#[tokio::test]
async fn a_stored_trace_is_there_at_any_time() {
    let rig = Rig::start();
    rig.put("good", vec![span(7, 1)]).await;
    assert_eq!(rig.trace(7).len(), 1);
    let reader = rig.store.reader();
    let other = Reader::open(&rig.path);
    let id = mcpprobe::model::TraceId(7u128.to_be_bytes());
    for n in 0..80u64 {
        let spans = (0..500).map(|i| span(100 + u128::from(n), n * 500 + i + 1));
        rig.put("many", spans.collect()).await;
        for reader in [&reader, &other] {
            assert_eq!(reader.trace(id).unwrap().spans.len(), 1);
            assert_eq!(reader.list(&service("good"), 5).unwrap().traces.len(), 1);
        }
    }
    rig.store.flush();
    let stats = reader.stats().unwrap();
    assert_eq!(stats.spans, 40_001);
    assert_eq!(other.stats().unwrap(), stats);
}

fn service(name: &str) -> TraceFilter {
    TraceFilter {
        service: Some(name.to_owned()),
        ..TraceFilter::default()
    }
}

/// A copy of the file as it is while somebody writes is what a kill leaves behind.
#[tokio::test]
async fn what_was_written_survives_a_kill() {
    let rig = Rig::start();
    for n in 0..5 {
        rig.put("good", vec![span(7, n + 1)]).await;
        rig.store.flush();
    }
    let copy = tempfile::tempdir().unwrap();
    for end in ["", "-wal"] {
        let mut name = rig.path.clone().into_os_string();
        name.push(end);
        fs::copy(name, copy.path().join(format!("traces.db{end}"))).unwrap();
    }
    let reader = Reader::open(&copy.path().join("traces.db"));
    let id = mcpprobe::model::TraceId(7u128.to_be_bytes());
    assert_eq!(reader.trace(id).unwrap().spans.len(), 5);
}

#[tokio::test]
async fn everything_is_passed_on_as_it_came() {
    let other = Rig::start();
    let mut headers = HeaderMap::new();
    headers.insert("x-key", "1".parse().unwrap());
    let rig = Rig::start_with(Options {
        forward: Some(ForwardSettings {
            url: other.url().parse().unwrap(),
            headers,
        }),
        ..Options::default()
    });
    rig.put("good", vec![span(7, 1)]).await;
    let zipped = super::rig::gzip(&request("good", vec![span(7, 2)]).encode_to_vec());
    let answer = rig
        .request(PROTOBUF, zipped)
        .header("content-encoding", "gzip")
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), 200);
    // Of this one nothing is good.
    let mut bad = span(7, 3);
    bad.span_id.clear();
    rig.post(PROTOBUF, request("good", vec![bad]).encode_to_vec())
        .await;
    eventually("what is passed on", || {
        (rig.receiver.received().forwarded == 2).then_some(())
    });
    assert_eq!(other.trace(7).len(), 2);
    assert_eq!(rig.trace(7), other.trace(7));
}

#[tokio::test]
async fn a_backend_that_is_down_is_in_nobodys_way() {
    let port = crate::support::free_port();
    let rig = Rig::start_with(Options {
        forward: Some(ForwardSettings {
            url: format!("http://127.0.0.1:{port}").parse().unwrap(),
            headers: HeaderMap::new(),
        }),
        ..Options::default()
    });
    for n in 0..1_200 {
        rig.put("good", vec![span(7, n + 1)]).await;
    }
    assert_eq!(rig.trace(7).len(), 1_200);
    eventually("the warning", || {
        rig.warned("cannot be passed on").then_some(())
    });
    assert_eq!(rig.warnings().len(), 1, "{:?}", rig.warnings());
    assert!(rig.receiver.received().not_forwarded >= 100);
}

fn forwarding(url: String) -> Rig {
    Rig::start_with(Options {
        forward: Some(ForwardSettings {
            url: url.parse().unwrap(),
            headers: HeaderMap::new(),
        }),
        ..Options::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_at_the_end_is_still_passed_on() {
    let other = Rig::start();
    let rig = forwarding(other.url());
    for n in 0..50 {
        rig.put("good", vec![span(7, n + 1)]).await;
    }
    let (stored, warnings) = rig.end();
    assert_eq!(stored, 50);
    assert_eq!(other.trace(7).len(), 50);
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// At once where nobody is there, and after some seconds where somebody does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_passed_on_at_the_end_is_told_with_its_number() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = crate::support::free_port();
    for (port, most) in [(nobody, 4), (silent.local_addr().unwrap().port(), 9)] {
        let rig = forwarding(format!("http://127.0.0.1:{port}"));
        for n in 0..30 {
            rig.put("good", vec![span(7, n + 1)]).await;
        }
        let begun = Instant::now();
        let (stored, warnings) = rig.end();
        assert!(begun.elapsed() < Duration::from_secs(most), "{port}");
        assert_eq!(stored, 30);
        let told = warnings.last().unwrap();
        assert!(
            told.starts_with("30 requests") && told.contains("not passed on"),
            "{warnings:?}"
        );
    }
}

/// Makes the contents of the oldest block unreadable, where SQLite does not notice.
fn damage_the_oldest_block(rig: &Rig) {
    let file = Connection::open(&rig.path).unwrap();
    file.busy_timeout(Duration::from_secs(5)).unwrap();
    let damage =
        "UPDATE content SET bytes = x'0102030405' WHERE block = (SELECT min(id) FROM block)";
    assert_eq!(file.execute(damage, []).unwrap(), 1);
}

/// An hour ago, in a block of its own.
async fn put_an_old_one(rig: &Rig) {
    let mut old = span(7, 1);
    let hour = 3_600_000_000_000;
    old.start_time_unix_nano -= hour;
    old.end_time_unix_nano -= hour;
    rig.put("good", vec![old]).await;
    rig.store.flush();
}

/// A window around what began so many seconds ago.
fn around(ago: u64) -> Window {
    let at = SystemTime::now() - Duration::from_secs(ago);
    Window {
        from: at - Duration::from_secs(60),
        to: at + Duration::from_secs(60),
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_never_silence() {
    let rig = Rig::start();
    put_an_old_one(&rig).await;
    rig.put("good", vec![span(8, 1)]).await;
    assert_eq!(rig.trace(8).len(), 1);
    damage_the_oldest_block(&rig);
    let other = Reader::open(&rig.path);
    let id = |id: u128| mcpprobe::model::TraceId(id.to_be_bytes());
    let why = other.trace(id(7)).unwrap_err();
    assert!(why.as_str().contains("is damaged"), "{why}");
    assert!(other.service_window("good", around(3_600), 10).is_err());
    assert!(other.list(&service("good"), 10).is_err());
    // Of what lies elsewhere something can be said.
    assert_eq!(other.trace(id(8)).unwrap().spans.len(), 1);
    let now = other.service_window("good", around(0), 10).unwrap();
    assert_eq!(now.spans.len(), 1);
    // The writer takes it out, and then it is known what is lost, and when.
    assert!(rig.store.reader().trace(id(7)).is_err());
    eventually("the loss to be told", || {
        rig.store.flush();
        rig.warned("1 spans").then_some(())
    });
    check_loss(&rig);
    assert!(rig.store.reader().trace(id(7)).unwrap().spans.is_empty());
    assert_eq!(other.list(&service("good"), 10).unwrap().traces.len(), 1);
}

#[tokio::test]
async fn what_a_merge_cannot_read_is_lost_when_it_began_and_not_now() {
    let rig = Rig::start();
    put_an_old_one(&rig).await;
    damage_the_oldest_block(&rig);
    for n in 0..20u64 {
        let spans = (0..1_000).map(|i| span(8, n * 1_000 + i + 1));
        rig.put("many", spans.collect()).await;
    }
    rig.store.flush();
    assert!(rig.warned("1 spans"), "{:?}", rig.warnings());
    check_loss(&rig);
}

fn check_loss(rig: &Rig) {
    let known = rig.store.reader().completeness().unwrap();
    let [loss] = &known.losses[..] else {
        panic!("{:?}", known.losses);
    };
    assert_eq!((loss.count, loss.reason.as_str()), (1, "damaged"));
    let window = around(3_600);
    assert!(
        window.holds(loss.first) && window.holds(loss.last),
        "{loss:?}"
    );
}
