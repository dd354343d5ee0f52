//! Somebody else who goes on using a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::wire::exchange;
use crate::support::eventually;

const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Others {
    stop: Arc<AtomicBool>,
}

impl Others {
    /// They call `method`: `tools/list`, or `tools/call NAME`.
    pub(super) fn start(port: u16, method: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, method) = (Arc::clone(&stop), method.to_owned());
        eventually("the first answer to others", || {
            call(port, &method).filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(PAUSE);
                call(port, &method);
            }
        });
        Self { stop }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn call(port: u16, what: &str) -> Option<String> {
    let (method, tool) = what.split_once(' ').unwrap_or((what, ""));
    let meta = serde_json::json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "others", "version": "1" },
    });
    let params = match tool {
        "" => serde_json::json!({ "_meta": meta }),
        tool => serde_json::json!({ "_meta": meta, "name": tool, "arguments": { "a": 1, "b": 2 } }),
    };
    let body = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let name = match tool {
        "" => String::new(),
        tool => format!("Mcp-Name: {tool}\r\n"),
    };
    let head = format!(
        "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{name}"
    );
    exchange(port, "POST", "/mcp", &head, body.to_string().as_bytes())
}
