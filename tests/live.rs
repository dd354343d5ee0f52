//! `watch` on a terminal: the table that is kept up to date, and that nothing depends on the terminal.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::pty::Pty;
use crate::support::{Demo, Program, eventually, free_port, mcpprobe, run};

/// A watch on a terminal; its folder.
struct Live {
    pty: Pty,
    program: Program,
    folder: tempfile::TempDir,
}

impl Live {
    /// Two servers, the demo and a dead one.
    fn start(demo: &Demo, options: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_with(demo, "", options, env, (100, 24))
    }

    /// The same with `more` servers, on a terminal of this width and height.
    fn start_with(
        demo: &Demo,
        more: &str,
        options: &[&str],
        env: &[(&str, &str)],
        (width, height): (u16, u16),
    ) -> Self {
        let config = format!(
            "[defaults]\nevery = \"1s\"\ntimeout = \"2s\"\n\
             [[server]]\nname = \"demo\"\nurl = \"http://127.0.0.1:{}/mcp\"\n\
             [[server]]\nname = \"dead\"\nurl = \"http://127.0.0.1:{}/mcp\"\n{more}",
            demo.port,
            free_port()
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("servers.toml"), config).unwrap();
        let mut command = mcpprobe();
        command
            .arg("watch")
            .args(options)
            .arg(folder.path().join("servers.toml"))
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .envs(env.iter().copied());
        let (pty, program) = Pty::start(&mut command, width, height);
        Self {
            pty,
            program,
            folder,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("servers.toml")
    }

    /// Waits for a frame with all of these.
    fn until_frame(&self, parts: &[&str]) -> String {
        eventually(&format!("a frame with {parts:?}"), || {
            let frame = self.pty.frame();
            parts
                .iter()
                .all(|part| frame.contains(part))
                .then_some(frame)
        })
    }

    /// What `status` says of the demo.
    fn status(&self) -> Value {
        let path = self.file();
        let output = run(&["status", "--format", "json", path.to_str().unwrap()]);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        document["targets"][0].clone()
    }
}

#[test]
fn a_terminal_shows_a_table_and_is_left_as_it_was() {
    let demo = Demo::start("live", None);
    let mut live = Live::start(&demo, &[], &[]);
    let frame = live.until_frame(&["1 down", "1 up", "next probe"]);
    let row = |name: &str| frame.find(&format!("\n{name} ")).unwrap_or(usize::MAX);
    assert!(row("dead") < row("demo"), "down stands first: {frame:?}");
    assert!(frame.contains("connection_refused: "), "{frame:?}");
    assert!(frame.contains("\u{1b}[31mdown") && frame.contains("\u{1b}[32mup"));
    demo.fail("tools_list");
    live.until_frame(&["2 down", "jsonrpc_error: "]);
    demo.fail("none");
    live.until_frame(&["1 down", "1 up"]);
    live.program.signal("INT");
    assert_eq!(live.program.wait(), 0);
    let text = eventually("the end of the last line", || {
        let text = live.pty.text();
        text.ends_with('\n').then_some(text)
    });
    let cursor = text.rfind("\u{1b}[?25").unwrap();
    assert!(
        text[cursor..].starts_with("\u{1b}[?25h"),
        "hidden: {text:?}"
    );
    // Every change was an event above the table, once.
    let events: Vec<_> = text
        .lines()
        .filter(|line| line.contains("  trace ") && line.contains("Z  demo "))
        .filter(|line| !line.contains("  suspect  "))
        .collect();
    assert_eq!(events.len(), 3, "{events:#?}");
    assert!(text.contains("watching 2 servers"), "{text}");
}

#[test]
fn what_is_no_drawing_terminal_gets_lines() {
    let demo = Demo::start("plain", None);
    for (options, env, colour) in [
        (&["--no-live"][..], &[][..], true),
        (&["--no-live"], &[("NO_COLOR", "1")], false),
        (&["--log-format", "json"], &[], false),
        (&[], &[("TERM", "dumb")], false),
    ] {
        let mut live = Live::start(&demo, options, env);
        let text = eventually("two lines", || {
            let text = live.pty.text();
            let about = |name: &str| {
                text.lines()
                    .any(|l| l.contains(name) && l.contains("trace") && !l.contains("suspect"))
            };
            (about("demo") && about("dead")).then_some(text)
        });
        assert!(
            !text.contains("\u{1b}[?25") && !text.contains("next probe"),
            "{text:?}"
        );
        assert_eq!(
            text.contains("\u{1b}[31mdown"),
            colour,
            "{options:?}: {text:?}"
        );
        assert_eq!(text.contains('\u{1b}'), colour, "{options:?}: {text:?}");
        live.program.signal("TERM");
        assert_eq!(live.program.wait(), 0);
    }
}

#[test]
fn the_table_has_no_colours_against_no_color() {
    let demo = Demo::start("grey", None);
    let live = Live::start(&demo, &[], &[("NO_COLOR", "1")]);
    live.until_frame(&["1 down, 1 up"]);
    // Codes that move the cursor are no colours.
    let coloured = live.pty.text();
    let coloured = coloured.split("\u{1b}[").skip(1).filter(|code| {
        code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';')
            .starts_with('m')
    });
    assert_eq!(coloured.count(), 0);
}

