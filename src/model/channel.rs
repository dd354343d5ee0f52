//! Where notices go (`[[channel]]`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Frequency, Pem, Secret};

/// One channel: what all kinds share, and its own.
#[derive(Clone, Debug)]
pub struct ChannelSettings {
    /// Unique name.
    pub name: String,
    /// What kind, with its own keys.
    pub kind: ChannelKind,
    /// Incidents of one cause that open within it are one message; zero: never.
    pub group: Duration,
    /// Before the first repetition; doubles with jitter up to `retry_max`.
    pub retry_first: Duration,
    /// The longest between two attempts.
    pub retry_max: Duration,
    /// After this long a notice goes to `fallback`.
    pub give_up_after: Duration,
    /// Never more messages than this within the time, however it is laid.
    pub rate_limit: Option<Frequency>,
    /// Name of the channel that gets what this one cannot deliver.
    pub fallback: Option<String>,
    /// For one attempt.
    pub timeout: Duration,
    /// Values that must not be shown, even when a server repeats them, in every form of theirs.
    pub secrets: Vec<Secret>,
}

/// The kinds of channels.
#[derive(Clone, Debug)]
pub enum ChannelKind {
    /// SMTP.
    Email(EmailSettings),
    /// A POST as `design.md` has it.
    Webhook(WebhookSettings),
    /// Slack's incoming webhook.
    Slack {
        /// The hook.
        url: Secret,
    },
    /// Microsoft Teams by a workflow.
    Teams {
        /// The workflow's trigger.
        url: Secret,
    },
    /// Discord's webhook.
    Discord {
        /// The hook.
        url: Secret,
    },
    /// Telegram's bot API.
    Telegram {
        /// `https://api.telegram.org`, or a local server of the bot API.
        url: String,
        /// The bot's token.
        token: Secret,
        /// The chat.
        chat: String,
    },
    /// ntfy.
    Ntfy {
        /// The server.
        url: String,
        /// The topic.
        topic: String,
        /// An access token.
        token: Option<Secret>,
    },
    /// PagerDuty's Events API v2.
    Pagerduty {
        /// `https://events.pagerduty.com`, or another region's.
        url: String,
        /// The integration's key.
        routing_key: Secret,
    },
    /// Prometheus Alertmanager, API v2.
    Alertmanager(AlertmanagerSettings),
    /// A program that gets the notice as JSON on stdin.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
        /// Where it runs.
        cwd: PathBuf,
        /// What its environment has besides the minimal one.
        env: BTreeMap<String, Secret>,
    },
}

impl ChannelKind {
    /// The word used everywhere.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::Webhook(_) => "webhook",
            Self::Slack { .. } => "slack",
            Self::Teams { .. } => "teams",
            Self::Discord { .. } => "discord",
            Self::Telegram { .. } => "telegram",
            Self::Ntfy { .. } => "ntfy",
            Self::Pagerduty { .. } => "pagerduty",
            Self::Alertmanager(_) => "alertmanager",
            Self::Exec { .. } => "exec",
        }
    }
}

/// `type = "email"`.
#[derive(Clone, Debug)]
pub struct EmailSettings {
    /// `smtp://` (STARTTLS unless `tls` says otherwise) or `smtps://`, with user and password.
    pub smtp: Secret,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// The only authorities trusted (`ca_file`); the platform's roots count when absent.
    pub authorities: Option<Pem>,
    /// Sender.
    pub from: String,
    /// Receivers.
    pub to: Vec<String>,
}

/// `tls` of a mail channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// From the first byte on (`smtps://`).
    Implicit,
    /// By STARTTLS, and nothing is sent without (`smtp://`).
    Required,
    /// Not at all (`tls = "off"`).
    Off,
}

/// `type = "alertmanager"`.
#[derive(Clone, Debug)]
pub struct AlertmanagerSettings {
    /// Every instance of a cluster, without user and password: each gets every alert.
    pub urls: Vec<String>,
    /// Between two sendings while an alert fires.
    pub resend: Duration,
    /// Basic authentication or a token, as a whole `Authorization` value.
    pub authorization: Option<Secret>,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
}

/// `type = "webhook"`.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Where to.
    pub url: Secret,
    /// Signs as Standard Webhooks do.
    pub secret: Option<Secret>,
    /// Further headers.
    pub headers: Vec<(String, Secret)>,
    /// What the body looks like.
    pub format: WebhookFormat,
}

/// `format` of a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// As `design.md` has it.
    Plain,
    /// A CloudEvent in structured mode with that as its data.
    CloudEvents,
    /// `template`: text in which `{{ key }}` stands for a value of that.
    Template(String),
}

impl WebhookFormat {
    /// The keys of a webhook's body, in its order: those that a template can name.
    pub const KEYS: [&str; 18] = [
        "schema",
        "event",
        "incident",
        "sequence",
        "server",
        "tags",
        "severity",
        "state",
        "failed_layer",
        "reason",
        "message",
        "first_failed_at",
        "sent_at",
        "resolved_at",
        "verdict",
        "provisional",
        "trace_id",
        "links",
    ];
}
