//! The command line: clap's types, nothing else.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Stands outside and asks every MCP server whether a session with it would work right now.
#[derive(Debug, Parser)]
#[command(name = "mcpprobe", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Colours: auto (on a terminal, unless NO_COLOR is set or TERM is dumb), always or never
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN", hide_possible_values = true, hide_default_value = true)]
    pub color: ColorChoice,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal
    Auto,
    /// Also into a pipe
    Always,
    /// Nowhere
    Never,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Probe once and exit: 0 up, 1 degraded, 2 down, 3 could not judge
    Check(CheckArgs),
    /// Probe every server of a file on its schedule, until stopped
    Watch(WatchArgs),
    /// Show what a `watch` knows about each server
    Status(StatusArgs),
    /// List what has happened, show one of it, or take one
    Incidents(IncidentsArgs),
    /// Show how a server did over a time
    History(HistoryArgs),
    /// Have no notices for a while
    Silence {
        /// What to do.
        #[command(subcommand)]
        action: SilenceAction,
    },
    /// Ask the trace backend whose fault a failure was
    Correlate(CorrelateArgs),
    /// List the traces that the embedded trace backend has received
    Traces(TracesArgs),
    /// Draw one trace: its spans as bars, below one another
    Trace(TraceArgs),
    /// Say what a reason means and what to look at first
    Explain(ExplainArgs),
    /// Take care of the store's file, also while a `watch` runs
    Store {
        /// What to do with it.
        #[command(subcommand)]
        action: StoreAction,
    },
    /// List the channels of a file, or try one
    Channels(ChannelsArgs),
    /// Work with configuration files
    Config {
        /// What to do with one.
        #[command(subcommand)]
        action: ConfigAction,
    },
}

/// `mcpprobe check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration files, or URLs of MCP servers
    #[arg(value_name = "FILE | URL", required_unless_present = "command")]
    pub targets: Vec<String>,
    /// A stdio server's command
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "targets")]
    pub command: Vec<String>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// For each whole probe, such as 10s; wins over the file
    #[arg(long, value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// How deep to probe: handshake, reachable, legacy, modern, both or a file of your own; wins over the file
    #[arg(long, value_name = "NAME | PATH")]
    pub profile: Option<String>,
    /// What makes the exit code bad
    #[arg(long, value_enum, default_value_t = FailOn::Down)]
    pub fail_on: FailOn,
    /// Only servers with these names or tags
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    pub only: Vec<String>,
    /// Further probes of a server that failed; the last one counts
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub retries: u32,
    /// Go on probing until every server is up; none is probed again after this time
    #[arg(long, value_parser = humantime::parse_duration, value_name = "60s")]
    pub wait_until_up: Option<Duration>,
    /// Probes at once, 1 to 4096; wins over the file [default: 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub concurrency: Option<u16>,
    /// Show each probe's whole conversation on stderr, and the command that repeats its last request
    #[arg(short = 'v', long)]
    pub trace_log: bool,
}

/// `mcpprobe watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Configuration file
    pub file: PathBuf,
    /// One round, then exit as `check` does
    #[arg(long)]
    pub once: bool,
    /// Lines only, no table that is kept up to date on a terminal
    #[arg(long)]
    pub no_live: bool,
    /// How lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// `mcpprobe status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Configuration file
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// `mcpprobe incidents`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct IncidentsArgs {
    /// What to do instead of listing.
    #[command(subcommand)]
    pub action: Option<IncidentsAction>,
    /// Which are listed.
    #[command(flatten)]
    pub list: ListIncidentsArgs,
}

