//! The words of a message, for whoever is woken by it: what is wrong, since when, where and why, and what to do.

use std::time::{Duration, SystemTime};

use url::Url;

use super::message::Message;
use crate::model::{
    CommonCause, Explanation, Incident, IncidentKind, Layer, Link, Notice, NoticeEvent, Resolution,
    Severity, State, spoken,
};

/// Characters of a subject: what a list of mails or a phone's screen shows, and then some.
const MAX_SUBJECT: usize = 150;

/// What a message says, in pieces that each channel dresses in its own way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// One line that says it all.
    pub subject: String,
    /// A sentence or two.
    pub lead: String,
    /// What is known, by name.
    pub facts: Vec<Fact>,
    /// One line for each incident, when there are several.
    pub lines: Vec<String>,
    /// Where to read on.
    pub links: Vec<Link>,
    /// How it looks.
    pub tone: Tone,
}

/// A name and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// In a word or two.
    pub name: &'static str,
    /// One line.
    pub value: String,
    /// To be typed or copied as it is.
    pub is_code: bool,
}

/// How bad it is, for colours and priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Resolved.
    Good,
    /// Nobody has to act.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody has to act now.
    Critical,
}

impl Tone {
    fn of(notice: &Notice) -> Self {
        match (notice.event, notice.incident.severity) {
            (NoticeEvent::Resolved, _) => Self::Good,
            (_, Severity::Info) => Self::Info,
            (_, Severity::Warning) => Self::Warning,
            (_, Severity::Critical) => Self::Critical,
        }
    }

    /// Red, green, blue.
    pub fn colour(self) -> u32 {
        match self {
            Self::Good => 0x2e_a0_43,
            Self::Info => 0x38_8b_fd,
            Self::Warning => 0xd2_99_22,
            Self::Critical => 0xda_36_33,
        }
    }
}

/// The words of a message.
pub fn story(message: &Message) -> Story {
    let notice = &message.first;
    let tone = Tone::of(notice);
    if message.others.is_empty() {
        return Story {
            subject: subject(notice),
            lead: lead(notice),
            facts: facts(notice),
            lines: Vec::new(),
            links: notice.links.clone(),
            tone,
        };
    }
    let headline = format!("{} servers {}", message.count(), common(notice));
    Story {
        subject: cut(&format!("[{}] {headline}", mark(notice))),
        lead: format!("{headline}.{}", one_cause(message)),
        facts: shared_facts(notice),
        lines: message.notices().map(line).collect(),
        links: Vec::new(),
        tone,
    }
}

/// The whole message as plain text, its lines not wrapped.
pub fn plain(story: &Story) -> String {
    let mut text = format!("{}\n", story.lead);
    if !story.lines.is_empty() {
        text.push('\n');
        for line in &story.lines {
            text.push_str(&format!("- {line}\n"));
        }
    }
    if !story.facts.is_empty() {
        text.push('\n');
        let width = story.facts.iter().map(|fact| fact.name.len()).max();
        for fact in &story.facts {
            let width = width.unwrap_or_default();
            text.push_str(&format!("{:<width$}  {}\n", fact.name, fact.value));
        }
    }
    if !story.links.is_empty() {
        text.push('\n');
        for link in &story.links {
            text.push_str(&format!("{}: {}\n", link.name, link.url));
        }
    }
    text
}

fn subject(notice: &Notice) -> String {
    let incident = &notice.incident;
    let who = who(incident);
    let text = match notice.event {
        NoticeEvent::Resolved => format!("{who} {}", ending(incident)),
        NoticeEvent::Reminder => format!(
            "{who} {}, for {}: {}",
            still(condition(incident)),
            age(incident.first_failed_at, notice.created_at),
            incident.message
        ),
        NoticeEvent::Updated => match incident.verdict {
            Some(verdict) => format!("{who} {}, verdict: {verdict}", condition(incident)),
            None => format!(
                "{who} got worse and {}: {}",
                condition(incident),
                incident.message
            ),
        },
        NoticeEvent::Opened => format!("{who} {}: {}", condition(incident), incident.message),
    };
    cut(&format!("[{}] {text}", mark(notice)))
}

/// The word in front.
fn mark(notice: &Notice) -> &'static str {
    match notice.event {
        NoticeEvent::Resolved => "resolved",
        _ => notice.incident.severity.as_str(),
    }
}

fn who(incident: &Incident) -> &str {
    match (&incident.server, incident.kind) {
        (Some(server), _) => server,
        (None, _) => "mcpprobe",
    }
}

