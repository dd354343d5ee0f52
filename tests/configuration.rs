//! Configurations: everything that is wrong with each file of `data/config/` is said, at its line; no file makes
//! us panic; and a secret is shown nowhere.
//!
//! A file's first lines say what has to be said of it: `#! LINE: PHRASE | PHRASE` is one error whose mark starts in
//! that line (`*`: any, or none) and whose text holds every phrase; `#? LINE: ...` is a warning, `#= NAME=VALUE` a variable
//! of the environment. Nothing else may be said. `valid_*.toml` have no errors.

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::support::{Asked, Small, free_port, healthy, here, mcpprobe, rpc_error, rpc_result};

/// In the environment of every `config check` here.
const TOKEN: (&str, &str) = ("MCPPROBE_TEST_TOKEN", "token-of-the-environment");

fn config_check(path: &Path) -> Output {
    mcpprobe()
        .args(["config", "check"])
        .arg(path)
        .env(TOKEN.0, TOKEN.1)
        .envs(variables(path))
        .output()
        .unwrap()
}

/// What a file's first lines put into the environment.
fn variables(path: &Path) -> Vec<(String, String)> {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().take_while(|line| line.starts_with('#'));
    let variables = lines.filter_map(|line| line.strip_prefix("#=")?.trim().split_once('='));
    variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// `.toml` files of `data/config/`, sorted.
fn files() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(here("data/config"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

fn is_valid(path: &Path) -> bool {
    path.file_name()
        .unwrap()
        .to_string_lossy()
        .starts_with("valid_")
}

/// What has to be said, or was.
#[derive(Debug)]
struct Said {
    level: &'static str,
    line: String,
    text: String,
}

impl Said {
    fn fulfils(&self, expected: &Self) -> bool {
        self.level == expected.level
            && (expected.line == "*" || self.line == expected.line)
            && expected
                .text
                .split(" | ")
                .all(|phrase| self.text.contains(phrase.trim()))
    }
}

/// The head of a file.
fn expected(path: &Path) -> Vec<Said> {
    let bytes = fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    text.trim_start_matches('\u{feff}')
        .lines()
        .take_while(|line| line.starts_with('#'))
        .filter_map(|line| {
            let (level, rest) = match line.split_at(2) {
                ("#!", rest) => ("error", rest),
                ("#?", rest) => ("warning", rest),
                _ => return None,
            };
            let (line, text) = rest
                .split_once(':')
                .unwrap_or_else(|| panic!("{}: {line}", path.display()));
            Some(Said {
                level,
                line: line.trim().to_owned(),
                text: text.trim().to_owned(),
            })
        })
        .collect()
}

/// The complaints of an output, each with the line that its mark starts in.
fn said(stderr: &str, path: &Path) -> Vec<Said> {
    let mut said: Vec<Said> = Vec::new();
    let place = format!("--> {}:", path.display());
    for line in stderr.lines() {
        let level = ["error", "warning"]
            .into_iter()
            .find(|level| line.starts_with(&format!("{level}: ")));
        if let Some(level) = level {
            said.push(Said {
                level,
                line: "none".to_owned(),
                text: String::new(),
            });
        }
        let Some(last) = said.last_mut() else {
            continue;
        };
        if let Some((_, at)) = line.split_once(&place) {
            last.line = at.split(':').next().unwrap().to_owned();
        }
        last.text.push_str(line);
        last.text.push('\n');
    }
    said
}

fn problems(path: &Path) -> Vec<String> {
    let output = config_check(path);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let mut problems = Vec::new();
    let code = if is_valid(path) { 0 } else { 3 };
    if output.status.code() != Some(code) {
        problems.push(format!("ended with {}, not {code}", output.status));
    }
    if !is_valid(path) && !output.stdout.is_empty() {
        problems.push("stdout is not empty".to_owned());
    }
    if stderr
        .chars()
        .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}')
    {
        problems.push("the output holds control characters".to_owned());
    }
    let mut said = said(&stderr, path);
    for expected in expected(path) {
        match said.iter().position(|said| said.fulfils(&expected)) {
            Some(index) => drop(said.remove(index)),
            None => problems.push(format!(
                "no {} in line {}: {}",
                expected.level, expected.line, expected.text
            )),
        }
    }
    for surplus in said {
        problems.push(format!(
            "not expected in line {}: {}",
            surplus.line,
            cut(surplus.text.trim())
        ));
    }
    problems
}

/// Some lines are very long.
fn cut(text: &str) -> String {
    text.chars().take(500).collect()
}

#[test]
fn each_file_is_told_everything_that_is_wrong_with_it_and_nothing_else() {
    let files = files();
    let invalid = files.iter().filter(|path| !is_valid(path)).count();
    assert!(invalid >= 35, "only {invalid} invalid files");
    assert!(files.len() > invalid, "no valid files");
    let mut failed = Vec::new();
    for path in &files {
        if !is_valid(path) && !expected(path).iter().any(|said| said.level == "error") {
            failed.push(format!("{}: expects no error", path.display()));
        }
        let problems = problems(path);
        if !problems.is_empty() {
            let name = path.file_name().unwrap().to_string_lossy();
            failed.push(format!("{name}:\n  {}", problems.join("\n  ")));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} files:\n{}",
        failed.len(),
        files.len(),
        failed.join("\n")
    );
}

#[test]
fn what_is_no_file_of_text_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("folder.toml")).unwrap();
    fs::File::create(path("large.toml"))
        .unwrap()
        .set_len(17 * 1024 * 1024)
        .unwrap();
    let mut file = fs::File::create(path("binary.toml")).unwrap();
    file.write_all(&[0, 159, 146, 150, 255]).unwrap();
    for name in [
        "missing.toml",
        "folder.toml",
        "large.toml",
        "binary.toml",
        "binary.toml/below",
    ] {
        for command in [
            &["config", "check"][..],
            &["check"],
            &["watch", "--once"],
            &["status"],
        ] {
            let output = mcpprobe().args(command).arg(path(name)).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                output.status.code(),
                Some(3),
                "{command:?} {name}: {stderr}"
            );
            assert!(stderr.contains(name), "{command:?} {name}: {stderr}");
            assert!(output.stdout.is_empty(), "{command:?} {name}");
        }
    }
}

