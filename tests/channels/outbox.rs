//! The outbox as a whole: order, what has no room, reloads, and its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use mcpprobe::model::{DeliveryOutcome, Notice, NoticeEvent, Pending};

use super::bench::{Bench, channels, run};
use super::notice;
use super::receiver::{Answer, Receiver};
use crate::support::here;

fn ok() -> Answer {
    Answer::Status(200, None, String::new())
}

fn hook(name: &str, url: &str, more: &str) -> String {
    format!(
        "[[channel]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{url}\"\nsecret = \"x\"\n\
         retry_first = \"100ms\"\nretry_max = \"100ms\"\n{more}\n"
    )
}

fn numbered(incident: &str, sequence: u32) -> Notice {
    let mut notice = notice::of_file("opened", "hook");
    notice.incident.id = incident.to_owned();
    notice.sequence = sequence;
    if sequence > 1 {
        notice.event = NoticeEvent::Reminder;
    }
    notice
}

/// Incident and sequence of every request.
fn seen(receiver: &Receiver) -> Vec<(String, u64)> {
    receiver
        .requests()
        .iter()
        .map(|request| {
            let body = request.json();
            let incident = body["incident"].as_str().unwrap().to_owned();
            (incident, body["sequence"].as_u64().unwrap())
        })
        .collect()
}

#[test]
fn one_incident_that_hangs_holds_up_no_other_and_its_order_is_kept() {
    let receiver = Receiver::start(|before, request| match before {
        _ if request.json()["incident"] == "hangs" && before < 4 => Answer::Hang,
        _ => ok(),
    });
    run(async {
        let mut bench = Bench::start(&hook("hook", &receiver.url("/"), "timeout = \"1s\""));
        for sequence in [1, 2, 3] {
            bench.send(numbered("hangs", sequence));
        }
        for incident in ["a", "b", "c"] {
            bench.send(numbered(incident, 1));
        }
        let mut order = Vec::new();
        while order.len() < 6 {
            let delivery = bench.told().await;
            if delivery.outcome == DeliveryOutcome::Delivered {
                order.push((delivery.incident, delivery.sequence));
            }
        }
        let (others, hanging) = order.split_at(3);
        assert!(
            others.iter().all(|(incident, _)| incident != "hangs"),
            "{order:?}"
        );
        let sequences: Vec<_> = hanging.iter().map(|(_, sequence)| *sequence).collect();
        assert_eq!(sequences, [1, 2, 3]);
    });
}

#[test]
fn what_has_no_room_is_read_from_where_it_is_kept() {
    /// More than are held for a channel, and more than wait for the task.
    const NOTICES: u32 = 6_000;
    let receiver = Receiver::start(|_, _| ok());
    let kept: Arc<Mutex<BTreeMap<(SystemTime, String), Pending>>> = Arc::default();
    let reads = Arc::new(Mutex::new(0));
    let (source, counted) = (Arc::clone(&kept), Arc::clone(&reads));
    run(async {
        let settings = channels(&hook("hook", &receiver.url("/"), ""), &here("data"));
        let mut bench = Bench::with(
            settings,
            Vec::new(),
            Arc::new(move |channel, most| {
                assert_eq!(channel, "hook");
                *counted.lock().unwrap() += 1;
                if *counted.lock().unwrap() == 1 {
                    return Err("the disk is gone for a moment".to_owned());
                }
                Ok(source
                    .lock()
                    .unwrap()
                    .values()
                    .take(most)
                    .cloned()
                    .collect())
            }),
        );
        // From a plain thread that never waits, as the store's.
        let sender = bench.outbox.sender();
        let keep = Arc::clone(&kept);
        let refused = std::thread::spawn(move || {
            let mut refused = 0;
            for number in 0..NOTICES {
                let mut notice = numbered(&format!("{:05}", number / 2), number % 2 + 1);
                notice.created_at += Duration::from_millis(u64::from(number));
                notice.due_at = notice.created_at;
                let pending = Pending {
                    notice: notice.clone(),
                    attempts: 0,
                    first_attempt_at: None,
                };
                let place = (notice.created_at, notice.incident.id.clone());
                keep.lock().unwrap().insert(place, pending);
                refused += u32::from(!sender.send(notice));
            }
            refused
        })
        .join()
        .unwrap();
        assert!(refused > 0, "there was room for all");
        for _ in 0..NOTICES {
            let delivery = bench.delivered().await;
            let mut kept = kept.lock().unwrap();
            kept.retain(|_, pending| {
                (&pending.notice.incident.id, pending.notice.sequence)
                    != (&delivery.incident, delivery.sequence)
            });
        }
        assert!(bench.outbox.drain(Duration::from_secs(30)).await);
        assert!(bench.outbox.end().await.is_empty());
    });
    let seen = seen(&receiver);
    assert_eq!(seen.len(), NOTICES as usize, "one was lost or doubled");
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for (incident, sequence) in seen {
        let before = last.insert(incident.clone(), sequence).unwrap_or(0);
        assert_eq!(sequence, before + 1, "{incident}");
    }
    assert!(*reads.lock().unwrap() >= 2);
}

