//! `mcpprobe channels` and `channels test`.

use std::fs;

use super::receiver::{Answer, Receiver};
use crate::support::mcpprobe;

fn said(file: &std::path::Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = mcpprobe()
        .args(args)
        .arg(file)
        .env("HOOK", "s3cret-of-the-environment")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn channels_are_listed_and_tried() {
    let receiver = Receiver::start(|before, request| match before {
        0 => Answer::Status(200, None, String::new()),
        _ => Answer::Status(404, None, format!("no such hook: {}", request.path)),
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    let text = format!(
        "[[channel]]\nname = \"hook\"\ntype = \"slack\"\nurl = \"{}/${{HOOK}}\"\nrate_limit = \"30 per minute\"\n",
        receiver.url("/services")
    );
    fs::write(&file, text).unwrap();
    let (code, out, _) = said(&file, &["channels"]);
    assert_eq!(code, Some(0));
    assert!(
        out.contains("hook") && out.contains("slack") && out.contains("30 per 1m"),
        "{out}"
    );

    let (code, out, err) = said(&file, &["channels", "test", "hook"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.starts_with("hook (slack) has taken the test notice "),
        "{out}"
    );
    let body = receiver.requests()[0].json();
    assert!(body["text"].as_str().unwrap().contains("TEST"), "{body}");

    let (code, out, err) = said(&file, &["channels", "test", "hook"]);
    assert_eq!((code, out.as_str()), (Some(3), ""), "{err}");
    assert!(
        err.contains("HTTP 404") && err.contains("no such hook: /services/***"),
        "{err}"
    );
    assert!(!err.contains("s3cret"), "{err}");

    let (code, _, err) = said(&file, &["channels", "test", "hok"]);
    assert_eq!(code, Some(3));
    assert!(err.contains("did you mean hook?"), "{err}");
}