/// What `mcpprobe incidents` lists.
#[derive(Debug, Args)]
pub struct ListIncidentsArgs {
    /// Configuration file
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
    /// Only of this server
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// Only those that have not ended
    #[arg(long)]
    pub open: bool,
    /// Only those that lasted into this time before now
    #[arg(long, default_value = "7d", value_parser = humantime::parse_duration)]
    pub since: Duration,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// `mcpprobe incidents show|ack|replay`.
#[derive(Debug, Subcommand)]
pub enum IncidentsAction {
    /// Show everything that is known of one
    Show(ShowArgs),
    /// Take one: no reminders, no escalation
    Ack(AckArgs),
    /// Tell what the alerting of a file would have paged for the recorded probes, beside what was paged
    Replay(ReplayArgs),
}

/// `mcpprobe incidents replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Configuration file: its alerting and routes, and the store that it names
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
    /// How far back
    #[arg(long, default_value = "7d", value_parser = humantime::parse_duration)]
    pub since: Duration,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// `mcpprobe incidents show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its id
    pub id: String,
    /// Configuration file
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// `mcpprobe incidents ack`.
#[derive(Debug, Args)]
pub struct AckArgs {
    /// Its id
    pub id: String,
    /// Configuration file
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
    /// Who takes it [default: who is logged in]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// `mcpprobe history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Configuration file
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
    /// Name of the server
    #[arg(long, value_name = "NAME")]
    pub server: String,
    /// How far back
    #[arg(long, default_value = "7d", value_parser = humantime::parse_duration)]
    pub since: Duration,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// `mcpprobe silence`.
#[derive(Debug, Subcommand)]
pub enum SilenceAction {
    /// Begin one
    Add(AddSilenceArgs),
    /// List those that have not ended
    List(ListSilencesArgs),
    /// End one
    End(EndSilenceArgs),
}

/// `mcpprobe silence add`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["server", "tag", "all"]))]
pub struct AddSilenceArgs {
    /// Configuration file
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
    /// Of these servers
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    pub server: Vec<String>,
    /// Of servers with any of these tags
    #[arg(long, value_delimiter = ',', value_name = "TAG,...")]
    pub tag: Vec<String>,
    /// Of everything
    #[arg(long, conflicts_with_all = ["server", "tag"])]
    pub all: bool,
    /// How long, such as 30m
    #[arg(long = "for", value_name = "30m", value_parser = humantime::parse_duration)]
    pub length: Duration,
    /// When it begins, such as 2026-11-20T10:03:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub from: Option<SystemTime>,
    /// Why, for whoever wonders
    #[arg(long)]
    pub reason: String,
    /// Who wants it [default: who is logged in]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// `mcpprobe silence list`.
#[derive(Debug, Args)]
pub struct ListSilencesArgs {
    /// Configuration file
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
    /// Those that have ended too
    #[arg(long)]
    pub all: bool,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// `mcpprobe silence end`.
#[derive(Debug, Args)]
pub struct EndSilenceArgs {
    /// Its id
    pub id: String,
    /// Configuration file
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
}

/// `mcpprobe correlate`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("case").required(true).args(["server", "incident", "rehearse", "alert"]))]
pub struct CorrelateArgs {
    /// Configuration file
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
    /// Name of the server
    #[arg(long, value_name = "NAME", requires = "at")]
    pub server: Option<String>,
    /// When it failed, such as 2026-11-20T10:03:00Z
    #[arg(long, value_name = "TIME", requires = "server", value_parser = instant)]
    pub at: Option<SystemTime>,
    /// An incident of this file's store
    #[arg(long, value_name = "ID", conflicts_with_all = ["server", "at"])]
    pub incident: Option<String>,
    /// Ask nobody: judge what the backend said when it was last asked about the incident
    #[arg(long, requires = "incident")]
    pub again: bool,
    /// Somebody else's alert: what Alertmanager posts to a webhook, or {"server", "at"}; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    pub alert: Option<PathBuf>,
    /// Before any outage: say of every server whether one could be proven, and what is missing if not
    #[arg(long)]
    pub rehearse: bool,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// `mcpprobe traces`.
#[derive(Debug, Args)]
pub struct TracesArgs {
    /// Configuration file
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
    /// With a span of this service
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// That went like this
    #[arg(long, value_enum)]
    pub status: Option<TraceStatus>,
    /// How far back
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub since: Duration,
    /// That took at least so long
    #[arg(long, value_name = "100ms", value_parser = humantime::parse_duration)]
    pub min_duration: Option<Duration>,
    /// Of this session
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// With a call of this tool
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// With a span of this project
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// Count them by this instead of listing them
    #[arg(long, value_enum)]
    pub by: Option<GroupBy>,
    /// At most so many, the newest
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: usize,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// How a trace went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceStatus {
    /// Nothing in it failed
    Ok,
    /// A span of it failed
    Error,
    /// A guardrail did not let it through
    Blocked,
}

/// What traces are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// MCP's sessions, and conversations
    Session,
    /// What a process says that it belongs to
    Project,
    /// Who recorded spans
    Service,
    /// What was called
    Tool,
}

/// `mcpprobe trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Its id, as `traces`, `watch` and notices tell it
    pub id: String,
    /// Configuration file
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
    /// Show everything that is known of this span
    #[arg(long, value_name = "ID", conflicts_with = "attributes")]
    pub span: Option<String>,
    /// Show everything that is known of every span
    #[arg(long)]
    pub attributes: bool,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// `mcpprobe explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A reason's code, such as connection_refused; without it all are listed
    pub reason: Option<String>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// `mcpprobe store`.
#[derive(Debug, Subcommand)]
pub enum StoreAction {
    /// Say everything that is wrong with the file
    Check {
        /// Configuration file
        #[arg(default_value = "servers.toml")]
        file: PathBuf,
    },
    /// Copy it as it is at one moment
    Backup {
        /// The copy; nothing may have that name
        #[arg(value_name = "DEST")]
        to: PathBuf,
        /// Configuration file
        #[arg(default_value = "servers.toml")]
        file: PathBuf,
    },
    /// Write it anew without its gaps
    Vacuum {
        /// Configuration file
        #[arg(default_value = "servers.toml")]
        file: PathBuf,
    },
}

/// `mcpprobe channels`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ChannelsArgs {
    /// What to do; lists them without
    #[command(subcommand)]
    pub action: Option<ChannelsAction>,
    /// Configuration file
    #[arg(default_value = "servers.toml")]
    pub file: PathBuf,
}

/// What to do with channels.
#[derive(Debug, Subcommand)]
pub enum ChannelsAction {
    /// Send one notice, marked as a test, and say what happened
    Test {
        /// Name of the channel
        name: String,
        /// Configuration file
        #[arg(default_value = "servers.toml")]
        file: PathBuf,
    },
}

/// `mcpprobe config`.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Say everything that is wrong with a file
    Check {
        /// Configuration file
        file: PathBuf,
    },
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// From which state on the exit code is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// `down` and `auth_required`
    Down,
    /// `degraded` too
    Degraded,
}

/// How `watch` writes its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// A time as people and alerts write it: with `Z`, with another offset, or without any, which is UTC.
fn instant(text: &str) -> Result<SystemTime, String> {
    if let Ok(at) = humantime::parse_rfc3339_weak(text) {
        return Ok(at);
    }
    let at = chrono::DateTime::parse_from_rfc3339(text).ok();
    let since = at.and_then(|at| Some((at.timestamp().try_into().ok()?, at)));
    let since = since.map(|(seconds, at)| Duration::new(seconds, at.timestamp_subsec_nanos()));
    since
        .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
        .ok_or_else(|| "it is no time such as 2026-11-20T10:03:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_have_any_offset() {
        let at = instant("2026-11-20T10:03:00Z").unwrap();
        assert_eq!(instant("2026-11-20T11:03:00+01:00"), Ok(at));
        assert_eq!(instant("2026-11-20 10:03:00"), Ok(at));
        assert!(instant("yesterday").is_err());
        assert!(instant("1969-12-31T23:59:59+00:00").is_err());
    }
}
