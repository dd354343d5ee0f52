//! `tools/call`: one tool that was listed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::fault::Fault;
use super::record::Record;
use super::rpc::{self, Meta};
use crate::model::{Reason, ToolCall};

pub(super) const METHOD: &str = "tools/call";

#[derive(Serialize)]
struct CallParams<'a> {
    name: &'a str,
    arguments: &'a Map<String, Value>,
    #[serde(rename = "_meta", skip_serializing_if = "Option::is_none")]
    meta: Option<Meta<'a>>,
}

/// The request in bytes.
pub(super) fn encode(id: u64, call: &ToolCall, meta: Option<Meta<'_>>) -> Bytes {
    let params = CallParams {
        name: &call.tool,
        arguments: &call.arguments,
        meta,
    };
    rpc::encode(Some(id), METHOD, Some(params))
}

/// `inputSchema` of the tool with this name, if it is on this page of `tools/list`; null where it has none.
pub(super) fn input_schema(page: &RawValue, name: &str) -> Option<Value> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        tools: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Tool {
        name: String,
        input_schema: Option<Value>,
    }
    let page: Page<'_> = serde_json::from_str(page.get()).ok()?;
    let mut tools = page
        .tools
        .iter()
        .filter_map(|tool| serde_json::from_str::<Tool>(tool.get()).ok());
    let tool = tools.find(|tool| tool.name == name)?;
    Some(tool.input_schema.unwrap_or_default())
}

pub(super) fn not_listed(name: &str) -> Fault {
    Fault::new(
        Reason::InvalidTools,
        format!("the tool {name} is not among those listed"),
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallResult {
    #[serde(default)]
    is_error: bool,
    result_type: Option<String>,
}

/// Checks the result. That the tool itself reports an error is a note: what it has to answer is not ours to say.
pub(super) fn read_result(
    result: &RawValue,
    name: &str,
    modern: bool,
    record: &mut Record,
) -> Result<(), Fault> {
    let found: CallResult = serde_json::from_str(result.get()).map_err(|error| {
        rpc::invalid(&format!("the result of tools/call is malformed: {error}"))
    })?;
    if modern && found.result_type.as_deref() == Some("input_required") {
        return Err(Fault::new(
            Reason::InputRequired,
            format!("the tool {name} wants input from a user"),
        ));
    }
    if found.is_error {
        record.note(format!("the tool {name} answered with an error"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_a_tool_is_found_among_others() {
        let page = r#"{"tools":[{"name":"a"},{"name":"b","inputSchema":{"type":"object"}},7]}"#;
        let page = RawValue::from_string(page.to_owned()).unwrap();
        assert_eq!(input_schema(&page, "a"), Some(Value::Null));
        assert_eq!(
            input_schema(&page, "b"),
            Some(serde_json::json!({ "type": "object" }))
        );
        assert_eq!(input_schema(&page, "c"), None);
    }

    #[test]
    fn a_result_is_a_result_also_of_a_tool_that_failed() {
        let mut record = Record::start(false);
        let mut read = |text: &str, modern| {
            let result = RawValue::from_string(text.to_owned()).unwrap();
            read_result(&result, "t", modern, &mut record).map_err(|fault| fault.reason)
        };
        assert_eq!(read(r#"{"content":[]}"#, false), Ok(()));
        assert_eq!(read(r#"{"content":[],"isError":true}"#, false), Ok(()));
        let wants_input = r#"{"resultType":"input_required"}"#;
        assert_eq!(read(wants_input, true), Err(Reason::InputRequired));
        assert_eq!(read("[]", false), Err(Reason::InvalidMessage));
    }
}
