//! A network of our own, in which a whole test runs: what a route or an address in it does nobody else notices, and
//! no root is needed.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::support::{Program, eventually};

/// Set for the test's second process, which is in it: the file that it writes when all is done.
const INSIDE: &str = "MCPPROBE_TEST_INSIDE";

/// Our end of the cable.
pub(super) const NEAR: &str = "198.51.100.1";
/// The other end, which is another network.
pub(super) const FAR: &str = "198.51.100.10";

/// Another host there.
pub(super) const FARTHER: &str = "198.51.100.11";

pub(super) struct Network {
    far: Program,
}

/// A port of this network that nobody has: below those that the system gives out.
pub(super) fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(10_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs `test` there: this test's own program starts itself anew.
pub(super) fn in_a_network_of_our_own(test: impl FnOnce(&Network)) {
    if let Some(done) = std::env::var_os(INSIDE) {
        test(&Network::lay());
        std::fs::write(done, "done").unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let done = folder.path().join("done");
    let thread = std::thread::current();
    let output = Command::new("unshare")
        .arg("-rn")
        .arg(std::env::current_exe().unwrap())
        .args([
            thread.name().unwrap(),
            "--exact",
            "--nocapture",
            "--include-ignored",
        ])
        .env(INSIDE, &done)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && done.exists());
}

impl Network {
    fn lay() -> Self {
        let far = Program::spawn(Command::new("unshare").args(["-n", "sleep", "3600"]));
        eventually("the other network", || {
            let own = |id: &str| std::fs::read_link(format!("/proc/{id}/ns/net")).ok();
            (own(&far.id().to_string())? != own("self")?).then_some(())
        });
        let id = far.id();
        let network = Self { far };
        // Who is where is written down: a neighbour that is silent is not asked for, which would be told to who connects.
        run(
            Command::new("sh").arg("-c"),
            &format!(
                "ip link set lo up && ip link add near address 02:00:00:00:00:01 type veth peer name far netns {id} \
                 && ip addr add {NEAR}/24 dev near && ip link set near up \
                 && ip neigh replace {FAR} lladdr 02:00:00:00:00:02 dev near nud permanent \
                 && ip neigh replace {FARTHER} lladdr 02:00:00:00:00:02 dev near nud permanent"
            ),
        );
        network.at_far(&format!(
            "ip link set far address 02:00:00:00:00:02 && ip link set lo up && ip addr add {FAR}/24 dev far \
             && ip addr add {FARTHER}/24 dev far && ip link set far up"
        ));
        network
    }

    /// A program there.
    pub(super) fn far(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-n", "-t", &self.far.id().to_string()]);
        command.arg(program);
        command
    }

    fn at_far(&self, script: &str) {
        run(self.far("sh".as_ref()).arg("-c"), script);
    }

    /// From now on what we send to `FAR` is not answered; to `FARTHER` it is.
    pub(super) fn drop_far(&self) {
        self.at_far(&format!("ip rule add from {FAR}/32 blackhole"));
    }

    /// From now on what we send there is not answered, and nobody says why.
    pub(super) fn drop_all(&self) {
        self.at_far(&format!("ip route add blackhole {NEAR}/32"));
    }

    /// The same as before `drop_all`.
    pub(super) fn let_all_through(&self) {
        self.at_far(&format!(
            "ip route del blackhole {NEAR}/32 2>/dev/null || true"
        ));
    }
}

fn run(command: &mut Command, script: &str) {
    let output = command.arg(script).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}