#[test]
fn a_file_without_servers_can_be_written_but_not_checked_or_watched() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("empty.toml", ""),
        ("blank.toml", "\n\n  # nothing\n"),
        ("empty_list.toml", "server = []\n"),
        ("defaults.toml", "[defaults]\nevery = \"5s\"\n"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let output = config_check(&path);
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("0 servers"),
            "{name}: {output:?}"
        );
        for command in [&["check"][..], &["watch"], &["watch", "--once"]] {
            let output = mcpprobe().args(command).arg(&path).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(
                output.status.code(),
                Some(3),
                "{command:?} {name}: {stderr}"
            );
            assert!(
                stderr.contains("[[server]]"),
                "{command:?} {name}: {stderr}"
            );
        }
        let left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|entry| entry.to_string_lossy().contains(".db"))
            .collect();
        assert!(left.is_empty(), "a store was made for nothing: {left:?}");
    }
}

#[test]
fn a_file_in_the_current_folder_is_found_and_so_is_what_it_names() {
    // Paths in a file are relative to it; it can be named without any folder.
    let folder = tempfile::tempdir().unwrap();
    let text = "[[server]]\nname = \"a\"\ncommand = [\"./server.sh\", \"${file:token}\"]\ntimeout = \"20s\"\n";
    fs::write(folder.path().join("servers.toml"), text).unwrap();
    fs::write(folder.path().join("token"), "from-a-file\n").unwrap();
    let script = folder.path().join("server.sh");
    let mut file = fs::File::create(&script).unwrap();
    file.write_all(b"#!/bin/sh\necho \"$1\" >> seen\nexit 1\n")
        .unwrap();
    drop(file);
    let chmod = std::process::Command::new("chmod")
        .arg("+x")
        .arg(&script)
        .status()
        .unwrap();
    assert!(chmod.success());
    for name in ["servers.toml", "./servers.toml"] {
        fs::remove_file(folder.path().join("seen")).ok();
        let output = mcpprobe()
            .args(["check", name])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let seen = fs::read_to_string(folder.path().join("seen")).unwrap_or_default();
        assert!(seen.contains("from-a-file"), "check {name}: {output:?}");
    }
}

#[test]
fn ten_thousand_wrong_servers_are_answered_in_time() {
    // One key misspelt in a generated file. The pages of complaints may end early, but must not take for ever.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("many.toml");
    let text: String = (0..10_000)
        .map(|n| {
            format!("[[server]]\nname = \"n{n}\"\nurl = \"http://127.0.0.1:9/\"\nevry = \"5s\"\n")
        })
        .collect();
    fs::write(&path, text).unwrap();
    let begun = std::time::Instant::now();
    let mut child = mcpprobe()
        .args(["config", "check"])
        .arg(&path)
        .stderr(fs::File::create(folder.path().join("stderr")).unwrap())
        .spawn()
        .unwrap();
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if begun.elapsed().as_secs() > 20 {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("no answer within 20 s");
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert_eq!(code, Some(3));
    let stderr = fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(stderr.contains("evry"), "{}", cut(&stderr));
}

/// Changes some bytes of `bytes`.
fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    const PIECES: [&str; 26] = [
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "\"",
        "'",
        "\"\"\"",
        "'''",
        "\\",
        "=",
        ".",
        ",",
        "#",
        "\n",
        "\r",
        "${",
        "${file:",
        "}",
        "\0",
        "\u{feff}",
        "ß",
        "天",
        "🌦",
        "9999999999999999999",
    ];
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(0..=bytes.len());
        let end = (at + random.usize(1..=40)).min(bytes.len());
        match random.u8(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = random.usize(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
            4 => bytes.truncate(at),
            _ => {
                let piece = PIECES[random.usize(0..PIECES.len())];
                bytes.splice(at..at, piece.bytes());
            }
        }
    }
}

