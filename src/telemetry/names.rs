//! Every attribute name of our spans, in one place.
//!
//! The first group is OpenTelemetry's (MCP, HTTP, RPC and general conventions), the second what
//! MCP servers in the wild call the same things, the third is ours.

pub(super) const MCP_METHOD_NAME: &str = "mcp.method.name";
pub(super) const MCP_SESSION: &str = "mcp.session.id";
pub(super) const MCP_PROTOCOL_VERSION: &str = "mcp.protocol.version";
pub(super) const JSONRPC_REQUEST_ID: &str = "jsonrpc.request.id";
pub(super) const ERROR_TYPE: &str = "error.type";
pub(super) const RPC_STATUS_CODE: &str = "rpc.response.status_code";
pub(super) const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
pub(super) const SERVER_ADDRESS: &str = "server.address";
pub(super) const SERVER_PORT: &str = "server.port";
pub(super) const NETWORK_TRANSPORT: &str = "network.transport";
pub(super) const NETWORK_PROTOCOL_NAME: &str = "network.protocol.name";
pub(super) const TLS_SERVER_NOT_AFTER: &str = "tls.server.not_after";
pub(super) const SYNTHETIC_TYPE: &str = "user_agent.synthetic.type";

pub(super) const MCP_SESSION_ID: &str = "mcp.session_id";
pub(super) const MCP_OPERATION: &str = "mcp.operation";
pub(super) const MCP_ERROR_CODE: &str = "mcp.error_code";
pub(super) const HTTP_STATUS_CODE: &str = "http.status_code";

pub(super) const TARGET: &str = "mcpprobe.target";
pub(super) const STATE: &str = "mcpprobe.state";
pub(super) const LAYER: &str = "mcpprobe.layer";
pub(super) const REASON: &str = "mcpprobe.reason";
pub(super) const ERA: &str = "mcpprobe.era";
pub(super) const TOOLS: &str = "mcpprobe.tools";
pub(super) const TAGS: &str = "mcpprobe.tags";
pub(super) const NOTE: &str = "mcpprobe.note";
pub(super) const OUTCOME: &str = "mcpprobe.outcome";
pub(super) const MCP_TOOL_NAME: &str = "mcp.tool_name";
pub(super) const GEN_AI_TOOL_NAME: &str = "gen_ai.tool.name";
pub(super) const GEN_AI_OPERATION_NAME: &str = "gen_ai.operation.name";
