//! A call of a tool.

use serde_json::{Map, Value};

/// A tool and what it is called with. It has to be one without effects: a server that closes the connection just as
/// it is called is asked again.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The tool's name.
    pub tool: String,
    /// `arguments`.
    pub arguments: Map<String, Value>,
}