/// What is wrong, to be read after a name.
fn condition(incident: &Incident) -> &'static str {
    match incident.kind {
        IncidentKind::Outage if incident.state == State::AuthRequired => "asks for a credential",
        IncidentKind::Outage => "is down",
        IncidentKind::Degraded => "is degraded",
        IncidentKind::Intermittent => "fails now and then",
        IncidentKind::Isolated => "is cut off from the network",
    }
}

/// The same of something that lasts.
fn still(condition: &str) -> String {
    match condition.split_once(' ') {
        Some((verb @ ("is" | "are"), rest)) => format!("{verb} still {rest}"),
        _ => format!("still {condition}"),
    }
}

/// The same of several servers.
fn conditions(incident: &Incident) -> String {
    match condition(incident) {
        "asks for a credential" => "ask for a credential".to_owned(),
        "fails now and then" => "fail now and then".to_owned(),
        one => one.replacen("is ", "are ", 1),
    }
}

/// How it ended, to be read after a name.
fn ending(incident: &Incident) -> String {
    let lasted = incident
        .resolved_at
        .map(|end| age(incident.first_failed_at, end))
        .unwrap_or_default();
    let after = match incident.resolution {
        Some(Resolution::Removed) => {
            return "is not watched any more: its incident is closed".to_owned();
        }
        Some(Resolution::Superseded) => {
            return format!("got worse after {lasted}: a graver incident has taken over");
        }
        Some(Resolution::Recovered) | None => format!("after {lasted}"),
    };
    match incident.kind {
        IncidentKind::Outage => format!("is up again {after}"),
        IncidentKind::Degraded => format!("is not degraded any more {after}"),
        IncidentKind::Intermittent => format!("has stopped failing now and then {after}"),
        IncidentKind::Isolated => format!("has its network back {after}"),
    }
}

fn lead(notice: &Notice) -> String {
    let incident = &notice.incident;
    let since = since(incident.first_failed_at, notice.created_at);
    let who = who(incident);
    match notice.event {
        NoticeEvent::Resolved => {
            let ended = incident.resolved_at.map(utc).unwrap_or_default();
            format!(
                "{who} {} ({} to {ended}).",
                ending(incident),
                utc(incident.first_failed_at)
            )
        }
        NoticeEvent::Opened => format!("{who} {}, {since}.", condition(incident)),
        NoticeEvent::Reminder => format!("{who} {}, {since}.", still(condition(incident))),
        NoticeEvent::Updated => match incident.verdict {
            Some(verdict) => format!(
                "{who} {}, {since}. The traces say whose fault it looks like: {verdict}.",
                condition(incident)
            ),
            None => format!("{who} got worse: it {}, {since}.", condition(incident)),
        },
    }
}

/// That they are one, where that says more than the headline does: they stand behind one host, or the traces say the
/// same of all.
fn one_cause(message: &Message) -> String {
    let incidents: Vec<_> = message.notices().map(|n| n.incident.clone()).collect();
    let host_of = |server: &str| {
        let mut notices = message.notices();
        let notice = notices.find(|n| n.incident.server.as_deref() == Some(server));
        let url = Url::parse(notice?.endpoint.as_ref()?.as_str()).ok()?;
        url.host_str().map(str::to_owned)
    };
    match CommonCause::all(&incidents, host_of).as_slice() {
        [one]
            if one.incidents.len() == incidents.len()
                && (one.host.is_some() || one.verdict.is_some()) =>
        {
            format!(" It looks like one cause: {}.", one.says())
        }
        _ => String::new(),
    }
}

/// What the incidents of a group have in common.
fn common(notice: &Notice) -> String {
    let incident = &notice.incident;
    let conditions = conditions(incident);
    let what = match (incident.failed_layer, incident.reason) {
        (Some(layer), Some(reason)) => {
            format!("{} at {}", reason.as_str(), layer.as_str())
        }
        (Some(layer), None) => format!("failed at {}", layer.as_str()),
        (None, Some(reason)) => reason.as_str().to_owned(),
        (None, None) => incident.kind.as_str().to_owned(),
    };
    match (notice.event, incident.verdict) {
        (NoticeEvent::Resolved, _) => {
            let how = match incident.resolution {
                Some(Resolution::Removed) => "are not watched any more",
                Some(Resolution::Superseded) => "got worse",
                Some(Resolution::Recovered) | None => "have recovered",
            };
            format!("{how}: {what}")
        }
        (NoticeEvent::Reminder, _) => format!("{}: {what}", still(&conditions)),
        (NoticeEvent::Updated, Some(verdict)) => format!("{conditions}, verdict: {verdict}"),
        (NoticeEvent::Updated, None) => format!("got worse and {conditions}: {what}"),
        (NoticeEvent::Opened, _) => format!("{conditions}: {what}"),
    }
}

