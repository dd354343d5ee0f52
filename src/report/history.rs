//! What a server was like over a time.

use serde_json::{Value, json};

use super::json::SCHEMA;
use super::table::{Look, dash, draw, short};
use super::{millis, rfc3339, shown_time};
use crate::model::{History, Layer, LayerLatency, escaped};

/// The tables of `history`.
pub fn table(name: &str, history: &History, look: Look) -> String {
    let judged = history.up + history.degraded + history.failed;
    let available = history
        .availability()
        .map_or_else(dash, |share| format!("{} %", percent(share)));
    let mut text = format!(
        "{}  {} to {}\n{available} available: {} of {judged} probes worked, {} of them degraded; {} could not judge\n",
        escaped(name),
        shown_time(history.since),
        shown_time(history.until),
        history.up + history.degraded,
        history.degraded,
        history.unknown,
    );
    if !history.reasons.is_empty() {
        let mut rows = vec![["LAYER", "COUNT", "REASON"].map(str::to_owned)];
        rows.extend(history.reasons.iter().map(|counted| {
            [
                counted
                    .layer
                    .map_or_else(dash, |layer| layer.as_str().to_owned()),
                counted.count.to_string(),
                counted
                    .reason
                    .map_or_else(dash, |reason| reason.to_string()),
            ]
        }));
        text.push_str(&format!("\n{}\n", draw(rows, &[], look)));
    }
    if !history.latency.is_empty() {
        let mut rows = vec![["LAYER", "PASSED", "P50", "P90", "P99"].map(str::to_owned)];
        rows.extend(history.latency.iter().map(|latency| {
            [
                latency.layer.as_str().to_owned(),
                latency.count.to_string(),
                short(latency.p50),
                short(latency.p90),
                short(latency.p99),
            ]
        }));
        text.push_str(&format!("\n{}\n", draw(rows, &[], look)));
    }
    text
}

/// With as many digits as tell an outage from none, and never rounded up to 100.
fn percent(share: f64) -> String {
    let percent = (share * 1e5).floor() / 1e3;
    let text = format!("{percent:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The document of `history --format json`.
pub fn json(name: &str, history: &History) -> Value {
    let latency = |of: &LayerLatency| {
        json!({
            "layer": of.layer,
            "count": of.count,
            "p50_ms": millis(of.p50),
            "p90_ms": millis(of.p90),
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
        "latency": history.latency.iter().map(latency).collect::<Vec<_>>(),
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
