//! `[[channel]]`: where notices go. What was typed, and what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use base64::Engine;
use lettre::message::Mailbox;
use percent_encoding::percent_decode_str;
use toml::de::{DeTable, DeValue};
use url::{Host, Url};

use super::checked::Findings;
use super::client_tls::TlsFiles;
use super::complaint::Complaint;
use super::endpoint::{check_url, take_credentials};
use super::header::check_header;
use super::keys::{Keys, Typed, nearest};
use super::raw::Pair;
use super::substitute::Sources;
use crate::model::{
    AlertmanagerSettings, ChannelKind, ChannelSettings, EmailSettings, Frequency, Secret, SmtpTls,
    WebhookFormat, WebhookSettings,
};

/// Channels of one file. Each has a queue of its own, and nobody reads sixty channels.
const MAX_CHANNELS: usize = 64;

/// Characters of a name. It stands in keys of notices, headers and commands, hence what it may be made of.
const MAX_NAME: usize = 64;

/// How long notices wait for others of their cause: longer, and the first one comes too late to be of use.
const GROUPS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);
/// Shorter storms the receiver, longer is not "at once again".
const RETRY_FIRST: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
/// Longer than a day is never.
const RETRY_MAX: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(24 * 3600);
/// Longer than a month nobody remembers what it was about.
const GIVE_UP: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
/// Of one attempt; slow mail servers take a minute.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
/// An Alertmanager forgets after five minutes by default.
const RESENDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// Messages of a rate limit: the time of each of them is remembered.
const RATES: RangeInclusive<u32> = 1..=1_000;
/// Within which time; none is longer than a day.
const RATE_TIMES: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// Receivers of a mail, instances of an Alertmanager.
const MAX_RECEIVERS: usize = 100;
/// Bytes that a symmetric secret of Standard Webhooks has.
const WHSEC_BYTES: RangeInclusive<usize> = 24..=64;
/// From here on a part of a hook's path is taken for a secret: shorter ones are words.
const SECRET_PART: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Email,
    Webhook,
    Slack,
    Teams,
    Discord,
    Telegram,
    Ntfy,
    Pagerduty,
    Alertmanager,
    Exec,
}

const KINDS: [(&str, Kind); 10] = [
    ("email", Kind::Email),
    ("webhook", Kind::Webhook),
    ("slack", Kind::Slack),
    ("teams", Kind::Teams),
    ("discord", Kind::Discord),
    ("telegram", Kind::Telegram),
    ("ntfy", Kind::Ntfy),
    ("pagerduty", Kind::Pagerduty),
    ("alertmanager", Kind::Alertmanager),
    ("exec", Kind::Exec),
];

const SHARED_KEYS: [&str; 9] = [
    "name",
    "type",
    "group",
    "retry_first",
    "retry_max",
    "give_up_after",
    "rate_limit",
    "fallback",
    "timeout",
];
/// The keys that hold something else than a string.
const DURATIONS: [&str; 6] = [
    "group",
    "retry_first",
    "retry_max",
    "give_up_after",
    "timeout",
    "resend",
];
const LISTS: [&str; 3] = ["to", "urls", "command"];
const TABLES: [&str; 3] = ["headers", "labels", "env"];

impl Kind {
    fn own_keys(self) -> &'static [&'static str] {
        match self {
            Self::Email => &["smtp", "tls", "ca_file", "from", "to"],
            Self::Webhook => &["url", "secret", "headers", "format", "template"],
            Self::Slack | Self::Teams | Self::Discord => &["url"],
            Self::Telegram => &["url", "token", "chat"],
            Self::Ntfy => &["url", "topic", "token"],
            Self::Pagerduty => &["url", "routing_key"],
            Self::Alertmanager => &["urls", "resend", "authorization", "labels"],
            Self::Exec => &["command", "cwd", "env"],
        }
    }

    /// Programs get each incident by itself, people get them together.
    fn default_group(self) -> Duration {
        match self {
            Self::Webhook | Self::Pagerduty | Self::Alertmanager | Self::Exec => Duration::ZERO,
            _ => Duration::from_secs(10),
        }
    }
}

