//! The prober's own network is gone: in a network of our own, with a cable that can be pulled.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Program, Watch, eventually};

/// The servers on the other end of the cable; one of them is ill when a file says so.
const FAR: &str = r#"
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        results = {
            "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "far", "version": "1"}},
            "tools/list": {"tools": []},
        }
        ill = self.path == "/s6" and os.path.exists(sys.argv[1])
        result = None if ill else results.get(asked["method"])
        body = json.dumps({"jsonrpc": "2.0", "id": asked.get("id"), "result": result}).encode() if result else b""
        self.send_response(503 if ill else 200 if result else 202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("0.0.0.0", 80), Server).serve_forever()
"#;

/// Two ends of a cable, each a network of its own; we are on the near one.
struct Cable {
    near: Program,
    far: Program,
    folder: tempfile::TempDir,
}

impl Cable {
    fn lay() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sleep = ["sleep", "600"];
        let near = Program::spawn(Command::new("unshare").args(["-rn"]).args(sleep));
        let user = |near: &Program| {
            let mut command = Command::new("nsenter");
            let id = near.id().to_string();
            command.args(["-U", "--preserve-credentials", "-t", &id]);
            command
        };
        eventually("a network of our own: unshare -rn", || {
            let own = |id: &str| fs::read_link(format!("/proc/{id}/ns/net")).ok();
            (own(&near.id().to_string())? != own("self")?).then_some(())
        });
        let far = Program::spawn(user(&near).args(["unshare", "-n"]).args(sleep));
        eventually("the other end", || {
            let own =
                |program: &Program| fs::read_link(format!("/proc/{}/ns/net", program.id())).ok();
            let ours = fs::read_link("/proc/self/ns/net").ok()?;
            let far = own(&far)?;
            (far != own(&near)? && far != ours).then_some(())
        });
        let cable = Self { near, far, folder };
        let far = cable.far.id();
        cable.at_near(&format!(
            "ip link set lo up && ip link add near type veth peer name far netns {far} && ip addr add 198.51.100.1/24 dev near"
        ));
        let addresses: String = (10..=16)
            .chain([254])
            .map(|n| format!("ip addr add 198.51.100.{n}/24 dev far && "))
            .collect();
        let at_far = format!("{addresses}ip link set lo up && ip link set far up");
        run(&enter(&cable.far), &at_far);
        cable.plug();
        cable
    }

    fn at_near(&self, script: &str) {
        run(&enter(&self.near), script);
    }

    fn plug(&self) {
        self.at_near("ip link set near up && ip route add default via 198.51.100.254");
    }

    fn pull(&self) {
        self.at_near("ip link set near down");
    }
}

fn enter(end: &Program) -> Vec<String> {
    let id = end.id().to_string();
    ["nsenter", "-U", "-n", "--preserve-credentials", "-t", &id]
        .map(str::to_owned)
        .to_vec()
}

fn run(by: &[String], script: &str) {
    let output = Command::new(&by[0])
        .args(&by[1..])
        .args(["sh", "-c", script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}

fn states(watch: &Watch) -> Vec<String> {
    let status = watch.asked(&["status"]);
    let targets = status["targets"].as_array().unwrap().iter();
    targets
        .map(|target| target["state"].as_str().unwrap().to_owned())
        .collect()
}

fn until_states(watch: &Watch, expected: [&str; 6]) {
    eventually(&format!("{expected:?}"), || {
        (states(watch) == expected).then_some(())
    });
}

#[test]
fn a_prober_without_a_network_says_so_once_and_pages_for_no_server() {
    let cable = Cable::lay();
    let ill = cable.folder.path().join("ill");
    let by = enter(&cable.far);
    let _servers = Program::spawn(
        Command::new(&by[0])
            .args(&by[1..])
            .args(["python3", "-c", FAR])
            .arg(&ill)
            .stderr(Stdio::null()),
    );
    let told = cable.folder.path().join("told");
    let fleet: String = (1..=6)
        .map(|n| {
            format!(
                "[[server]]\nname = \"s{n}\"\nurl = \"http://198.51.100.{}/s{n}\"\n",
                10 + n
            )
        })
        .collect();
    // A way to people that needs no network.
    let config = format!(
        "[defaults]\nevery = \"1s\"\ntimeout = \"2s\"\nera = \"legacy\"\n\
         [alerting]\nconfirm = 1\nconfirm_delay = \"100ms\"\nup_after = 1\n{fleet}\
         [[channel]]\nname = \"file\"\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"cat >> {}\"]\n",
        told.display()
    );
    let notices = || -> Vec<Value> {
        let text = fs::read_to_string(&told).unwrap_or_default();
        let values = serde_json::Deserializer::from_str(&text).into_iter();
        values.map_while(Result::ok).collect()
    };
    let told_of = |event: &str, server: Value| {
        eventually(&format!("{event} of {server}"), || {
            notices()
                .into_iter()
                .find(|notice| notice["event"] == event && notice["server"] == server)
        })
    };
    // The servers may come up after the first probes; what is told of that is not what this is about.
    eventually("the servers", || {
        let output = crate::support::mcpprobe_by(&enter(&cable.near))
            .args(["check", "http://198.51.100.11/s1"])
            .output()
            .unwrap();
        output.status.success().then_some(())
    });
    let watch = Watch::start_by(enter(&cable.near), &config);
    until_states(&watch, ["up"; 6]);
    // The default gateway has been seen working by then: it is asked at the start.
    for _ in 0..4 {
        let last = watch.status("s1")["last_probe_at"].clone();
        eventually("a further probe", || {
            (watch.status("s1")["last_probe_at"] != last).then_some(())
        });
    }
    cable.pull();
    let isolated = told_of("opened", Value::Null);
    until_states(&watch, ["unknown"; 6]);
    assert_eq!(watch.asked(&["status"])["isolated"], true);
    // One of them goes down meanwhile.
    fs::write(&ill, "").unwrap();
    cable.plug();
    let resolved = told_of("resolved", Value::Null);
    assert_eq!(resolved["incident"], isolated["incident"]);
    until_states(&watch, ["up", "up", "up", "up", "up", "down"]);
    told_of("opened", "s6".into());
    assert_eq!(watch.asked(&["status"])["isolated"], false);
    let told = notices();
    assert_eq!(told.len(), 3, "{told:#?}");
}
