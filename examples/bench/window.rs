//! What a running program gets done in a second, and the CPU that it takes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::program::Program;
use super::{Trouble, client};

/// Short enough for 20 of them, long enough that the kernel's 10 ms ticks are a few percent of its CPU time.
const LENGTH: Duration = Duration::from_secs(1);

/// One window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Handshakes begun in a second.
    pub(crate) pace: f64,
    /// Handshakes ended with a DELETE for each second of CPU.
    pub(crate) efficiency: f64,
    /// Requests for the era: there should be none.
    pub(crate) discovers: u64,
}

/// Looks at `program`, which alone uses `server`, for `count` windows.
pub(crate) async fn windows(
    program: &Program,
    server: SocketAddr,
    count: usize,
) -> Result<Vec<Window>, Trouble> {
    let mut windows = Vec::with_capacity(count);
    let mut before = look(program, server).await?;
    for _ in 0..count {
        tokio::time::sleep_until(before.at + LENGTH).await;
        let now = look(program, server).await?;
        let cpu = now.cpu.saturating_sub(before.cpu).as_secs_f64();
        let time = now.at.duration_since(before.at).as_secs_f64();
        windows.push(Window {
            pace: ratio(now.counts.initializes - before.counts.initializes, time),
            efficiency: ratio(now.counts.deletes - before.counts.deletes, cpu),
            discovers: now.counts.discovers - before.counts.discovers,
        });
        before = now;
    }
    Ok(windows)
}

struct Look {
    at: Instant,
    cpu: Duration,
    counts: super::server::Counts,
}

async fn look(program: &Program, server: SocketAddr) -> Result<Look, Trouble> {
    let counts = client::counts(server).await?;
    Ok(Look {
        at: Instant::now(),
        cpu: program.cpu()?,
        counts,
    })
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn ratio(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}
