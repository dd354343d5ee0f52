//! `[alerting]`, and the tables around it in one: what makes an incident, and who hears of it.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::DeTable;

use super::checked::Findings;
use super::complaint::Complaint;
use super::control::RawControls;
use super::heartbeat::RawHeartbeat;
use super::keys::{Keys, Typed};
use super::maintenance::RawMaintenance;
use super::route::RawRoute;
use super::substitute::Sources;
use crate::model::{Alerting, Count, Frequency, Policy, Severities, Severity};

/// Each is a whole probe before anybody hears of an outage; ten in a row have proven what there is to prove.
const CONFIRM: RangeInclusive<u32> = 0..=10;

/// Longer than five minutes is not a confirmation but another schedule.
const CONFIRM_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);

/// Changes of state that `flapping` counts: one alone is an outage.
const CHANGES: RangeInclusive<u32> = 2..=Count::MOST;

/// Within what `flapping` counts: shorter than a minute holds no two probes of most servers, and longer than a day
/// would hold an incident open for a day after the last change.
const FLAPPING_WITHIN: RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(24 * 3600);

const KEYS: [&str; 7] = [
    "confirm",
    "confirm_delay",
    "down_after",
    "up_after",
    "intermittent",
    "flapping",
    "severity",
];

/// What switches a rule off.
const OFF: &str = "off";

/// The tables of the file that are about alerting.
pub(super) struct Tables<'t> {
    alerting: Option<&'t DeTable<'t>>,
    routes: Vec<(&'t DeTable<'t>, Range<usize>)>,
    maintenance: Vec<(&'t DeTable<'t>, Range<usize>)>,
    own: Option<&'t DeTable<'t>>,
    heartbeat: Option<(&'t DeTable<'t>, Range<usize>)>,
}

impl<'t> Tables<'t> {
    /// Their keys in the file.
    pub(super) const KEYS: [&'static str; 5] =
        ["alerting", "route", "maintenance", "self", "heartbeat"];

    pub(super) fn of(keys: &mut Keys<'t, '_>) -> Self {
        let heartbeat_span = keys.span("heartbeat");
        Self {
            alerting: keys.table("alerting"),
            routes: keys.tables("route"),
            maintenance: keys.tables("maintenance"),
            own: keys.table("self"),
            heartbeat: keys.table("heartbeat").map(|table| (table, heartbeat_span)),
        }
    }

    pub(super) fn read(self, complaints: &mut Vec<Complaint>) -> RawAlerting {
        let rules = self.alerting.map(|table| read_rules(table, complaints));
        let routes = self.routes.into_iter();
        let maintenance = self.maintenance.into_iter();
        RawAlerting {
            rules: rules.unwrap_or_default(),
            routes: routes
                .map(|(table, span)| RawRoute::read(table, span, complaints))
                .collect(),
            maintenance: maintenance
                .map(|(table, span)| RawMaintenance::read(table, span, complaints))
                .collect(),
            controls: self
                .own
                .and_then(|table| RawControls::read(table, complaints)),
            heartbeat: self
                .heartbeat
                .map(|(table, span)| RawHeartbeat::read(table, span, complaints)),
        }
    }
}

/// Everything about alerting as it was typed.
#[derive(Default)]
pub(super) struct RawAlerting {
    rules: RawRules,
    routes: Vec<RawRoute>,
    maintenance: Vec<RawMaintenance>,
    controls: Option<RawControls>,
    heartbeat: Option<RawHeartbeat>,
}

/// `[alerting]`.
#[derive(Default)]
struct RawRules {
    confirm: Option<Typed<u32>>,
    confirm_delay: Option<Typed<Duration>>,
    down_after: Option<Typed<String>>,
    up_after: Option<Typed<String>>,
    intermittent: Option<Typed<String>>,
    flapping: Option<Typed<String>>,
    severities: Severities,
}

/// The names that a file knows, for the tables that use them.
pub(super) struct Names<'a> {
    pub(super) servers: Vec<&'a str>,
    pub(super) tags: Vec<&'a str>,
    pub(super) channels: Vec<&'a str>,
}

