//! `mcpprobe silence`: no notices for a while, of what somebody works on.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use super::{Exit, Trouble, load, named, server_named, terminal, user};
use crate::cli::{AddSilenceArgs, EndSilenceArgs, Format, ListSilencesArgs, SilenceAction};
use crate::config::Config;
use crate::model::{Silence, Text};
use crate::report;
use crate::store::{self, Reader, orders};

/// Shorter is over before it is noticed; what is silent for longer than a month should not be probed at all.
const LENGTH: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(31 * 24 * 3600);

pub(super) fn run(action: &SilenceAction) -> Result<Exit, Trouble> {
    match action {
        SilenceAction::Add(args) => add(args),
        SilenceAction::List(args) => list(args),
        SilenceAction::End(args) => end(args),
    }
}

fn add(args: &AddSilenceArgs) -> Result<Exit, Trouble> {
    let config = load(&args.file)?;
    check_names(args, &config)?;
    let now = SystemTime::now();
    if !LENGTH.contains(&args.length) {
        return Err("`--for` has to be from 1s to 31days".to_owned().into());
    }
    let from = args.from.unwrap_or(now);
    let until = from + args.length;
    if until <= now {
        return Err("this silence would be over already".to_owned().into());
    }
    let silence = Silence {
        id: format!("{:08x}", fastrand::u32(..)),
        servers: args.server.clone(),
        tags: args.tag.clone(),
        from,
        until,
        reason: Text::new(&args.reason),
        by: Text::new(user(args.by.as_deref())),
    };
    orders::add_silence(&config.store.path, &silence)?;
    let begin = match args.from {
        Some(from) => format!("from {} ", humantime::format_rfc3339_seconds(from)),
        None => String::new(),
    };
    terminal::print(&format!(
        "silence {}: no notices about {} {begin}until {}\n",
        silence.id,
        Text::new(report::silences::covered(&silence)),
        humantime::format_rfc3339_seconds(until)
    ));
    warn_unless_watched(&config, &args.file.display().to_string());
    Ok(Exit::Ok)
}

/// A silence of a misspelt name would let everybody be woken.
fn check_names(args: &AddSilenceArgs, config: &Config) -> Result<(), String> {
    for name in &args.server {
        server_named(config, name)?;
    }
    let tags = config.targets.iter().flat_map(|target| &target.tags);
    let tags: Vec<_> = tags.map(String::as_str).collect();
    for tag in &args.tag {
        named("tag", tag, &tags)?;
    }
    Ok(())
}

fn list(args: &ListSilencesArgs) -> Result<Exit, Trouble> {
    let config = load(&args.file)?;
    let now = SystemTime::now();
    let silences = match Reader::open_if_made(&config.store.path)? {
        Some(reader) => reader.silences((!args.all).then_some(now))?,
        None => Vec::new(),
    };
    let text = match args.format {
        Format::Table => report::silences::table(&silences, now, terminal::look()),
        Format::Json => report::json::document(&report::silences::json(&silences, now)),
    };
    terminal::print(&text);
    Ok(Exit::Ok)
}

fn end(args: &EndSilenceArgs) -> Result<Exit, Trouble> {
    let config = load(&args.file)?;
    let silence = orders::end_silence(&config.store.path, &args.id, SystemTime::now())?;
    terminal::print(&format!(
        "silence {} of {} has ended\n",
        silence.id,
        Text::new(report::silences::covered(&silence))
    ));
    warn_unless_watched(&config, &args.file.display().to_string());
    Ok(Exit::Ok)
}

fn warn_unless_watched(config: &Config, file: &str) {
    if !store::is_watched(&config.store.path) {
        terminal::complain(&format!(
            "warning: no `mcpprobe watch {file}` is running; the next one will know"
        ));
    }
}
