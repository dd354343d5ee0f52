//! The figures that the project promises, measured on this machine, medians of 20 in one run.
//!
//! ```text
//! cargo build --release --bins && cargo run --release --example bench
//! ```
//!
//! - `watch` at 2,000 targets a second against a bare hyper loop that sends the same requests at the
//!   same pace: handshakes per second of CPU, each counted by the server, in windows of a second.
//! - `check URL`: wall clock from start to exit.
//! - The engine alone, 64 at once, against the bare loop and against rmcp's client without a pace.
//! - Every bad server of the tests at once, in one `check` with 3 s for each: time and memory.
//! - `check FILE`: CPU of each handshake when only probing is done, from start to exit.
//! - The embedded trace backend: spans per second of CPU beside Jaeger's, and the times of answers.
//!
//! Server, sink and loop are processes of their own: this program again, told what to be. The loop
//! repeats what the server recorded of a real `mcpprobe`, so that both always send the same bytes.
//! The machine should have nothing else to do; loop and subjects take turns, so that what disturbs
//! one disturbs the other, and only their ratio is to be believed.

mod bad_servers;
mod bare_loop;
mod client;
mod command;
mod engine;
mod program;
mod rmcp_client;
mod server;
mod storm;
mod table;
mod traces;
mod window;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use command::Mcpprobe;
use program::Program;
use table::Figures;
use window::Window;

/// What `mcpprobe` itself uses, for all that is compared.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Any trouble: here it only has to be told.
type Trouble = Box<dyn Error>;

/// Targets, each probed once a second.
const TARGETS: usize = 2_000;

/// Handshakes at once of what runs without a pace.
const AT_ONCE: usize = 64;

/// What runs without a pace: its role and its name.
const FLAT_OUT: [(&str, &str); 4] = [
    ("loop-flat-out", "bare hyper loop, 64 at once"),
    ("engine", "engine alone, 64 at once"),
    ("rmcp", "rmcp's client, 64 at once"),
    ("rmcp-without-roots", "the same without TLS roots"),
];

/// The loop and each subject take turns this often, and each turn has this many windows.
const TURNS: usize = 4;
const WINDOWS: usize = 5;

/// Runs of `check` of each kind: as many as there are windows.
const RUNS: usize = TURNS * WINDOWS;

/// Before the first window of a `watch`: its first one finds every era and fills the store.
const WARM_UP_NEW: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(1_500);
const WARM_UP_LOOP: Duration = Duration::from_millis(300);