fn read_rules<'t>(table: &'t DeTable<'t>, complaints: &mut Vec<Complaint>) -> RawRules {
    let mut keys = Keys::of(table, "[alerting]", &KEYS, complaints);
    let confirm_span = keys.span("confirm");
    RawRules {
        confirm: keys.integer("confirm", CONFIRM).map(|value| Typed {
            value,
            span: confirm_span,
        }),
        confirm_delay: keys.duration("confirm_delay"),
        down_after: keys.number_or_text("down_after"),
        up_after: keys.number_or_text("up_after"),
        intermittent: keys.text("intermittent"),
        flapping: keys.text("flapping"),
        severities: read_severities(&mut keys),
    }
}

fn read_severities(keys: &mut Keys<'_, '_>) -> Severities {
    let known = [
        "down",
        "auth_required",
        "degraded",
        "intermittent",
        "isolated",
    ];
    let mut severities = Severities::default();
    let Some(mut keys) = keys.inside("severity", &known) else {
        return severities;
    };
    let words = severity_words();
    for (key, severity) in [
        ("down", &mut severities.down),
        ("auth_required", &mut severities.auth_required),
        ("degraded", &mut severities.degraded),
        ("intermittent", &mut severities.intermittent),
        ("isolated", &mut severities.isolated),
    ] {
        if let Some(typed) = keys.word(key, &words) {
            *severity = typed;
        }
    }
    severities
}

/// What a severity can be.
pub(super) fn severity_words() -> Vec<(&'static str, Severity)> {
    let words = Severity::ALL.iter().rev();
    words
        .map(|severity| (severity.as_str(), *severity))
        .collect()
}

impl RawAlerting {
    /// What it means, but for the channels.
    pub(super) fn check(
        self,
        names: &Names<'_>,
        sources: &Sources<'_>,
        out: &mut Findings,
    ) -> Alerting {
        let routes = self.routes.into_iter();
        let maintenance = self.maintenance.into_iter();
        Alerting {
            severities: self.rules.severities,
            policy: self.rules.check(out),
            channels: Vec::new(),
            routes: routes
                .filter_map(|route| route.check(names, sources, out))
                .collect(),
            maintenance: maintenance
                .filter_map(|window| window.check(names, sources, out))
                .collect(),
            controls: self.controls.map(|controls| controls.check(out)),
            heartbeat: self
                .heartbeat
                .and_then(|heartbeat| heartbeat.check(sources, out)),
        }
    }
}

impl RawRules {
    fn check(self, out: &mut Findings) -> Policy {
        let default = Policy::default();
        let confirm = self.confirm.as_ref().map(|typed| typed.value);
        let policy = Policy {
            confirm: confirm.unwrap_or(default.confirm),
            confirm_delay: self
                .confirm_delay
                .as_ref()
                .and_then(|typed| out.duration_in(typed, "confirm_delay", CONFIRM_DELAY))
                .unwrap_or(default.confirm_delay),
            down_after: in_a_row_or_of(self.down_after.as_ref(), "down_after", out)
                .unwrap_or(default.down_after),
            up_after: in_a_row_or_of(self.up_after.as_ref(), "up_after", out)
                .unwrap_or(default.up_after),
            intermittent: match &self.intermittent {
                None => default.intermittent,
                Some(typed) if typed.value == OFF => None,
                Some(typed) => rule(typed, "intermittent", "\"4 of 20\" or \"off\"", n_of_m, out),
            },
            flapping: match &self.flapping {
                None => default.flapping,
                Some(typed) if typed.value == OFF => None,
                Some(typed) => rule(typed, "flapping", "\"6 in 10m\" or \"off\"", n_in_d, out),
            },
        };
        if policy.confirm == 0 {
            self.without_confirmation(&policy, out);
        }
        policy
    }

    /// What is about confirmations is of no use without them.
    fn without_confirmation(&self, policy: &Policy, out: &mut Findings) {
        let delay = self.confirm_delay.as_ref().map(|typed| &typed.span);
        let intermittent = self.intermittent.as_ref().map(|typed| &typed.span);
        let intermittent = intermittent.filter(|_| policy.intermittent.is_some());
        for span in delay.into_iter().chain(intermittent) {
            out.warning(Complaint::at(
                span.clone(),
                "this has no effect here",
                "`confirm` is 0: nothing is confirmed or refuted",
            ));
        }
    }
}