/// One line of a group.
fn line(notice: &Notice) -> String {
    let incident = &notice.incident;
    let who = who(incident);
    let id = &incident.id;
    match notice.event {
        NoticeEvent::Resolved => format!("{who} {} (incident {id})", ending(incident)),
        _ => format!(
            "{who} {}, {}: {} (incident {id})",
            condition(incident),
            since(incident.first_failed_at, notice.created_at),
            incident.message
        ),
    }
}

fn facts(notice: &Notice) -> Vec<Fact> {
    let incident = &notice.incident;
    let mut facts = Vec::new();
    let mut fact = |name, value: Option<String>, is_code| {
        facts.extend(value.map(|value| Fact {
            name,
            value,
            is_code,
        }));
    };
    fact("Layer", incident.failed_layer.map(layer), false);
    let why = match incident.reason {
        Some(reason) => format!("{} ({})", incident.message, reason.as_str()),
        None => incident.message.to_string(),
    };
    fact("Why", Some(why).filter(|why| !why.is_empty()), false);
    fact("Verdict", verdict(incident), false);
    let is_open = notice.event != NoticeEvent::Resolved;
    if is_open {
        fact("Look at", look_first(incident), false);
    }
    let flapping =
        "it goes up and down: this stays one incident until that has calmed down".to_owned();
    fact(
        "Flapping",
        (is_open && incident.flapping).then_some(flapping),
        false,
    );
    let endpoint = notice.endpoint.as_ref();
    fact("Where", endpoint.map(ToString::to_string), false);
    let tags = (!notice.tags.is_empty()).then(|| notice.tags.join(", "));
    fact("Tags", tags, false);
    fact("Trace", incident.trace_id.map(|id| id.to_string()), true);
    fact("Incident", Some(incident.id.clone()), true);
    let taken = incident
        .acknowledged
        .as_ref()
        .map(|taken| format!("by {} at {}", taken.by, utc(taken.at)));
    if is_open {
        fact("Repeat it", notice.command.clone(), true);
        let take = notice.take.clone();
        let take = take.unwrap_or_else(|| format!("mcpprobe incidents ack {}", incident.id));
        fact("Take it", taken.is_none().then_some(take), true);
    }
    fact("Taken", taken, false);
    facts
}

/// Those that are true of every incident of a group.
fn shared_facts(notice: &Notice) -> Vec<Fact> {
    let incident = &notice.incident;
    let mut facts = Vec::new();
    if let Some(failed) = incident.failed_layer {
        facts.push(("Layer", layer(failed)));
    }
    if notice.event != NoticeEvent::Resolved {
        facts.extend(look_first(incident).map(|look| ("Look at", look)));
    }
    facts
        .into_iter()
        .map(|(name, value)| Fact {
            name,
            value,
            is_code: false,
        })
        .collect()
}

/// What its failing means.
fn layer(layer: Layer) -> String {
    let means = match layer {
        Layer::Transport => "there is no connection to the server",
        Layer::Http => "something is reached, and does not answer as an MCP endpoint does",
        Layer::Initialize => "the endpoint answers, and no MCP session begins",
        Layer::ToolsList => "a session begins, and its tools cannot be listed",
    };
    format!("{}: {means}", layer.as_str())
}

fn verdict(incident: &Incident) -> Option<String> {
    let verdict = incident.verdict?;
    let provisional = if incident.provisional == Some(true) {
        " (provisional)"
    } else {
        ""
    };
    Some(match &incident.verdict_reason {
        Some(reason) => format!("{verdict}{provisional}: {reason}"),
        None => format!("{verdict}{provisional}"),
    })
}

fn look_first(incident: &Incident) -> Option<String> {
    let reason = incident.reason?;
    let explained = Explanation::all()
        .into_iter()
        .find(|explanation| explanation.reason == reason)?;
    Some(explained.look_first.replace('`', ""))
}

fn since(start: SystemTime, now: SystemTime) -> String {
    format!("since {} ({} ago)", utc(start), age(start, now))
}

fn age(start: SystemTime, end: SystemTime) -> String {
    spoken(
        end.duration_since(start)
            .unwrap_or_default()
            .max(Duration::ZERO),
    )
}

/// `2026-11-21 03:12:51 UTC`.
fn utc(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MAX_SUBJECT {
        return text.to_owned();
    }
    let kept: String = text.chars().take(MAX_SUBJECT - 1).collect();
    format!("{kept}…")
}
