//! Headers of a modern `tools/call` that repeat what stands in its body, so that gateways need not read that: the
//! tool's name, and the arguments that its schema marks with `x-mcp-header`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::fault::Fault;
use crate::model::{Reason, ToolCall};

const NAME: HeaderName = HeaderName::from_static("mcp-name");
const PREFIX: &str = "mcp-param-";
const MARK: &str = "x-mcp-header";

/// What may be marked: these look the same in every language's JSON, other numbers do not.
const TYPES: [&str; 3] = ["string", "integer", "boolean"];

/// Keywords of a schema whose value is data, in which a mark means nothing.
const DATA: [&str; 4] = ["default", "const", "enum", "examples"];

const OPENING: &str = "=?base64?";
const CLOSING: &str = "?=";

/// The headers of `call`, whose tool takes what `schema` says.
///
/// # Errors
/// The schema marks what cannot be marked: a client has to leave such a tool alone.
pub(super) fn headers(
    call: &ToolCall,
    schema: &Value,
) -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
    let mut marked = Vec::new();
    mark(schema, Some(&call.arguments), &mut marked).map_err(|problem| {
        Fault::new(
            Reason::InvalidTools,
            format!("the tool {} must not be called: {problem}", call.tool),
        )
    })?;
    let arguments = marked
        .into_iter()
        .filter_map(|(name, value)| Some((name, encode(&text(value?)?)?)));
    let name = encode(&call.tool).map(|value| (NAME, value));
    Ok(name.into_iter().chain(arguments).collect())
}

/// Collects what the properties of `schema`, and theirs, mark. What is not among `arguments` has to be marked well
/// all the same.
fn mark<'a>(
    schema: &Value,
    arguments: Option<&'a Map<String, Value>>,
    marked: &mut Vec<(HeaderName, Option<&'a Value>)>,
) -> Result<(), String> {
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        // Anywhere else it does not say which argument is meant.
        if keyword != "properties" && !DATA.contains(&keyword.as_str()) && is_marked(value) {
            return Err(format!("{MARK} below {keyword}"));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, property) in properties.into_iter().flatten() {
        let argument = arguments.and_then(|arguments| arguments.get(key));
        if let Some(value) = property.get(MARK) {
            let name = header_name(value, property)?;
            if marked.iter().any(|(other, _)| *other == name) {
                return Err(format!("{MARK} {value} stands there twice"));
            }
            marked.push((name, argument));
        }
        mark(property, argument.and_then(Value::as_object), marked)?;
    }
    Ok(())
}

fn is_marked(value: &Value) -> bool {
    match value {
        Value::Object(schema) => schema.iter().any(|(keyword, value)| {
            keyword == MARK && value.is_string()
                || !DATA.contains(&keyword.as_str()) && is_marked(value)
        }),
        Value::Array(schemas) => schemas.iter().any(is_marked),
        _ => false,
    }
}

fn header_name(mark: &Value, property: &Value) -> Result<HeaderName, String> {
    let of_a_type = property
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|found| TYPES.contains(&found));
    if !of_a_type {
        return Err(format!("{MARK} {mark} is on none of {}", TYPES.join(", ")));
    }
    // Names of headers are compared without case, and `HeaderName` is in lower case.
    mark.as_str()
        .filter(|name| !name.is_empty())
        .and_then(|name| format!("{PREFIX}{name}").parse().ok())
        .ok_or_else(|| format!("{MARK} {mark} is no name for a header"))
}

/// `None` for null and for what no marked property can be, which has no header.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// As it is where every HTTP library leaves it as it is, otherwise in Base64.
fn encode(text: &str) -> Option<HeaderValue> {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.trim() == text
        && !(text.starts_with(OPENING) && text.ends_with(CLOSING));
    if is_plain {
        return HeaderValue::from_str(text).ok();
    }
    HeaderValue::from_str(&format!("{OPENING}{}{CLOSING}", STANDARD.encode(text))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The headers of a call with `arguments`, as text.
    fn sent(schema: &Value, arguments: &Value) -> Vec<String> {
        let call = ToolCall {
            tool: "t".to_owned(),
            arguments: arguments.as_object().unwrap().clone(),
        };
        let headers = headers(&call, schema).unwrap();
        let line = |(name, value): &(HeaderName, HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        headers.iter().map(line).collect()
    }

    fn problem(schema: &Value) -> String {
        let call = ToolCall {
            tool: "t".to_owned(),
            arguments: Map::new(),
        };
        let fault = headers(&call, schema).unwrap_err();
        assert_eq!(fault.reason, Reason::InvalidTools);
        fault.message.as_str().to_owned()
    }

    #[test]
    fn what_is_marked_and_given_is_repeated() {
        let schema = json!({ "type": "object", "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "count": { "type": "integer", "x-mcp-header": "Count" },
            "dry": { "type": "boolean", "x-mcp-header": "Dry" },
            "absent": { "type": "string", "x-mcp-header": "Absent" },
            "query": { "type": "string", "default": { "x-mcp-header": "Query" } },
            "in": { "type": "object", "properties": {
                "deep": { "type": "string", "x-mcp-header": "Deep" },
            } },
        } });
        let arguments = json!({
            "region": "us-west1", "count": 42, "dry": false, "query": "q", "in": { "deep": "" },
        });
        assert_eq!(
            sent(&schema, &arguments),
            [
                "mcp-name: t",
                "mcp-param-region: us-west1",
                "mcp-param-count: 42",
                "mcp-param-dry: false",
                "mcp-param-deep: ",
            ]
        );
        assert_eq!(
            sent(&schema, &json!({ "region": null, "in": 1 })),
            ["mcp-name: t"]
        );
        assert_eq!(sent(&Value::Null, &json!({ "a": 1 })), ["mcp-name: t"]);
    }

    #[test]
    fn what_a_header_does_not_carry_is_in_base64() {
        for (text, header) in [
            ("two words", "two words"),
            ("", ""),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            ("a\r\nb", "=?base64?YQ0KYg==?="),
            ("a\tb", "=?base64?YQli?="),
            ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ] {
            assert_eq!(encode(text).unwrap(), header);
        }
    }

    #[test]
    fn a_tool_that_is_marked_badly_must_not_be_called() {
        let one = |kind: &str, mark: Value| json!({ "properties": { "a": { "type": kind, "x-mcp-header": mark } } });
        for (kind, mark) in [
            ("number", json!("A")),
            ("object", json!("A")),
            ("null", json!("A")),
            ("string", json!("")),
            ("string", json!("A B")),
            ("string", json!("A:B")),
            ("string", json!("Région")),
            ("string", json!("A\t1")),
            ("string", json!(1)),
        ] {
            let problem = problem(&one(kind, mark));
            assert!(
                problem.contains("must not be called: x-mcp-header"),
                "{problem}"
            );
        }
        let twice = json!({ "properties": {
            "a": { "type": "string", "x-mcp-header": "Field" },
            "b": { "type": "string", "x-mcp-header": "field" },
        } });
        assert!(problem(&twice).ends_with("twice"));
        let marked = one("string", json!("A"));
        for elsewhere in [
            json!({ "anyOf": [marked] }),
            json!({ "$defs": { "d": marked } }),
            json!({ "properties": { "list": { "type": "array", "items": marked } } }),
        ] {
            assert!(problem(&elsewhere).contains("below"));
        }
    }
}