/// What was wrong with one text, if anything: a panic, or a complaint that cannot be shown.
fn trouble(text: &str) -> Option<String> {
    let env = |name: &str| (name == TOKEN.0).then(|| TOKEN.1.to_owned());
    let folder = here("data/config");
    let parsed = catch_unwind(AssertUnwindSafe(|| {
        match mcpprobe::config::parse(text, "servers.toml", &folder, &env, SystemTime::now()) {
            Ok(loaded) => (loaded.doubts.to_string(), Ok(loaded)),
            Err(complaints) => (complaints.to_string(), Err(complaints)),
        }
    }));
    match parsed {
        Err(_) => Some("a panic".to_owned()),
        Ok((_, Ok(loaded))) => {
            (!loaded.doubts.errors.is_empty()).then(|| "accepted with errors".to_owned())
        }
        Ok((_, Err(complaints))) if complaints.errors.is_empty() => {
            Some("refused without an error".to_owned())
        }
        Ok((shown, Err(complaints))) => complaints.errors.iter().find_map(|complaint| {
            let line = complaints.line(complaint);
            if complaint.span.is_some() && line.is_none() {
                return Some(format!("no line: {complaint:?}"));
            }
            let title: String = complaint.title.chars().take(20).collect();
            (title.chars().all(|c| c.is_ascii_graphic() || c == ' ') && !shown.contains(&title))
                .then(|| format!("not shown: {complaint:?}"))
        }),
    }
}

