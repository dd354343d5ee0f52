//! Attributes in a vendor's JSON: made flat, and strings.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Objects in an object deeper than this were made by nobody's exporter.
const DEEPEST: usize = 12;

/// `{"http": {"route": "/mcp"}}` and `{"http.route": "/mcp"}` are the same. What is null is not there.
pub(super) fn flat(object: &Map<String, Value>) -> HashMap<String, String> {
    let mut found = HashMap::with_capacity(object.len());
    collect(object, "", DEEPEST, &mut found);
    found
}

fn collect(
    object: &Map<String, Value>,
    above: &str,
    depth: usize,
    found: &mut HashMap<String, String>,
) {
    for (key, value) in object {
        let key = match above {
            "" => key.clone(),
            above => format!("{above}.{key}"),
        };
        match value {
            Value::Null => {}
            Value::Object(inner) if depth > 0 => collect(inner, &key, depth - 1, found),
            value => {
                found.insert(key, plain(value));
            }
        }
    }
}

/// A number without a fraction is the same with and without one: vendors make floats of integers.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 => format!("{float:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// A number, whether it came as one or as text.
pub(super) fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_and_dotted_keys_are_the_same() {
        let nested = json!({"a": {"b": 200.0, "c": null}, "d.e": true, "f": [1]});
        let found = flat(nested.as_object().unwrap());
        let of = |key: &str| found.get(key).map(String::as_str);
        assert_eq!(of("a.b"), Some("200"));
        assert_eq!(of("a.c"), None);
        assert_eq!(of("d.e"), Some("true"));
        assert_eq!(of("f"), Some("[1]"));
    }
}
