//! The command line as scripts and people use it: exit codes, what is printed where, the JSON contracts to the letter,
//! every option of `check`, and that nothing which was started stays behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Asked, Busy, Demo, Program, Small, check_json, empty_answer, eventually, example, free_port,
    healthy, json_answer, mcpprobe, only_target, rpc_error, rpc_result, run,
};

const STATES: [&str; 5] = ["up", "degraded", "auth_required", "down", "unknown"];
const LAYERS: [&str; 4] = ["transport", "http", "initialize", "tools_list"];
const PHASES: [&str; 7] = [
    "dns",
    "connect",
    "tls",
    "spawn",
    "request",
    "first_byte",
    "body",
];

const DOCUMENT: &str = "schema started_at duration_ms summary targets";
const TARGET: &str = "name endpoint transport state failed_layer reason message http_status jsonrpc_code era \
                      protocol_version server tools started_at duration_ms trace_id layers";
const STATUS_TARGET: &str = "name state since failed_layer reason message last_probe_at trace_id incident suspect \
                             verdict verdict_reason provisional";
const CORRELATE: &str = "schema server incident at verdict provisional reason window backend counts controls queries spans plain rule rule_number asked_at asked queried_at links common_cause";

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn assert_keys(value: &Value, expected: &str) {
    let found: BTreeSet<_> = value
        .as_object()
        .unwrap_or_else(|| panic!("{value}"))
        .keys()
        .map(String::as_str)
        .collect();
    let expected: BTreeSet<_> = expected.split_whitespace().collect();
    assert_eq!(found, expected);
}

#[track_caller]
fn assert_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("{value}"));
    assert!(humantime::parse_rfc3339(text).is_ok(), "{text}");
}

#[track_caller]
fn assert_trace_id(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("{value}"));
    let is_hex = text
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    assert!(text.len() == 32 && is_hex, "{text}");
}

/// A configuration in a folder of its own.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("servers.toml"), text).unwrap();
        Self { folder }
    }

    fn path(&self) -> String {
        self.folder
            .path()
            .join("servers.toml")
            .display()
            .to_string()
    }

    fn below(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn server(name: &str, url: &str) -> String {
    format!("[[server]]\nname = \"{name}\"\nurl = \"{url}\"\n")
}

fn dead_url() -> String {
    format!("http://127.0.0.1:{}/mcp", free_port())
}

/// Accepts connections and says nothing.
struct Mute {
    port: u16,
    accepted: Arc<AtomicUsize>,
}

impl Mute {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                kept.push(stream);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { port, accepted }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    fn until_asked(&self) {
        eventually("a connection", || {
            (self.accepted.load(Ordering::Relaxed) > 0).then_some(())
        });
    }
}

/// Starts `mcpprobe`, sends `signal` once `ready`, and waits for the end.
fn interrupted(args: &[&str], signal: &str, ready: impl FnOnce()) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut program = Program::spawn(
        mcpprobe()
            .args(args)
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap()),
    );
    ready();
    program.signal(signal);
    let code = program.wait();
    Output {
        status: std::os::unix::process::ExitStatusExt::from_raw(code << 8),
        stdout: fs::read(out).unwrap(),
        stderr: fs::read(err).unwrap(),
    }
}

// Exit codes and usage.