/// A `[[channel]]` as it was typed.
pub(super) struct RawChannel {
    span: Range<usize>,
    kind: Option<Kind>,
    /// The keys that are there, whatever their type.
    given: BTreeSet<String>,
    texts: BTreeMap<&'static str, Typed<String>>,
    durations: BTreeMap<&'static str, Typed<Duration>>,
    lists: BTreeMap<&'static str, Typed<Vec<Typed<String>>>>,
    tables: BTreeMap<&'static str, Vec<Pair>>,
}

impl RawChannel {
    /// Its name, as it is typed.
    pub(super) fn name(&self) -> Option<&str> {
        self.texts.get("name").map(|name| name.value.as_str())
    }
}

pub(super) fn read<'t>(
    table: &'t DeTable<'t>,
    span: Range<usize>,
    complaints: &mut Vec<Complaint>,
) -> RawChannel {
    let typed = table.get("type").map(|kind| kind.get_ref());
    let kind = typed
        .and_then(DeValue::as_str)
        .and_then(|word| KINDS.iter().find(|(name, _)| *name == word))
        .map(|(_, kind)| *kind);
    // Of an unknown type nobody knows which keys are wrong.
    let own: Vec<&'static str> = match kind {
        Some(kind) => kind.own_keys().to_vec(),
        None => {
            let all = KINDS.iter().flat_map(|(_, kind)| kind.own_keys());
            all.copied().collect::<BTreeSet<_>>().into_iter().collect()
        }
    };
    let known: Vec<&'static str> = SHARED_KEYS.into_iter().chain(own).collect();
    let mut keys = Keys::of(table, "[[channel]]", &known, complaints);
    keys.word("type", &KINDS);
    let mut raw = RawChannel {
        span,
        kind,
        given: table.keys().map(|key| key.get_ref().to_string()).collect(),
        texts: BTreeMap::new(),
        durations: BTreeMap::new(),
        lists: BTreeMap::new(),
        tables: BTreeMap::new(),
    };
    for key in known.into_iter().filter(|key| *key != "type") {
        if DURATIONS.contains(&key) {
            raw.durations
                .extend(keys.duration(key).map(|value| (key, value)));
        } else if LISTS.contains(&key) {
            raw.lists.extend(keys.texts(key).map(|value| (key, value)));
        } else if TABLES.contains(&key) {
            raw.tables
                .extend(keys.text_table(key).map(|value| (key, value)));
        } else {
            raw.texts.extend(keys.text(key).map(|value| (key, value)));
        }
    }
    raw
}

/// Judges all of them.
pub(super) fn check_channels(
    raw: &[RawChannel],
    sources: &Sources<'_>,
    out: &mut Findings,
) -> Vec<ChannelSettings> {
    if let Some(first) = raw.get(MAX_CHANNELS) {
        out.error(Complaint::at(
            first.span.clone(),
            format!("more than {MAX_CHANNELS} channels"),
            "this one is too many",
        ));
    }
    let mut names = BTreeSet::new();
    let mut channels = Vec::new();
    for raw in raw {
        let mut checker = Checker {
            raw,
            sources,
            out,
            secrets: Vec::new(),
        };
        let name = checker.name(&mut names);
        let settings = checker.settings();
        channels.extend(settings.zip(name).map(|(mut settings, name)| {
            settings.name = name;
            settings
        }));
    }
    check_fallbacks(raw, out);
    channels
}

