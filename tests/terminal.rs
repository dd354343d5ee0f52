//! What a terminal gets to see: nothing acts on it but our own codes, and those only where they are wanted.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use crate::support::{free_port, mcpprobe};

/// What acts on terminals or hides from readers, without what no file name can hold.
const EVIL: &str = "e\u{1b}[31mv\u{7}\n\u{7f}\u{9b}1m\u{61c}\u{202e}\u{2066}\u{200b}\u{ad}end";

fn is_evil(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn text_of(output: &Output) -> String {
    String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap()
}

#[test]
fn nothing_that_a_user_wrote_acts_on_the_terminal_either() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let dead = format!("http://127.0.0.1:{}/mcp", free_port());
    // A name may hold no control characters, but others that lie.
    let name = "a\u{202e}b\u{200b}c\u{ad}d";
    let good = format!("[[server]]\nname = \"{name}\"\nurl = \"{dead}\"\n");
    let good = file(&format!("{EVIL}.toml"), &good);
    let bad = file(
        &format!("bad {EVIL}.toml"),
        &format!("[[server]]\nname = \"a\"\nurl = \"{dead}\"\nera = \"{name}\u{9b}1m\"\n"),
    );
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let at = "2026-01-01T00:00:00Z";
    let mut failed = Vec::new();
    for args in [
        &["check", good][..],
        &["check", "--format", "json", good],
        &["check", "--only", EVIL, good],
        &["check", "--profile", EVIL, good],
        &["check", EVIL],
        &["check", "--", EVIL],
        &["check", "--format", "json", "--", EVIL],
        &["watch", "--once", good],
        &["watch", "--once", "--log-format", "json", good],
        &["watch", EVIL],
        &["status", good],
        &["status", "--format", "json", good],
        &["correlate", good, "--server", EVIL, "--at", at],
        &["correlate", good, "--incident", EVIL],
        &["config", "check", good],
        &["config", "check", bad],
        &["check", bad],
    ] {
        let text = text_of(&mcpprobe().args(args).output().unwrap());
        assert!(!text.is_empty(), "{args:?}");
        if let Some(c) = text.chars().find(|c| is_evil(*c) && *c != '\n') {
            failed.push(format!("{args:?}: {c:?} in {text:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // JSON says the same name to whoever reads it as JSON.
    let args = ["check", "--format", "json", good];
    let output = mcpprobe().args(args).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["targets"][0]["name"], name);
}
