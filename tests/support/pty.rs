//! A terminal for a program under test: its size, what it writes, and a reader that can stop reading (^S).

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::Program;

/// Our side of the terminal.
pub(crate) struct Pty {
    ours: Arc<OwnedFd>,
    written: Arc<Mutex<Vec<u8>>>,
    stopped: Arc<AtomicBool>,
}

impl Pty {
    /// Starts `command` with stdout and stderr on a terminal of this size.
    pub(crate) fn start(command: &mut Command, columns: u16, rows: u16) -> (Self, Program) {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap();
        let theirs = File::options()
            .read(true)
            .write(true)
            .open(path.to_str().unwrap())
            .unwrap();
        let pty = Self {
            ours: Arc::new(ours),
            written: Arc::default(),
            stopped: Arc::default(),
        };
        pty.resize(columns, rows);
        let program = Program::spawn(
            command
                .stdout(Stdio::from(theirs.try_clone().unwrap()))
                .stderr(Stdio::from(theirs)),
        );
        // Now that the program has it, ours is the only other end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        pty.read();
        (pty, program)
    }

    fn read(&self) {
        let mut ours = File::from(self.ours.try_clone().unwrap());
        let (written, stopped) = (Arc::clone(&self.written), Arc::clone(&self.stopped));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                if stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                // An error: nobody has the other end any more.
                match ours.read(&mut piece) {
                    Ok(read @ 1..) => written.lock().unwrap().extend_from_slice(&piece[..read]),
                    _ => return,
                }
            }
        });
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&*self.ours, size).unwrap();
    }

    /// Reads no more, like a terminal after ^S; or reads on.
    pub(crate) fn stop_reading(&self, stop: bool) {
        self.stopped.store(stop, Ordering::Relaxed);
    }

    /// Everything that was written so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// The last frame of a table that is updated in place.
    pub(crate) fn frame(&self) -> String {
        let text = self.text();
        let whole = text.rsplit_once("\u{1b}[?25h").map_or("", |(text, _)| text);
        let frame = whole.rsplit("\u{1b}[?25l").next().unwrap_or_default();
        frame.to_owned()
    }
}