/// A fallback is another channel, and a way that ends.
fn check_fallbacks(raw: &[RawChannel], out: &mut Findings) {
    let next: BTreeMap<&str, &Typed<String>> = raw
        .iter()
        .filter_map(|raw| {
            Some((
                raw.texts.get("name")?.value.as_str(),
                raw.texts.get("fallback")?,
            ))
        })
        .collect();
    let names: Vec<&str> = raw
        .iter()
        .filter_map(|raw| Some(raw.texts.get("name")?.value.as_str()))
        .collect();
    for (name, fallback) in &next {
        if !names.contains(&fallback.value.as_str()) {
            let label = match nearest(&fallback.value, &names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "no channel has this name".to_owned(),
            };
            out.error(Complaint::at(
                fallback.span.clone(),
                "`fallback` has to name another channel",
                label,
            ));
            continue;
        }
        let mut at = fallback.value.as_str();
        for _ in 0..names.len() {
            if at == *name {
                out.error(Complaint::at(
                    fallback.span.clone(),
                    "`fallback` has to name another channel",
                    "this way leads back to the channel itself",
                ));
                break;
            }
            match next.get(at) {
                Some(further) => at = &further.value,
                None => break,
            }
        }
    }
}

struct Checker<'a, 'o> {
    raw: &'a RawChannel,
    sources: &'a Sources<'a>,
    out: &'o mut Findings,
    secrets: Vec<Secret>,
}

impl Checker<'_, '_> {
    fn name(&mut self, names: &mut BTreeSet<String>) -> Option<String> {
        let name = self.required("name", "name = \"oncall\"")?;
        let of_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let problem = if name.value.is_empty() {
            "is empty".to_owned()
        } else if name.value.len() > MAX_NAME {
            format!("is longer than {MAX_NAME} characters")
        } else if !name.value.chars().all(of_allowed) {
            "has only letters from a to z, digits, - and _".to_owned()
        } else if !names.insert(name.value.clone()) {
            "another channel has this name".to_owned()
        } else {
            return Some(name.value);
        };
        self.out
            .error(Complaint::at(name.span, "`name` cannot be used", problem));
        None
    }

    /// Everything but the name.
    fn settings(&mut self) -> Option<ChannelSettings> {
        if !self.raw.given.contains("type") {
            let known: Vec<_> = KINDS.iter().map(|(word, _)| *word).collect();
            self.out.error(
                Complaint::at(self.raw.span.clone(), "a channel without `type`", "add one")
                    .help(format!("possible: {}", known.join(", "))),
            );
        }
        let kind = self.raw.kind?;
        let group = self.duration("group", GROUPS, kind.default_group());
        let retry_first = self.duration("retry_first", RETRY_FIRST, Duration::from_secs(2));
        let retry_max = self.duration("retry_max", RETRY_MAX, Duration::from_secs(300));
        if retry_max < retry_first
            && let Some(typed) = ["retry_max", "retry_first"]
                .iter()
                .find_map(|key| self.raw.durations.get(key))
        {
            self.out.error(Complaint::at(
                typed.span.clone(),
                "`retry_max` is shorter than `retry_first`",
                format!(
                    "`retry_first` is {}",
                    humantime::format_duration(retry_first)
                ),
            ));
        }
        let give_up_after = self.duration("give_up_after", GIVE_UP, Duration::from_secs(24 * 3600));
        let timeout = self.duration("timeout", TIMEOUTS, Duration::from_secs(10));
        let rate_limit = self.rate_limit();
        let kind = match kind {
            Kind::Email => self.email().map(ChannelKind::Email),
            Kind::Webhook => self.webhook().map(ChannelKind::Webhook),
            Kind::Slack => self.hook().map(|url| ChannelKind::Slack { url }),
            Kind::Teams => self.hook().map(|url| ChannelKind::Teams { url }),
            Kind::Discord => self.hook().map(|url| ChannelKind::Discord { url }),
            Kind::Telegram => self.telegram(),
            Kind::Ntfy => self.ntfy(),
            Kind::Pagerduty => self.pagerduty(),
            Kind::Alertmanager => self.alertmanager().map(ChannelKind::Alertmanager),
            Kind::Exec => self.exec(),
        }?;
        Some(ChannelSettings {
            name: String::new(),
            kind,
            group,
            retry_first,
            retry_max,
            give_up_after,
            rate_limit,
            fallback: self.raw.texts.get("fallback").map(|f| f.value.clone()),
            timeout,
            secrets: self.secrets.iter().flat_map(Secret::forms).collect(),
        })
    }

