//! `watch` as an operator lives with it.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::{
    Busy, Demo, Small, Watch, check_json, eventually, example, free_port, healthy, mcpprobe, run,
};

fn config(port: u16) -> String {
    format!(
        "[defaults]\nevery = \"1s\"\ntimeout = \"2s\"\n\
         [[server]]\nname = \"demo\"\nurl = \"http://127.0.0.1:{port}/mcp\"\n\
         [[server]]\nname = \"dead\"\nurl = \"http://127.0.0.1:{}/mcp\"\n",
        free_port()
    )
}

#[test]
fn each_change_of_state_is_one_line_and_status_tells_it_from_another_shell() {
    let demo = Demo::start("changes", None);
    let watch = Watch::start(&config(demo.port));
    watch.until_state("demo", "up");
    let dead = watch.until_state("dead", "down");
    assert_eq!(dead["failed_layer"], "transport");
    assert_eq!(dead["reason"], "connection_refused");
    assert!(dead["incident"].is_string());
    assert!(
        dead["verdict_reason"]
            .as_str()
            .unwrap()
            .contains("[traces]"),
        "{dead}"
    );
    demo.fail("tools_list");
    let down = watch.until_state("demo", "down");
    assert_eq!(down["failed_layer"], "tools_list");
    demo.fail("none");
    watch.until_state("demo", "up");
    // The second pass in a row closes the incident.
    eventually("the incident to close", || {
        let status = watch.status("demo");
        (status["incident"] == Value::Null).then_some(())
    });
    let changes: Vec<_> = watch
        .lines()
        .into_iter()
        .filter(|line| line["event"] == "state_changed" && line["name"] == "demo")
        .map(|line| line["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(changes, ["up", "down", "up"]);
    let output = run(&["status", &watch.file()]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("no `mcpprobe watch"));
}

#[test]
fn a_degraded_server_works_and_status_says_why_it_is_no_better() {
    let demo = Demo::start("degraded", None);
    let text = config(demo.port).replacen(
        "name = \"demo\"",
        "name = \"demo\"\nexpect = { tools = [\"nosuch\"] }",
        1,
    );
    let watch = Watch::start(&text);
    let degraded = watch.until_state("demo", "degraded");
    assert_eq!(degraded["failed_layer"], Value::Null);
    assert_eq!(degraded["reason"], "expectation");
    assert!(
        degraded["message"].as_str().unwrap().contains("nosuch"),
        "{degraded}"
    );
    assert_eq!(degraded["incident"], Value::Null);
    demo.fail("tools_list");
    let down = watch.until_state("demo", "down");
    assert!(down["incident"].is_string());
    demo.fail("none");
    eventually("that it works again, and its incident is over", || {
        let again = watch.status("demo");
        (again["state"] == "degraded" && again["incident"].is_null()).then_some(())
    });
    let lines = watch.lines();
    let line = lines
        .iter()
        .find(|line| line["name"] == "demo" && line["state"] == "degraded")
        .unwrap();
    assert_eq!(line["reason"], "expectation");
    assert!(line["message"].as_str().unwrap().contains("nosuch"));
    assert_eq!(line["failed_layer"], Value::Null);
}

#[test]
fn a_second_watch_on_the_same_store_is_refused() {
    let demo = Demo::start("twice", None);
    let watch = Watch::start(&config(demo.port));
    watch.until_state("demo", "up");
    let second = run(&["watch", &watch.file()]);
    assert_eq!(second.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another `mcpprobe watch`"));
}

#[test]
fn a_stop_ends_sessions_and_a_restart_remembers() {
    let demo = Demo::start("restart", None);
    let text = config(demo.port).replace("timeout = \"2s\"", "timeout = \"2s\"\nera = \"legacy\"");
    let mut watch = Watch::start(&text);
    let first = watch.until_state("dead", "down");
    watch.until_state("demo", "up");
    watch.restart();
    let again = eventually("a probe of the second run", || {
        let now = watch.status("dead");
        (now["last_probe_at"] != first["last_probe_at"] && now["trace_id"] != first["trace_id"])
            .then_some(now)
    });
    assert_eq!(
        again["incident"], first["incident"],
        "an incident survives a restart"
    );
    assert_eq!(again["since"], first["since"]);
    let lines = eventually("a line of the second run", || {
        let lines = watch.lines();
        let found = lines
            .iter()
            .any(|line| line["event"] == "state" && line["name"] == "dead");
        found.then_some(lines)
    });
    let states = |line: &&Value| {
        let event = line["event"].as_str().unwrap_or_default();
        event.starts_with("state")
    };
    for line in lines.iter().filter(states) {
        let stays = line["event"] == "state";
        assert_eq!(line["before"].is_null(), stays, "{line}");
        assert_ne!(line["before"], line["state"], "{line}");
    }
    watch.program.signal("INT");
    assert_eq!(watch.program.wait(), 0);
    assert_eq!(demo.sessions(), 0, "a session stayed behind");
}

#[test]
fn a_stop_in_the_middle_of_a_probe_ends_its_session() {
    // Stateful: the session is there once `initialize` is answered; then `tools/list` hangs.
    let demo = Demo::start("hung", None);
    let text = format!(
        "[[server]]\nname = \"demo\"\nurl = \"http://127.0.0.1:{}/mcp\"\nevery = \"1s\"\ntimeout = \"600s\"\nera = \"legacy\"\n",
        demo.port
    );
    let mut watch = Watch::start(&text);
    watch.until_state("demo", "up");
    demo.fail("hang");
    std::thread::sleep(std::time::Duration::from_secs(2));
    watch.program.signal("TERM");
    assert_eq!(watch.program.wait(), 0);
    demo.fail("none");
    eventually("the end of every session", || {
        (demo.sessions() == 0).then_some(())
    });
}

#[test]
fn the_era_is_remembered_and_found_anew_when_the_protocol_rejects_it() {
    let requests = Recorder::start();
    let text = format!(
        "[[server]]\nname = \"demo\"\nurl = \"http://127.0.0.1:{}/mcp\"\nevery = \"1s\"\ntimeout = \"2s\"\n",
        requests.port
    );
    let mut watch = Watch::start(&text);
    let up = watch.until_state("demo", "up");
    eventually("three probes", || {
        (requests.count("initialize") >= 3).then_some(())
    });
    assert_eq!(requests.count("server/discover"), 1, "legacy is remembered");
    watch.restart();
    eventually("a probe of the second run", || {
        let now = watch.status("demo");
        (now["trace_id"] != up["trace_id"] && requests.count("initialize") >= 5).then_some(())
    });
    assert_eq!(
        requests.count("server/discover"),
        1,
        "also across a restart"
    );
    requests.become_modern();
    eventually("the modern era", || {
        (requests.count("server/discover") >= 2).then_some(())
    });
    watch.until_state("demo", "up");
    let lines = watch.lines();
    let down = lines
        .iter()
        .any(|line| line["event"] == "state_changed" && line["state"] == "down");
    assert!(!down, "a change of era is no outage: {lines:?}");
}

#[test]
fn one_round_has_the_exit_codes_of_check_and_keeps_the_incident() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    let demo = Demo::start("once", None);
    std::fs::write(&file, config(demo.port)).unwrap();
    let once = || {
        mcpprobe()
            .args(["watch", "--once"])
            .arg(&file)
            .output()
            .unwrap()
    };
    assert_eq!(once().status.code(), Some(2), "one of two is dead");
    let status = |name: &str| -> Value {
        let output = run(&["status", "--format", "json", file.to_str().unwrap()]);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let targets = document["targets"].as_array().unwrap().clone();
        targets.into_iter().find(|t| t["name"] == name).unwrap()
    };
    let first = status("dead");
    once();
    assert_eq!(status("dead")["incident"], first["incident"]);
    assert_eq!(status("demo")["state"], "up");
}

#[test]
fn cron_is_waited_for_but_by_no_single_round() {
    let up = Small::start(healthy);
    let server = |name: &str, cron: &str| {
        format!(
            "[[server]]\nname = \"{name}\"\nurl = \"{}\"\ncron = \"{cron}\"\n",
            up.url()
        )
    };
    let text = format!(
        "{}{}",
        server("each second", "* * * * * *"),
        // In more than a year whenever this runs.
        server("some day", "0 0 0 29 2 ? 2096")
    );
    let mut watch = Watch::start(&text);
    let first = watch.until_state("each second", "up");
    eventually("the next second", || {
        let now = watch.status("each second");
        (now["trace_id"] != first["trace_id"]).then_some(())
    });
    let waiting = watch.status("some day");
    assert_eq!(waiting["state"], "unknown");
    assert_eq!(waiting["last_probe_at"], Value::Null);
    let said = watch
        .lines()
        .iter()
        .any(|line| line.to_string().contains("wait for their `cron`"));
    assert!(said, "{:?}", watch.lines());
    let (document, code) = check_json(&[&watch.file()]);
    assert_eq!((code, &document["summary"]["up"]), (0, &Value::from(2)));
    watch.program.signal("TERM");
    assert_eq!(watch.program.wait(), 0);
    let output = run(&["watch", "--once", &watch.file()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(watch.status("some day")["state"], "up");
}

#[test]
fn on_a_schedule_too_no_host_is_probed_more_often_at_once_than_per_host_says() {
    let slow = Busy::start(2, std::time::Duration::from_millis(300));
    let mut text =
        "[schedule]\nper_host = 2\n[defaults]\nevery = \"1s\"\ntimeout = \"10s\"\n".to_owned();
    for n in 0..10 {
        let url = slow.servers[n % 2].url();
        text.push_str(&format!("[[server]]\nname = \"n{n}\"\nurl = \"{url}\"\n"));
    }
    let watch = Watch::start(&text);
    let twice = |name: &str| {
        let first = watch.until_state(name, "up");
        eventually("a second probe", || {
            let now = watch.status(name);
            (now["trace_id"] != first["trace_id"] && now["state"] == "up").then_some(())
        });
    };
    (0..10).for_each(|n| twice(&format!("n{n}")));
    assert_eq!(slow.take_most(), 2);
}

#[test]
fn the_first_command_of_the_readme_shows_the_demo_up_and_the_dead_one_down() {
    // As in examples/servers.toml, with a free port and this build's demo server.
    let port = free_port();
    let demo = example("demo_server");
    let text = std::fs::read_to_string(crate::support::here("../examples/servers.toml"))
        .unwrap()
        .replace("8931", &port.to_string())
        .replace(
            "../target/release/examples/demo_server",
            demo.to_str().unwrap(),
        );
    let mut watch = Watch::start(&text);
    watch.until_state("demo", "up");
    watch.until_state("demo-stdio", "up");
    assert_eq!(
        watch.until_state("dead", "down")["failed_layer"],
        "transport"
    );
    watch.program.signal("TERM");
    assert_eq!(watch.program.wait(), 0);
    // What `start` has started is gone.
    eventually("the port of the demo server", || {
        TcpListener::bind(("127.0.0.1", port)).ok()
    });
    let (document, code) = check_json(&[&format!("http://127.0.0.1:{port}/mcp")]);
    assert_eq!(
        (code, &document["targets"][0]["reason"]),
        (2, &Value::from("connection_refused"))
    );
}

/// A minimal legacy server that counts methods and can become a modern one.
struct Recorder {
    port: u16,
    methods: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
    modern: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Recorder {
    fn start() -> Self {
        use std::sync::atomic::Ordering;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let methods: std::sync::Arc<std::sync::Mutex<Vec<String>>> = Default::default();
        let modern: std::sync::Arc<std::sync::atomic::AtomicBool> = Default::default();
        let (seen, is_modern) = (methods.clone(), modern.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(request) = read_request(stream.as_ref().unwrap()) else {
                    continue;
                };
                let method = request["method"].as_str().unwrap_or_default().to_owned();
                seen.lock().unwrap().push(method.clone());
                let answer = answer(&method, &request["id"], is_modern.load(Ordering::Relaxed));
                use std::io::Write;
                stream.unwrap().write_all(answer.as_bytes()).ok();
            }
        });
        Self {
            port,
            methods,
            modern,
        }
    }

    fn count(&self, method: &str) -> usize {
        self.methods
            .lock()
            .unwrap()
            .iter()
            .filter(|m| *m == method)
            .count()
    }

    fn become_modern(&self) {
        self.modern
            .store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

fn read_request(mut stream: &std::net::TcpStream) -> Option<Value> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(request) = serde_json::from_str(body)
        {
            return Some(request);
        }
    }
}

/// One answer per connection.
fn answer(method: &str, id: &Value, modern: bool) -> String {
    let result = match (method, modern) {
        ("initialize", false) => {
            r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"r","version":"1"}}"#
        }
        ("server/discover", true) => {
            r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#
        }
        ("tools/list", _) => {
            r#"{"resultType":"complete","tools":[{"name":"t","inputSchema":{"type":"object"}}]}"#
        }
        ("notifications/initialized", _) => {
            return "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                .to_owned();
        }
        _ => {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no such method"}}}}"#
            );
            return reply("404 Not Found", &body);
        }
    };
    reply(
        "200 OK",
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
    )
}

fn reply(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
