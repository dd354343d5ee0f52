//! `expect`: what a target has to keep to besides passing its layers.

use std::time::Duration;

use super::Layer;

/// One thing that can be expected: a key of `expect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// The server asks for a credential.
    AuthChallenge,
    /// These tools are listed.
    Tools,
    /// At least so many tools are listed.
    MinTools,
    /// The whole probe takes at most so long.
    MaxLatency,
    /// The layer takes at most so long.
    MaxLayer(Layer),
    /// The certificate is good for at least so many days.
    CertificateDays,
}

impl Expectation {
    /// Every expectation there is, in the order in which they are looked at.
    pub const ALL: [Self; 9] = [
        Self::AuthChallenge,
        Self::Tools,
        Self::MinTools,
        Self::MaxLatency,
        Self::MaxLayer(Layer::Transport),
        Self::MaxLayer(Layer::Http),
        Self::MaxLayer(Layer::Initialize),
        Self::MaxLayer(Layer::ToolsList),
        Self::CertificateDays,
    ];

    /// The key, as it stands in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthChallenge => "auth_challenge",
            Self::Tools => "tools",
            Self::MinTools => "min_tools",
            Self::MaxLatency => "max_latency",
            Self::MaxLayer(Layer::Transport) => "max_transport",
            Self::MaxLayer(Layer::Http) => "max_http",
            Self::MaxLayer(Layer::Initialize) => "max_initialize",
            Self::MaxLayer(Layer::ToolsList) => "max_tools_list",
            Self::CertificateDays => "certificate_days",
        }
    }

    /// The layer that a probe has to reach for this to be seen.
    pub fn needs(self) -> Layer {
        match self {
            Self::AuthChallenge => Layer::Http,
            Self::Tools | Self::MinTools => Layer::ToolsList,
            Self::MaxLayer(layer) => layer,
            Self::MaxLatency | Self::CertificateDays => Layer::Transport,
        }
    }
}

/// What is expected; a key that was not given expects nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// The server asks for a credential, and gives no session without one.
    pub auth_challenge: Option<bool>,
    /// Names that have to be in the tool list.
    pub tools: Option<Vec<String>>,
    /// Least number of tools.
    pub min_tools: Option<u32>,
    /// Most time for the whole probe, finding the era included.
    pub max_latency: Option<Duration>,
    /// Most time for each layer, in the order of [`Layer::ALL`].
    pub max_layers: [Option<Duration>; 4],
    /// Least number of days (24 hours) to the end of the certificate.
    pub certificate_days: Option<u32>,
    /// Those that make a target `down`, not `degraded`, when they do not hold.
    pub down: Option<Vec<Expectation>>,
}

impl Expect {
    /// Key by key: this one's, or else the other's.
    pub fn or(&self, other: &Self) -> Self {
        let mut max_layers = self.max_layers;
        for (own, other) in max_layers.iter_mut().zip(other.max_layers) {
            *own = own.or(other);
        }
        Self {
            auth_challenge: self.auth_challenge.or(other.auth_challenge),
            tools: self.tools.as_ref().or(other.tools.as_ref()).cloned(),
            min_tools: self.min_tools.or(other.min_tools),
            max_latency: self.max_latency.or(other.max_latency),
            max_layers,
            certificate_days: self.certificate_days.or(other.certificate_days),
            down: self.down.as_ref().or(other.down.as_ref()).cloned(),
        }
    }

    /// Most time for `layer`.
    pub fn max_layer(&mut self, layer: Layer) -> &mut Option<Duration> {
        let [transport, http, initialize, tools_list] = &mut self.max_layers;
        match layer {
            Layer::Transport => transport,
            Layer::Http => http,
            Layer::Initialize => initialize,
            Layer::ToolsList => tools_list,
        }
    }

    /// Whether it is an outage when `expectation` does not hold.
    pub fn is_outage(&self, expectation: Expectation) -> bool {
        // A guarded server that lets everybody in has no lesser degree.
        expectation == Expectation::AuthChallenge
            || self
                .down
                .as_ref()
                .is_some_and(|down| down.contains(&expectation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_says_something_counts_key_by_key() {
        let own = Expect {
            min_tools: Some(3),
            tools: Some(Vec::new()),
            max_layers: [None, Some(Duration::from_secs(1)), None, None],
            ..Expect::default()
        };
        let other = Expect {
            min_tools: Some(5),
            tools: Some(vec!["a".to_owned()]),
            max_layers: [Some(Duration::from_secs(2)); 4],
            certificate_days: Some(14),
            ..Expect::default()
        };
        let both = own.or(&other);
        assert_eq!(both.min_tools, Some(3));
        assert_eq!(
            both.tools,
            Some(Vec::new()),
            "an empty list expects no tools"
        );
        let seconds = both.max_layers.map(|max| max.map(|max| max.as_secs()));
        assert_eq!(seconds, [Some(2), Some(1), Some(2), Some(2)]);
        assert_eq!(both.certificate_days, Some(14));
    }

    #[test]
    fn every_expectation_is_explained() {
        let explained = include_str!("../../probes/README.md");
        for expectation in Expectation::ALL {
            let key = format!("| `{}` |", expectation.as_str());
            assert!(explained.contains(&key), "{key}");
        }
    }
}
