//! Programs: what they are given, what their end means, and that nothing of theirs is left running.

use mcpprobe::model::{DeliveryOutcome, WebhookFormat};

use super::bench::{Bench, run};
use super::notice;
use crate::support::eventually;

fn channel(script: &str, more: &str) -> String {
    format!(
        "[[channel]]\nname = \"script\"\ntype = \"exec\"\nretry_first = \"100ms\"\ngive_up_after = \"1s\"\n\
         command = [\"sh\", \"-c\", '''{script}''']\n{more}\n"
    )
}

#[test]
fn a_program_gets_the_notice_and_nothing_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    run(async {
        let mut bench = Bench::start(&channel(
            "pwd > cwd; env > env; cat > body",
            &format!(
                "cwd = \"{}\"\nenv = {{ TOKEN = \"${{SECRET}}\" }}",
                folder.path().display()
            ),
        ));
        bench.send(notice::of_file("opened", "script"));
        bench.delivered().await;
    });
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    let body: serde_json::Value = serde_json::from_str(&read("body")).unwrap();
    let keys: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, WebhookFormat::KEYS);
    // What the shell itself sets is not ours.
    let allowed = [
        "HOME", "LANG", "PATH", "TMPDIR", "TZ", "TOKEN", "PWD", "OLDPWD", "SHLVL", "_",
    ];
    for line in read("env").lines() {
        let name = line.split('=').next().unwrap();
        assert!(allowed.contains(&name), "{line}");
    }
    assert!(read("env").contains("TOKEN=s3cret-of-the-environment"));
}

#[test]
fn a_program_that_fails_or_hangs_is_a_failure_and_nothing_of_it_is_left() {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let mut bench = Bench::start(&channel(
            "echo no luck $TOKEN >&2; exit 3",
            "env = { TOKEN = \"${SECRET}\" }",
        ));
        bench.send(notice::of_file("opened", "script"));
        let (failures, last) = bench.settled().await;
        assert!(failures[0].contains("no luck ***"), "{failures:?}");
        assert!(failures[0].contains("exit status: 3"), "{failures:?}");
        assert!(matches!(last.outcome, DeliveryOutcome::GivenUp(_)));

        let pids = folder.path().join("pids");
        let mut bench = Bench::start(&channel(
            &format!("sleep 600 & echo $! > {0}; yes & wait", pids.display()),
            "timeout = \"500ms\"",
        ));
        bench.send(notice::of_file("opened", "script"));
        let (failures, _) = bench.settled().await;
        assert!(
            failures[0].contains("no answer within 500ms"),
            "{failures:?}"
        );
        let sleeper = std::fs::read_to_string(&pids).unwrap();
        eventually("the end of what the program has started", || {
            let gone = !std::path::Path::new("/proc")
                .join(sleeper.trim())
                .join("exe")
                .exists();
            gone.then_some(())
        });

        let mut bench = Bench::start(&channel(
            "yes | head -c 10000000; (sleep 600 &) ; exit 0",
            "",
        ));
        bench.send(notice::of_file("opened", "script"));
        bench.delivered().await;

        let text = channel("", "").replace("\"sh\"", "\"/nowhere/notify\"");
        let mut bench = Bench::start(&text);
        bench.send(notice::of_file("opened", "script"));
        let (failures, _) = bench.settled().await;
        assert!(
            failures[0].contains("cannot start /nowhere/notify"),
            "{failures:?}"
        );
    });
}
