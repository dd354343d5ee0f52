//! The webhook, to the letter of the README, and the signature as its receivers check it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::bench::{Bench, run};
use super::notice;
use super::receiver::{Answer, Receiver, Request};

/// What a library of Standard Webhooks does.
fn verify(key: &[u8], request: &Request) {
    let header = |name: &str| request.header(name).unwrap_or_else(|| panic!("no {name}"));
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    assert!(!id.contains('.') && timestamp.parse::<u64>().is_ok());
    let signature = header("webhook-signature").strip_prefix("v1,").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let signed = format!("{id}.{timestamp}.{}", request.body);
    hmac::verify(
        &key,
        signed.as_bytes(),
        &STANDARD.decode(signature).unwrap(),
    )
    .unwrap();
}

#[test]
fn the_body_has_the_keys_of_the_readme_and_a_signature_that_holds() {
    let receiver = Receiver::start(|before, _| match before {
        0 => Answer::Status(500, None, String::new()),
        _ => Answer::Status(204, None, String::new()),
    });
    run(async {
        let mut bench = Bench::start(&format!(
            "[[channel]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}\"\nretry_first = \"100ms\"\n\
             secret = \"whsec_{}\"\n\
             [[channel]]\nname = \"plain\"\ntype = \"webhook\"\nurl = \"{}\"\nsecret = \"${{SECRET}}\"\n",
            receiver.url("/hook"),
            STANDARD.encode([7; 32]),
            receiver.url("/plain"),
        ));
        bench.send(notice::of_file("updated", "hook"));
        bench.delivered().await;
        bench.send(notice::of_file("resolved", "plain"));
        bench.delivered().await;
    });
    let requests = receiver.requests();
    let [first, again, plain] = &requests[..] else {
        panic!("{requests:?}");
    };
    verify(&[7; 32], first);
    verify(&[7; 32], again);
    verify(b"s3cret-of-the-environment", plain);
    // The same key and the same words on every attempt.
    assert_eq!(first.header("webhook-id"), Some("62280dc6fb724da0-hook-2"));
    assert_eq!(first.header("webhook-id"), again.header("webhook-id"));
    assert_eq!(first.body, again.body);
    let body = first.json();
    let keys: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, mcpprobe::model::WebhookFormat::KEYS);
    let expected = serde_json::json!({
        "schema": 1, "event": "updated", "incident": "62280dc6fb724da0", "sequence": 2, "server": "weather",
        "tags": ["prod", "eu"], "severity": "critical", "state": "down", "failed_layer": "http",
        "reason": "http_status", "message": "HTTP 503 Service Unavailable",
        "first_failed_at": "2026-11-21T03:12:51.000Z", "sent_at": "2026-11-21T03:14:11.000Z", "resolved_at": null,
        "verdict": "infrastructure", "provisional": true, "trace_id": "62280dc6fb724da0616658a91c1e6fb0",
        "links": [{ "name": "Trace", "url": "https://jaeger.example/trace/62280dc6fb724da0616658a91c1e6fb0" }],
    });
    assert_eq!(body, expected);
    assert_eq!(plain.json()["resolved_at"], "2026-11-21T07:20:21.000Z");
}