#[derive(Parser)]
#[command(about = "Measures the figures that the project promises")]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program is when it has started itself.
#[derive(Subcommand)]
enum Role {
    /// A minimal MCP server, and an OTLP receiver that forgets
    #[command(hide = true)]
    Server,
    /// The bare loop
    #[command(hide = true)]
    Loop {
        /// The server
        server: SocketAddr,
    },
    /// The bare loop without a pace
    #[command(hide = true)]
    LoopFlatOut {
        /// The server
        server: SocketAddr,
    },
    /// The probing engine without a pace
    #[command(hide = true)]
    Engine {
        /// The server
        server: SocketAddr,
    },
    /// Nothing but all bad servers at once
    Storm,
    /// Nothing but the embedded trace backend
    Traces,
    /// The embedded trace backend
    #[command(hide = true)]
    TracesServer,
    /// Answers of the embedded trace backend, with many spans stored
    #[command(hide = true)]
    TracesReading,
    /// rmcp's client without a pace
    #[command(hide = true)]
    Rmcp {
        /// The server
        server: SocketAddr,
    },
    /// The same with an HTTP client that reads no roots
    #[command(hide = true)]
    RmcpWithoutRoots {
        /// The server
        server: SocketAddr,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = match Options::parse().role {
        Some(Role::Server) => program::until_orphaned(server::serve()).await,
        Some(Role::Loop { server }) => program::until_orphaned(bare_loop::run(server)).await,
        Some(Role::LoopFlatOut { server }) => {
            program::until_orphaned(bare_loop::run_flat_out(server)).await
        }
        Some(Role::Storm) => only_storm().await,
        Some(Role::Traces) => traces::run().await,
        Some(Role::TracesServer) => program::until_orphaned(traces::serve()).await,
        Some(Role::TracesReading) => traces::reading().await,
        Some(Role::Engine { server }) => program::until_orphaned(engine::run(server)).await,
        Some(Role::Rmcp { server }) => {
            program::until_orphaned(rmcp_client::run(server, false)).await
        }
        Some(Role::RmcpWithoutRoots { server }) => {
            program::until_orphaned(rmcp_client::run(server, true)).await
        }
        None => bench().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("error: {trouble}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever ends it, the programs that it has started are ended with it.
async fn bench() -> Result<(), Trouble> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        measured = measure() => measured,
        interrupted = tokio::signal::ctrl_c() => Err(interrupted.err().map_or("interrupted".into(), Into::into)),
        _ = terminated.recv() => Err("terminated".into()),
    }
}

async fn measure() -> Result<(), Trouble> {
    if cfg!(debug_assertions) {
        return Err("a debug build says nothing: cargo run --release --example bench".into());
    }
    let mcpprobe = Mcpprobe::find()?;
    // Two processes: the sink's connections must not wait behind the probes'.
    let (_server, address) = Program::start_role(&["server"]).await?;
    let (_sink, sink) = Program::start_role(&["server"]).await?;
    let folder = tempfile::tempdir()?;
    let bench = Bench {
        subjects: [
            ("watch, spans exported", "on", Some(sink)),
            ("watch, no spans", "off", None),
        ]
        // A folder each, for there the store is.
        .map(|(name, place, sink)| Subject {
            name,
            file: folder.path().join(place).join("servers.toml"),
            sink,
        }),
        mcpprobe,
        server: address,
    };
    for subject in &bench.subjects {
        let text = command::servers(TARGETS, address, subject.sink);
        subject.file.parent().map_or(Ok(()), std::fs::create_dir)?;
        std::fs::write(&subject.file, text)?;
    }
    let storm = storm::run(&bench.mcpprobe).await?;
    bench.record(folder.path().join("recording.toml")).await?;
    let figures = bench.figures(folder.path().join("legacy.toml")).await?;
    table::print(&figures, TARGETS);
    table::print_storm(&storm);
    traces::run().await
}

/// A `watch` to be measured.
struct Subject {
    name: &'static str,
    file: PathBuf,
    sink: Option<SocketAddr>,
}

async fn only_storm() -> Result<(), Trouble> {
    table::print_storm(&storm::run(&Mcpprobe::find()?).await?);
    Ok(())
}

/// What is there to measure.
struct Bench {
    mcpprobe: Mcpprobe,
    server: SocketAddr,
    subjects: [Subject; 2],
}

impl Bench {
    /// Lets `mcpprobe` shake hands once with the fresh server, which keeps what it sends.
    async fn record(&self, file: PathBuf) -> Result<(), Trouble> {
        std::fs::write(&file, command::legacy_servers(1, self.server))?;
        self.mcpprobe.check(&[file.as_os_str()])?;
        let recording = client::recording(self.server).await?;
        let methods: Vec<_> = recording.iter().map(|r| r.method.as_str()).collect();
        if methods != ["POST", "POST", "POST", "DELETE"] {
            return Err(format!("mcpprobe sent {methods:?}, which is no handshake").into());
        }
        Ok(())
    }

    async fn figures(&self, legacy: PathBuf) -> Result<Figures, Trouble> {
        let url = format!("http://{}/mcp", self.server);
        let check_url = self.mcpprobe.check_often(RUNS, &[url.as_ref()])?;
        std::fs::write(&legacy, command::legacy_servers(TARGETS, self.server))?;
        let arguments = ["--concurrency".as_ref(), "64".as_ref(), legacy.as_os_str()];
        let check_file = self.mcpprobe.check_often(RUNS, &arguments)?;
        let mut paced = vec![table::Paced::new("bare hyper loop")];
        paced.extend(self.subjects.iter().map(|s| table::Paced::new(s.name)));
        for turn in 0..TURNS {
            eprintln!("turn {} of {TURNS}", turn + 1);
            for (index, paced) in paced.iter_mut().enumerate() {
                let (windows, memory) =
                    match index.checked_sub(1).and_then(|i| self.subjects.get(i)) {
                        None => self.measure_role("loop").await?,
                        Some(subject) => self.measure_watch(subject, turn == 0).await?,
                    };
                paced.turns.push(windows);
                paced.memory = paced.memory.max(memory);
            }
        }
        Ok(Figures {
            check_url,
            check_file,
            paced,
            flat_out: self.flat_out().await?,
        })
    }

    async fn flat_out(&self) -> Result<Vec<table::Paced>, Trouble> {
        let mut subjects: Vec<_> = FLAT_OUT
            .iter()
            .map(|(_, name)| table::Paced::new(name))
            .collect();
        for turn in 0..TURNS {
            eprintln!("flat out, turn {} of {TURNS}", turn + 1);
            for ((role, _), subject) in FLAT_OUT.iter().zip(&mut subjects) {
                let (windows, memory) = self.measure_role(role).await?;
                subject.turns.push(windows);
                subject.memory = subject.memory.max(memory);
            }
        }
        Ok(subjects)
    }

    async fn measure_role(&self, role: &str) -> Result<(Vec<Window>, u64), Trouble> {
        let server = self.server.to_string();
        let (program, _) = Program::start_role(&[role, &server]).await?;
        tokio::time::sleep(WARM_UP_LOOP).await;
        let windows = window::windows(&program, self.server, WINDOWS).await?;
        let memory = program.peak_memory()?;
        program.end().await?;
        Ok((windows, memory))
    }

    async fn measure_watch(
        &self,
        subject: &Subject,
        new: bool,
    ) -> Result<(Vec<Window>, u64), Trouble> {
        let log = subject.file.with_extension("log");
        let before = self.spans(subject).await?;
        let program = Program::spawn(&mut self.mcpprobe.watch(&subject.file, &log)?)?;
        tokio::time::sleep(if new { WARM_UP_NEW } else { WARM_UP }).await;
        let windows = window::windows(&program, self.server, WINDOWS).await?;
        let memory = program.peak_memory()?;
        program.end().await?;
        // One line for each server's first result and two at the start: any other one is trouble.
        let lines = std::fs::read_to_string(&log)?;
        let trouble = lines
            .lines()
            .filter(|line| !line.contains("  up  ") && !line.contains(" info: "));
        for line in trouble.take(5) {
            eprintln!("TROUBLE in {}: {line}", subject.name);
        }
        if subject.sink.is_some() && self.spans(subject).await? == before {
            return Err("the sink got no spans".into());
        }
        Ok((windows, memory))
    }

    /// Bytes of spans that have arrived.
    async fn spans(&self, subject: &Subject) -> Result<u64, Trouble> {
        match subject.sink {
            Some(sink) => Ok(client::counts(sink).await?.span_bytes),
            None => Ok(0),
        }
    }
}
