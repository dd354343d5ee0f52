//! `mcpprobe correlate`: ask the trace backend about a failure, by hand.

use std::io::Read as _;
use std::path::Path;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Exit, Trouble, causes, load, rehearse, terminal};
use crate::cli::{CorrelateArgs, Format};
use crate::config::Config;
use crate::correlate::Asking;
use crate::daemon::{self, Answered, Finding, Inquiry, Source, Subject};
use crate::model::{CommonCause, escaped};
use crate::report;
use crate::store::Reader;

/// The year 2000: nothing that can be asked about is older.
const OLDEST: Duration = Duration::from_secs(946_684_800);

pub(super) async fn run(args: &CorrelateArgs) -> Result<Exit, Trouble> {
    let config = load(&args.file)?;
    if args.rehearse {
        return rehearse::run(config, args.format).await;
    }
    if let Some(alert) = &args.alert {
        return alarms(alert, inquiry_of(config, &args.file)?, args.format).await;
    }
    let causes = open_causes(&config)?;
    let finding = match &args.incident {
        Some(id) if args.again => judged_again(id, &config.store.path)?,
        _ => asked_now(args, config).await?,
    };
    let incident = finding.asked.incident.as_ref();
    let cause = causes
        .iter()
        .find(|cause| incident.is_some_and(|id| cause.incidents.contains(id)));
    let text = match args.format {
        Format::Table => {
            let text = report::verdict::text(&finding.asked, &finding.judgement);
            let cause = cause.map(|cause| report::incidents::causes_text(slice::from_ref(cause)));
            format!("{text}{}", cause.unwrap_or_default())
        }
        Format::Json => {
            let mut json = report::verdict::json(&finding.asked, &finding.judgement);
            json["common_cause"] = cause.map(report::incidents::cause_json).into();
            report::json::document(&json)
        }
    };
    terminal::print(&text);
    Ok(Exit::Ok)
}

/// Open incidents that are one, as far as the store knows.
fn open_causes(config: &Config) -> Result<Vec<CommonCause>, String> {
    let Some(reader) = Reader::open_if_made(&config.store.path)? else {
        return Ok(Vec::new());
    };
    Ok(causes(&reader.open_incidents()?, config))
}

async fn asked_now(args: &CorrelateArgs, config: Config) -> Result<Finding, String> {
    let subject = subject(args, &config)?;
    inquiry_of(config, &args.file)?
        .about(subject, Asking::default())
        .await
}

/// Answers a document of alerts. It is an answer as soon as one of them has a verdict.
async fn alarms(from: &Path, inquiry: Inquiry, format: Format) -> Result<Exit, Trouble> {
    let body = read_document(from)?;
    let (_, answers) = daemon::answer_alarms(&inquiry, &body, SystemTime::now()).await?;
    let text = match format {
        Format::Json => report::json::document(&daemon::many(&answers)),
        Format::Table => answers.iter().map(told).collect(),
    };
    terminal::print(&text);
    let is_answered = answers.iter().any(|answer| answer.finding.is_ok());
    Ok(if is_answered {
        Exit::Ok
    } else {
        Exit::CouldNotJudge
    })
}

fn told(answer: &Answered) -> String {
    match &answer.finding {
        Ok(finding) => {
            let verdict = report::verdict::text(&finding.asked, &finding.judgement);
            format!("== {}\n{verdict}\n", answer.called)
        }
        Err(why) => format!("== {}\n{}\n\n", answer.called, escaped(why)),
    }
}

fn read_document(from: &Path) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let most = u64::try_from(daemon::MAX_ALARM).unwrap_or(u64::MAX);
    let read = if from == Path::new("-") {
        std::io::stdin().take(most + 1).read_to_end(&mut body)
    } else {
        std::fs::File::open(from).and_then(|file| file.take(most + 1).read_to_end(&mut body))
    };
    let shown = from.display();
    read.map_err(|error| format!("cannot read the alert {shown}: {error}"))?;
    Ok(body)
}

fn inquiry_of(config: Config, file: &Path) -> Result<Inquiry, String> {
    if config.traces.is_empty() {
        return Err(format!(
            "{} has no [traces]: there is no backend to ask",
            file.display()
        ));
    }
    inquiry(config)
}

pub(super) fn inquiry(config: Config) -> Result<Inquiry, String> {
    Ok(Inquiry {
        store: config.store.path,
        sources: Source::all(&config.traces, &[])?,
        targets: config.targets.into_iter().map(Arc::new).collect(),
    })
}

/// What the store has of the last time that the backend was asked.
fn judged_again(id: &str, store: &Path) -> Result<Finding, String> {
    let reader = Reader::open(store)?;
    if reader.incident(id)?.is_none() {
        return Err(no_incident(store, id));
    }
    let askings = reader.askings(id)?;
    let count = askings.len();
    let last = askings.into_iter().next().ok_or_else(|| {
        format!("the backend was not asked about incident {id} yet, or by another version of mcpprobe: ask it without --again")
    })?;
    let at = humantime::format_rfc3339_seconds(last.asked_at);
    terminal::complain(&format!(
        "judged again from what was said {at}, the last of {count} askings in the store"
    ));
    Ok(Finding::of(last))
}

fn no_incident(store: &Path, id: &str) -> String {
    format!("the store {} has no incident {id}", store.display())
}

/// The incident that was named or in which the time lies; else somebody else's alert at that time.
fn subject(args: &CorrelateArgs, config: &Config) -> Result<Subject, String> {
    let too_old = SystemTime::UNIX_EPOCH + OLDEST;
    if args
        .at
        .is_some_and(|at| at > SystemTime::now() || at < too_old)
    {
        return Err("`--at` lies in the future, or before there were traces".to_owned());
    }
    let path = &config.store.path;
    let reader = Reader::open_if_made(path)?;
    let stored = match (&args.incident, &args.server, args.at, &reader) {
        (Some(id), _, _, Some(reader)) => reader.incident(id)?,
        (_, Some(name), Some(at), Some(reader)) => reader.incident_at(name, at)?,
        _ => None,
    };
    if let Some(stored) = stored {
        let Some(target) = stored.server else {
            return Err(format!(
                "incident {} is of mcpprobe itself: no backend has its traces",
                stored.id
            ));
        };
        return Ok(Subject {
            target,
            incident: Some(stored.id),
            at: stored.first_failed_at,
        });
    }
    match (&args.server, args.at) {
        (Some(name), Some(at)) => {
            if !config.targets.iter().any(|target| target.name == *name) {
                let names: Vec<_> = config
                    .targets
                    .iter()
                    .map(|target| target.name.as_str())
                    .collect();
                return Err(format!(
                    "there is no server {name}; there are: {}",
                    names.join(", ")
                ));
            }
            Ok(Subject {
                target: name.clone(),
                incident: None,
                at,
            })
        }
        _ => {
            let id = args.incident.as_deref().unwrap_or_default();
            Err(no_incident(path, id))
        }
    }
}
