//! The servers that are broken.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::fault;
use super::network::{FAR, NEAR, Network, port};
use crate::support::{Program, cache, eventually, example, here, http};

/// How a server is to be started.
pub(super) struct Plan<'p> {
    pub(super) program: fault::Program,
    pub(super) service: &'p str,
    pub(super) arguments: &'p [String],
    pub(super) environment: &'p BTreeMap<String, String>,
    /// Where its spans go; `None` is nowhere.
    pub(super) otlp: Option<u16>,
    pub(super) database: Option<u16>,
    /// It is to stand on the other end of the cable.
    pub(super) far: Option<&'p Network>,
}

/// A running server.
pub(super) struct Server {
    program: Program,
    pub(super) port: u16,
    control: u16,
}

impl Server {
    pub(super) fn start(plan: &Plan) -> Self {
        let (port, control) = (port(), port());
        let host = plan.far.map_or("127.0.0.1", |_| FAR);
        let (path, mut arguments) = command_line(plan, host, port, control);
        arguments.extend(plan.arguments.iter().cloned());
        let mut command = match plan.far {
            Some(network) => network.far(&path),
            None => Command::new(path),
        };
        for (name, _) in std::env::vars() {
            if name.starts_with("OTEL_") {
                command.env_remove(name);
            }
        }
        if let Some(otlp) = plan.otlp {
            let near = plan.far.map_or("127.0.0.1", |_| NEAR);
            command.env(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("http://{near}:{otlp}"),
            );
        }
        command
            .args(arguments)
            .env("OTEL_SERVICE_NAME", plan.service)
            // What has gone out before the process dies counts.
            .env("OTEL_BSP_SCHEDULE_DELAY", "500")
            .envs(plan.environment)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut server = Self {
            program: Program::spawn(&mut command),
            port,
            control,
        };
        eventually(&format!("the server of {}", plan.service), || {
            assert!(server.program.is_running(), "{command:?} has ended");
            TcpStream::connect((host, port)).ok()
        });
        server
    }

    pub(super) fn signal(&self, name: &str) {
        self.program.signal(name);
    }

    /// Tells it to fail.
    pub(super) fn control(&self, mode: &str) {
        let path = format!("/control?fail={mode}");
        let (status, body) = http("POST", self.control, &path, &[], "");
        assert_eq!(status, 200, "{body}");
    }
}

fn command_line(plan: &Plan, host: &str, port: u16, control: u16) -> (PathBuf, Vec<String>) {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let (port, control) = (port.to_string(), control.to_string());
    match plan.program {
        fault::Program::Demo => (
            example("demo_server"),
            words(&[
                "--port",
                &port,
                "--control-port",
                &control,
                "--service",
                plan.service,
            ]),
        ),
        fault::Program::Python => {
            let program = here("servers/python/traced.py");
            let mut line = vec![program.display().to_string()];
            let ports: Vec<String> = words(&["--port", &port, "--control-port", &control]);
            line.extend(ports);
            if let Some(database) = plan.database {
                line.extend(["--database".to_owned(), database.to_string()]);
            }
            (cache().join("python/bin/python"), line)
        }
        fault::Program::Go => {
            // The other network is its own: there every address of it is.
            let addr = match plan.far {
                Some(_) => format!(":{port}"),
                None => format!("{host}:{port}"),
            };
            let control = format!("{host}:{control}");
            (
                cache().join("go/server"),
                words(&["-addr", &addr, "-control", &control, "-stateless"]),
            )
        }
    }
}
