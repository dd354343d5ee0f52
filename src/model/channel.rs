//! Where notices go (`[[channel]]`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Frequency, Secret};

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
    /// Messages within a time.
    pub rate_limit: Option<Frequency>,
    /// Name of the channel that gets what this one cannot deliver.
    pub fallback: Option<String>,
    /// For one attempt.
    pub timeout: Duration,
    /// Values that must not be shown, even when a server repeats them.
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
    Alertmanager {
        /// Every instance of a cluster: each gets every alert.
        urls: Vec<String>,
        /// Between two sendings while an alert fires.
        resend: Duration,
        /// Basic authentication or a token, as a whole `Authorization` value.
        authorization: Option<Secret>,
        /// Further labels.
        labels: BTreeMap<String, String>,
    },
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
            Self::Alertmanager { .. } => "alertmanager",
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
    /// A certificate authority besides the platform's.
    pub ca_file: Option<PathBuf>,
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