    fn duration(
        &mut self,
        key: &str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        self.raw
            .durations
            .get(key)
            .and_then(|typed| self.out.duration_in(typed, key, range))
            .unwrap_or(default)
    }

    /// `"off"`, `"30 per minute"`, `"5 per 2s"`.
    fn rate_limit(&mut self) -> Option<Frequency> {
        let typed = self.raw.texts.get("rate_limit")?;
        if typed.value == "off" {
            return None;
        }
        let frequency = frequency(&typed.value);
        if frequency.is_none() {
            self.out.error(
                Complaint::at(
                    typed.span.clone(),
                    "`rate_limit` cannot be used",
                    format!(
                        "{} to {} messages, within 1s to 1day",
                        RATES.start(),
                        RATES.end()
                    ),
                )
                .help("\"30 per minute\", \"1 per second\", \"5 per 2s\" or \"off\""),
            );
        }
        frequency
    }

    /// A text that has to be there. What is there with a wrong type has been complained about.
    fn required(&mut self, key: &str, example: &str) -> Option<Typed<String>> {
        let typed = self.raw.texts.get(key).cloned();
        if typed.is_none() && !self.raw.given.contains(key) {
            self.missing(key, example);
        }
        typed
    }

    fn missing(&mut self, key: &str, example: &str) {
        self.out.error(
            Complaint::at(
                self.raw.span.clone(),
                format!("this channel has no `{key}`"),
                "add one",
            )
            .help(example),
        );
    }

    /// The text with everything put in; what was put in is a secret.
    fn text(&mut self, typed: &Typed<String>) -> Option<String> {
        let text = self.out.substitute(typed, self.sources)?;
        self.secrets.extend(text.secrets);
        if text.value.trim().is_empty() {
            self.out.error(Complaint::at(
                typed.span.clone(),
                "this value cannot be used",
                "it is empty",
            ));
            return None;
        }
        Some(text.value)
    }

    /// A text that is a secret as a whole.
    fn secret(&mut self, typed: &Typed<String>) -> Option<Secret> {
        let secret = Secret::new(self.text(typed)?);
        self.secrets.push(secret.clone());
        if secret.expose().chars().any(char::is_control) {
            self.out.error(Complaint::at(
                typed.span.clone(),
                "this value cannot be sent",
                "it holds a line end or a control character",
            ));
        }
        Some(secret)
    }

    /// A URL that is as good as a password.
    fn hook(&mut self) -> Option<Secret> {
        let typed = self.required("url", "url = \"${HOOK_URL}\"")?;
        let text = self.text(&typed)?;
        let url = check_url(&text, &typed.span, "url", self.out)?;
        self.warn_of_http(&url, &typed, false);
        self.hide(&url);
        self.secrets.push(Secret::new(text));
        Some(Secret::new(url.as_str()))
    }

    /// What a receiver may repeat of a URL, besides its host.
    fn hide(&mut self, url: &Url) {
        let path = url.path();
        let with_query = match url.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        self.secrets.push(Secret::new(url.as_str()));
        if with_query.len() >= SECRET_PART {
            self.secrets.push(Secret::new(with_query));
        }
        // Words of the vendor's are none, and blanking them out would make messages unreadable.
        let is_word = |part: &str| part.chars().all(|c| c.is_ascii_lowercase());
        let parts = path
            .split('/')
            .filter(|part| part.len() >= SECRET_PART && !is_word(part));
        self.secrets.extend(parts.map(Secret::new));
        let pairs = url.query_pairs().map(|(_, value)| value.into_owned());
        self.secrets.extend(pairs.map(Secret::new));
        let password = url.password().map(Secret::new);
        self.secrets.extend(password);
    }

    fn warn_of_http(&mut self, url: &Url, typed: &Typed<String>, of_this_machine_too: bool) {
        if url.scheme() == "http" && (of_this_machine_too || !is_loopback(url)) {
            self.out.warning(
                Complaint::at(
                    typed.span.clone(),
                    "notices are sent without TLS",
                    "everybody on the way can read and change them",
                )
                .help("https://"),
            );
        }
    }