/// `3` or `"2 of 3"`.
fn in_a_row_or_of(typed: Option<&Typed<String>>, key: &str, out: &mut Findings) -> Option<Count> {
    let typed = typed?;
    let parse = |text: &str| match number(text) {
        Ok(needed) => count(needed, needed),
        Err(_) if text.contains(' ') => n_of_m(text),
        Err(why) => Err(why),
    };
    rule(typed, key, "3 (in a row) or \"2 of 3\"", parse, out)
}

fn rule<T>(
    typed: &Typed<String>,
    key: &str,
    example: &str,
    parse: impl Fn(&str) -> Result<T, String>,
    out: &mut Findings,
) -> Option<T> {
    match parse(&typed.value) {
        Ok(rule) => Some(rule),
        Err(why) => {
            out.error(
                Complaint::at(typed.span.clone(), format!("`{key}` cannot be used"), why)
                    .help(format!("write {example}")),
            );
            None
        }
    }
}

fn n_of_m(text: &str) -> Result<Count, String> {
    let (needed, of) = two_words(text, "of")?;
    count(number(needed)?, number(of)?)
}

fn count(needed: u32, of: u32) -> Result<Count, String> {
    if of > Count::MOST {
        return Err(format!("looks back on more than {}", Count::MOST));
    }
    if needed == 0 {
        return Err("0 is met always".to_owned());
    }
    if needed > of {
        return Err(format!("{needed} of {of} can never be met"));
    }
    Ok(Count { needed, of })
}

fn n_in_d(text: &str) -> Result<Frequency, String> {
    let (changes, within) = two_words(text, "in")?;
    let count = number(changes)?;
    if !CHANGES.contains(&count) {
        let (least, most) = CHANGES.into_inner();
        return Err(format!("{count} changes: has to be from {least} to {most}"));
    }
    let within = humantime::parse_duration(within)
        .map_err(|error| format!("`{}` is no duration: {error}", within.escape_debug()))?;
    if !FLAPPING_WITHIN.contains(&within) {
        return Err("the time has to be from 1m to 24h".to_owned());
    }
    Ok(Frequency { count, within })
}

/// The texts on both sides of `word`.
fn two_words<'a>(text: &'a str, word: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once(&format!(" {word} "))
        .map(|(before, after)| (before.trim(), after.trim()))
        .ok_or_else(|| format!("is not two values with `{word}` between them"))
}

