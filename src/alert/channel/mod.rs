//! The channels, one file for each kind: what a message looks like there, and what its receiver's answer means.

pub mod alertmanager;
mod discord;
mod email;
mod exec;
mod hook;
mod ntfy;
mod pagerduty;
mod slack;
mod teams;
mod telegram;
pub mod webhook;

use std::time::{Duration, SystemTime};

use super::message::Message;
use crate::model::{ChannelKind, ChannelSettings, Notice, Secret, Text};

pub use hook::http_client;

/// Characters of a receiver's words in a message, which has to have room for a status and a host.
const MAX_QUOTED: usize = 200;

/// Why an attempt did not deliver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// In a sentence, without secrets.
    pub why: Text,
    /// What the receiver said, whole: it may repeat our secrets, and one that is cut cannot be found any more.
    /// [`Channel::deliver`] puts it into `why`.
    pub(super) said: Option<Secret>,
    /// The receiver asked us to wait that long.
    pub retry_after: Option<Duration>,
    /// That was about everything we send there, not about this message.
    pub whole_channel: bool,
    /// It will be the same until somebody mends it.
    pub is_lasting: bool,
}

impl Failure {
    /// A failure that may pass by itself.
    pub fn new(why: impl Into<Text>) -> Self {
        Self {
            why: why.into(),
            ..Self::default()
        }
    }

    /// The same with the words of the receiver.
    fn said(self, words: impl Into<String>) -> Self {
        Self {
            said: Some(Secret::new(words)),
            ..self
        }
    }

    /// Whole, and without secrets.
    fn told<'s>(self, secrets: impl Iterator<Item = &'s str> + Clone) -> Self {
        // Nothing of ours is cut: without the blank a host at its end would pass for the start of a secret URL.
        let why = Text::mask(&format!("{} ", self.why), secrets.clone());
        let mut why = why.trim_end().to_owned();
        if let Some(said) = &self.said {
            let said = Text::mask(said.expose(), secrets);
            if !said.trim().is_empty() {
                why.push_str(": ");
                why.push_str(&cut(said.trim(), MAX_QUOTED));
            }
        }
        Self {
            why: Text::new(why),
            said: None,
            ..self
        }
    }

    /// One that somebody has to mend.
    pub fn lasting(why: impl Into<Text>) -> Self {
        Self {
            is_lasting: true,
            ..Self::new(why)
        }
    }
}

/// A channel that can be sent to.
pub struct Channel {
    settings: ChannelSettings,
    http: reqwest::Client,
}

impl Channel {
    /// A channel with these settings. `http` is shared by all ([`http_client`]).
    pub fn new(settings: ChannelSettings, http: reqwest::Client) -> Self {
        Self { settings, http }
    }

    /// Whether the configuration says the same of both. `Debug` shows everything but secrets.
    pub fn is_same(&self, other: &Self) -> bool {
        let (one, other) = (&self.settings, &other.settings);
        one.secrets == other.secrets && format!("{one:?}") == format!("{other:?}")
    }

    /// What the configuration says of it.
    pub fn settings(&self) -> &ChannelSettings {
        &self.settings
    }

    /// One attempt, within the channel's timeout. `stale` are notices of the same incidents that an Alertmanager has
    /// under another set of labels.
    ///
    /// # Errors
    /// When the receiver has not said that it has the message.
    pub async fn deliver(&self, message: &Message, stale: &[Notice]) -> Result<(), Failure> {
        let now = SystemTime::now();
        let sent = async {
            match &self.settings.kind {
                ChannelKind::Email(email) => email::send(email, message).await,
                ChannelKind::Webhook(webhook) => {
                    webhook::send(webhook, &self.http, message, now).await
                }
                ChannelKind::Slack { url } => slack::send(url, &self.http, message).await,
                ChannelKind::Teams { url } => teams::send(url, &self.http, message).await,
                ChannelKind::Discord { url } => discord::send(url, &self.http, message).await,
                ChannelKind::Telegram { url, token, chat } => {
                    telegram::send(url, token, chat, &self.http, message).await
                }
                ChannelKind::Ntfy { url, topic, token } => {
                    ntfy::send(url, topic, token.as_ref(), &self.http, message).await
                }
                ChannelKind::Pagerduty { url, routing_key } => {
                    pagerduty::send(url, routing_key, &self.http, message).await
                }
                ChannelKind::Alertmanager(settings) => {
                    let alerts = alertmanager::alerts(settings, message.notices(), stale, now);
                    alertmanager::post(settings, &self.http, &alerts).await
                }
                ChannelKind::Exec { command, cwd, env } => {
                    exec::run(command, cwd, env, message).await
                }
            }
        };
        self.within_timeout(sent).await
    }

    /// Tells an Alertmanager again what still fires.
    ///
    /// # Errors
    /// When an instance has not taken it. Nothing is done about that: it is told again soon.
    pub async fn resend(&self, firing: &[Notice]) -> Result<(), Failure> {
        let ChannelKind::Alertmanager(settings) = &self.settings.kind else {
            return Ok(());
        };
        let alerts = alertmanager::alerts(settings, firing.iter(), &[], SystemTime::now());
        self.within_timeout(alertmanager::post(settings, &self.http, &alerts))
            .await
    }

    async fn within_timeout(
        &self,
        sent: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let timeout = self.settings.timeout;
        let result = match tokio::time::timeout(timeout, sent).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(format!(
                "no answer within {}",
                humantime::format_duration(timeout)
            ))),
        };
        result.map_err(|failure| failure.told(self.settings.secrets.iter().map(Secret::expose)))
    }
}

/// At most `most` characters; what is cut ends in `…`.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

/// `& < >` as entities, and quotes: HTML, and what Slack and Telegram make of it.
fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