    /// A URL of a server whose path is no secret, or the default.
    fn server(&mut self, default: &str) -> Option<String> {
        let Some(typed) = self.raw.texts.get("url") else {
            return (!self.raw.given.contains("url")).then(|| default.to_owned());
        };
        let text = self.text(typed)?;
        let url = check_url(&text, &typed.span, "url", self.out)?;
        self.warn_of_http(&url, typed, false);
        if !url.username().is_empty() || url.password().is_some() {
            self.out.error(Complaint::at(
                typed.span.clone(),
                "`url` is no place for a password",
                "there are keys for that",
            ));
        }
        Some(url.as_str().trim_end_matches('/').to_owned())
    }

    fn email(&mut self) -> Option<EmailSettings> {
        let smtp = self.required(
            "smtp",
            "smtp = \"smtps://user:${SMTP_PASSWORD}@mail.example:465\"",
        );
        let smtp = smtp.and_then(|typed| self.smtp(&typed));
        let from = self
            .required("from", "from = \"mcpprobe@example.com\"")
            .and_then(|typed| self.mailbox(&typed));
        let to = self
            .list("to", "to = [\"oncall@example.com\"]")
            .map(|list| {
                let mailboxes = list.iter().filter_map(|typed| self.mailbox(typed));
                mailboxes.collect::<Vec<_>>()
            });
        let tls = TlsFiles {
            given: &[],
            ca_file: self.raw.texts.get("ca_file"),
            cert_file: None,
            key_file: None,
        };
        let authorities = tls.check(self.sources, self.out).authorities;
        let (smtp, tls) = smtp?;
        if tls == SmtpTls::Off
            && let Some(file) = self.raw.texts.get("ca_file")
        {
            self.out.warning(Complaint::at(
                file.span.clone(),
                "this has no effect here",
                "`tls` is off",
            ));
        }
        Some(EmailSettings {
            smtp,
            tls,
            authorities,
            from: from?,
            to: to.filter(|to| !to.is_empty())?,
        })
    }

    fn smtp(&mut self, typed: &Typed<String>) -> Option<(Secret, SmtpTls)> {
        let text = self.text(typed)?;
        let wrong = |why: &str| {
            Complaint::at(typed.span.clone(), "`smtp` is no usable URL", why)
                .help("smtps://user:${SMTP_PASSWORD}@mail.example:465, or smtp:// for STARTTLS")
        };
        let url = match Url::parse(&text) {
            Ok(url) if url.host_str().is_none_or(str::is_empty) => {
                self.out.error(wrong("names no host"));
                return None;
            }
            Ok(url) => url,
            Err(error) => {
                self.out.error(wrong(&error.to_string()));
                return None;
            }
        };
        let is_off = self.tls_is_off();
        let tls = match (url.scheme(), is_off) {
            ("smtps", false) => SmtpTls::Implicit,
            ("smtp", false) => SmtpTls::Required,
            ("smtp", true) => SmtpTls::Off,
            ("smtps", true) => {
                self.out.error(wrong(
                    "`tls` is \"off\", and smtps:// is TLS from the first byte on",
                ));
                return None;
            }
            (scheme, _) => {
                self.out
                    .error(wrong(&format!("{scheme}:// is not supported")));
                return None;
            }
        };
        if tls == SmtpTls::Off && !is_loopback(&url) {
            self.out.warning(Complaint::at(
                typed.span.clone(),
                "mail is sent without TLS",
                "everybody on the way can read it, and the password",
            ));
        }
        // As it is, and as the ways to log in put it, which a server may repeat.
        let mut copy = url.clone();
        if take_credentials(&mut copy, &mut self.secrets).is_some() {
            let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let user = decoded(url.username());
            let password = decoded(url.password().unwrap_or_default());
            let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
            let forms = [encode(&password), encode(&format!("\0{user}\0{password}"))];
            self.secrets.extend(forms.map(Secret::new));
        }
        Some((Secret::new(text), tls))
    }