fn number(text: &str) -> Result<u32, String> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number.ok_or_else(|| format!("`{}` is no number", text.escape_debug()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;
    use crate::config::parse;
    use crate::model::{ControlPoint, Layer, Verdict};

    fn alerting(text: &str) -> Alerting {
        let env = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        let loaded = parse(
            text,
            "servers.toml",
            Path::new("."),
            &env,
            SystemTime::UNIX_EPOCH,
        );
        loaded.unwrap_or_else(|all| panic!("{all}")).config.alerting
    }

    #[test]
    fn without_a_word_everything_is_at_its_default() {
        let alerting = alerting("");
        assert_eq!(alerting.policy, Policy::default());
        assert_eq!(alerting.severities, Severities::default());
        assert!(alerting.routes.is_empty() && alerting.maintenance.is_empty());
        assert!(alerting.controls.is_none() && alerting.heartbeat.is_none());
    }

    #[test]
    fn every_rule_is_read_as_it_is_meant() {
        let alerting = alerting(
            "[alerting]\nconfirm = 3\nconfirm_delay = \"0s\"\ndown_after = \"2 of 3\"\nup_after = 5\n\
             intermittent = \"off\"\nflapping = \"4 in 1h\"\nseverity = { down = \"warning\", isolated = \"info\" }",
        );
        let policy = alerting.policy;
        assert_eq!((policy.confirm, policy.confirm_delay), (3, Duration::ZERO));
        assert_eq!(policy.down_after, Count { needed: 2, of: 3 });
        assert_eq!(policy.up_after, Count::in_a_row(5));
        assert_eq!(policy.intermittent, None);
        let hour = Duration::from_secs(3600);
        let flapping = policy.flapping.unwrap();
        assert_eq!((flapping.count, flapping.within), (4, hour));
        assert_eq!(alerting.severities.down, Severity::Warning);
        assert_eq!(alerting.severities.isolated, Severity::Info);
        assert_eq!(alerting.severities.degraded, Severity::Warning);
    }

    #[test]
    fn controls_and_the_heartbeat_are_read_as_they_are_meant() {
        let first = alerting(
            "[self]\ncontrol = [\"gateway\", \"dns\", \"tcp://[::1]:53\", \"https://a.example/\"]\n\
             [heartbeat]\nurl = \"https://ping.example/${TOKEN}\"",
        );
        let controls = [
            ControlPoint::Gateway,
            ControlPoint::Dns,
            ControlPoint::Tcp("[::1]:53".to_owned()),
            ControlPoint::Http("https://a.example/".to_owned()),
        ];
        assert_eq!(first.controls.as_deref(), Some(&controls[..]));
        let heartbeat = first.heartbeat.unwrap();
        assert_eq!(heartbeat.url.expose(), "https://ping.example/s3cret");
        assert_eq!(heartbeat.every, Duration::from_secs(60));
        let off = alerting("[self]\ncontrol = []");
        assert_eq!(off.controls.as_deref(), Some(&[][..]));
    }

    #[test]
    fn a_window_of_maintenance_is_read_as_it_is_meant() {
        let alerting = alerting(
            "[[server]]\nname = \"a\"\nurl = \"http://a.example/mcp\"\ntags = [\"prod\"]\n\
             [[maintenance]]\nname = \"nightly\"\ncron = \"0 2 * * *\"\nduration = \"30m\"\ntags = \"prod\"\n\
             timezone = \"Europe/Berlin\"",
        );
        let [window] = &alerting.maintenance[..] else {
            panic!("one window");
        };
        assert_eq!(
            (window.name.as_str(), &window.tags[..]),
            ("nightly", &["prod".to_owned()][..])
        );
        for (at, holds) in [
            ("2026-07-01T23:59:59Z", false),
            ("2026-07-02T00:00:00Z", true),
            ("2026-07-02T00:29:59.9Z", true),
            ("2026-07-02T00:30:00Z", false),
        ] {
            let at_time = humantime::parse_rfc3339(at).unwrap();
            assert_eq!(window.holds(at_time), holds, "{at}");
        }
    }

    #[test]
    fn a_route_is_read_as_it_is_meant() {
        let raw = "[[server]]\nname = \"a\"\nurl = \"http://a.example/mcp\"\ntags = [\"prod\"]\n\
             [[channel]]\nname = \"oncall\"\ntype = \"exec\"\ncommand = [\"true\"]\n\
             [[route]]\nserver = \"a\"\ntag = [\"prod\"]\nseverity = \"critical\"\nlayer = [\"http\", \"transport\"]\n\
             verdict = \"path\"\nchannels = \"oncall\"\nafter = \"15m\"\nrepeat = \"4h\"\nhours = \"* 8-17 * * Mon-Fri\"";
        let alerting = alerting(raw);
        let [route] = &alerting.routes[..] else {
            panic!("one route");
        };
        assert_eq!(
            (&route.servers[..], &route.tags[..]),
            (&["a".to_owned()][..], &["prod".to_owned()][..])
        );
        assert_eq!(route.severities, [Severity::Critical]);
        assert_eq!(route.layers, [Layer::Http, Layer::Transport]);
        assert_eq!(route.verdicts, [Verdict::Path]);
        assert_eq!(route.channels, ["oncall"]);
        assert_eq!(route.after, Duration::from_secs(900));
        assert_eq!(route.repeat, Some(Duration::from_secs(4 * 3600)));
        let hours = route.hours.as_ref().unwrap();
        for (at, within) in [
            ("2026-07-01T07:59:59Z", false),
            ("2026-07-01T08:00:00Z", true),
            ("2026-07-01T17:59:59.9Z", true),
            ("2026-07-01T18:00:00Z", false),
            ("2026-07-04T12:00:00Z", false),
        ] {
            let at_time = humantime::parse_rfc3339(at).unwrap();
            assert_eq!(hours.matches_minute(at_time), within, "{at}");
        }
    }
}
