//! Who asks instead of sending: what it may cost, and who is in nobody's way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mcpprobe::traces::{Answers, Question, Reply};
use reqwest::{Method, Response};

use super::rig::{Options, Rig};
use crate::support::PATIENCE;

/// Answers how long the body was; a POST to `/api/slow` not before `go`.
fn answers(go: &Arc<AtomicBool>, begun: &Arc<AtomicUsize>) -> Answers {
    let (go, begun) = (Arc::clone(go), Arc::clone(begun));
    Arc::new(move |question: &Question| {
        begun.fetch_add(1, Ordering::Relaxed);
        while question.path == "/api/slow" && !go.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Reply {
            status: 200,
            body: question.body.len().to_string(),
        })
    })
}

/// A thread for an answer may come late; one too many must not come at all.
async fn until_begun(begun: &AtomicUsize, count: usize) {
    let has_begun = async {
        while begun.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, has_begun).await.unwrap();
    assert_eq!(begun.load(Ordering::Relaxed), count);
}

async fn asked(rig: &Rig, method: Method, path: &str, body: Vec<u8>) -> reqwest::Result<Response> {
    let url = format!("{}{path}", rig.url());
    // A connection of its own: the one before may be about to end.
    let client = reqwest::Client::new();
    client.request(method, url).body(body).send().await
}

#[tokio::test]
async fn a_questions_body_is_small_and_a_get_has_none() {
    let (go, begun) = (Arc::default(), Arc::default());
    let rig = Rig::start_with(Options {
        answers: Some(answers(&go, &begun)),
        ..Options::default()
    });
    let most = 1024 * 1024;
    let taken = asked(&rig, Method::POST, "/api/x", vec![b' '; most]).await;
    assert_eq!(taken.unwrap().text().await.unwrap(), most.to_string());
    // Who is told so while it is still sending may lose its connection first, or in the middle of being told.
    if let Ok(large) = asked(&rig, Method::POST, "/api/x", vec![b' '; most + 1]).await {
        assert_eq!(large.status(), 413);
        if let Ok(body) = large.json::<serde_json::Value>().await {
            assert_eq!(body["errors"][0]["code"], 413);
        }
    }
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    let read = asked(&rig, Method::GET, "/api/x", b"ignored".to_vec()).await;
    assert_eq!(read.unwrap().text().await.unwrap(), "0");
}

/// Somebody's webhook has many alerts, and each takes minutes.
#[tokio::test]
async fn alerts_that_take_long_stop_nobody_who_reads() {
    let (go, begun) = (Arc::default(), Arc::default());
    let rig = Rig::start_with(Options {
        answers: Some(answers(&go, &begun)),
        ..Options::default()
    });
    let post = || {
        let url = format!("{}/api/slow", rig.url());
        tokio::spawn(rig.client.post(url).body("alert").send())
    };
    // Two are answered, sixteen wait.
    let waiting: Vec<_> = (0..18).map(|_| post()).collect();
    let mut refused = Vec::new();
    let refusal = loop {
        let mut another = post();
        match tokio::time::timeout(Duration::from_millis(500), &mut another).await {
            Ok(answer) => break answer.unwrap().unwrap(),
            // It came before one of the others.
            Err(_) => refused.push(another),
        }
    };
    assert_eq!(refusal.status(), 429);
    assert_eq!(refusal.headers()["retry-after"], "2");
    until_begun(&begun, 2).await;
    let read = asked(&rig, Method::GET, "/api/x", Vec::new()).await;
    assert_eq!(read.unwrap().status(), 200);
    go.store(true, Ordering::Relaxed);
    let mut answered = 0;
    for answer in waiting.into_iter().chain(refused) {
        answered += usize::from(answer.await.unwrap().unwrap().status() == 200);
    }
    assert_eq!(answered, 18);
}

/// Who goes away and asks again has not freed what their first question takes.
#[tokio::test]
async fn who_does_not_wait_for_the_answer_still_has_a_turn() {
    let (go, begun) = (Arc::default(), Arc::default());
    let rig = Rig::start_with(Options {
        answers: Some(answers(&go, &begun)),
        ..Options::default()
    });
    for n in 1..=4 {
        let url = format!("{}/api/slow", rig.url());
        let impatient = rig.client.post(url).timeout(Duration::from_millis(300));
        assert!(impatient.send().await.is_err());
        until_begun(&begun, n.min(2)).await;
    }
    go.store(true, Ordering::Relaxed);
    let read = asked(&rig, Method::POST, "/api/x", Vec::new()).await;
    assert_eq!(read.unwrap().status(), 200);
}