    fn tls_is_off(&mut self) -> bool {
        let Some(typed) = self.raw.texts.get("tls") else {
            return false;
        };
        if !matches!(typed.value.as_str(), "off" | "required") {
            self.out.error(
                Complaint::at(typed.span.clone(), "`tls` cannot be used", "unknown value")
                    .help("possible: required, off"),
            );
        }
        typed.value == "off"
    }

    fn mailbox(&mut self, typed: &Typed<String>) -> Option<String> {
        let text = self.text(typed)?;
        match text.parse::<Mailbox>() {
            Ok(_) => Some(text),
            Err(error) => {
                self.out.error(
                    Complaint::at(
                        typed.span.clone(),
                        "this is no mail address",
                        error.to_string(),
                    )
                    .help("\"oncall@example.com\" or \"On call <oncall@example.com>\""),
                );
                None
            }
        }
    }

    /// A list that has to be there, with something in it.
    fn list(&mut self, key: &str, example: &str) -> Option<Vec<Typed<String>>> {
        let Some(list) = self.raw.lists.get(key) else {
            if !self.raw.given.contains(key) {
                self.missing(key, example);
            }
            return None;
        };
        if list.value.is_empty() || list.value.len() > MAX_RECEIVERS {
            self.out.error(Complaint::at(
                list.span.clone(),
                format!("`{key}` has to name 1 to {MAX_RECEIVERS}"),
                format!("names {}", list.value.len()),
            ));
            return None;
        }
        Some(list.value.clone())
    }

    fn webhook(&mut self) -> Option<WebhookSettings> {
        let typed = self.required("url", "url = \"https://hooks.example/mcp\"");
        let url = typed.and_then(|typed| {
            let text = self.text(&typed)?;
            let mut url = check_url(&text, &typed.span, "url", self.out)?;
            self.warn_of_http(&url, &typed, true);
            self.hide(&url);
            let credentials = take_credentials(&mut url, &mut self.secrets);
            Some((url, credentials))
        });
        let secret = self.signing_secret();
        let mut headers = Vec::new();
        for pair in self.raw.tables.get("headers").into_iter().flatten() {
            let header = check_header(pair, &mut self.secrets, self.sources, self.out);
            let Some(header) = header else { continue };
            let value = header.value.to_str().unwrap_or_default().to_owned();
            if header.name.as_str().starts_with("webhook-") {
                self.out.error(Complaint::at(
                    pair.0.span.clone(),
                    "this header is ours",
                    "webhook-id, webhook-timestamp and webhook-signature are made for each notice",
                ));
            }
            headers.push((header.name.as_str().to_owned(), Secret::new(value)));
        }
        let format = self.format();
        let (url, credentials) = url?;
        if let Some(value) = credentials {
            let value = value.to_str().unwrap_or_default().to_owned();
            headers.push(("authorization".to_owned(), Secret::new(value)));
        }
        Some(WebhookSettings {
            url: Secret::new(url.as_str()),
            secret,
            headers,
            format,
        })
    }

    fn signing_secret(&mut self) -> Option<Secret> {
        let Some(typed) = self.raw.texts.get("secret") else {
            if !self.raw.given.contains("secret") {
                self.out.warning(
                    Complaint::at(
                        self.raw.span.clone(),
                        "a webhook without `secret`",
                        "its receiver cannot tell that a notice is ours",
                    )
                    .help("secret = \"${HOOK_SECRET}\""),
                );
            }
            return None;
        };
        let secret = self.secret(typed)?;
        if let Some(encoded) = secret.expose().strip_prefix("whsec_") {
            let bytes = base64::engine::general_purpose::STANDARD.decode(encoded);
            if !bytes.is_ok_and(|bytes| WHSEC_BYTES.contains(&bytes.len())) {
                self.out.error(Complaint::at(
                    typed.span.clone(),
                    "`secret` cannot be used",
                    "after whsec_ it has to be the base64 of 24 to 64 bytes",
                ));
            }
        }
        Some(secret)
    }

