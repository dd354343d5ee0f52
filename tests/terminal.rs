//! What a terminal gets to see: nothing acts on it but our own codes, and those only where they are wanted.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Small, free_port, healthy, here, mcpprobe};

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
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["targets"][0]["name"], name);
}

/// States in their colours.
const COLOURED: [(&str, &str); 2] = [("up", "\u{1b}[32mup"), ("down", "\u{1b}[31mdown")];

/// Everything that a shell's line writes to a terminal of its own; `mcpprobe` in it is the program under test.
fn on_terminal(line: &str, env: &[(&str, &str)]) -> String {
    let line = line.replace("mcpprobe", env!("CARGO_BIN_EXE_mcpprobe"));
    let mut command = Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .envs(env.iter().copied());
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn states_are_coloured_on_a_terminal_only() {
    let up = Small::start(healthy);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("servers.toml");
    let text = format!(
        "[[server]]\nname = \"a\"\nurl = \"{}\"\n[[server]]\nname = \"b\"\nurl = \"http://127.0.0.1:{}\"\n",
        up.url(),
        free_port()
    );
    fs::write(&path, text).unwrap();
    let path = path.display();
    for command in ["check", "watch --once", "status"] {
        let line = format!("mcpprobe {command} {path}");
        let shown = on_terminal(&line, &[]);
        for (state, coloured) in COLOURED {
            assert!(shown.contains(coloured), "{command}: {state} in {shown:?}");
        }
        let plain = [
            (line.clone(), ("NO_COLOR", "1")),
            (line.clone(), ("TERM", "dumb")),
            (format!("{line} | cat"), ("TERM", "xterm")),
            (format!("{line} --color never"), ("TERM", "xterm")),
        ];
        for (line, env) in plain {
            let shown = on_terminal(&line, &[env]);
            assert!(
                shown.contains("down") && !shown.contains('\u{1b}'),
                "{line} {env:?}: {shown:?}"
            );
        }
        for line in [
            format!("{line} --color always | cat"),
            format!("mcpprobe --color always {command} {path} | cat"),
        ] {
            let shown = on_terminal(&line, &[("NO_COLOR", "1"), ("TERM", "dumb")]);
            assert!(shown.contains("\u{1b}[31mdown"), "{line}: {shown:?}");
        }
    }
}

#[test]
fn stdout_and_stderr_are_judged_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("servers.toml");
    let url = format!("http://127.0.0.1:{}", free_port());
    // With a warning, which goes to stderr.
    let text = format!(
        "[[server]]\nname = \"a\"\nurl = \"{url}\"\n[traces]\nbackend = \"jaeger\"\nurl = \"{url}\"\n"
    );
    fs::write(&path, text).unwrap();
    let path = path.display();
    let warning = |shown: &str| {
        let line = shown.lines().find(|line| line.contains("warning")).unwrap();
        line.contains('\u{1b}')
    };
    let down = |shown: &str| {
        let line = shown.lines().find(|line| line.contains("down")).unwrap();
        line.contains('\u{1b}')
    };
    let shown = on_terminal(&format!("mcpprobe check {path}"), &[]);
    assert!(warning(&shown) && down(&shown), "{shown:?}");
    let shown = on_terminal(&format!("mcpprobe check {path} | cat"), &[]);
    assert!(warning(&shown) && !down(&shown), "{shown:?}");
    let kept = folder.path().join("kept");
    let line = format!("mcpprobe check {path} 2> {}", kept.display());
    let shown = on_terminal(&line, &[]);
    let kept = fs::read_to_string(kept).unwrap();
    assert!(!warning(&kept) && down(&shown), "{shown:?} {kept:?}");
}

#[test]
fn complaints_are_coloured_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("servers.toml");
    fs::write(&path, "evry = 1\n").unwrap();
    for command in ["check", "watch", "status", "config check"] {
        let line = format!("mcpprobe {command} {}", path.display());
        let shown = on_terminal(&line, &[]);
        assert!(
            shown.contains("error") && shown.contains('\u{1b}'),
            "{shown:?}"
        );
        let shown = on_terminal(&format!("{line} 2>&1 | cat"), &[]);
        assert!(
            shown.contains("error") && !shown.contains('\u{1b}'),
            "{shown:?}"
        );
    }
}

#[test]
fn every_reason_is_explained_from_the_command_line() {
    let json = |args: &[&str]| -> Value {
        let output = mcpprobe()
            .args(["explain", "--format", "json"])
            .args(args)
            .output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let all = json(&[]);
    assert_eq!(all["schema"], 1);
    let reasons = all["reasons"].as_array().unwrap();
    assert!(reasons.len() >= 39, "{all:#}");
    let list = text_of(&mcpprobe().arg("explain").output().unwrap());
    let page = fs::read_to_string(here("../probes/README.md")).unwrap();
    for explained in reasons {
        let of = |key: &str| explained[key].as_str().unwrap();
        let (code, meaning, look_first) = (of("reason"), of("meaning"), of("look_first"));
        assert_eq!(json(&[code])["reasons"], serde_json::json!([explained]));
        let one = text_of(&mcpprobe().args(["explain", code]).output().unwrap());
        for cell in [code, meaning, look_first] {
            assert!(one.contains(cell) && page.contains(cell), "{code}: {one}");
        }
        assert!(list.contains(&format!("  {code} ")), "{list}");
        assert!(!explained["layers"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_misspelt_reason_is_3_and_told_the_nearest() {
    for (typed, meant) in [
        ("connection-refused", "connection_refused"),
        ("dns_timout", "dns_timeout"),
        ("Timeout", "timeout"),
    ] {
        let output = mcpprobe().args(["explain", typed]).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let said = text_of(&output);
        assert!(said.contains(&format!("did you mean `{meant}`")), "{said}");
    }
}

#[test]
fn check_tells_a_person_once_where_to_read_on() {
    let up = Small::start(healthy).url();
    let dead = format!("http://127.0.0.1:{}", free_port());
    let hint = "mcpprobe explain connection_refused";
    let shown = on_terminal(&format!("mcpprobe check {dead} {up} {dead}"), &[]);
    assert_eq!(shown.matches(hint).count(), 1, "{shown}");
    for line in [
        format!("mcpprobe check {up}"),
        format!("mcpprobe check {dead} | cat"),
        format!("mcpprobe check --format json {dead}"),
    ] {
        let shown = on_terminal(&line, &[]);
        assert!(!shown.contains("explain"), "{line}: {shown}");
    }
}
