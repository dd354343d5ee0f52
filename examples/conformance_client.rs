//! The client that the official conformance suite starts, built on nothing but the prober: it probes the URL that is
//! its last argument, once for each tool call that the scenario wants, and exits with 0 when everything was as it has
//! to be.
//!
//! ```text
//! conformance client --command target/debug/examples/conformance_client --scenario initialize
//! ```
//!
//! `MCP_CONFORMANCE_SCENARIO` names the scenario, `MCP_CONFORMANCE_CONTEXT` holds what it wants besides, in JSON.

use std::env;
use std::process::ExitCode;

use mcpprobe::config::AdHoc;
use mcpprobe::model::{Reason, State, Target, ToolCall};
use mcpprobe::probe::{self, Wish};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

/// The tools of `http-invalid-tool-headers` that a client has to leave alone.
const MARKED_BADLY: [&str; 11] = [
    "invalid_empty_header",
    "invalid_object_header",
    "invalid_array_header",
    "invalid_null_header",
    "invalid_number_header",
    "invalid_duplicate_same_case",
    "invalid_duplicate_diff_case",
    "invalid_space_in_name",
    "invalid_colon_in_name",
    "invalid_non_ascii_name",
    "invalid_control_char_name",
];

/// One probe, and what it has to find.
enum Step {
    /// Up, without calling a tool.
    Probe,
    /// Up, with this call answered.
    Call(ToolCall),
    /// Up but for this call, which must not even be sent.
    LeaveAlone(ToolCall),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    let url = env::args().next_back().ok_or("the URL is missing")?;
    // The suite listens on this machine, whatever proxy the environment names.
    let target = AdHoc::Url(url).target(None, &|_| None)?;
    let scenario = env::var("MCP_CONFORMANCE_SCENARIO").map_err(|error| error.to_string())?;
    let context = env::var("MCP_CONFORMANCE_CONTEXT").unwrap_or_default();
    for step in steps(&scenario, &context)? {
        take(&target, &step).await?;
    }
    Ok(())
}

fn steps(scenario: &str, context: &str) -> Result<Vec<Step>, String> {
    let steps = match scenario {
        "tools_call" => vec![Step::Call(call("add_numbers", &json!({ "a": 5, "b": 3 })))],
        "sse-retry" => vec![Step::Call(call("test_reconnection", &json!({})))],
        "http-standard-headers" => ["test_headers", "my-hyphenated-tool"]
            .map(|tool| Step::Call(call(tool, &json!({}))))
            .into(),
        "http-custom-headers" => {
            let context: Value =
                serde_json::from_str(context).map_err(|error| format!("the context: {error}"))?;
            let calls = context["toolCalls"].as_array();
            calls
                .ok_or("the context has no toolCalls")?
                .iter()
                .map(|wanted| {
                    let tool = wanted["name"].as_str().unwrap_or_default();
                    Step::Call(call(tool, &wanted["arguments"]))
                })
                .collect()
        }
        "http-invalid-tool-headers" => {
            let valid = Step::Call(call("valid_tool", &json!({ "region": "us-west1" })));
            let invalid = MARKED_BADLY.map(|tool| Step::LeaveAlone(call(tool, &json!({}))));
            std::iter::once(valid).chain(invalid).collect()
        }
        _ => vec![Step::Probe],
    };
    Ok(steps)
}

fn call(tool: &str, arguments: &Value) -> ToolCall {
    ToolCall {
        tool: tool.to_owned(),
        arguments: arguments.as_object().cloned().unwrap_or_else(Map::new),
    }
}

async fn take(target: &Target, step: &Step) -> Result<(), String> {
    let call = match step {
        Step::Probe => None,
        Step::Call(call) | Step::LeaveAlone(call) => Some(call),
    };
    let wish = Wish {
        call,
        ..Wish::default()
    };
    let result = probe::probe(target, wish, &CancellationToken::new())
        .await
        .ok_or("the probe was cancelled")?;
    let failure = result.failure.as_ref();
    let was_left_alone = failure.is_some_and(|failure| {
        failure.reason == Reason::InvalidTools
            && failure.message.as_str().contains("must not be called")
    });
    match step {
        Step::LeaveAlone(_) if was_left_alone => Ok(()),
        Step::Probe | Step::Call(_) if result.state == State::Up => Ok(()),
        Step::LeaveAlone(call) => Err(format!("{} was not left alone", call.tool)),
        Step::Probe | Step::Call(_) => Err(failure.map_or_else(
            || result.state.as_str().to_owned(),
            |failure| format!("{}: {}", failure.reason, failure.message),
        )),
    }
}
