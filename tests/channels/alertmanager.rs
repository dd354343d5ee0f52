//! A real Alertmanager: it receives, is told again, and hears of the end.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mcpprobe::model::{Notice, Severity};
use serde_json::Value;

use super::bench::{Bench, channels, run};
use super::notice;
use super::receiver::{Answer, Receiver};
use crate::support::{Program, cache, eventually, free_port, here, http};

struct Alertmanager {
    _program: Program,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Alertmanager {
    /// Sends what it has to `receiver`.
    fn start(receiver: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("alertmanager.yml");
        let text = format!(
            "route: {{ receiver: us, group_by: ['...'], group_wait: 1s, group_interval: 1s }}\n\
             receivers: [{{ name: us, webhook_configs: [{{ url: '{receiver}', send_resolved: true }}] }}]\n"
        );
        std::fs::write(&config, text).unwrap();
        let port = free_port();
        let installed = cache().join("alertmanager");
        let mut command = Command::new(installed.join("usr/bin/prometheus-alertmanager"));
        command
            .current_dir(installed)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let program = Program::start(&mut command, port);
        eventually("a ready Alertmanager", || {
            (http("GET", port, "/-/ready", &[], "").0 == 200).then_some(())
        });
        Self {
            _program: program,
            port,
            _folder: folder,
        }
    }

    /// The alerts that fire.
    fn alerts(&self) -> Vec<Value> {
        let (status, body) = http("GET", self.port, "/api/v2/alerts", &[], "");
        assert_eq!(status, 200, "{body}");
        let body = body.trim();
        let start = body.find('[').unwrap_or_else(|| panic!("{body}"));
        let end = body.rfind(']').unwrap();
        serde_json::from_str(&body[start..=end]).unwrap()
    }
}

/// A notice of today: an Alertmanager judges by its own clock.
fn fresh(name: &str, channel: &str) -> Notice {
    let mut notice = notice::of_file(name, channel);
    let now = SystemTime::now();
    notice.incident.first_failed_at = now - Duration::from_secs(30);
    notice.incident.resolved_at = notice.incident.resolved_at.map(|_| now);
    notice.created_at = now;
    notice.due_at = now;
    notice
}

/// Waits without holding the outbox up, which runs on this very thread.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not come");
}

#[test]
fn a_real_one_receives_hears_again_and_resolves() {
    let receiver = Receiver::start(|_, _| Answer::Status(200, None, String::new()));
    let (one, two) = (
        Alertmanager::start(&receiver.url("/")),
        Alertmanager::start(&receiver.url("/")),
    );
    let text = format!(
        "[[channel]]\nname = \"am\"\ntype = \"alertmanager\"\nresend = \"1s\"\nlabels = {{ team = \"agents\" }}\n\
         urls = [\"http://127.0.0.1:{}\", \"http://127.0.0.1:{}/\"]\n",
        one.port, two.port
    );
    run(async {
        let mut bench = Bench::start(&text);
        bench.send(fresh("opened", "am"));
        bench.delivered().await;
        let mut updates = Vec::new();
        for server in [&one, &two] {
            let alerts = server.alerts();
            assert_eq!(alerts.len(), 1, "{alerts:?}");
            let labels = serde_json::json!({
                "alertname": "McpServerOutage", "kind": "outage", "server": "weather", "severity": "critical", "team": "agents",
            });
            assert_eq!(alerts[0]["labels"], labels);
            assert_eq!(
                alerts[0]["generatorURL"],
                "https://jaeger.example/trace/62280dc6fb724da0616658a91c1e6fb0"
            );
            updates.push(alerts[0]["updatedAt"].clone());
        }
        for (server, first) in [&one, &two].into_iter().zip(&updates) {
            // Well past the time after which it would be forgotten.
            let mut seen = vec![first.clone()];
            until("being told again, five times", || {
                let alerts = server.alerts();
                assert_eq!(alerts.len(), 1, "it was forgotten");
                if seen.last() != Some(&alerts[0]["updatedAt"]) {
                    seen.push(alerts[0]["updatedAt"].clone());
                }
                seen.len() > 5
            })
            .await;
        }
        // A restart: the next process is told what fires, and tells it.
        bench.outbox.end().await;
        let mut bench = Bench::start(&text);
        bench.outbox.firing(vec![fresh("opened", "am")]).await;
        let before = one.alerts()[0]["updatedAt"].clone();
        until("being told again after a restart", || {
            one.alerts()[0]["updatedAt"] != before
        })
        .await;
        bench.send(fresh("resolved", "am"));
        bench.delivered().await;
        for server in [&one, &two] {
            until("the end", || server.alerts().is_empty()).await;
        }
        until("the end at the receiver", || {
            receiver
                .requests()
                .iter()
                .any(|request| request.json()["status"] == "resolved")
        })
        .await;
        // It does not fire again.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(one.alerts().is_empty());
    });
}

#[test]
fn a_severity_that_rises_ends_the_alert_of_the_lower_one() {
    let receiver = Receiver::start(|_, _| Answer::Status(200, None, String::new()));
    let server = Alertmanager::start(&receiver.url("/"));
    run(async {
        let mut bench = Bench::start(&format!(
            "[[channel]]\nname = \"am\"\ntype = \"alertmanager\"\nurls = [\"http://127.0.0.1:{}\"]\n",
            server.port
        ));
        let mut opened = fresh("opened", "am");
        opened.incident.severity = Severity::Warning;
        bench.send(opened);
        bench.delivered().await;
        bench.send(fresh("graver", "am"));
        bench.delivered().await;
        until("one alert", || server.alerts().len() == 1).await;
        assert_eq!(server.alerts()[0]["labels"]["severity"], "critical");
    });
}

#[test]
fn every_instance_has_to_take_it() {
    let receiver = Receiver::start(|before, _| match before {
        1 => Answer::Status(500, None, "not now".to_owned()),
        _ => Answer::Status(200, None, String::new()),
    });
    let text = format!(
        "[[channel]]\nname = \"am\"\ntype = \"alertmanager\"\nretry_first = \"100ms\"\nurls = [\"{}\", \"{}\"]\n",
        receiver.url("/one"),
        receiver.url("/two")
    );
    run(async {
        let settings = channels(&text, &here("data"));
        let mut bench = Bench::with(settings, Vec::new(), Arc::new(|_, _| Ok(Vec::new())));
        bench.send(fresh("opened", "am"));
        let (failures, _) = bench.settled().await;
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].contains("HTTP 500"), "{failures:?}");
    });
    let paths: Vec<_> = receiver
        .requests()
        .into_iter()
        .map(|request| request.path)
        .collect();
    assert_eq!(
        paths,
        [
            "/one/api/v2/alerts",
            "/two/api/v2/alerts",
            "/one/api/v2/alerts",
            "/two/api/v2/alerts"
        ]
    );
}