    fn format(&mut self) -> WebhookFormat {
        let format = self.raw.texts.get("format");
        let template = self.raw.texts.get("template");
        if let (Some(format), Some(_)) = (format, template) {
            self.out.error(Complaint::at(
                format.span.clone(),
                "a webhook has a `format` or a `template`, not both",
                "remove one of them",
            ));
        }
        if let Some(template) = template {
            self.check_template(template);
            return WebhookFormat::Template(template.value.clone());
        }
        match format.map(|format| (format.value.as_str(), &format.span)) {
            None | Some(("plain", _)) => WebhookFormat::Plain,
            Some(("cloudevents", _)) => WebhookFormat::CloudEvents,
            Some((word, span)) => {
                let known = ["plain", "cloudevents"];
                let label = match nearest(word, &known) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "unknown value".to_owned(),
                };
                self.out.error(
                    Complaint::at(span.clone(), "`format` cannot be used", label)
                        .help(format!("possible: {}", known.join(", "))),
                );
                WebhookFormat::Plain
            }
        }
    }

    fn check_template(&mut self, typed: &Typed<String>) {
        let mut rest = typed.value.as_str();
        while let Some((_, after)) = rest.split_once("{{") {
            let Some((key, after)) = after.split_once("}}") else {
                self.out.error(Complaint::at(
                    typed.span.clone(),
                    "`template` cannot be used",
                    "`{{` without `}}`",
                ));
                return;
            };
            let key = key.trim();
            if !WebhookFormat::KEYS.contains(&key) {
                let label = match nearest(key, &WebhookFormat::KEYS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "unknown key".to_owned(),
                };
                self.out.error(
                    Complaint::at(
                        typed.span.clone(),
                        format!("there is no `{}` for a template", key.escape_debug()),
                        label,
                    )
                    .help(format!("possible: {}", WebhookFormat::KEYS.join(", "))),
                );
            }
            rest = after;
        }
    }

    fn telegram(&mut self) -> Option<ChannelKind> {
        let url = self.server("https://api.telegram.org");
        let token = self
            .required("token", "token = \"${TELEGRAM_TOKEN}\"")
            .and_then(|typed| self.secret(&typed));
        let chat = self
            .required("chat", "chat = \"-1001234567890\"")
            .and_then(|typed| self.text(&typed));
        Some(ChannelKind::Telegram {
            url: url?,
            token: token?,
            chat: chat?,
        })
    }

    fn ntfy(&mut self) -> Option<ChannelKind> {
        let url = self.server("https://ntfy.sh");
        // Who knows it can read along.
        let topic = self
            .required("topic", "topic = \"${NTFY_TOPIC}\"")
            .and_then(|typed| self.secret(&typed));
        let token = self.raw.texts.get("token").cloned();
        let token = token.and_then(|typed| self.secret(&typed));
        Some(ChannelKind::Ntfy {
            url: url?,
            topic: topic?.expose().to_owned(),
            token,
        })
    }

    fn pagerduty(&mut self) -> Option<ChannelKind> {
        let url = self.server("https://events.pagerduty.com");
        let routing_key = self
            .required("routing_key", "routing_key = \"${PAGERDUTY_KEY}\"")
            .and_then(|typed| self.secret(&typed));
        Some(ChannelKind::Pagerduty {
            url: url?,
            routing_key: routing_key?,
        })
    }

    fn alertmanager(&mut self) -> Option<AlertmanagerSettings> {
        let resend = self.duration("resend", RESENDS, Duration::from_secs(60));
        let authorization = self.raw.texts.get("authorization").cloned();
        let mut authorization = authorization.and_then(|typed| self.secret(&typed));
        let list = self.list("urls", "urls = [\"http://alertmanager.example:9093\"]");
        let mut urls = Vec::new();
        for typed in list.iter().flatten() {
            let Some(text) = self.text(typed) else {
                continue;
            };
            let Some(mut url) = check_url(&text, &typed.span, "urls", self.out) else {
                continue;
            };
            self.warn_of_http(&url, typed, false);
            if let Some(value) = take_credentials(&mut url, &mut self.secrets) {
                let value = value.to_str().unwrap_or_default().to_owned();
                authorization.get_or_insert(Secret::new(value));
            }
            urls.push(url.as_str().trim_end_matches('/').to_owned());
        }
        let mut labels = BTreeMap::new();
        for (name, value) in self.raw.tables.get("labels").into_iter().flatten() {
            let mut first = name.value.chars();
            let is_label = first
                .next()
                .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                && first.all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_label {
                self.out.error(Complaint::at(
                    name.span.clone(),
                    "this is no name for a label",
                    "letters, digits and _, not a digit first",
                ));
            } else if ["alertname", "server", "severity", "kind"].contains(&name.value.as_str()) {
                self.out.error(Complaint::at(
                    name.span.clone(),
                    "this label is ours",
                    "alertname, server, severity and kind are set for each alert",
                ));
            } else if let Some(text) = self.out.substitute(value, self.sources) {
                labels.insert(name.value.clone(), text.value);
            }
        }
        list.filter(|list| list.len() == urls.len())?;
        Some(AlertmanagerSettings {
            urls,
            resend,
            authorization,
            labels,
        })
    }

    fn exec(&mut self) -> Option<ChannelKind> {
        let list = self.list("command", "command = [\"/usr/local/bin/notify\"]");
        let mut command = Vec::new();
        for typed in list.iter().flatten() {
            let Some(text) = self.out.substitute(typed, self.sources) else {
                continue;
            };
            self.secrets.extend(text.secrets);
            self.no_nul(&text.value, typed);
            command.push(text.value);
        }
        if let (Some(program), Some(typed)) = (command.first(), list.iter().flatten().next())
            && program.is_empty()
        {
            self.out.error(Complaint::at(
                typed.span.clone(),
                "`command` names no program",
                "it is empty",
            ));
        }
        let cwd = match self.raw.texts.get("cwd") {
            Some(cwd) => self.text(cwd).map(|cwd| self.sources.folder.join(cwd)),
            None => Some(self.sources.folder.to_owned()),
        };
        let mut env = BTreeMap::new();
        for (name, value) in self.raw.tables.get("env").into_iter().flatten() {
            if name.value.is_empty() || name.value.contains(['=', '\0']) {
                self.out.error(Complaint::at(
                    name.span.clone(),
                    "a name in `env` cannot be used",
                    "it is empty, or holds `=` or a NUL",
                ));
            }
            let Some(text) = self.out.substitute(value, self.sources) else {
                continue;
            };
            self.no_nul(&text.value, value);
            let secret = Secret::new(text.value);
            self.secrets.extend(text.secrets);
            if secret.expose().len() >= SECRET_PART {
                self.secrets.push(secret.clone());
            }
            env.insert(name.value.clone(), secret);
        }
        list.filter(|list| list.len() == command.len())?;
        Some(ChannelKind::Exec {
            command,
            cwd: cwd?,
            env,
        })
    }

    /// No program can be given a NUL.
    fn no_nul(&mut self, value: &str, typed: &Typed<String>) {
        if value.contains('\0') {
            self.out.error(Complaint::at(
                typed.span.clone(),
                "this cannot be given to a program",
                "it holds a NUL",
            ));
        }
    }
}

/// `30 per minute`, `1 per second`, `5 per 2s`.
fn frequency(text: &str) -> Option<Frequency> {
    let (count, within) = text.split_once(" per ")?;
    let count = count.trim().parse().ok()?;
    let within = match within.trim() {
        "second" => Duration::from_secs(1),
        "minute" => Duration::from_secs(60),
        "hour" => Duration::from_secs(3600),
        "day" => Duration::from_secs(24 * 3600),
        other => humantime::parse_duration(other).ok()?,
    };
    (RATES.contains(&count) && RATE_TIMES.contains(&within)).then_some(Frequency { count, within })
}

/// Whether it is this very machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        // The host of `smtp://` is no domain to the parser, but a name all the same.
        Some(Host::Domain(name)) => {
            name == "localhost"
                || name.ends_with(".localhost")
                || name
                    .trim_matches(['[', ']'])
                    .parse::<IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}
