//! The lines of `watch` on their way to stdout and stderr, which may be pipes that nobody reads.
//!
//! The loop never waits for a reader: lines are left in a bounded queue, and a thread writes them. When it is full they
//! go, and are counted: `status`, `incidents` and the store still know what they told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::terminal;
use crate::daemon::Output;

/// Lines that wait for their reader: the first results of ten thousand servers.
const MAX_LINES: usize = 16_384;

/// What a reader gets to take the last lines at the end; one that has stalled would hold up the exit for ever.
const LAST_LINES: Duration = Duration::from_secs(1);

/// stdout and stderr, behind a queue.
pub(super) struct Lines {
    queue: SyncSender<Line>,
    dropped: AtomicU64,
}

enum Line {
    Event(String),
    Warning(String),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

impl Lines {
    /// Starts the thread that writes.
    pub(super) fn start() -> Result<Self, String> {
        let (queue, lines) = sync_channel(MAX_LINES);
        std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || write(&lines))
            .map_err(|error| format!("cannot start the thread that writes lines: {error}"))?;
        Ok(Self {
            queue,
            dropped: AtomicU64::new(0),
        })
    }

    fn put(&self, line: Line) {
        if self.queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Output for Lines {
    fn event(&self, line: &str) {
        self.put(Line::Event(format!("{line}\n")));
    }

    fn warning(&self, line: &str) {
        self.put(Line::Warning(line.to_owned()));
    }

    fn flush(&self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let text = format!("warning: {dropped} lines were left out: nobody read them");
            self.put(Line::Warning(text));
        }
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Line::Flush(done)).is_ok() {
            wait.recv_timeout(LAST_LINES).ok();
        }
    }
}

fn write(lines: &Receiver<Line>) {
    while let Ok(line) = lines.recv() {
        match line {
            Line::Event(line) => terminal::print(&line),
            Line::Warning(line) => terminal::print_error(&line),
            Line::Flush(done) => {
                done.send(()).ok();
            }
        }
    }
}
