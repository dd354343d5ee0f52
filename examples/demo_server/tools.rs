//! What the demo offers: three tools with nothing behind them.

use std::time::SystemTime;

use rmcp::handler::server::wrapper::Parameters;
use rmcp::schemars::{self, JsonSchema};
use rmcp::{ServerHandler, tool, tool_handler, tool_router};
use serde::Deserialize;

/// The MCP server; it has no state.
pub(crate) struct Tools;

#[derive(Deserialize, JsonSchema)]
struct Addition {
    a: f64,
    b: f64,
}

#[derive(Deserialize, JsonSchema)]
struct Saying {
    text: String,
}

#[tool_router]
impl Tools {
    #[tool(description = "Adds two numbers")]
    fn add(&self, Parameters(Addition { a, b }): Parameters<Addition>) -> String {
        (a + b).to_string()
    }

    #[tool(description = "Says the text back")]
    fn echo(&self, Parameters(Saying { text }): Parameters<Saying>) -> String {
        text
    }

    #[tool(description = "Tells the time, in UTC")]
    fn now(&self) -> String {
        humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
    }
}

#[tool_handler(name = "demo_server", version = "1.0.0")]
impl ServerHandler for Tools {}