/// Bytes of any kind, and pieces of TOML in any order.
#[test]
fn no_text_makes_it_panic() {
    const PIECES: [&str; 20] = [
        "[[server]]\n",
        "[defaults]\n",
        "[store]\n",
        "[traces]\n",
        "name = ",
        "url = ",
        "command = ",
        "headers = ",
        "proxy = ",
        "resolver = ",
        "ip = ",
        "ca_file = ",
        "cert_file = ",
        "\"http://a.example/mcp\"\n",
        "\"unix:///a:/b\"\n",
        "\"tls/client.pem\"\n",
        "[\"a\"]\n",
        "{ a = \"b\" }\n",
        "\"127.0.0.1\"\n",
        "4\n",
    ];
    let mut random = fastrand::Rng::with_seed(20_261_121);
    let mut failed = Vec::new();
    for _ in 0..4_000 {
        let bytes: Vec<_> = std::iter::repeat_with(|| random.u8(..)).take(60).collect();
        let noise = String::from_utf8_lossy(&bytes).into_owned();
        let pieces = std::iter::repeat_with(|| PIECES[random.usize(0..PIECES.len())]);
        let pieces: String = pieces.take(12).collect();
        for text in [noise, pieces] {
            failed.extend(trouble(&text).map(|what| format!("{what}:\n{text}")));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn no_file_makes_it_panic() {
    const MUTATIONS: usize = 400;
    let valid: Vec<_> = files().into_iter().filter(|path| is_valid(path)).collect();
    assert!(!valid.is_empty());
    let mut random = fastrand::Rng::with_seed(20_261_120);
    let (mut failed, mut refused) = (Vec::new(), 0);
    for path in &valid {
        let original = fs::read(path).unwrap();
        for _ in 0..MUTATIONS {
            let mut bytes = original.clone();
            mutate(&mut bytes, &mut random);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some(what) = trouble(&text) {
                failed.push(format!("{what}:\n{text}"));
            }
            refused += usize::from(
                mcpprobe::config::parse(&text, "f", Path::new("/"), &|_| None, SystemTime::now())
                    .is_err(),
            );
        }
    }
    assert!(refused > MUTATIONS, "the mutations do nothing");
    assert!(
        failed.is_empty(),
        "{} of {} texts:\n{}",
        failed.len(),
        valid.len() * MUTATIONS,
        failed
            .iter()
            .take(5)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
}

/// Stands for a secret; every shape of it that would give it away.
const SECRET: &str = "s3cr3t-Zq7";

/// The places of `output` that hold the secret, in clear or in base64 with what it is sent with.
fn leaks(what: &str, bytes: &[u8], secrets: &[String]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    secrets
        .iter()
        .filter_map(|secret| {
            let at = text.find(secret.as_str())?;
            let before: String = text[..at].chars().rev().take(160).collect();
            let before: String = before.chars().rev().collect();
            Some(format!("{what}: ...{before}{secret}"))
        })
        .collect()
}

fn both_streams(output: &Output) -> Vec<u8> {
    [&output.stdout[..], &output.stderr].concat()
}

/// `config check` of `text`: the places where it shows the secret.
fn leaks_of_config_check(what: &str, text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("servers.toml");
    fs::write(&path, text.replace("SECRET", SECRET)).unwrap();
    fs::write(folder.path().join("token"), SECRET).unwrap();
    let output = mcpprobe()
        .args(["config", "check"])
        .arg(&path)
        .env("MCPPROBE_TEST_HIDDEN", SECRET)
        .env(
            "MCPPROBE_TEST_URL",
            format!("ftp://user:{SECRET}@a.example/?k={SECRET}"),
        )
        .env("MCPPROBE_TEST_LINE_END", format!("{SECRET}\nX"))
        .output()
        .unwrap();
    let mut found = leaks(what, &both_streams(&output), &[SECRET.to_owned()]);
    if output.status.code() != Some(3) {
        found.push(format!("{what}: has to be an error, {output:?}"));
    }
    found
}

#[test]
fn no_secret_is_shown_with_an_error_on_a_neighbouring_line() {
    let secret_lines = [
        "headers = { Authorization = \"Bearer SECRET\" }",
        "headers = { Authorization = \"Bearer ${MCPPROBE_TEST_HIDDEN}\" }",
        "headers.Authorization = \"\"\"Bearer SECRET\"\"\"",
        "url = \"http://user:SECRET@127.0.0.1:9/mcp\"",
        "url = \"http://127.0.0.1:9/mcp?key=SECRET\"",
        "proxy = \"http://user:SECRET@127.0.0.1:9\"",
        "proxy = \"socks5://user:SECRET@127.0.0.1:9\"",
        "proxy = \"http://user:SECRET@\"",
        "env = { TOKEN = \"SECRET\" }",
        "env = { TOKEN = \"${file:token}\" }",
    ];
    let mut failed = Vec::new();
    for secret in secret_lines {
        let url = if secret.starts_with("url") {
            ""
        } else {
            "url = \"http://127.0.0.1:9/\"\n"
        };
        for (before, after) in [
            ("evry = \"5s\"", "timeuot = \"1s\""),
            ("era = \"x\"", "tags = 1"),
            ("every = \"${\"", "profile = \"x\""),
            ("every =", "timeout = 1s"),
            ("command = [\"a\"]", "start = []"),
        ] {
            let text = format!("[[server]]\n{url}{before}\n{secret}\n{after}\n");
            failed.extend(leaks_of_config_check(&text, &text));
        }
    }
    assert!(
        failed.is_empty(),
        "{} leaks:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// What is wrong with a line of a `[[server]]` that holds the secret, and the line.
const WRONG_LINES: &[(&str, &str)] = &[
    (
        "a wrong type beside it",
        "headers = { X-N = 1, Authorization = \"Bearer SECRET\" }",
    ),
    ("a bad name", "headers = { \"X A\" = \"SECRET\" }"),
    (
        "a value that cannot be sent",
        "headers = { X-A = \"SECRET\\n\" }",
    ),
    (
        "a variable that cannot be sent",
        "headers = { X-A = \"${MCPPROBE_TEST_LINE_END}\" }",
    ),
    (
        "an unset variable behind it",
        "headers = { X-A = \"SECRET${MCPPROBE_TEST_UNSET}\" }",
    ),
    (
        "an unclosed variable behind it",
        "headers = { X-A = \"SECRET${MCPPROBE\" }",
    ),
    (
        "a list in the place of a text",
        "headers = { Authorization = [\"Bearer SECRET\"] }",
    ),
    (
        "a text in the place of a table",
        "headers = \"Authorization: Bearer SECRET\"",
    ),
    (
        "a list in the place of a table",
        "headers = [\"Authorization: Bearer SECRET\"]",
    ),
    (
        "a misspelt `headers`",
        "header = { Authorization = \"Bearer SECRET\" }",
    ),
    (
        "a misspelt `headers` in dots",
        "header.Authorization = \"Bearer SECRET\"",
    ),
    (
        "`headers` twice",
        "headers.A = \"SECRET\"\nheaders = { A = \"SECRET\" }",
    ),
    (
        "a header twice",
        "headers = { A = \"SECRET\", A = \"SECRET\" }",
    ),
    (
        "a string without an end",
        "headers = { Authorization = \"Bearer SECRET }",
    ),
    (
        "a table without an end",
        "headers = { Authorization = \"Bearer SECRET\"",
    ),
    ("no quotes", "headers = { Authorization = SECRET }"),
    ("a missing comma", "headers = { A = \"SECRET\" B = \"x\" }"),
    (
        "a wrong type beside a variable",
        "env = { N = 1, TOKEN = \"SECRET\" }",
    ),
    (
        "a list in the place of the environment",
        "env = [\"TOKEN=SECRET\"]",
    ),
    ("a misspelt `env`", "environ = { TOKEN = \"SECRET\" }"),
    (
        "another table's key",
        "[server.header]\nAuthorization = \"Bearer SECRET\"",
    ),
];

/// The same of a whole file.
const WRONG_FILES: &[(&str, &str)] = &[
    (
        "a bad scheme",
        "[[server]]\nname = \"a\"\nurl = \"ftp://user:SECRET@a.example/\"\n",
    ),
    (
        "a bad port",
        "[[server]]\nname = \"a\"\nurl = \"http://user:SECRET@a.example:99999/?key=SECRET\"\n",
    ),
    (
        "a bad query",
        "[[server]]\nname = \"a\"\nurl = \"a.example/?key=SECRET\"\n",
    ),
    (
        "an unset variable in the URL",
        "[[server]]\nname = \"a\"\nurl = \"http://u:SECRET@${MCPPROBE_TEST_UNSET}/\"\n",
    ),
    (
        "a bad URL from a variable",
        "[[server]]\nname = \"a\"\nurl = \"${MCPPROBE_TEST_URL}\"\n",
    ),
    (
        "url and command",
        "[[server]]\nname = \"a\"\nurl = \"http://u:SECRET@a.example/?k=SECRET\"\ncommand = [\"a\"]\n",
    ),
    (
        "a misspelt `url`",
        "[[server]]\nname = \"a\"\nurll = \"http://u:SECRET@a.example/?k=SECRET\"\n",
    ),
    (
        "a list of URLs",
        "[[server]]\nname = \"a\"\nurl = [\"http://u:SECRET@a.example/?k=SECRET\"]\n",
    ),
    (
        "servers in a list",
        "server = [ 1, { name = \"a\", url = \"http://u:SECRET@a.example/\" } ]\n",
    ),
    (
        "a server in one line",
        "server = [ { name = \"a\", url = \"http://a.example/\", evry = 1, headers = { A = \"SECRET\" } } ]\n",
    ),
    (
        "[defaults]",
        "[defaults]\nheaders = { \"X A\" = \"SECRET\" }\n[[server]]\nname = \"a\"\nurl = \"http://a.example\"\n",
    ),
    (
        "[telemetry]",
        "[telemetry]\nendpoint = \"grpc://u:SECRET@a.example/?k=SECRET\"\n",
    ),
    (
        "a header's name in [telemetry]",
        "[telemetry]\nheaders = { \"x a\" = \"SECRET\" }\n",
    ),
    (
        "a header's value in [telemetry]",
        "[telemetry]\nheaders = { X-A = \"SECRET\\n\" }\n",
    ),
    (
        "a key in the place of its file",
        "[telemetry]\ncert_file = \"token\"\nkey_file = \"SECRET\"\n",
    ),
    (
        "a key's lines in the place of its file",
        "[telemetry]\nkey_file = \"\"\"-----BEGIN PRIVATE KEY-----\nSECRET\nSECRET==\n-----END\"\"\"\n",
    ),
    (
        "a key from a variable in the place of its file",
        "[telemetry]\ncert_file = \"${MCPPROBE_TEST_LINE_END}\"\nca_file = \"-----BEGIN SECRET\"\n",
    ),
    (
        "[traces]",
        "[telemetry]\nendpoint = \"http://a.example\"\n[traces]\nbackend = \"jaeger\"\nurl = \"ftp://u:SECRET@a.example/\"\n",
    ),
];

#[test]
fn no_secret_is_shown_with_an_error_on_its_own_line() {
    let server = "[[server]]\nname = \"a\"\nurl = \"http://127.0.0.1:9/\"\n";
    let mut failed = Vec::new();
    for (what, line) in WRONG_LINES {
        failed.extend(leaks_of_config_check(what, &format!("{server}{line}\n")));
    }
    for (what, text) in WRONG_FILES {
        failed.extend(leaks_of_config_check(what, text));
    }
    assert!(
        failed.is_empty(),
        "{} leaks:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn no_secret_is_shown_of_a_url_that_is_typed_wrong_on_the_command_line() {
    let mut failed = Vec::new();
    for url in [
        format!("http://user:{SECRET}@a.example:99999/mcp"),
        format!("http://a b.example/mcp?key={SECRET}"),
        format!("ftp://user:{SECRET}@a.example/"),
        format!("http://user:{SECRET}@/mcp"),
    ] {
        let output = mcpprobe().args(["check", &url]).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        failed.extend(leaks(&url, &both_streams(&output), &[SECRET.to_owned()]));
    }
    assert!(
        failed.is_empty(),
        "{} leaks:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// A server that says back everything it was told, in the place that its path names; and an OTLP receiver.
struct Parrot {
    server: Small,
    spans: Arc<Mutex<Vec<u8>>>,
}

/// Where the parrot puts what it was told.
const PLACES: [&str; 13] = [
    "jsonrpc_error",
    "jsonrpc_error_data",
    "status",
    "status_text",
    "challenge",
    "redirect",
    "content_type",
    "html",
    "not_json",
    "malformed",
    "version",
    "server",
    "tools_error",
];

impl Parrot {
    fn start() -> Self {
        let spans: Arc<Mutex<Vec<u8>>> = Arc::default();
        let taken = Arc::clone(&spans);
        let server = Small::start(move |asked| {
            if asked.target.starts_with("/v1/traces") {
                taken.lock().unwrap().extend_from_slice(&asked.bytes);
                return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    .to_owned();
            }
            let told = format!("{} | {}", asked.target, asked.head.replace("\r\n", " | "));
            let place = asked.target.split(['/', '?']).nth(1).unwrap_or_default();
            parroted(place, asked, &told)
        });
        Self { server, spans }
    }
}

fn parroted(place: &str, asked: &Asked, told: &str) -> String {
    let answer = |status: &str, headers: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    match place {
        "jsonrpc_error" => rpc_error(asked, "200 OK", -32000, told),
        "jsonrpc_error_data" => {
            let error = serde_json::json!({
                "jsonrpc": "2.0", "id": asked.body["id"],
                "error": { "code": -32000, "message": "no", "data": told },
            });
            answer(
                "500 No",
                "Content-Type: application/json\r\n",
                &error.to_string(),
            )
        }
        "status" => answer(
            "503 Service Unavailable",
            "Content-Type: text/plain\r\n",
            told,
        ),
        "status_text" => answer(&format!("503 {told}"), "", ""),
        "challenge" => {
            let realm = told.replace('"', "'");
            answer(
                "401 Unauthorized",
                &format!("WWW-Authenticate: Bearer realm=\"{realm}\"\r\n"),
                told,
            )
        }
        "redirect" => {
            let target = asked
                .target
                .replace("/redirect", "http://127.0.0.1:9/elsewhere");
            let token = asked.header("authorization").replace(' ', "+");
            answer(
                "307 Temporary Redirect",
                &format!("Location: {target}&was={token}\r\n"),
                "",
            )
        }
        "content_type" => answer(
            "200 OK",
            &format!("Content-Type: text/plain; was={told}\r\n"),
            "",
        ),
        "html" => answer(
            "200 OK",
            "Content-Type: text/html\r\n",
            &format!("<title>{told}</title>{told}"),
        ),
        "not_json" => answer("200 OK", "Content-Type: application/json\r\n", told),
        "malformed" => format!("{told}\r\n\r\n"),
        "version" => rpc_result(
            asked,
            &serde_json::json!({
                "protocolVersion": told, "capabilities": {}, "serverInfo": { "name": "p", "version": "1" },
            }),
        ),
        "server" if asked.method_is("initialize") => rpc_result(
            asked,
            &serde_json::json!({
                "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
                "serverInfo": { "name": told, "version": asked.header("authorization") },
            }),
        ),
        "tools_error" if asked.method_is("tools/list") => rpc_error(asked, "200 OK", -32000, told),
        _ => healthy(asked),
    }
}

/// A credential: what of a `[[server]]` holds it, and every shape in which it must not come back.
fn credentials(origin: &str, place: &str) -> Vec<(&'static str, String, Vec<String>)> {
    let url = |rest: &str| format!("url = \"http://{origin}/{place}{rest}\"\n");
    let secrets = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    vec![
        (
            "bearer",
            url("?x=y") + "headers = { Authorization = \"Bearer lit-s3cr3t-1\" }\n",
            secrets(&["lit-s3cr3t-1"]),
        ),
        (
            "basic",
            url("?x=y") + "headers = { Authorization = \"Basic dXNlcjpsaXQtczNjcjN0\" }\n",
            secrets(&["dXNlcjpsaXQtczNjcjN0"]),
        ),
        (
            "variable",
            url("?x=y") + "headers = { Authorization = \"Bearer ${MCPPROBE_TEST_HIDDEN}\" }\n",
            secrets(&[SECRET]),
        ),
        (
            "file",
            url("?x=y") + "headers = { X-Api-Key = \"${file:token}\" }\n",
            secrets(&["file-s3cr3t-1"]),
        ),
        (
            "several words",
            url("?x=y") + "headers = { X-Api-Key = \"first-s3cr3t second-s3cr3t third\" }\n",
            secrets(&["first-s3cr3t", "second-s3cr3t"]),
        ),
        (
            "cookie",
            url("?x=y") + "headers = { Cookie = \"session=cookie-s3cr3t; theme=dark\" }\n",
            secrets(&["cookie-s3cr3t"]),
        ),
        (
            "query",
            url("?key=query-s3cr3t&b=c"),
            secrets(&["query-s3cr3t"]),
        ),
        (
            "encoded query",
            url("?key=quer%79%2Fs3cr3t+2"),
            secrets(&["quer%79%2Fs3cr3t", "query/s3cr3t 2"]),
        ),
        (
            "query without a name",
            url("?bare-s3cr3t"),
            secrets(&["bare-s3cr3t"]),
        ),
        (
            "variable in the query",
            url("?key=${MCPPROBE_TEST_HIDDEN}"),
            secrets(&[SECRET]),
        ),
        (
            "variable in the path",
            url("/${MCPPROBE_TEST_HIDDEN}"),
            secrets(&[SECRET]),
        ),
        (
            "literal beside a variable",
            url("?key=beside-s3cr3t&b=${MCPPROBE_TEST_HIDDEN}"),
            secrets(&["beside-s3cr3t", SECRET]),
        ),
        (
            "user",
            format!("url = \"http://user:pass-s3cr3t@{origin}/{place}?x=y\"\n"),
            secrets(&["pass-s3cr3t", "dXNlcjpwYXNzLXMzY3IzdA"]),
        ),
        (
            "user beside a variable",
            format!(
                "url = \"http://user:pass-s3cr3t@{origin}/{place}?b=${{MCPPROBE_TEST_HIDDEN}}\"\n"
            ),
            secrets(&["pass-s3cr3t", SECRET]),
        ),
    ]
}

#[test]
fn no_secret_is_shown_when_a_server_says_it_back() {
    let parrot = Parrot::start();
    let origin = format!("127.0.0.1:{}", parrot.server.port);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    fs::write(folder.path().join("token"), "file-s3cr3t-1\n").unwrap();
    let mut text =
        format!("[defaults]\ntimeout = \"20s\"\n[telemetry]\nendpoint = \"http://{origin}\"\n");
    let mut secrets = vec![];
    for place in PLACES {
        for (name, lines, shapes) in credentials(&origin, place) {
            text.push_str(&format!("[[server]]\nname = \"{place} {name}\"\n{lines}"));
            secrets.extend(shapes);
        }
    }
    secrets.sort();
    secrets.dedup();
    fs::write(&file, text).unwrap();
    let run = |args: &[&str]| {
        let output = mcpprobe()
            .args(args)
            .arg(&file)
            .env("MCPPROBE_TEST_HIDDEN", SECRET)
            .output()
            .unwrap();
        assert_ne!(output.status.code(), Some(101), "{output:?}");
        output
    };
    let mut failed = Vec::new();
    for args in [
        &["check"][..],
        &["check", "--format", "json"],
        &["watch", "--once"],
        &["watch", "--once", "--log-format", "json"],
        &["status"],
        &["status", "--format", "json"],
        &["config", "check"],
    ] {
        let output = run(args);
        let text = both_streams(&output);
        assert!(text.len() > 40, "{args:?} says nothing: {output:?}");
        failed.extend(leaks(&args.join(" "), &text, &secrets));
    }
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("mcpprobe.db") {
            failed.extend(leaks(&name, &fs::read(&path).unwrap(), &secrets));
        }
    }
    let store = fs::read(folder.path().join("mcpprobe.db")).unwrap();
    assert!(
        String::from_utf8_lossy(&store).contains("cookie"),
        "the store holds no names"
    );
    let spans = parrot.spans.lock().unwrap();
    assert!(
        String::from_utf8_lossy(&spans).contains("mcp.session"),
        "no spans have come"
    );
    failed.extend(leaks("spans", &spans, &secrets));
    assert!(
        failed.is_empty(),
        "{} leaks:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn no_secret_of_the_environment_is_shown_when_a_program_says_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    fs::write(folder.path().join("token"), "file-s3cr3t-1\n").unwrap();
    // Answers every request with an error that holds the whole environment.
    let answering = r#"while read -r line; do id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/'); printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"no %s %s %s"}}\n' "$id" "$A" "$B" "$C"; done"#;
    let dying = "echo \"no $A $B $C\" >&2; exit 1";
    let env =
        "env = { A = \"lit-s3cr3t-1\", B = \"${MCPPROBE_TEST_HIDDEN}\", C = \"${file:token}\" }\n";
    let port = free_port();
    let text = format!(
        "[[server]]\nname = \"answering\"\ncommand = [\"sh\", \"-c\", '''{answering}''']\n{env}\
         [[server]]\nname = \"dying\"\ncommand = [\"sh\", \"-c\", '''{dying}''']\n{env}\
         [[server]]\nname = \"started\"\nurl = \"http://127.0.0.1:{port}/mcp\"\nstart = [\"sh\", \"-c\", '''{dying}''']\n{env}"
    );
    fs::write(&file, text).unwrap();
    let secrets = ["lit-s3cr3t-1", SECRET, "file-s3cr3t-1"].map(str::to_owned);
    let mut failed = Vec::new();
    for args in [
        &["check"][..],
        &["check", "--format", "json"],
        &["watch", "--once"],
        &["watch", "--once", "--log-format", "json"],
        &["status", "--format", "json"],
    ] {
        let output = mcpprobe()
            .args(args)
            .arg(&file)
            .env("MCPPROBE_TEST_HIDDEN", SECRET)
            .output()
            .unwrap();
        let text = both_streams(&output);
        assert!(
            String::from_utf8_lossy(&text).contains("answering"),
            "{output:?}"
        );
        failed.extend(leaks(&args.join(" "), &text, &secrets));
    }
    for name in ["mcpprobe.db", "mcpprobe.db-wal"] {
        let bytes = fs::read(folder.path().join(name)).unwrap_or_default();
        failed.extend(leaks(name, &bytes, &secrets));
    }
    assert!(
        failed.is_empty(),
        "{} leaks:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn a_started_program_gets_a_minimal_environment_and_no_secret_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    let port = free_port();
    // Each writes down what it gets; the token is used by another server of the same file.
    let text = format!(
        "[[server]]\nname = \"other\"\nurl = \"http://127.0.0.1:{port}/\"\n\
         headers = {{ Authorization = \"Bearer ${{MCPPROBE_TEST_HIDDEN}}\" }}\n\
         [[server]]\nname = \"stdio\"\ncommand = [\"sh\", \"-c\", \"env > command.env\"]\nenv = {{ OWN = \"set\" }}\n\
         [[server]]\nname = \"started\"\nurl = \"http://127.0.0.1:{port}/\"\n\
         start = [\"sh\", \"-c\", \"env > start.env\"]\nenv = {{ OWN = \"set\" }}\n"
    );
    fs::write(&file, text).unwrap();
    let output = mcpprobe()
        .arg("check")
        .arg(&file)
        .env("MCPPROBE_TEST_HIDDEN", SECRET)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("NOTIFY_SOCKET", "/no/such/socket")
        .env("LC_TIME", "C")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    for name in ["command.env", "start.env"] {
        let got = fs::read_to_string(folder.path().join(name)).unwrap();
        let names: Vec<_> = got
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0))
            .collect();
        for there in ["PATH", "LC_TIME", "OWN"] {
            assert!(names.contains(&there), "{name}: {names:?}");
        }
        let usual = [
            "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER", "OWN",
            // The shell's own.
            "PWD", "OLDPWD", "SHLVL", "_",
        ];
        let others: Vec<_> = names
            .into_iter()
            .filter(|name| !usual.contains(name) && !name.starts_with("LC_"))
            .collect();
        assert!(others.is_empty(), "{name}: {others:?}");
        assert!(!got.contains(SECRET), "{name}");
    }
}

#[test]
fn no_part_of_a_secret_is_shown_when_its_text_is_cut() {
    // Wherever a text is cut to its longest, a secret may lie across the cut.
    const LONG: &str = "first-part-of-it-0123456789-abcdefghijklmnopqrstuvwxyz-last-part-of-it";
    let server = Small::start(|asked| {
        let mut words = asked.target.trim_start_matches('/').split('/');
        let place = words.next().unwrap_or_default();
        let before = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let text = "x".repeat(before) + &asked.header("x-api-key") + " and what comes after it";
        match place {
            "error" => rpc_error(asked, "200 OK", -32000, &text),
            _ => format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            ),
        }
    });
    let mut text = String::new();
    for (place, lengths) in [("error", 320..=400), ("text", 0..=60)] {
        for before in lengths.step_by(8) {
            let url = format!("http://127.0.0.1:{}/{place}/{before}", server.port);
            text.push_str(&format!(
                "[[server]]\nname = \"{place} {before}\"\nurl = \"{url}\"\nheaders = {{ X-Api-Key = \"{LONG}\" }}\n"
            ));
        }
    }
    // The last 4 KiB of stderr are kept.
    for after in (4096 - LONG.len()..=4096).step_by(8) {
        let script = format!("printf '%s%{after}s' \\\"$A\\\" end >&2; exit 1");
        text.push_str(&format!(
            "[[server]]\nname = \"stderr {after}\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\nenv = {{ A = \"${{MCPPROBE_TEST_HIDDEN}}\" }}\n"
        ));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    fs::write(&file, text).unwrap();
    let output = mcpprobe()
        .arg("check")
        .arg(&file)
        .env("MCPPROBE_TEST_HIDDEN", LONG)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let parts = [
        "first-part-of",
        "last-part-of-it",
        "0123456789",
        "opqrstuvwxyz",
    ];
    let shown = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<_> = shown
        .lines()
        .filter(|line| parts.iter().any(|part| line.contains(part)))
        .collect();
    assert!(
        failed.is_empty(),
        "{} leaks:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn no_secret_of_a_backend_or_receiver_is_shown() {
    let echo = Small::start(|asked| {
        let told = format!("{} {}", asked.target, asked.head.replace("\r\n", " "));
        format!(
            "HTTP/1.1 500 Broken\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{told}",
            told.len()
        )
    });
    let secrets = [
        "lit-s3cr3t-1".to_owned(),
        "bGl0LXMzY3IzdC0x".to_owned(),
        SECRET.to_owned(),
    ];
    let mut failed = Vec::new();
    for port in [free_port(), echo.port] {
        let origin = format!("user:lit-s3cr3t-1@127.0.0.1:{port}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("servers.toml");
        let text = format!(
            "[[server]]\nname = \"a\"\nurl = \"http://127.0.0.1:{}/mcp\"\n\
             [telemetry]\nendpoint = \"http://{origin}/${{MCPPROBE_TEST_HIDDEN}}\"\n\
             [traces]\nbackend = \"jaeger\"\nurl = \"http://{origin}/${{MCPPROBE_TEST_HIDDEN}}\"\nrecheck = [\"1ms\"]\n",
            free_port()
        );
        fs::write(&file, text).unwrap();
        let path = file.to_str().unwrap();
        for args in [
            &["watch", "--once", path][..],
            &["watch", "--once", "--log-format", "json", path],
            &["status", path],
            &["status", "--format", "json", path],
            &[
                "correlate",
                path,
                "--server",
                "a",
                "--at",
                "2026-01-01T00:00:00Z",
            ],
            &[
                "correlate",
                path,
                "--server",
                "a",
                "--at",
                "2026-01-01T00:00:00Z",
                "--format",
                "json",
            ],
            &["check", path],
        ] {
            let output = mcpprobe()
                .args(args)
                .env("MCPPROBE_TEST_HIDDEN", SECRET)
                .output()
                .unwrap();
            assert_ne!(output.status.code(), Some(101), "{output:?}");
            let text = both_streams(&output);
            failed.extend(leaks(&args[..2].join(" "), &text, &secrets));
        }
        let bytes = fs::read(folder.path().join("mcpprobe.db")).unwrap();
        failed.extend(leaks("mcpprobe.db", &bytes, &secrets));
    }
    assert!(
        failed.is_empty(),
        "{} leaks:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn a_user_in_the_url_is_sent_decoded() {
    // RFC 7617: the password that the user has, not its spelling in a URL.
    let seen: Arc<Mutex<String>> = Arc::default();
    let taken = Arc::clone(&seen);
    let server = Small::start(move |asked| {
        *taken.lock().unwrap() = asked.header("authorization");
        healthy(asked)
    });
    let url = format!(
        "http://us%65r:p%40ss%3Aw%2Frd@127.0.0.1:{}/mcp",
        server.port
    );
    let output = mcpprobe().args(["check", &url]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // user:p@ss:w/rd
    assert_eq!(*seen.lock().unwrap(), "Basic dXNlcjpwQHNzOncvcmQ=");
}
