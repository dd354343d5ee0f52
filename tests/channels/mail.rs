//! Mail, to a real mail server, over STARTTLS with a certificate of the tests' own authority.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::bench::{Bench, run};
use super::notice;
use crate::support::{Certificates, Program, cache, eventually, free_port, http};

struct Mailpit {
    _program: Program,
    smtp: u16,
    api: u16,
    _folder: tempfile::TempDir,
}

impl Mailpit {
    fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (smtp, api) = (free_port(), free_port());
        let mut command = Command::new(cache().join("mailpit/mailpit"));
        command
            .args(["--smtp", &format!("127.0.0.1:{smtp}")])
            .args(["--listen", &format!("127.0.0.1:{api}")])
            .arg("--database")
            .arg(folder.path().join("mails.db"))
            .arg("--disable-version-check")
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let program = Program::start(&mut command, api);
        eventually("the mail server", || {
            std::net::TcpStream::connect(("127.0.0.1", smtp)).ok()
        });
        Self {
            _program: program,
            smtp,
            api,
            _folder: folder,
        }
    }

    fn get(&self, path: &str) -> String {
        let (status, body) = http("GET", self.api, path, &[], "");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn count(&self) -> u64 {
        let page: Value = serde_json::from_str(&self.get("/api/v1/messages")).unwrap();
        page["total"].as_u64().unwrap()
    }

    /// The whole mails, the earliest first.
    fn mails(&self) -> Vec<String> {
        let page: Value = serde_json::from_str(&self.get("/api/v1/messages")).unwrap();
        let mut ids: Vec<_> = page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|mail| mail["ID"].as_str().unwrap().to_owned())
            .collect();
        ids.reverse();
        ids.iter()
            .map(|id| {
                self.get(&format!("/api/v1/message/{id}/raw"))
                    .replace("\r\n", "\n")
            })
            .collect()
    }
}

fn channel(port: u16, more: &str) -> String {
    format!(
        "[[channel]]\nname = \"oncall\"\ntype = \"email\"\nsmtp = \"smtp://probe:${{SECRET}}@localhost:{port}\"\n\
         from = \"mcpprobe <probe@example.com>\"\nto = [\"oncall@example.com\", \"Zwei <zwei@example.com>\"]\n\
         group = \"0s\"\nretry_first = \"100ms\"\ngive_up_after = \"1s\"\n{more}\n"
    )
}

/// A header, unfolded.
fn header(mail: &str, name: &str) -> String {
    let head = mail.split("\n\n").next().unwrap().replace("\n ", " ");
    head.lines()
        .find_map(|line| line.strip_prefix(&format!("{name}: ")))
        .unwrap_or_else(|| panic!("no {name} in {head}"))
        .to_owned()
}

#[test]
fn opening_update_and_resolution_arrive_over_starttls_in_one_thread() {
    let certificates = Certificates::new();
    let file = |name: &str| certificates.path(name).display().to_string();
    let server = Mailpit::start(&[
        "--smtp-tls-cert",
        &file("server.pem"),
        "--smtp-tls-key",
        &file("server.key"),
        "--smtp-require-starttls",
        "--smtp-auth-accept-any",
    ]);
    run(async {
        let ca = format!("ca_file = \"{}\"", file("ca.pem"));
        let mut bench = Bench::start(&channel(server.smtp, &ca));
        for name in ["opened", "updated", "resolved"] {
            bench.send(notice::of_file(name, "oncall"));
            bench.delivered().await;
        }
    });
    let mails = server.mails();
    assert_eq!(mails.len(), 3);
    let opening = "<62280dc6fb724da0-oncall-1@example.com>";
    let expected = [
        (
            "62280dc6fb724da0-oncall-1",
            "[critical] weather is down: HTTP 503",
        ),
        (
            "62280dc6fb724da0-oncall-2",
            "[critical] weather is down, verdict: infrastructure",
        ),
        (
            "62280dc6fb724da0-oncall-4",
            "[resolved] weather is up again after 4h 7m 30s",
        ),
    ];
    for (mail, (id, subject)) in mails.iter().zip(expected) {
        assert_eq!(header(mail, "Message-ID"), format!("<{id}@example.com>"));
        assert!(header(mail, "Subject").starts_with(subject), "{mail}");
        assert_eq!(header(mail, "Auto-Submitted"), "auto-generated");
        assert!(header(mail, "Date").contains("21 Nov 2026"), "{mail}");
        assert!(header(mail, "To").contains("zwei@example.com"), "{mail}");
        assert!(header(mail, "Content-Type").starts_with("multipart/alternative"));
        assert!(mail.contains("Content-Type: text/plain"), "{mail}");
        assert!(mail.contains("Content-Type: text/html"), "{mail}");
    }
    for mail in &mails[1..] {
        assert_eq!(header(mail, "In-Reply-To"), opening);
        assert_eq!(header(mail, "References"), opening);
    }
    assert!(!mails[0].contains("In-Reply-To"));
}

#[test]
fn a_group_is_one_mail_that_belongs_to_the_threads_of_all() {
    let server = Mailpit::start(&[]);
    run(async {
        let text = channel(server.smtp, "tls = \"off\"").replace("probe:${SECRET}@", "");
        let mut bench = Bench::start(&text);
        let created = std::time::SystemTime::now();
        for incident in ["a", "b"] {
            let mut notice = notice::of_file("hostile", "oncall");
            notice.incident.id = incident.to_owned();
            notice.created_at = created;
            notice.due_at = created + std::time::Duration::from_secs(2);
            bench.send(notice);
        }
        bench.delivered().await;
        bench.delivered().await;
    });
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(header(&mails[0], "Message-ID"), "<a-oncall-1@example.com>");
    assert_eq!(header(&mails[0], "References"), "<b-oncall-1@example.com>");
    assert!(!mails[0].contains("<script>"), "{}", mails[0]);
}

#[test]
fn without_tls_or_with_another_certificate_nothing_is_sent() {
    let certificates = Certificates::new();
    let others = Certificates::new();
    let file =
        |certificates: &Certificates, name: &str| certificates.path(name).display().to_string();
    let plain = Mailpit::start(&["--smtp-auth-accept-any", "--smtp-auth-allow-insecure"]);
    let encrypted = Mailpit::start(&[
        "--smtp-tls-cert",
        &file(&certificates, "server.pem"),
        "--smtp-tls-key",
        &file(&certificates, "server.key"),
        "--smtp-auth-accept-any",
    ]);
    let ca = |certificates| format!("ca_file = \"{}\"", file(certificates, "ca.pem"));
    run(async {
        for (server, more) in [
            (&plain, ca(&certificates)),
            (&plain, String::new()),
            (&encrypted, ca(&others)),
            (&encrypted, String::new()),
        ] {
            let mut bench = Bench::start(&channel(server.smtp, &more));
            bench.send(notice::of_file("opened", "oncall"));
            let (failures, last) = bench.settled().await;
            let said = format!("{failures:?} {last:?}");
            assert!(
                said.contains("GivenUp") && said.contains("localhost: "),
                "{said}"
            );
            assert!(!said.contains("s3cret"), "{said}");
            assert_eq!(server.count(), 0, "{said}");
        }
        // The same server takes it when that is what the user wants.
        let mut bench = Bench::start(&channel(plain.smtp, "tls = \"off\""));
        bench.send(notice::of_file("opened", "oncall"));
        bench.delivered().await;
    });
    assert_eq!(plain.count(), 1);
}
