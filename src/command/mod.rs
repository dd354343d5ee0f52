//! One file per subcommand: puts the stages together and acts.

mod channels;
mod check;
mod config_check;
mod correlate;
mod explain;
mod history;
mod incidents;
mod lines;
mod live;
mod rehearse;
mod replay;
mod silence;
mod status;
mod store;
mod terminal;
mod traces;
mod watch;

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command, ConfigAction, FailOn};
use crate::config::{self, Config};
use crate::model::{CommonCause, Incident, Profile, State, Target};
use crate::store::Reader;

pub use terminal::complain;

/// The exit codes of `check` and `watch --once`, which are those of monitoring plugins; every other
/// command ends with `Ok` or `CouldNotJudge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Every target up; done.
    Ok = 0,
    /// Some target degraded.
    Degraded = 1,
    /// mcpprobe could not judge: bad usage, bad configuration, target unknown.
    CouldNotJudge = 3,
    /// Some target down or wanting a credential. The worst of all, though not the largest number.
    Down = 2,
}

impl Exit {
    /// The exit code of one target.
    fn of(state: State, fail_on: FailOn) -> Self {
        match state {
            State::Up => Self::Ok,
            State::Degraded if fail_on == FailOn::Degraded => Self::Degraded,
            State::Degraded => Self::Ok,
            State::Down | State::AuthRequired => Self::Down,
            State::Unknown => Self::CouldNotJudge,
        }
    }

    /// The exit code of all: the worst wins, 2 over 3 over 1.
    pub fn worst(states: impl Iterator<Item = State>, fail_on: FailOn) -> Self {
        let rank = |exit: Self| match exit {
            Self::Ok => 0,
            Self::Degraded => 1,
            Self::CouldNotJudge => 2,
            Self::Down => 3,
        };
        states
            .map(|state| Self::of(state, fail_on))
            .max_by_key(|exit| rank(*exit))
            .unwrap_or(Self::Ok)
    }
}

/// Why a command could not do what it was asked to.
#[derive(Debug)]
pub enum Trouble {
    /// A sentence for the user.
    Sentence(String),
    /// The configuration; stderr has been told all that is wrong with it.
    Configuration,
}

impl From<String> for Trouble {
    fn from(sentence: String) -> Self {
        Self::Sentence(sentence)
    }
}

/// Runs a command to its end.
///
/// # Errors
/// When mcpprobe itself could not do it.
pub async fn run(cli: Cli) -> Result<Exit, Trouble> {
    terminal::choose(cli.color);
    raise_file_limit();
    match cli.command {
        Command::Check(args) => check::run(args).await,
        Command::Watch(args) => watch::run(args).await,
        Command::Status(args) => status::run(&args),
        Command::Incidents(args) => incidents::run(&args),
        Command::History(args) => history::run(&args),
        Command::Silence { action } => silence::run(&action),
        Command::Correlate(args) => correlate::run(&args).await,
        Command::Traces(args) => traces::list(&args),
        Command::Trace(args) => traces::show(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Store { action } => store::run(&action),
        Command::Channels(args) => channels::run(&args).await,
        Command::Config {
            action: ConfigAction::Check { file },
        } => config_check::run(&file),
    }
}

/// A file's configuration, for a look at what a `watch` knows; what is wrong with it goes to stderr. What is only doubtful
/// is said by those that probe, and by `config check`: nobody wants to read it again with every look.
fn load(path: &Path) -> Result<Config, Trouble> {
    let trouble = match load_all(path, None) {
        Ok(loaded) => return Ok(loaded.config),
        Err(trouble) => trouble,
    };
    // A `watch` goes on with what it read before, and this is when somebody wants to know how.
    let store = config::store_of(path);
    let Some(config) = remembered(&store).filter(|_| path.exists()) else {
        return Err(trouble);
    };
    terminal::complain(&format!(
        "warning: {} cannot be used as it is: this is what {} tells of the servers that were probed lately",
        path.display(),
        store.display()
    ));
    Ok(config)
}

/// How long ago a server may have been probed to be one that is probed now: longer than any sensible `cron`.
const LATELY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A configuration of the servers that a store knows: their names, and nothing else.
fn remembered(store: &Path) -> Option<Config> {
    let now = SystemTime::now();
    let reader = Reader::open_if_made(store).ok()??;
    let names = reader.names(now.checked_sub(LATELY)?).ok()?;
    let server = |name: &String| {
        let name = toml::Value::from(name.as_str());
        format!("[[server]]\nname = {name}\nurl = \"http://unknown.invalid/\"\n")
    };
    let text: String = names.iter().map(server).collect();
    let mut config = config::parse(&text, "", Path::new(""), &|_| None, now)
        .ok()?
        .config;
    config.store.path = store.to_owned();
    Some(config)
}

/// A file's configuration with every server probed by `profile`, where there is one; what is wrong or doubtful about it
/// goes to stderr.
fn load_with(path: &Path, profile: Option<&Profile>) -> Result<Config, Trouble> {
    let loaded = load_all(path, profile)?;
    terminal::complain_about(&loaded.doubts);
    Ok(loaded.config)
}

fn load_all(path: &Path, profile: Option<&Profile>) -> Result<config::Loaded, Trouble> {
    match config::load(path, profile) {
        Ok(loaded) => Ok(loaded),
        Err(complaints) => {
            terminal::complain_about(&complaints);
            Err(Trouble::Configuration)
        }
    }
}

/// Whether SIGHUP ends us, as when the terminal is closed; a service is told by it to read its configuration again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hangup {
    Ends,
    Spared,
}

