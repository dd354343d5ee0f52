//! The live table of `watch`: a thread that draws what is on the board, with the events above it.
//!
//! The loop of the watch never waits for the terminal, which may be slow or stopped (^S): it leaves events in a
//! bounded queue and rows on the board; the thread takes what is there whenever the terminal has taken the last.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use super::terminal;
use crate::daemon::{Board, Output};
use crate::report::live;
use crate::report::screen::Screen;

/// Between two frames: quicker than a reader notices, slower than a terminal over a bad line needs.
const FRAME: Duration = Duration::from_millis(250);

/// Events that wait for the terminal. When there are more the oldest go, and are counted: `status` and the store
/// still know what they told.
const MAX_EVENTS: usize = 1_000;

/// What a terminal gets to take the last frame at the end; one that is stopped would hold up the exit for ever.
const LAST_FRAME: Duration = Duration::from_secs(1);

/// Where events and the board's rows become a picture.
pub(super) struct LiveView {
    board: Arc<Board>,
    events: Mutex<Events>,
    /// The process was stopped (^Z) and goes on: the shell has written to the terminal since.
    resumed: AtomicBool,
    /// Warnings that would go to another place than the picture go there.
    takes_warnings: bool,
}

#[derive(Default)]
struct Events {
    lines: VecDeque<String>,
    dropped: usize,
}

/// The thread that draws.
pub(super) struct Drawer {
    board: Arc<Board>,
    stop: Sender<()>,
    ended: Receiver<()>,
}

impl LiveView {
    /// Begins to draw on stdout.
    pub(super) fn start() -> Result<(Arc<Self>, Drawer), String> {
        let failed = |error: std::io::Error| format!("cannot draw on the terminal: {error}");
        // A file of its own: nobody who prints to stdout may ever wait for a stopped terminal's lock.
        let out = std::io::stdout().as_fd().try_clone_to_owned();
        let out = File::from(out.map_err(failed)?);
        let board = Arc::new(Board::default());
        let view = Arc::new(Self {
            board: Arc::clone(&board),
            events: Mutex::default(),
            resumed: AtomicBool::new(false),
            takes_warnings: std::io::stderr().is_terminal(),
        });
        let continued = SignalKind::from_raw(rustix::process::Signal::CONT.as_raw());
        let mut continued = signal(continued).map_err(failed)?;
        let seen = Arc::clone(&view);
        tokio::spawn(async move {
            while continued.recv().await.is_some() {
                seen.resumed.store(true, Ordering::Relaxed);
            }
        });
        let (stop, stopped) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let drawn = Arc::clone(&view);
        std::thread::Builder::new()
            .name("live".to_owned())
            .spawn(move || {
                // A terminal that is gone ends the drawing, not the watch.
                drawn.draw(out, &stopped).ok();
                end.send(()).ok();
            })
            .map_err(failed)?;
        Ok((view, Drawer { board, stop, ended }))
    }

    /// Draws until it is told to stop, then once more.
    fn draw(&self, mut out: File, stopped: &Receiver<()>) -> std::io::Result<()> {
        let colour = terminal::colour(&out);
        let (mut screen, mut shown) = (Screen::default(), None);
        loop {
            let going_on = wait(stopped);
            if self.resumed.swap(false, Ordering::Relaxed) {
                (screen, shown) = (Screen::default(), None);
            }
            let events = self.take_events();
            let size = terminal::size();
            let rows = self.board.rows();
            let frame = live::frame(&rows, SystemTime::now(), size, colour);
            let frame = Some((frame, size));
            if let Some((text, size)) = &frame
                && (!events.is_empty() || frame != shown)
            {
                out.write_all(screen.update(&events, text, size.width).as_bytes())?;
                shown = frame;
            }
            if !going_on {
                let end = if rows.is_empty() { "" } else { "\n" };
                return out.write_all(end.as_bytes());
            }
        }
    }

    fn take_events(&self) -> Vec<String> {
        let mut events = self.lock();
        let dropped = std::mem::take(&mut events.dropped);
        let note =
            (dropped > 0).then(|| format!("({dropped} lines were not taken by the terminal)"));
        note.into_iter().chain(events.lines.drain(..)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until the next frame, or the end; whether there is to be another.
fn wait(stopped: &Receiver<()>) -> bool {
    let begun = Instant::now();
    let mut told = stopped.recv_timeout(FRAME);
    // Somebody who was stopped wakes up late, and before it is known that he was: that has to come first.
    if begun.elapsed() > 2 * FRAME && told == Err(RecvTimeoutError::Timeout) {
        told = stopped.recv_timeout(FRAME);
    }
    told == Err(RecvTimeoutError::Timeout)
}

impl Output for LiveView {
    fn event(&self, line: &str) {
        let mut events = self.lock();
        if events.lines.len() == MAX_EVENTS {
            events.lines.pop_front();
            events.dropped += 1;
        }
        events.lines.push_back(line.to_owned());
    }

    fn warning(&self, line: &str) {
        if self.takes_warnings {
            self.event(line);
        } else {
            terminal::print_error(line);
        }
    }
}

impl Drawer {
    /// What is drawn, to be kept up to date.
    pub(super) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }
}

impl Drop for Drawer {
    /// Draws the last frame, which stays. Also where a watch cannot begin: what it said until then is shown.
    fn drop(&mut self) {
        self.stop.send(()).ok();
        self.ended.recv_timeout(LAST_FRAME).ok();
    }
}
