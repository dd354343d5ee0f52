//! Parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use mcpprobe::cli::Cli;
use mcpprobe::command::{self, Exit, Trouble};

/// Small pieces that live as long as a probe: with the system's allocator they took a tenth of its CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own code for bad usage is 2, which means `down` here.
            let code = if error.use_stderr() {
                Exit::CouldNotJudge
            } else {
                Exit::Ok
            };
            error.print().ok();
            return ExitCode::from(code as u8);
        }
    };
    mcpprobe::install_tls_provider();
    // One thread: at 2,000 probes a second handing work between two cost a third of all CPU time. What
    // would hold it up (the store, a backend's answer, name resolution) has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(command::run(cli));
            // A name that is still being looked up would hold the exit up for seconds.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Trouble::Sentence(format!(
            "cannot start the runtime: {error}"
        ))),
    };
    match result {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(trouble) => {
            if let Trouble::Sentence(sentence) = trouble {
                command::complain(&format!("error: {sentence}"));
            }
            ExitCode::from(Exit::CouldNotJudge as u8)
        }
    }
}
