//! A JSON document, flattened: the same attribute is `{"http": {"route": ..}}` in one version of a backend and
//! `{"http.route": ..}` in the next.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Keys and values of one document. A deeper nesting than serde reads (128) cannot come here.
pub(super) struct Document(HashMap<String, String>);

impl Document {
    pub(super) fn of(value: &Value) -> Self {
        let mut all = HashMap::new();
        flatten(String::new(), value, &mut all);
        Self(all)
    }

    /// The first of `keys` that is there and is not empty.
    pub(super) fn any(&self, keys: &[&str]) -> Option<&str> {
        keys.iter()
            .filter_map(|key| self.0.get(*key))
            .map(String::as_str)
            .find(|value| !value.is_empty())
    }

    /// A whole number, also where it is written with a fraction.
    pub(super) fn number(&self, keys: &[&str]) -> Option<u64> {
        let text = self.any(keys)?;
        text.parse().ok().or_else(|| {
            let number: f64 = text.parse().ok()?;
            // Past 2^53 a float has no fraction, and no vendor's clock is past 2^64 nanoseconds.
            Duration::try_from_secs_f64(number)
                .ok()
                .map(|whole| whole.as_secs())
        })
    }

    /// RFC 3339, or milliseconds since 1970 with what is finer behind a point.
    pub(super) fn time(&self, keys: &[&str]) -> Option<SystemTime> {
        time(self.any(keys)?)
    }

    /// What stands below `prefix`, without it.
    pub(super) fn below<'d>(
        &'d self,
        prefix: &'d str,
    ) -> impl Iterator<Item = (&'d str, &'d str)> + 'd {
        self.0
            .iter()
            .filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }
}

/// RFC 3339, or milliseconds since 1970 with what is finer behind a point.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        let since = time.timestamp_nanos_opt()?;
        return Some(UNIX_EPOCH + Duration::from_nanos(since.try_into().ok()?));
    }
    let (millis, finer) = text.split_once('.').unwrap_or((text, ""));
    let finer = format!("{finer:0<6}");
    let nanos: u64 = finer.get(..6)?.parse().ok()?;
    let millis = Duration::from_millis(millis.parse().ok()?);
    Some(UNIX_EPOCH + millis + Duration::from_nanos(nanos))
}

fn flatten(key: String, value: &Value, all: &mut HashMap<String, String>) {
    match value {
        Value::Object(inner) => {
            for (part, value) in inner {
                let longer = match key.as_str() {
                    "" => part.clone(),
                    key => format!("{key}.{part}"),
                };
                flatten(longer, value, all);
            }
        }
        Value::Null => {}
        Value::String(text) => drop(all.insert(key, text.clone())),
        other => drop(all.insert(key, other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_backend_are_the_same() {
        let expected = UNIX_EPOCH + Duration::from_nanos(1_795_220_315_025_086_921);
        for text in [
            "2026-11-21T00:18:35.025086921Z",
            "2026-11-21T01:18:35.025086921+01:00",
            "1795220315025.086921",
        ] {
            assert_eq!(time(text), Some(expected), "{text}");
        }
        for text in ["", "soon", "-5", "1795220315025.x"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn nested_and_dotted_keys_are_the_same() {
        let nested = serde_json::json!({"http": {"route": "/a"}, "n": 5, "m": "7.9", "no": null});
        let document = Document::of(&nested);
        assert_eq!(document.any(&["no", "http.route"]), Some("/a"));
        assert_eq!(document.number(&["n"]), Some(5));
        assert_eq!(document.number(&["m"]), Some(7));
        assert_eq!(
            document.below("http.").collect::<Vec<_>>(),
            [("route", "/a")]
        );
    }
}
