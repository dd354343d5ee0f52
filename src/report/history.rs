//! What a server was like over a time.

use serde_json::{Value, json};

use super::json::SCHEMA;
use super::table::{Look, dash, draw, short};
use super::{millis, rfc3339, shown_time};
use crate::model::{Layer, escaped};
use crate::store::{History, Percentiles};

/// The tables of `history`.
pub fn table(name: &str, history: &History, look: Look) -> String {
    let available = history
        .availability()
        .map_or_else(dash, |share| format!("{} %", percent(share)));
    let mut text = format!(
        "{}  {} to {}\n{available} available: {} of {} probes worked, {} of these degraded; {} could not judge\n",
        escaped(name),
        shown_time(history.since),
        shown_time(history.until),
        history.up + history.degraded,
        history.probes(),
        history.degraded,
        history.unknown,
    );
    if !history.reasons.is_empty() {
        let mut rows = vec![["LAYER", "COUNT", "REASON"].map(str::to_owned)];
        rows.extend(history.reasons.iter().map(|counted| {
            let layer = counted.layer.map(|layer| layer.as_str().to_owned());
            [
                layer.unwrap_or_else(dash),
                counted.count.to_string(),
                counted.reason.to_string(),
            ]
        }));
        text.push_str(&format!("\n{}\n", draw(rows, &[], look)));
    }
    let passed: Vec<_> = passed(history).collect();
    if !passed.is_empty() {
        let mut rows = vec![["LAYER", "P50", "P95", "P99"].map(str::to_owned)];
        rows.extend(passed.iter().map(|(layer, latency)| {
            [
                layer.as_str().to_owned(),
                short(latency.p50),
                short(latency.p95),
                short(latency.p99),
            ]
        }));
        text.push_str(&format!("\n{}\n", draw(rows, &[], look)));
    }
    if history.summed_up {
        text.push_str(
            "\nOf a part of this time only the sums of hours or days are left: percentiles are within 6 %.\n",
        );
    }
    text
}

/// The layers that were passed, with how long that took.
fn passed(history: &History) -> impl Iterator<Item = (Layer, Percentiles)> + '_ {
    let latency = Layer::ALL.into_iter().zip(history.latency);
    latency.filter_map(|(layer, latency)| Some((layer, latency?)))
}

/// With as many digits as tell an outage from none, and never rounded up to 100.
fn percent(share: f64) -> String {
    let percent = (share * 1e5).floor() / 1e3;
    let text = format!("{percent:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The document of `history --format json`.
pub fn json(name: &str, history: &History) -> Value {
    let latency = |(layer, of): (Layer, Percentiles)| {
        json!({
            "layer": layer,
            "p50_ms": millis(of.p50),
            "p95_ms": millis(of.p95),
            "p99_ms": millis(of.p99),
        })
    };
    // Each layer has its count, also when nothing failed there.
    let failed_at = |layer: Layer| {
        let of_layer = history.reasons.iter().filter(|r| r.layer == Some(layer));
        let count: u64 = of_layer.map(|reason| reason.count).sum();
        (layer.as_str().to_owned(), json!(count))
    };
    let layers: serde_json::Map<_, _> = Layer::ALL.into_iter().map(failed_at).collect();
    let reasons = history.reasons.iter().map(
        |counted| json!({ "layer": counted.layer, "reason": counted.reason, "count": counted.count }),
    );
    json!({
        "schema": SCHEMA,
        "server": name,
        "since": rfc3339(history.since),
        "until": rfc3339(history.until),
        "availability": history.availability(),
        "probes": {
            "up": history.up,
            "degraded": history.degraded,
            "failed": history.failed,
            "unknown": history.unknown,
        },
        "layers": layers,
        "reasons": reasons.collect::<Vec<_>>(),
        "latency": passed(history).map(latency).collect::<Vec<_>>(),
        "summed_up": history.summed_up,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_below_one_is_never_a_hundred_percent() {
        assert_eq!(percent(1.0), "100");
        assert_eq!(percent(0.999_999_9), "99.999");
        assert_eq!(percent(0.5), "50");
        assert_eq!(percent(0.0), "0");
    }
}