#[test]
fn help_and_version_are_no_errors() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["--version"],
        &["-V"],
        &["check", "--help"],
        &["watch", "--help"],
        &["status", "--help"],
        &["correlate", "--help"],
        &["explain", "--help"],
        &["explain"],
        &["config", "--help"],
        &["config", "check", "--help"],
        &["help", "check"],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 0, "{args:?}");
        assert!(
            !output.stdout.is_empty() && output.stderr.is_empty(),
            "{args:?}: {output:?}"
        );
    }
    assert_eq!(
        stdout(&run(&["--version"])),
        format!("mcpprobe {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn bad_usage_is_3_because_2_means_down() {
    let file = File::new(&server("a", &dead_url()));
    let path = file.path();
    let url = "http://127.0.0.1:9/mcp";
    let usages: Vec<Vec<&str>> = vec![
        vec![],
        vec!["bogus"],
        vec!["--bogus"],
        vec!["check"],
        vec!["check", "--"],
        vec!["check", "--bogus", url],
        vec!["check", "--format", "xml", url],
        vec!["check", "--timeout", "soon", url],
        vec!["check", "--timeout", "10", url],
        vec!["check", "--timeout", "-1s", url],
        vec!["check", "--wait-until-up", "soon", url],
        vec!["check", "--retries", "-1", url],
        vec!["check", "--retries", "many", url],
        vec!["check", "--concurrency", "0", url],
        vec!["check", "--concurrency", "4097", url],
        vec!["check", "--fail-on", "up", url],
        vec!["check", "--profile", "nosuch", url],
        vec!["check", "--only", "nosuch", url],
        vec!["check", url, "--", "true"],
        vec!["check", "ftp://127.0.0.1/"],
        vec!["check", "http://"],
        vec!["check", "http://127.0.0.1:99999/"],
        vec!["check", url, "nosuch.toml"],
        vec!["watch"],
        vec!["watch", "--twice", &path],
        vec!["watch", &path, &path],
        vec!["status"],
        vec!["status", "--format", "xml", &path],
        vec!["correlate"],
        vec!["explain", "nosuch"],
        vec!["explain", "timeout", "timeout"],
        vec!["config"],
        vec!["config", "bogus"],
        vec!["config", "check"],
    ];
    let mut failed = Vec::new();
    for args in &usages {
        let output = run(args);
        if code(&output) != 3 || !output.stdout.is_empty() || output.stderr.is_empty() {
            failed.push(format!("{args:?}: {output:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_timeout_in_which_nothing_can_be_up_is_bad_usage() {
    // A configuration may say 10ms to 10m; the option wins over it and must not call a server down by itself.
    let up = Small::start(healthy);
    let mut failed = Vec::new();
    for timeout in ["0s", "1ns", "18446744073709551615s"] {
        let output = run(&["check", "--timeout", timeout, &up.url()]);
        if code(&output) != 3 {
            failed.push(format!("--timeout {timeout}: {output:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn options_at_their_limits_do_no_harm() {
    let up = Small::start(healthy);
    let url = up.url();
    for args in [
        &["check", "--timeout", "10m", &url][..],
        &["check", "--wait-until-up", "18446744073709551615s", &url],
        &["check", "--retries", "4294967295", &url],
        &["check", "--concurrency", "4096", &url],
        &["check", "--concurrency", "1", &url, &url, &url],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 0, "{args:?}: {output:?}");
    }
}

#[test]
fn the_exit_code_is_that_of_the_worst_target() {
    let (up, mute) = (Small::start(healthy), Mute::start());
    let wanting = Small::start(|_| {
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned()
    });
    let (up, dead, wanting) = (up.url(), dead_url(), wanting.url());
    assert_eq!(check_json(&[&up]).1, 0);
    assert_eq!(check_json(&[&up, "--fail-on", "degraded"]).1, 0);
    assert_eq!(check_json(&[&dead]).1, 2);
    assert_eq!(check_json(&[&up, &dead]).1, 2);
    let (document, code_of_auth) = check_json(&[&wanting]);
    assert_eq!(
        (only_target(&document)["state"].as_str(), code_of_auth),
        (Some("auth_required"), 2)
    );
    // Unknown: interrupted before it could be judged. 3 over 0, and 2 over 3.
    for (other, expected) in [(&up, 3), (&dead, 2)] {
        let mute_url = mute.url();
        let args = [
            "check",
            "--format",
            "json",
            other,
            &mute_url,
            "--timeout",
            "60s",
        ];
        let output = interrupted(&args, "INT", || {
            mute.until_asked();
            std::thread::sleep(Duration::from_millis(1500));
        });
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["summary"]["unknown"], 1, "{document:#}");
        assert_eq!(code(&output), expected, "{document:#}");
    }
}

#[test]
fn every_command_says_3_for_a_configuration_that_cannot_be_used() {
    let file = File::new("[[server]]\nname = \"a\"\nurl = \"http://127.0.0.1:9\"\nevry = \"5s\"\n");
    let path = file.path();
    for args in [
        &["check", &path][..],
        &["check", "--format", "json", &path],
        &["watch", &path],
        &["watch", "--once", &path],
        &["status", &path],
        &["correlate", &path, "--incident", "x"],
        &["config", "check", &path],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 3, "{args:?}");
        assert!(
            stderr(&output).contains(&format!("{path}:4:1")),
            "{args:?}: {output:?}"
        );
        assert!(stderr(&output).contains("did you mean `every`"), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

// What can be checked.

#[test]
fn urls_files_and_commands_can_be_checked() {
    let (one, two) = (Small::start(healthy), Small::start(healthy));
    let file = File::new(&(server("a", &one.url()) + &server("b", &two.url())));
    let names = |document: &Value| -> Vec<String> {
        let targets = document["targets"].as_array().unwrap();
        targets
            .iter()
            .map(|t| t["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let (document, code) = check_json(&[&one.url(), &two.url()]);
    assert_eq!((names(&document), code), (vec![one.url(), two.url()], 0));
    let (document, code) = check_json(&[&file.path()]);
    assert_eq!(
        (names(&document), code),
        (vec!["a".to_owned(), "b".to_owned()], 0)
    );
    let (document, code) = check_json(&[&file.path(), &one.url()]);
    assert_eq!(
        (names(&document), code),
        (vec!["a".to_owned(), "b".to_owned(), one.url()], 0)
    );
    let demo = example("demo_server");
    let (document, code) =
        check_json(&["--timeout", "20s", "--", demo.to_str().unwrap(), "--stdio"]);
    let target = only_target(&document);
    assert_eq!(
        (target["state"].as_str(), target["transport"].as_str(), code),
        (Some("up"), Some("stdio"), 0)
    );
    assert_eq!(target["endpoint"], format!("{} --stdio", demo.display()));
    let (document, code) = check_json(&["--", "/nonexistent/server"]);
    let target = only_target(&document);
    assert_eq!(
        (
            target["failed_layer"].as_str(),
            target["reason"].as_str(),
            code
        ),
        (Some("transport"), Some("spawn_failed"), 2)
    );
}

#[test]
fn several_targets_are_probed_at_once_and_shown_in_their_order() {
    let slow = || {
        Small::start(|asked| {
            if asked.method_is("tools/list") {
                std::thread::sleep(Duration::from_secs(1));
            }
            healthy(asked)
        })
    };
    let servers = [slow(), slow(), slow(), slow()];
    let urls: Vec<_> = servers.iter().map(Small::url).collect();
    let args: Vec<_> = urls.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let (document, code) = check_json(&args);
    assert!(
        begun.elapsed() < Duration::from_millis(3900),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!((document["summary"]["up"].as_u64(), code), (Some(4), 0));
    let shown: Vec<_> = document["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["endpoint"].as_str().unwrap())
        .collect();
    assert_eq!(shown, args);
}

// The JSON contract.

/// Everything that holds of every document.
#[track_caller]
fn assert_contract(document: &Value) {
    assert_keys(document, DOCUMENT);
    assert_eq!(document["schema"], 1);
    assert_time(&document["started_at"]);
    assert!(document["duration_ms"].is_f64());
    assert_keys(&document["summary"], &STATES.join(" "));
    let targets = document["targets"].as_array().unwrap();
    for state in STATES {
        let count = targets
            .iter()
            .filter(|target| target["state"] == state)
            .count();
        assert_eq!(document["summary"][state], count, "{state}");
    }
    for target in targets {
        assert_keys(target, TARGET);
        assert!(STATES.contains(&target["state"].as_str().unwrap()));
        assert!(["streamable_http", "stdio"].contains(&target["transport"].as_str().unwrap()));
        assert_time(&target["started_at"]);
        assert_trace_id(&target["trace_id"]);
        assert!(target["duration_ms"].is_f64());
        let layers = target["layers"].as_array().unwrap();
        let names: Vec<_> = layers
            .iter()
            .map(|layer| layer["layer"].as_str().unwrap())
            .collect();
        assert_eq!(names, LAYERS);
        for layer in layers {
            match layer["outcome"].as_str().unwrap() {
                "ok" | "failed" => assert_keys(layer, "layer outcome duration_ms phases"),
                "skipped" | "not_reached" => {
                    assert_keys(layer, "layer outcome");
                    continue;
                }
                other => panic!("{other}"),
            }
            assert!(layer["duration_ms"].is_f64());
            for phase in layer["phases"].as_array().unwrap() {
                assert_keys(phase, "phase duration_ms");
                assert!(phase["duration_ms"].is_f64());
                assert!(
                    PHASES.contains(&phase["phase"].as_str().unwrap()),
                    "{phase}"
                );
            }
        }
    }
}

fn outcomes(target: &Value) -> Vec<&str> {
    target["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["outcome"].as_str().unwrap())
        .collect()
}

fn phases(layer: &Value) -> Vec<&str> {
    layer["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|phase| phase["phase"].as_str().unwrap())
        .collect()
}

#[test]
fn json_of_a_target_that_is_up() {
    let small = Small::start(healthy);
    let file = File::new(&server("weather", &small.url()));
    let (document, code) = check_json(&[&file.path()]);
    assert_eq!(code, 0);
    assert_contract(&document);
    let target = only_target(&document);
    assert_eq!(target["name"], "weather");
    assert_eq!(target["endpoint"], small.url());
    assert_eq!(target["transport"], "streamable_http");
    assert_eq!(target["state"], "up");
    for key in [
        "failed_layer",
        "reason",
        "message",
        "http_status",
        "jsonrpc_code",
    ] {
        assert_eq!(target[key], Value::Null, "{key}");
    }
    assert_eq!(target["era"], "legacy");
    assert_eq!(target["protocol_version"], "2025-06-18");
    assert_eq!(
        target["server"],
        json!({ "name": "small", "version": "1.0" })
    );
    assert_eq!(target["tools"], 1);
    assert_eq!(outcomes(target), ["ok"; 4]);
    assert_eq!(
        phases(&target["layers"][0]),
        ["connect"],
        "an address needs no dns, http no tls"
    );
    let (document, _) = check_json(&[&format!("http://localhost:{}/mcp", small.port)]);
    assert_contract(&document);
    assert_eq!(
        phases(&only_target(&document)["layers"][0]),
        ["dns", "connect"]
    );
}

#[test]
fn phases_are_parts_of_their_layer_and_layers_of_the_probe() {
    // One that keeps its connection, and one with a new connection for each request.
    let (keeping, closing) = (Demo::start("phases", None), Small::start(healthy));
    let keeping = format!("http://127.0.0.1:{}/mcp", keeping.port);
    let mut failed = Vec::new();
    for url in [keeping, closing.url()] {
        let (document, _) = check_json(&[&url]);
        let target = only_target(&document);
        let sum = |items: &Value| -> f64 {
            let items = items.as_array().unwrap();
            items
                .iter()
                .filter_map(|item| item["duration_ms"].as_f64())
                .sum()
        };
        // To a microsecond each.
        if sum(&target["layers"]) > target["duration_ms"].as_f64().unwrap() + 0.01 {
            failed.push(format!("the layers are longer than the probe: {target:#}"));
        }
        for layer in target["layers"].as_array().unwrap() {
            if sum(&layer["phases"]) > layer["duration_ms"].as_f64().unwrap() + 0.01 {
                failed.push(format!("the phases are longer than the layer: {layer:#}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn json_of_a_stdio_target() {
    let demo = example("demo_server");
    let (document, _) = check_json(&["--timeout", "20s", "--", demo.to_str().unwrap(), "--stdio"]);
    assert_contract(&document);
    let target = only_target(&document);
    assert_eq!(target["transport"], "stdio");
    assert_eq!(outcomes(target), ["ok", "skipped", "ok", "ok"]);
    assert_eq!(phases(&target["layers"][0]), ["spawn"]);
    assert_eq!(
        (target["era"].as_str(), target["http_status"].clone()),
        (Some("modern"), Value::Null)
    );
}

#[test]
fn json_of_targets_that_are_down() {
    let unavailable = Small::start(|_| empty_answer("503 Service Unavailable"));
    let refusing = Small::start(|asked| match asked.method_is("tools/list") {
        true => rpc_error(asked, "200 OK", -32603, "the list is gone"),
        false => healthy(asked),
    });
    let file = File::new(
        &(server("weather", &unavailable.url())
            + &server("refusing", &refusing.url())
            + &server("dead", &dead_url())),
    );
    let (document, code) = check_json(&[&file.path()]);
    assert_eq!(code, 2);
    assert_contract(&document);
    assert_eq!(
        document["summary"],
        json!({ "up": 0, "degraded": 0, "auth_required": 0, "down": 3, "unknown": 0 })
    );
    let is = |target: &Value, expected: Value| {
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&target[key], value, "{key} of {target:#}");
        }
    };
    let [weather, refusing, dead] = &document["targets"].as_array().unwrap()[..] else {
        panic!("{document:#}")
    };
    is(
        weather,
        json!({ "state": "down", "failed_layer": "http", "reason": "http_status", "message": "HTTP 503 Service Unavailable",
                "http_status": 503, "jsonrpc_code": null, "era": null, "protocol_version": null, "server": null, "tools": null }),
    );
    assert_eq!(
        outcomes(weather),
        ["ok", "failed", "not_reached", "not_reached"]
    );
    is(
        refusing,
        json!({ "failed_layer": "tools_list", "reason": "jsonrpc_error", "jsonrpc_code": -32603, "era": "legacy",
                "protocol_version": "2025-06-18", "server": { "name": "small", "version": "1.0" }, "tools": null }),
    );
    assert_eq!(outcomes(refusing), ["ok", "ok", "ok", "failed"]);
    is(
        dead,
        json!({ "failed_layer": "transport", "reason": "connection_refused", "http_status": null, "era": null }),
    );
    assert_eq!(
        outcomes(dead),
        ["failed", "not_reached", "not_reached", "not_reached"]
    );
}

#[test]
fn json_of_a_target_that_could_not_be_judged_has_the_same_keys() {
    let mute = Mute::start();
    let url = mute.url();
    let output = interrupted(
        &["check", "--format", "json", "--timeout", "60s", &url],
        "TERM",
        || mute.until_asked(),
    );
    assert_eq!(code(&output), 3);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_keys(&document, DOCUMENT);
    let target = only_target(&document);
    assert_keys(target, TARGET);
    assert_eq!(
        (target["state"].as_str(), &target["failed_layer"]),
        (Some("unknown"), &Value::Null)
    );
    assert!(target["layers"].is_array());
}

#[test]
fn only_json_is_on_stdout() {
    let up = Small::start(healthy);
    let text =
        server("a", &up.url()) + "[traces]\nbackend = \"jaeger\"\nurl = \"http://127.0.0.1:9\"\n";
    let text = text
        + "[[server]]\nname = \"dying\"\nurl = \"http://127.0.0.1:9/\"\nstart = [\"sh\", \"-c\", \"echo to stdout; exit 1\"]\n";
    let file = File::new(&text);
    let output = run(&["check", "--format", "json", &file.path()]);
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_contract(&document);
    assert!(stdout(&output).ends_with("}\n"));
    assert!(
        stderr(&output).contains("[telemetry]"),
        "the warning goes to stderr: {output:?}"
    );
    let dying = document["targets"][1]["message"].as_str().unwrap();
    assert!(dying.contains("to stdout"), "its last words: {dying}");
}

// Options of `check`.

#[test]
fn only_chooses_by_name_and_by_tag() {
    let up = Small::start(healthy);
    let tagged = |name: &str, tags: &str| server(name, &up.url()) + &format!("tags = [{tags}]\n");
    let text = String::from("[defaults]\ntags = [\"inherited\"]\n")
        + &tagged("a", "\"prod\", \"eu\"")
        + &tagged("b", "\"prod\"")
        + &tagged("c", "\"test\"")
        + &server("prod server", &up.url());
    let file = File::new(&text);
    let path = file.path();
    let chosen = |args: &[&str]| -> Vec<String> {
        let (document, code) = check_json(&[&[path.as_str()], args].concat());
        assert_eq!(code, 0);
        let targets = document["targets"].as_array().unwrap();
        targets
            .iter()
            .map(|t| t["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(chosen(&["--only", "b"]), ["b"]);
    assert_eq!(chosen(&["--only", "prod"]), ["a", "b"]);
    assert_eq!(chosen(&["--only", "test,a"]), ["a", "c"]);
    assert_eq!(chosen(&["--only", "test", "--only", "a"]), ["a", "c"]);
    assert_eq!(chosen(&["--only", "eu,prod,a"]), ["a", "b"]);
    assert_eq!(chosen(&["--only", "prod server"]), ["prod server"]);
    assert_eq!(
        chosen(&["--only", "inherited"]),
        ["prod server"],
        "tags of one's own replace those of [defaults]"
    );
    for only in ["nosuch", "a,nosuch", "", "PROD"] {
        let output = run(&["check", &path, "--only", only]);
        assert_eq!(code(&output), 3, "--only {only:?}: {output:?}");
        assert!(output.stdout.is_empty());
    }
    assert!(stderr(&run(&["check", &path, "--only", "nosuch"])).contains("nosuch"));
}

/// Fails the first `failing` probes with 503.
fn failing_first(failing: usize) -> (Small, Arc<Mutex<Vec<String>>>) {
    let probes: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&probes);
    let server = Small::start(move |asked| {
        let mut seen = seen.lock().unwrap();
        let id = asked.trace_id();
        if !seen.contains(&id) {
            seen.push(id);
        }
        if seen.len() <= failing {
            return empty_answer("503 Service Unavailable");
        }
        healthy(asked)
    });
    (server, probes)
}

#[test]
fn retries_are_further_probes_and_the_last_one_counts() {
    for (failing, retries, expected, probes) in [
        (2, "2", 0, 3),
        (2, "5", 0, 3),
        (2, "1", 2, 2),
        (1, "0", 2, 1),
    ] {
        let (server, seen) = failing_first(failing);
        let (document, code) = check_json(&["--retries", retries, &server.url()]);
        let target = only_target(&document);
        assert_eq!(
            code, expected,
            "{failing} failures, --retries {retries}: {target:#}"
        );
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), probes, "each probe has a trace of its own");
        assert_eq!(target["trace_id"], **seen.last().unwrap());
    }
}

#[test]
fn wait_until_up_waits_for_a_server_that_starts_late() {
    let port = free_port();
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        Small::start_on(port, healthy);
    });
    let url = format!("http://127.0.0.1:{port}/mcp");
    let begun = Instant::now();
    let (document, code) = check_json(&["--wait-until-up", "30s", &url]);
    let spent = begun.elapsed();
    late.join().unwrap();
    assert_eq!(
        (only_target(&document)["state"].as_str(), code),
        (Some("up"), 0)
    );
    assert!(
        spent >= Duration::from_millis(1900) && spent < Duration::from_secs(15),
        "{spent:?}"
    );
}

#[test]
fn wait_until_up_ends_when_its_time_is_over() {
    let (up, dead) = (Small::start(healthy), dead_url());
    let begun = Instant::now();
    let (document, code) = check_json(&["--wait-until-up", "3s", &up.url(), &dead]);
    let spent = begun.elapsed();
    assert_eq!(code, 2);
    assert_eq!(
        (
            document["targets"][0]["state"].as_str(),
            document["targets"][1]["state"].as_str()
        ),
        (Some("up"), Some("down"))
    );
    assert!(
        spent >= Duration::from_secs(2) && spent < Duration::from_secs(10),
        "{spent:?}"
    );
    // With what is known when it is stopped earlier.
    let output = interrupted(&["check", "--wait-until-up", "60s", &dead], "INT", || {
        std::thread::sleep(Duration::from_secs(1))
    });
    assert_eq!(code_and_text(&output).0, 2, "{output:?}");
}

fn code_and_text(output: &Output) -> (i32, String) {
    (code(output), stdout(output) + &stderr(output))
}

#[test]
fn timeout_wins_over_the_file_and_is_for_each_whole_probe() {
    let mute = Mute::start();
    // Each answer comes in time, all together do not.
    let slow = Small::start(|asked| {
        std::thread::sleep(Duration::from_millis(700));
        healthy(asked)
    });
    let file = File::new(
        &(String::from("[defaults]\ntimeout = \"60s\"\n")
            + &server("mute", &mute.url())
            + &server("slow", &slow.url())),
    );
    let begun = Instant::now();
    let (document, code) = check_json(&["--timeout", "1500ms", &file.path()]);
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(code, 2);
    assert_contract(&document);
    let [mute, slow] = &document["targets"].as_array().unwrap()[..] else {
        panic!()
    };
    assert_eq!(
        (mute["failed_layer"].as_str(), mute["reason"].as_str()),
        (Some("http"), Some("http_timeout"))
    );
    assert_eq!(slow["state"], "down");
    for target in [mute, slow] {
        let duration = target["duration_ms"].as_f64().unwrap();
        assert!((1400.0..5000.0).contains(&duration), "{target:#}");
    }
}

#[test]
fn the_profile_reachable_judges_only_whether_http_answers() {
    let methods: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&methods);
    let odd = Small::start(move |asked| {
        seen.lock().unwrap().push(
            asked.body["method"]
                .as_str()
                .unwrap_or(&asked.method)
                .to_owned(),
        );
        rpc_error(asked, "200 OK", -32603, "not today")
    });
    let (document, code) = check_json(&["--profile", "reachable", &odd.url()]);
    assert_contract(&document);
    let target = only_target(&document);
    assert_eq!(
        (target["state"].as_str(), code),
        (Some("up"), 0),
        "{target:#}"
    );
    assert_eq!(outcomes(target), ["ok", "ok", "skipped", "skipped"]);
    assert!(!methods.lock().unwrap().contains(&"tools/list".to_owned()));
    let fine = Small::start(healthy);
    let file = File::new(&(server("a", &fine.url()) + "profile = \"handshake\"\n"));
    let (document, _) = check_json(&["--profile", "reachable", &file.path()]);
    assert_eq!(
        outcomes(only_target(&document)),
        ["ok", "ok", "skipped", "skipped"],
        "it wins over the file"
    );
    let html = Small::start(|_| {
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi".to_owned()
    });
    let (document, code) = check_json(&["--profile", "reachable", &html.url()]);
    let target = only_target(&document);
    assert_eq!(
        (target["failed_layer"].as_str(), code),
        (Some("http"), 2),
        "{target:#}"
    );
    let (document, code) = check_json(&["--profile", "reachable", &dead_url()]);
    assert_eq!(
        (only_target(&document)["failed_layer"].as_str(), code),
        (Some("transport"), 2)
    );
}

#[test]
fn a_degraded_server_is_an_error_only_where_that_is_asked_for() {
    let up = Small::start(healthy);
    let file = File::new(&(server("a", &up.url()) + "expect = { min_tools = 1000 }\n"));
    let (document, exit) = check_json(&[&file.path()]);
    assert_contract(&document);
    let target = only_target(&document);
    assert_eq!((target["state"].as_str(), exit), (Some("degraded"), 0));
    assert_eq!(document["summary"]["degraded"], 1);
    let output = run(&["check", &file.path(), "--fail-on", "degraded"]);
    assert_eq!(code(&output), 1, "{output:?}");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in ["degraded", "expectation: min_tools: ", ", at least 1000"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    // A server that is down is worse, whatever else is said.
    let both = file.path();
    let (_, exit) = check_json(&[&both, &dead_url(), "--fail-on", "degraded"]);
    assert_eq!(exit, 2);
}

#[test]
fn a_profile_of_ones_own_is_found_from_the_working_directory() {
    let up = Small::start(healthy);
    let profile = "description = \"Mine.\"\ndepth = \"tools_list\"\nexpect = { min_tools = 1000, max_latency = \"10m\" }\n";
    let file = File::new(&(server("a", &up.url()) + "profile = \"reachable\"\n"));
    fs::write(file.below("mine.toml"), profile).unwrap();
    fs::write(
        file.below("bad.toml"),
        "description = \"Bad.\"\ndpth = \"http\"\n",
    )
    .unwrap();
    let check = |args: &[&str]| {
        let mut command = mcpprobe();
        command.args(["check", "--format", "json"]).args(args);
        command.current_dir(file.below("")).output().unwrap()
    };
    // It wins over the file's, for a URL it is the only one.
    for target in ["servers.toml", &up.url()] {
        for profile in ["mine.toml", "./mine.toml"] {
            let output = check(&["--profile", profile, target]);
            let document: Value = serde_json::from_slice(&output.stdout).unwrap();
            let target = only_target(&document);
            assert_eq!(target["reason"], "expectation", "{target:#}");
        }
    }
    for (profile, words) in [
        (
            "bad.toml",
            &["bad.toml:2", "unknown key `dpth`", "no `depth`"][..],
        ),
        ("missing.toml", &["missing.toml", "No such file"]),
        ("handshak", &["did you mean \"handshake\"", "legacy"]),
    ] {
        let output = check(&["--profile", profile, "servers.toml"]);
        assert_eq!(code(&output), 3, "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        for word in words {
            assert!(stderr.contains(word), "{word}: {stderr}");
        }
    }
}

#[test]
fn concurrency_limits_the_probes_at_once_and_waiting_is_not_timed() {
    let slow = Busy::start(1, Duration::from_millis(400));
    let servers: String = (0..8)
        .map(|n| server(&format!("n{n}"), &slow.servers[0].url()))
        .collect();
    let file = File::new(&servers);
    let told = File::new(&format!("[schedule]\nconcurrency = 3\n{servers}"));
    for (file, option, expected) in [
        (&file, Some("1"), 1..=1),
        (&file, Some("3"), 2..=3),
        (&file, None, 4..=8),
        (&told, None, 2..=3),
        (&told, Some("1"), 1..=1),
    ] {
        let path = file.path();
        let mut args = vec![path.as_str(), "--timeout", "3s"];
        args.extend(option.iter().flat_map(|option| ["--concurrency", option]));
        // One after another they take longer than each may.
        let (document, code) = check_json(&args);
        assert_eq!(code, 0, "{args:?}: {document:#}");
        let most = slow.take_most();
        assert!(expected.contains(&most), "{args:?}: {most} at once");
    }
}

#[test]
fn no_host_is_probed_more_often_at_once_than_per_host_says() {
    // Two ports are one host. All ten together take longer than one may.
    let slow = Busy::start(2, Duration::from_millis(500));
    let servers: String = (0..10)
        .map(|n| server(&format!("n{n}"), &slow.servers[n % 2].url()))
        .collect();
    let head = "[schedule]\nper_host = 2\n[defaults]\ntimeout = \"2s\"\n";
    let file = File::new(&format!("{head}{servers}"));
    let path = file.path();
    for command in [&["check"][..], &["watch", "--once"]] {
        let output = mcpprobe().args(command).arg(&path).output().unwrap();
        assert_eq!(code(&output), 0, "{command:?}: {output:?}");
        assert_eq!(slow.take_most(), 2, "{command:?}");
    }
}

#[test]
fn a_server_of_another_host_does_not_wait_behind_one_that_hangs() {
    // `localhost` is another host than its address. The first hangs for its whole timeout, the second waits for it.
    let (mute, up) = (Mute::start(), Small::start(healthy));
    let other = up.url().replace("127.0.0.1", "localhost");
    let text = format!(
        "[schedule]\nper_host = 1\n[defaults]\ntimeout = \"2s\"\n{}{}{}",
        server("hangs", &mute.url()),
        server("behind", &up.url()),
        server("other", &other),
    );
    let file = File::new(&text);
    let (document, _) = check_json(&[&file.path()]);
    let started = |name: &str| {
        let targets = document["targets"].as_array().unwrap();
        let target = targets
            .iter()
            .find(|target| target["name"] == name)
            .unwrap();
        let at = target["started_at"].as_str().unwrap();
        humantime::parse_rfc3339(at).unwrap()
    };
    let after = |name| started(name).duration_since(started("hangs")).unwrap();
    assert!(after("behind") >= Duration::from_secs(2), "{document:#}");
    assert!(after("other") < after("behind"), "{document:#}");
}

#[test]
fn a_retry_waits_for_its_turn_behind_those_that_were_not_probed_yet() {
    let probes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&probes);
    let failing = Small::start(move |asked| {
        noted
            .lock()
            .unwrap()
            .push((asked.target.clone(), asked.trace_id()));
        empty_answer("503 Service Unavailable")
    });
    let url = |path: &str| failing.url().replace("/mcp", path);
    let text = format!(
        "[schedule]\nper_host = 1\n{}{}",
        server("a", &url("/a")),
        server("b", &url("/b"))
    );
    let file = File::new(&text);
    let (document, code) = check_json(&[&file.path(), "--retries", "2"]);
    assert_eq!(code, 2, "{document:#}");
    let mut probes = probes.lock().unwrap().clone();
    // A probe makes several requests.
    probes.dedup();
    let order: Vec<_> = probes.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(order, ["/a", "/b", "/a", "/b", "/a", "/b"]);
}

// `start`, and what must not stay behind.

/// Running processes of a group.
fn members(group: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // pid (name) state parent group ...
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        let fields: Vec<_> = rest.split(' ').collect();
        if fields[0] != "Z" && fields[2] == group.to_string() {
            found.push(stat);
        }
    }
    found
}

/// A command for `start` or `command` that notes its process group: a shell with a child, which is what has to go.
struct Group {
    folder: tempfile::TempDir,
}

impl Group {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn note(&self) -> std::path::PathBuf {
        self.folder.path().join("pid")
    }

    /// As TOML. `before` runs first, `child` in the background.
    fn command(&self, before: &str, child: &str) -> String {
        let note = self.note();
        let note = note.display();
        format!(
            "[\"sh\", \"-c\", '''{before} {child} & echo $$ > {note}.new; mv {note}.new {note}; wait; wait''']"
        )
    }

    fn id(&self) -> u32 {
        eventually("the started program", || {
            fs::read_to_string(self.note()).ok()?.trim().parse().ok()
        })
    }

    #[track_caller]
    fn assert_gone(&self, what: &str) {
        let until = Instant::now() + Duration::from_secs(2);
        let group = self.id();
        loop {
            let left = members(group);
            if left.is_empty() {
                return;
            }
            if Instant::now() > until {
                Command::new("kill")
                    .args(["-KILL", "--", &format!("-{group}")])
                    .status()
                    .unwrap();
                panic!("{what}: still running: {left:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn demo_command(port: u16) -> String {
    format!("{} --port {port}", example("demo_server").display())
}

fn started(group: &Group, before: &str, child: &str, port: u16) -> String {
    server("demo", &format!("http://127.0.0.1:{port}/mcp"))
        + &format!(
            "start = {}\ntimeout = \"60s\"\n",
            group.command(before, child)
        )
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn a_server_that_check_starts_is_up_and_gone_afterwards() {
    for command in [&["check"][..], &["watch", "--once"]] {
        // A shell that ignores SIGTERM, as its child does then, has to be killed.
        for before in ["", "trap '' TERM;"] {
            let (group, port) = (Group::new(), free_port());
            let file = File::new(&started(&group, before, &demo_command(port), port));
            let output = mcpprobe().args(command).arg(file.path()).output().unwrap();
            assert_eq!(code(&output), 0, "{command:?} {before}: {output:?}");
            group.assert_gone(&format!("{command:?} {before}"));
            assert!(!listens(port));
        }
    }
}

#[test]
fn a_server_that_check_starts_is_gone_after_a_signal_in_the_middle() {
    for signal in ["TERM", "INT"] {
        for command in [&["check"][..], &["watch"], &["watch", "--once"]] {
            let (group, port, mute) = (Group::new(), free_port(), Mute::start());
            let text = started(&group, "", &demo_command(port), port)
                + &server("mute", &mute.url())
                + "timeout = \"60s\"\nevery = \"1s\"\n";
            let file = File::new(&text);
            let path = file.path();
            let args = [command, &[path.as_str()]].concat();
            let output = interrupted(&args, signal, || {
                mute.until_asked();
                eventually("the demo server", || listens(port).then_some(()));
                assert!(!members(group.id()).is_empty(), "the test finds no process");
            });
            let expected = if command == ["watch"] { 0 } else { 3 };
            assert_eq!(code(&output), expected, "{signal} {command:?}: {output:?}");
            group.assert_gone(&format!("{signal} {command:?}"));
            assert!(!listens(port));
        }
    }
}

#[test]
fn a_server_that_never_listens_is_gone_after_a_signal() {
    for signal in ["TERM", "INT"] {
        let (group, port) = (Group::new(), free_port());
        let file = File::new(&started(&group, "", "sleep 1000", port));
        let path = file.path();
        let begun = Instant::now();
        let output = interrupted(&["check", &path], signal, || {
            group.id();
        });
        assert_eq!(code(&output), 3, "{signal}: {output:?}");
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
        group.assert_gone(signal);
    }
}

#[test]
fn a_started_server_is_gone_when_another_cannot_be_started() {
    let (group, port) = (Group::new(), free_port());
    let text = started(&group, "", "sleep 1000", port)
        + &server("b", &dead_url())
        + "start = [\"/nonexistent/server\"]\n";
    let file = File::new(&text);
    for command in [&["check"][..], &["watch"], &["watch", "--once"]] {
        fs::remove_file(group.note()).ok();
        let output = mcpprobe().args(command).arg(file.path()).output().unwrap();
        assert_eq!(code(&output), 3, "{command:?}: {output:?}");
        assert!(
            stderr(&output).contains("/nonexistent/server"),
            "{command:?}: {output:?}"
        );
        // It may have been ended before it could write its number.
        std::thread::sleep(Duration::from_millis(300));
        if group.note().exists() {
            group.assert_gone(&format!("{command:?}"));
        }
    }
}

#[test]
fn a_server_that_ends_by_itself_is_down_with_its_last_words() {
    let file = File::new(
        &(server("a", &dead_url())
            + "start = [\"sh\", \"-c\", \"echo no such module >&2; exit 1\"]\n"),
    );
    let begun = Instant::now();
    let output = run(&["check", &file.path()]);
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(stdout(&output).contains("no such module"), "{output:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_stdio_server_is_gone_after_each_end_of_a_probe() {
    let expect = [
        ("", "2s", None),
        ("trap '' TERM;", "2s", None),
        ("", "60s", Some("TERM")),
        ("", "60s", Some("INT")),
    ];
    for (before, timeout, signal) in expect {
        let group = Group::new();
        let command = group.command(before, "sleep 1000");
        let file = File::new(&format!(
            "[[server]]\nname = \"a\"\ncommand = {command}\ntimeout = \"{timeout}\"\n"
        ));
        let path = file.path();
        let output = match signal {
            None => run(&["check", &path]),
            Some(signal) => interrupted(&["check", &path], signal, || {
                group.id();
            }),
        };
        let expected = if signal.is_some() { 3 } else { 2 };
        assert_eq!(code(&output), expected, "{before} {signal:?}: {output:?}");
        group.assert_gone(&format!("{before} {signal:?}"));
    }
}

// Terminals, pipes, and what servers write.

/// The program's end with one of its streams closed by the reader.
fn with_closed(args: &[&str], stream: &str) -> (Output, i32) {
    let mut child = mcpprobe()
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    match stream {
        "stdout" => drop(child.stdout.take()),
        _ => drop(child.stderr.take()),
    }
    let output = child.wait_with_output().unwrap();
    let code = code(&output);
    (output, code)
}

/// What went wrong when the reader of `stream` had gone.
fn failed_with_closed(stream: &str, cases: &[(&[&str], i32)]) -> Vec<String> {
    assert!(!cases.is_empty());
    let mut failed = Vec::new();
    for (args, expected) in cases {
        let (output, code) = with_closed(args, stream);
        let panicked = String::from_utf8_lossy(&output.stderr).contains("panicked");
        if code != *expected || panicked {
            failed.push(format!(
                "{args:?}: {code} instead of {expected}: {output:?}"
            ));
        }
    }
    failed
}

/// A configuration with a warning, and one with an error.
fn doubtful_and_bad(url: &str) -> (File, File) {
    let doubtful =
        server("a", url) + "[traces]\nbackend = \"jaeger\"\nurl = \"http://127.0.0.1:9\"\n";
    (File::new(&doubtful), File::new("evry = 1\n"))
}

#[test]
fn a_reader_of_stdout_that_has_gone_away_changes_nothing() {
    let up = Small::start(healthy);
    let (doubtful, _) = doubtful_and_bad(&up.url());
    let (doubtful, url, dead) = (doubtful.path(), up.url(), dead_url());
    let failed = failed_with_closed(
        "stdout",
        &[
            (&["check", &url], 0),
            (&["check", "--format", "json", &url], 0),
            (&["check", &dead], 2),
            (&["status", &doubtful], 0),
            (&["status", "--format", "json", &doubtful], 0),
            (&["config", "check", &doubtful], 0),
            (&["watch", "--once", &doubtful], 0),
            (&["--help"], 0),
            (&["--version"], 0),
        ],
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_reader_of_stderr_that_has_gone_away_changes_nothing() {
    // `mcpprobe ... 2>&1 | head -1`
    let up = Small::start(healthy);
    let (doubtful, bad) = doubtful_and_bad(&up.url());
    let (doubtful, bad) = (doubtful.path(), bad.path());
    let failed = failed_with_closed(
        "stderr",
        &[
            (&["check", &doubtful], 0),
            (&["check", &bad], 3),
            (&["config", "check", &bad], 3),
            (&["config", "check", &doubtful], 0),
            (&["status", &doubtful], 0),
            (&["watch", "--once", &doubtful], 0),
            (&["watch", "nosuch.toml"], 3),
            (&["bogus"], 3),
        ],
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_watch_goes_on_when_nobody_reads_its_stdout() {
    assert_watch_goes_on_without("stdout");
}

#[test]
fn a_watch_goes_on_when_nobody_reads_its_stderr() {
    assert_watch_goes_on_without("stderr");
}

fn assert_watch_goes_on_without(stream: &str) {
    let small = Small::start(healthy);
    let file = File::new(&(server("a", &small.url()) + "every = \"1s\"\n"));
    let mut child = mcpprobe()
        .args(["watch", &file.path()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    match stream {
        "stdout" => drop(child.stdout.take()),
        _ => drop(child.stderr.take()),
    }
    let probed = eventually("two probes or an end", || {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(Err(status));
        }
        let output = run(&["status", "--format", "json", &file.path()]);
        let document: Value = serde_json::from_slice(&output.stdout).ok()?;
        let target = &document["targets"][0];
        (target["last_probe_at"] != target["since"]).then_some(Ok(()))
    });
    assert!(probed.is_ok(), "{probed:?}");
    Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Runs it on a terminal of its own: everything that it writes.
fn on_terminal(args: &[&str], no_color: Option<&str>) -> String {
    let line = [&[env!("CARGO_BIN_EXE_mcpprobe")], args].concat().join(" ");
    let mut command = Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn escape_codes_are_for_terminals_only_and_not_against_no_color() {
    let (up, dead) = (Small::start(healthy), dead_url());
    let file = File::new(&(server("a", &up.url()) + &server("b", &dead)));
    let path = file.path();
    let bad = File::new("evry = 1\n");
    for args in [
        &["check", &path][..],
        &["check", "--format", "json", &path],
        &["watch", "--once", &path],
        &["status", &path],
        &["config", "check", &bad.path()],
        &["--help"],
        &["bogus"],
    ] {
        let output = mcpprobe()
            .args(args)
            .env("TERM", "xterm")
            .env_remove("CLICOLOR_FORCE")
            .output()
            .unwrap();
        let text = stdout(&output) + &stderr(&output);
        assert!(
            !text.is_empty() && !text.contains('\u{1b}'),
            "{args:?}: {text:?}"
        );
        let text = on_terminal(args, Some("1"));
        assert!(
            !text.is_empty() && !text.contains('\u{1b}'),
            "NO_COLOR=1 {args:?}: {text:?}"
        );
    }
    for no_color in [None, Some("")] {
        let text = on_terminal(&["check", &path], no_color);
        assert!(
            text.contains("\u{1b}["),
            "no colours on a terminal: {text:?}"
        );
    }
    let text = on_terminal(&["check", "--format", "json", &path], None);
    assert!(!text.contains('\u{1b}'), "JSON has no colours: {text:?}");
}

/// What acts on terminals, logs and readers.
const EVIL: &str = "e\u{1b}[31mv\u{7}i\nl\r\t\u{0}\u{8}\u{7f}\u{9b}1m\u{85}\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{ad}end";

fn is_evil(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn strings(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => into.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, into)),
        Value::Object(pairs) => pairs.values().for_each(|item| strings(item, into)),
        _ => {}
    }
}

fn evil(asked: &Asked) -> String {
    let initialized = |name: &str, version: &str| {
        rpc_result(
            asked,
            &json!({
                "protocolVersion": version, "capabilities": { "tools": {} },
                "serverInfo": { "name": name, "version": name },
            }),
        )
    };
    let with = |status: &str, header: &str| {
        format!("HTTP/1.1 {status}\r\n{header}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    };
    // What a header may hold at all.
    let in_header: String = EVIL.chars().filter(|c| !c.is_ascii_control()).collect();
    match asked.target.as_str() {
        "/name" if asked.method_is("initialize") => initialized(EVIL, "2025-06-18"),
        "/version" if asked.method_is("initialize") => initialized("v", EVIL),
        "/message" => rpc_error(asked, "200 OK", -32000, EVIL),
        "/tools" if asked.method_is("tools/list") => rpc_error(asked, "200 OK", -32000, EVIL),
        "/status" => with(&format!("503 {in_header}"), "X-A: b"),
        "/raw-status" => with(&format!("503 {EVIL}"), "X-A: b"),
        "/type" => with("200 OK", &format!("Content-Type: text/{in_header}")),
        "/location" => with(
            "302 Found",
            &format!("Location: http://127.0.0.1:9/{in_header}"),
        ),
        "/challenge" => with(
            "401 Unauthorized",
            &format!("WWW-Authenticate: Bearer realm=\"{in_header}\""),
        ),
        "/body" => json_answer("200 OK", &json!(EVIL)),
        "/text" => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{EVIL}",
            EVIL.len()
        ),
        "/malformed" => format!("{EVIL}\r\n\r\n"),
        _ => healthy(asked),
    }
}

#[test]
fn nothing_that_a_server_says_acts_on_the_reader() {
    let small = Small::start(evil);
    let places = [
        "name",
        "version",
        "message",
        "tools",
        "status",
        "raw-status",
        "type",
        "location",
        "challenge",
        "body",
        "text",
        "malformed",
    ];
    let mut text: String = places
        .iter()
        .map(|place| server(place, &format!("http://127.0.0.1:{}/{place}", small.port)))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    fs::write(&said, EVIL).unwrap();
    for (name, script) in [
        ("stderr", format!("cat {} >&2; exit 1", said.display())),
        ("stdout", format!("cat {}; exit 1", said.display())),
    ] {
        text.push_str(&format!(
            "[[server]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\n"
        ));
    }
    text.push_str(
        &(server("started", &dead_url())
            + &format!(
                "start = [\"sh\", \"-c\", \"cat {} >&2; exit 1\"]\n",
                said.display()
            )),
    );
    let file = File::new(&text);
    let path = file.path();
    let count = places.len() + 3;
    let mut failed = Vec::new();
    for args in [
        &["check", &path][..],
        &["check", "--format", "json", &path],
        &["watch", "--once", &path],
        &["watch", "--once", "--log-format", "json", &path],
        &["status", &path],
        &["status", "--format", "json", &path],
    ] {
        let output = run(args);
        let text = stdout(&output) + &stderr(&output);
        if let Some(at) = text.find(|c| is_evil(c) && c != '\n') {
            let line = text[..at].rsplit('\n').next().unwrap();
            failed.push(format!(
                "{args:?}: {:?} after {line:?}",
                text[at..].chars().next().unwrap()
            ));
        }
        let mut shown = Vec::new();
        for document in stdout(&output)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
        {
            strings(&document, &mut shown);
        }
        if let Ok(document) = serde_json::from_slice(&output.stdout) {
            strings(&document, &mut shown);
        }
        for text in shown.iter().filter(|text| text.contains(is_evil)) {
            failed.push(format!("{args:?}: {text:?}"));
        }
        if args == ["check", &path] {
            let lines = stdout(&output).lines().count();
            assert_eq!(
                lines,
                count + 3,
                "a line per target, a head, a foot:\n{text}"
            );
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let (document, _) = check_json(&[&path, "--only", "name"]);
    let name = only_target(&document)["server"]["name"].as_str().unwrap();
    assert!(
        name.contains("\\u{1b}") && name.contains("\\n") && name.contains("\\u{202e}"),
        "{name}"
    );
}

// correlate, status, watch.

/// A Jaeger without any trace, which takes spans too.
fn empty_jaeger() -> Small {
    Small::start(|asked| match asked.target.starts_with("/v1/traces") {
        true => empty_answer("200 OK"),
        false => json_answer(
            "200 OK",
            &json!({ "data": [], "total": 0, "limit": 0, "offset": 0, "errors": null }),
        ),
    })
}

fn with_traces(servers: &str, url: &str) -> String {
    format!(
        "{servers}[telemetry]\nendpoint = \"{url}\"\n[traces]\nbackend = \"jaeger\"\nurl = \"{url}\"\nrecheck = [\"1s\"]\n"
    )
}

#[test]
fn correlate_wants_an_incident_or_a_server_and_a_time() {
    let backend = empty_jaeger();
    let file = File::new(&with_traces(
        &server("a", &dead_url()),
        &format!("http://127.0.0.1:{}", backend.port),
    ));
    let path = file.path();
    let at = "2026-01-01T00:00:00Z";
    let usages: Vec<Vec<&str>> = vec![
        vec![],
        vec!["--server", "a"],
        vec!["--at", at],
        vec!["--server", "a", "--at", "yesterday"],
        vec!["--server", "a", "--at", ""],
        vec!["--server", "a", "--at", "2026-13-45T00:00:00Z"],
        vec!["--server", "a", "--at", "9999-12-31T23:59:59Z"],
        vec!["--server", "nosuch", "--at", at],
        vec!["--incident", "nosuch"],
        vec!["--incident", ""],
        vec!["--incident", "x", "--server", "a"],
        vec!["--incident", "x", "--server", "a", "--at", at],
        vec!["--server", "a", "--at", at, "--format", "xml"],
    ];
    let mut failed = Vec::new();
    for args in usages {
        let output = mcpprobe()
            .args(["correlate", &path])
            .args(&args)
            .output()
            .unwrap();
        if code(&output) != 3 || !output.stdout.is_empty() || output.stderr.is_empty() {
            failed.push(format!("{args:?}: {output:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let output = run(&["correlate", &path, "--server", "nosuch", "--at", at]);
    assert!(
        stderr(&output).contains("nosuch") && stderr(&output).contains("there are: a"),
        "{output:?}"
    );
    let bare = File::new(&server("a", &dead_url()));
    let output = run(&["correlate", &bare.path(), "--server", "a", "--at", at]);
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).contains("[traces]"), "{output:?}");
    assert!(!file.below("mcpprobe.db").exists(), "asking makes no store");
}

#[test]
fn correlate_takes_no_time_with_an_incident() {
    // It has a time of its own, so that one of the two would be ignored.
    let file = File::new(&with_traces(
        &server("a", &dead_url()),
        "http://127.0.0.1:9",
    ));
    let at = "2026-01-01T00:00:00Z";
    let output = run(&["correlate", &file.path(), "--incident", "x", "--at", at]);
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).contains("Usage"), "{output:?}");
}

#[test]
fn correlate_at_the_beginning_of_time_is_no_panic() {
    let backend = empty_jaeger();
    let url = format!("http://127.0.0.1:{}", backend.port);
    let file = File::new(&with_traces(&server("a", &dead_url()), &url));
    let mut failed = Vec::new();
    for at in ["1970-01-01T00:00:00Z", "1970-01-01T00:04:00Z"] {
        for format in ["table", "json"] {
            let args = ["correlate", &file.path(), "--server", "a", "--at", at];
            let output = mcpprobe().args(args).args(["--format", format]).output();
            let output = output.unwrap();
            if ![0, 3].contains(&code(&output)) {
                failed.push(format!("{at} {format}: {}", stderr(&output)));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn correlate_answers_by_its_contract_also_when_nothing_is_known() {
    let backend = empty_jaeger();
    let url = format!("http://127.0.0.1:{}", backend.port);
    for url in [url, format!("http://127.0.0.1:{}", free_port())] {
        let file = File::new(&with_traces(&server("a", &dead_url()), &url));
        let path = file.path();
        for at in ["2026-01-01T00:00:00Z", "2001-02-03 04:05:06"] {
            let output = run(&[
                "correlate",
                &path,
                "--server",
                "a",
                "--at",
                at,
                "--format",
                "json",
            ]);
            assert_eq!(code(&output), 0, "{at}: {output:?}");
            let document: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_keys(&document, CORRELATE);
            assert_keys(&document["window"], "from to");
            assert_keys(
                &document["counts"],
                "service_spans error_spans probe_trace_spans",
            );
            for control in document["controls"].as_array().unwrap() {
                assert_keys(control, "control held detail");
            }
            assert!(document["queries"].is_array() && document["spans"] == json!([]));
            assert_eq!(document["schema"], 1);
            assert_eq!(
                (document["server"].as_str(), &document["incident"]),
                (Some("a"), &Value::Null)
            );
            assert_eq!(document["backend"], "jaeger");
            assert!(
                ["not_instrumented", "inconclusive"]
                    .contains(&document["verdict"].as_str().unwrap()),
                "{document:#}"
            );
            assert!(document["provisional"].is_boolean() && document["reason"].is_string());
            for time in [
                &document["at"],
                &document["window"]["from"],
                &document["window"]["to"],
            ] {
                assert_time(time);
            }
            let table = run(&["correlate", &path, "--server", "a", "--at", at]);
            assert_eq!(code(&table), 0, "{at}: {table:?}");
            assert!(stdout(&table).starts_with(document["verdict"].as_str().unwrap()));
        }
    }
}

#[test]
fn status_before_any_watch_knows_nothing_and_says_so() {
    let file = File::new(&(server("a", &dead_url()) + &server("b", &dead_url())));
    let output = run(&["status", "--format", "json", &file.path()]);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(stderr(&output).contains("mcpprobe watch"), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_keys(
        &document,
        "schema targets watched isolated incidents causes quiet silences undelivered given_up last_heartbeat reload_error store_trouble",
    );
    assert_eq!(document["schema"], 1);
    let targets = document["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 2);
    for (target, name) in targets.iter().zip(["a", "b"]) {
        assert_keys(target, STATUS_TARGET);
        assert_eq!(target["name"], name);
        assert_eq!(target["state"], "unknown");
        assert_eq!(target["suspect"], false);
        for key in STATUS_TARGET
            .split_whitespace()
            .filter(|key| !["name", "state", "suspect"].contains(key))
        {
            assert_eq!(target[key], Value::Null, "{key}");
        }
    }
    let table = run(&["status", &file.path()]);
    assert_eq!(code(&table), 0);
    assert_eq!(stdout(&table).matches("unknown").count(), 2, "{table:?}");
    assert!(!file.below("mcpprobe.db").exists(), "asking makes no store");
}

fn status_of(path: &str) -> Value {
    let output = run(&["status", "--format", "json", path]);
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let target = document["targets"][0].clone();
    assert_keys(&target, STATUS_TARGET);
    target
}

#[test]
fn watch_once_keeps_an_incident_until_the_recovery() {
    let (demo, backend) = (Demo::start("once-twice", None), empty_jaeger());
    let servers = server("demo", &format!("http://127.0.0.1:{}/mcp", demo.port));
    let file = File::new(&with_traces(
        &servers,
        &format!("http://127.0.0.1:{}", backend.port),
    ));
    let path = file.path();
    let once = || code(&run(&["watch", "--once", &path]));
    assert_eq!(once(), 0);
    let up = status_of(&path);
    assert_eq!(
        (
            up["state"].as_str(),
            &up["incident"],
            up["suspect"].as_bool()
        ),
        (Some("up"), &Value::Null, Some(false))
    );
    for time in [&up["since"], &up["last_probe_at"]] {
        assert_time(time);
    }
    assert_trace_id(&up["trace_id"]);
    demo.fail("tools_list");
    assert_eq!(once(), 2);
    let first = status_of(&path);
    assert_eq!(
        (first["state"].as_str(), first["failed_layer"].as_str()),
        (Some("down"), Some("tools_list"))
    );
    let incident = first["incident"].as_str().unwrap().to_owned();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(once(), 2);
    let second = status_of(&path);
    assert_eq!(
        (&second["incident"], &second["since"]),
        (&first["incident"], &first["since"])
    );
    assert_ne!(second["trace_id"], first["trace_id"]);
    assert!(
        second["verdict"].is_string(),
        "it is old enough to be asked about: {second:#}"
    );
    demo.fail("none");
    assert_eq!(once(), 0);
    // One pass is none in a row.
    assert_eq!(status_of(&path)["incident"], *incident);
    assert_eq!(once(), 0);
    let up = status_of(&path);
    assert_eq!(
        (up["state"].as_str(), &up["incident"], &up["verdict"]),
        (Some("up"), &Value::Null, &Value::Null)
    );
    demo.fail("initialize");
    assert_eq!(once(), 2);
    assert_ne!(
        status_of(&path)["incident"],
        *incident,
        "a new failure is a new incident"
    );
    // The closed one can still be asked about.
    let output = run(&[
        "correlate",
        &path,
        "--incident",
        &incident,
        "--format",
        "json",
    ]);
    assert_eq!(code(&output), 0, "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_keys(&document, CORRELATE);
    assert_eq!(
        (document["incident"].as_str(), document["server"].as_str()),
        (Some(incident.as_str()), Some("demo"))
    );
    assert_eq!(
        document["at"], first["since"],
        "it began with the first failed probe"
    );
}

#[test]
fn watch_once_writes_json_lines_only() {
    let up = Small::start(healthy);
    let file = File::new(&(server("a", &up.url()) + &server("b", &dead_url())));
    let output = run(&["watch", "--once", "--log-format", "json", &file.path()]);
    assert_eq!(code(&output), 2);
    let lines: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let states = lines.iter().filter(|line| line["event"] == "state_changed");
    let mut names: Vec<_> = states.map(|line| line["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b"]);
    for line in stderr(&output).lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn a_store_that_cannot_be_used_stops_no_probe_and_no_file_of_others_is_lost() {
    let up = Small::start(healthy);
    let in_nowhere =
        File::new(&(server("a", &up.url()) + "[store]\npath = \"no/such/folder/mcpprobe.db\"\n"));
    let no_store = File::new(&(server("a", &up.url()) + "[store]\npath = \"text.db\"\n"));
    let mut text = fs::File::create(no_store.below("text.db")).unwrap();
    text.write_all(&[b'x'; 5000]).unwrap();
    let folder = File::new(&(server("a", &up.url()) + "[store]\npath = \".\"\n"));
    for file in [&in_nowhere, &no_store, &folder] {
        let output = run(&["watch", "--once", &file.path()]);
        assert_eq!(code(&output), 0, "{output:?}");
        assert!(stderr(&output).contains("warning: "), "{output:?}");
    }
    let kept = fs::read_dir(no_store.below("."))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_str().unwrap().contains("text.db.corrupt-"));
    assert!(
        fs::read(kept.unwrap()).unwrap() == [b'x'; 5000],
        "somebody's file was overwritten"
    );
    assert!(Path::new(&folder.path()).exists());
    let output = run(&["status", &folder.path()]);
    assert_eq!(code(&output), 3, "{output:?}");
}

#[test]
fn a_broken_file_does_not_hide_what_is_known() {
    let up = Small::start(healthy);
    let store = "[store]\npath = \"kept.db\"\n";
    let file = File::new(&(server("a", &up.url()) + store));
    let path = file.path();
    assert_eq!(code(&run(&["watch", "--once", &path])), 0);
    for broken in ["[[server]]\nnam = \"a\"\n", "[[server]\n", ""] {
        fs::write(&path, format!("{store}{broken}")).unwrap();
        let output = run(&["status", &path, "--format", "json"]);
        if broken.is_empty() {
            // It can be used, and has no servers.
            assert_eq!(code(&output), 0);
            continue;
        }
        assert_eq!(code(&output), 0, "{output:?}");
        assert!(stderr(&output).contains("kept.db"), "{output:?}");
        let status: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(status["targets"][0]["name"], "a");
        assert_eq!(status["targets"][0]["state"], "up");
        assert_eq!(code(&run(&["incidents", &path])), 0);
    }
}