/// Which of these incidents are one.
fn causes(incidents: &[Incident], config: &Config) -> Vec<CommonCause> {
    CommonCause::all(incidents, |server| {
        let target = config.targets.iter().find(|target| target.name == server);
        target?.endpoint.host().map(str::to_owned)
    })
}

/// The server of this name.
///
/// # Errors
/// A sentence with the nearest name.
fn server_named<'c>(config: &'c Config, name: &str) -> Result<&'c Target, String> {
    let names: Vec<_> = config.targets.iter().map(|t| t.name.as_str()).collect();
    let index = named("server", name, &names)?;
    config
        .targets
        .get(index)
        .ok_or_else(|| format!("there is no server {name}"))
}

/// The place of `name` among those that there are.
///
/// # Errors
/// A sentence with the nearest one.
fn named(what: &str, name: &str, known: &[&str]) -> Result<usize, String> {
    known
        .iter()
        .position(|known| *known == name)
        .ok_or_else(|| {
            let near = match config::nearest(name, known) {
                Some(near) => format!("did you mean {near}?"),
                None if known.is_empty() => "there are none".to_owned(),
                None => format!("there are: {}", known.join(", ")),
            };
            format!("there is no {what} {name}; {near}")
        })
}

/// Who somebody says to be, or is logged in as; what is behind `sudo` matters, not the name that it lends.
fn user(said: Option<&str>) -> String {
    let variables = ["SUDO_USER", "LOGNAME", "USER"].iter();
    let logged_in = || {
        variables
            .filter_map(|name| std::env::var(name).ok())
            .find(|name| !name.trim().is_empty())
    };
    said.map(str::to_owned)
        .or_else(logged_in)
        .unwrap_or_else(|| {
            let id = rustix::process::getuid().as_raw();
            let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
            account_of(id, &accounts).unwrap_or_else(|| format!("user {id}"))
        })
}

/// The name of the account with this number, where cron or a container has left no variable that tells it.
fn account_of(id: u32, accounts: &str) -> Option<String> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(id)).then(|| name.to_owned())
    })
}

/// A token that Ctrl-C, SIGTERM or SIGHUP cancels.
fn cancelled_by_signals(hangup: Hangup) -> Result<CancellationToken, String> {
    let token = CancellationToken::new();
    let failed = |error: std::io::Error| format!("cannot listen for signals: {error}");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    // The terminal was closed: as for the others, sessions and started servers have to be ended.
    let mut hung_up = match hangup {
        Hangup::Ends => Some(signal(SignalKind::hangup()).map_err(failed)?),
        // From the first moment on: later it means that the file is to be read again, and is listened for where that is done.
        Hangup::Spared => {
            drop(signal(SignalKind::hangup()).map_err(failed)?);
            None
        }
    };
    let cancel = token.clone();
    tokio::spawn(async move {
        let hangup = async {
            match &mut hung_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup => {}
        }
        cancel.cancel();
    });
    Ok(token)
}

/// A probe needs a socket or three pipes: the soft limit of 1,024 files would be the first thing to give.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Not being allowed to is no reason to stop: a probe that meets the limit says so.
    setrlimit(Resource::Nofile, limit).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_number() {
        let accounts =
            "root:x:0:0:root:/root:/bin/sh\nnonsense\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(account_of(1000, accounts).as_deref(), Some("ann"));
        assert_eq!(account_of(7, accounts), None);
    }

    #[test]
    fn a_name_that_was_said_wins_and_another_is_suggested_for_a_misspelt_one() {
        assert_eq!(user(Some("ann")), "ann");
        assert_eq!(named("server", "b", &["a", "b"]), Ok(1));
        for (known, words) in [
            (&["weather"][..], "did you mean weather?"),
            (&["x", "y"], "there are: x, y"),
            (&[], "there are none"),
        ] {
            let why = named("server", "wether", known).unwrap_err();
            assert!(why.ends_with(words), "{why}");
        }
    }

    #[test]
    fn the_worst_state_decides_the_exit_code() {
        let worst = |states: &[State], fail_on| Exit::worst(states.iter().copied(), fail_on) as u8;
        assert_eq!(worst(&[], FailOn::Down), 0);
        assert_eq!(worst(&[State::Up, State::Degraded], FailOn::Down), 0);
        assert_eq!(worst(&[State::Up, State::Degraded], FailOn::Degraded), 1);
        assert_eq!(
            worst(&[State::Unknown, State::Degraded], FailOn::Degraded),
            3
        );
        assert_eq!(worst(&[State::Unknown, State::Down], FailOn::Down), 2);
        assert_eq!(worst(&[State::AuthRequired], FailOn::Down), 2);
    }
}