#[test]
fn what_waits_for_a_channel_that_is_gone_is_given_up() {
    let receiver = Receiver::start(|_, _| Answer::Status(500, None, String::new()));
    let other = Receiver::start(|_, _| ok());
    run(async {
        let pending = |channel: &str, sequence| Pending {
            notice: {
                let mut notice = numbered("old", sequence);
                notice.channel = channel.to_owned();
                notice
            },
            attempts: 3,
            first_attempt_at: Some(SystemTime::now()),
        };
        let settings = channels(&hook("hook", &receiver.url("/"), ""), &here("data"));
        let mut bench = Bench::with(
            settings,
            vec![pending("gone", 2), pending("hook", 1)],
            Arc::new(|_, _| Ok(Vec::new())),
        );
        let first = bench.told().await;
        assert_eq!((first.channel.as_str(), first.attempts), ("gone", 3));
        assert_eq!(
            first.outcome,
            DeliveryOutcome::GivenUp("there is no channel of this name any more".into())
        );
        let failed = bench.told().await;
        assert_eq!((failed.channel.as_str(), failed.attempts), ("hook", 4));
        assert!(matches!(failed.outcome, DeliveryOutcome::Failed(_)));
        // The same name at another place: what waits goes there.
        let moved = channels(&hook("hook", &other.url("/"), ""), &here("data"));
        bench.outbox.reload(moved).await;
        let (_, delivery) = bench.settled().await;
        assert_eq!(delivery.outcome, DeliveryOutcome::Delivered);
        assert_eq!(seen(&other), [("old".to_owned(), 1)]);
        // A name that was mistyped and is back: nothing is lost.
        bench.outbox.reload(Vec::new()).await;
        bench.send(numbered("new", 1));
        let back = channels(&hook("hook", &other.url("/"), ""), &here("data"));
        bench.outbox.reload(back).await;
        let (_, delivery) = bench.settled().await;
        assert_eq!(delivery.outcome, DeliveryOutcome::Delivered);
    });
}

#[test]
fn a_drain_tries_everything_once_and_waits_for_no_window() {
    let receiver = Receiver::start(|_, request| match request.json()["incident"].as_str() {
        Some("fails") => Answer::Status(500, None, String::new()),
        _ => ok(),
    });
    run(async {
        let text = hook("hook", &receiver.url("/"), "").replace("100ms", "10m");
        let bench = Bench::start(&text);
        for (incident, sequence) in [("fails", 1), ("fails", 2), ("grouped", 1), ("grouped", 2)] {
            let mut notice = numbered(incident, sequence);
            notice.created_at = SystemTime::now();
            notice.due_at = notice.created_at + Duration::from_secs(600);
            bench.send(notice);
        }
        assert!(bench.outbox.drain(Duration::from_secs(30)).await);
        // The opening of both is one message, and its failure is that of both.
        assert_eq!(receiver.requests().len(), 1);
        let mut told = bench.outbox.end().await;
        told.sort_by_key(|delivery| delivery.incident.clone());
        assert!(told.is_empty(), "sixteen fit into the channel: {told:?}");
    });
}