#[test]
fn a_frame_has_the_size_that_the_terminal_has_now() {
    let demo = Demo::start("size", None);
    let live = Live::start(&demo, &[], &[]);
    live.until_frame(&["1 down", "WHY"]);
    live.pty.resize(24, 24);
    eventually("a narrow frame", || {
        let frame = live.pty.frame();
        (frame.contains("dead") && !frame.contains("LAST")).then_some(())
    });
    live.pty.resize(100, 3);
    live.until_frame(&["and 2 more"]);
    live.pty.resize(100, 24);
    live.until_frame(&["WHY", "connection_refused: "]);
}

#[test]
fn a_terminal_that_is_stopped_stops_neither_probing_nor_the_exit() {
    let demo = Demo::start("stopped", None);
    // A frame of some 5 KiB a second: more than a terminal's buffers hold is there after a few.
    let dead = |n| format!("[[server]]\nname = \"dead-{n}\"\nurl = \"http://127.0.0.1:9/mcp\"\n");
    let more: String = (0..60).map(dead).collect();
    let mut live = Live::start_with(&demo, &more, &[], &[], (200, 60));
    live.until_frame(&["61 down", "1 up"]);
    live.pty.stop_reading(true);
    for mode in ["tools_list", "none", "initialize", "none", "tools_list"] {
        demo.fail(mode);
        let state = if mode == "none" { "up" } else { "down" };
        eventually("a change of state while nobody reads", || {
            assert!(live.program.is_running());
            (live.status()["state"] == state).then_some(())
        });
    }
    let read = live.pty.text().len();
    live.program.signal("INT");
    assert_eq!(live.program.wait(), 0);
    assert_eq!(live.pty.text().len(), read, "somebody has read");
}

#[test]
fn a_terminal_that_goes_on_shows_what_it_missed() {
    let demo = Demo::start("missed", None);
    let live = Live::start(&demo, &[], &[]);
    live.until_frame(&["1 down", "1 up"]);
    live.pty.stop_reading(true);
    demo.fail("tools_list");
    eventually("the change", || {
        (live.status()["state"] == "down").then_some(())
    });
    live.pty.stop_reading(false);
    live.until_frame(&["2 down"]);
    assert!(live.pty.text().contains("tools_list: jsonrpc_error"));
}

#[test]
fn a_watch_that_was_suspended_draws_below_what_the_shell_wrote() {
    let demo = Demo::start("resumed", None);
    let live = Live::start(&demo, &[], &[]);
    live.until_frame(&["\u{1b}[3A", "1 down", "1 up"]);
    live.program.signal("STOP");
    let before = eventually("silence", || {
        let before = live.pty.text().len();
        std::thread::sleep(std::time::Duration::from_secs(2));
        (live.pty.text().len() == before).then_some(before)
    });
    live.program.signal("CONT");
    let frames = eventually("two frames", || {
        let new = live.pty.text()[before..].to_owned();
        (new.matches("\u{1b}[?25h").count() >= 2).then_some(new)
    });
    let first = frames.split("\u{1b}[?25h").next().unwrap();
    assert!(
        first.contains("1 down") && !first.contains("\u{1b}[3A"),
        "{first:?}"
    );
    assert!(frames.contains("\u{1b}[3A"), "{frames:?}");
}

#[test]
fn a_watch_that_cannot_begin_says_why_below_no_table() {
    let demo = Demo::start("refused", None);
    let live = Live::start(&demo, &[], &[]);
    live.until_frame(&["1 up"]);
    let mut second = mcpprobe();
    second.arg("watch").arg(live.file()).env("TERM", "xterm");
    let (pty, mut program) = Pty::start(&mut second, 100, 24);
    assert_eq!(program.wait(), 3);
    eventually("the reason", || {
        pty.text()
            .contains("another `mcpprobe watch`")
            .then_some(())
    });
    assert!(!pty.text().contains("next probe"), "{:?}", pty.text());
}
