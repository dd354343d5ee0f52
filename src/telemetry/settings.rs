//! What the environment and the configuration say about the export of spans. `OTEL_*` wins, those
//! variables too that the Rust SDK does not read.

use std::time::Duration;

use super::receiver::{Receiver, Variables};
use super::spans::AttributeLimits;
use crate::model::ReceiverSettings;

/// How spans are exported.
#[derive(Clone, Debug)]
pub struct ExportSettings {
    pub(super) receiver: Option<Receiver>,
    pub(super) queue: usize,
    pub(super) batch: usize,
    pub(super) delay: Duration,
    /// For one request.
    pub(super) timeout: Duration,
    pub(super) limits: AttributeLimits,
    pub(super) sampled: f64,
    pub(super) service_named: bool,
    /// What the user asked for and does not get.
    pub warnings: Vec<String>,
}

/// Spans waiting for export. Larger than the SDK's 2,048: at 2,000 probes a second that would be a fifth
/// of a second. A full queue drops the newest, counted.
const QUEUE: usize = 65_536;

/// Spans of one request; the specification's default.
const BATCH: usize = 512;

/// How long a span waits for others. The specification's default is 5 s; a verdict that is asked for
/// 20 s after a failure is better off with less.
const DELAY: Duration = Duration::from_secs(1);

/// For one request; the specification's default.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

impl ExportSettings {
    /// Reads the environment through `env`; `configured` is `[telemetry]`.
    pub fn read(configured: &ReceiverSettings, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| {
            env(name)
                .map(|v| v.trim().to_owned())
                .filter(|v| !v.is_empty())
        };
        let mut warnings = Vec::new();
        let receiver = Receiver::read(configured, &set, &mut warnings);
        let mut number = |name: &str, default: usize| match set(name).map(|v| v.parse::<usize>()) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(_)) => {
                warnings.push(format!("{name} is no number and is not used"));
                default
            }
        };
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE).max(1);
        let batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH).clamp(1, queue);
        let delay = number("OTEL_BSP_SCHEDULE_DELAY", as_millis(DELAY));
        let timeout = number("OTEL_EXPORTER_OTLP_TIMEOUT", as_millis(EXPORT_TIMEOUT));
        let timeout = number("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", timeout);
        let count = number("OTEL_ATTRIBUTE_COUNT_LIMIT", 128);
        let count = number("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", count);
        let length = number("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", usize::MAX);
        let length = number("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", length);
        let sampled = sampled(&set, &mut warnings);
        let service_named = set("OTEL_SERVICE_NAME").is_some()
            || set("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|a| a.contains("service.name="));
        Self {
            receiver,
            queue,
            batch,
            delay: from_millis(delay),
            timeout: from_millis(timeout),
            limits: AttributeLimits {
                count,
                value_length: length,
            },
            sampled,
            service_named,
            warnings,
        }
    }
}

impl ExportSettings {
    /// What our spans say of us.
    pub fn resource(&self) -> Vec<(String, String)> {
        let resource = super::exporter::resource(self);
        let pairs = resource.iter();
        pairs
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect()
    }
}

fn from_millis(millis: usize) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

fn as_millis(duration: Duration) -> usize {
    usize::try_from(duration.as_millis()).unwrap_or(usize::MAX)
}

/// The share of probes whose spans are exported. Our spans are roots, so the parent-based samplers are
/// what they are based on. What goes over the wire to a server is always sampled.
fn sampled(set: Variables<'_>, warnings: &mut Vec<String>) -> f64 {
    let Some(sampler) = set("OTEL_TRACES_SAMPLER") else {
        return 1.0;
    };
    match sampler.trim_start_matches("parentbased_") {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => match set("OTEL_TRACES_SAMPLER_ARG").map(|arg| arg.parse::<f64>()) {
            None => 1.0,
            Some(Ok(share)) if (0.0..=1.0).contains(&share) => share,
            Some(_) => {
                warnings.push(
                    "OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1 and is not used".to_owned(),
                );
                1.0
            }
        },
        _ => {
            warnings.push(format!(
                "OTEL_TRACES_SAMPLER={sampler} is not supported: every span is exported"
            ));
            1.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> ExportSettings {
        ExportSettings::read(&ReceiverSettings::default(), &|name| {
            vars.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn numbers_of_the_environment_are_honoured_and_others_told() {
        let cut = read(&[("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "5")]);
        assert_eq!(cut.limits.value_length, 5);
        assert!(cut.warnings.is_empty());
        for vars in [
            [("OTEL_BSP_SCHEDULE_DELAY", "soon")],
            [("OTEL_TRACES_SAMPLER", "sometimes")],
        ] {
            assert_eq!(read(&vars).warnings.len(), 1, "{vars:?}");
        }
    }
}
