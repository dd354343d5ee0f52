//! The example of a systemd unit: systemd itself understands all of it, and it says what the program does.

use std::fs;
use std::process::Command;

use crate::support::here;

const UNIT: &str = "../examples/mcpprobe.service";

/// The keys of the section `[Service]` that are set.
fn service(unit: &str) -> Vec<(&str, &str)> {
    let section = unit.split_once("\n[Service]\n").unwrap().1;
    let section = section.split_once("\n[Install]").unwrap().0;
    section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect()
}

#[test]
fn the_unit_says_what_the_program_does() {
    let unit = fs::read_to_string(here(UNIT)).unwrap();
    let service = service(&unit);
    for key in [
        ("Type", "notify"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("WatchdogSec", "60s"),
        ("StateDirectory", "mcpprobe"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
    ] {
        assert!(service.contains(&key), "{key:?}");
    }
    let command = service.iter().find(|(key, _)| *key == "ExecStart").unwrap();
    let words: Vec<_> = command.1.split(' ').skip(1).collect();
    assert_eq!(words.first(), Some(&"watch"), "{words:?}");
    // clap understands it: what is missing is the file.
    let output = crate::support::run(&words);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cannot read"), "{error}");
}

#[test]
fn systemd_understands_the_unit() {
    let unit = fs::read_to_string(here(UNIT)).unwrap();
    // It looks whether the program is there.
    let unit = unit.replace("/usr/local/bin/mcpprobe", env!("CARGO_BIN_EXE_mcpprobe"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcpprobe.service");
    fs::write(&path, &unit).unwrap();
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output();
    match verify {
        Ok(output) => assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        ),
        // Without systemd at least every line is a key, a section, a comment or empty.
        Err(_) => {
            for line in unit.lines().filter(|line| !line.starts_with(['#', '['])) {
                assert!(line.is_empty() || line.contains('='), "{line}");
            }
        }
    }
}
