//! `initialize`: the handshake of the legacy era.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fault::Fault;
use super::record::Record;
use super::rpc::{self, ClientInfo, Empty, Meta};
use crate::model::{Era, Reason, ServerInfo};

pub(super) const METHOD: &str = "initialize";
pub(super) const INITIALIZED: &str = "notifications/initialized";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InitializeParams<'a> {
    protocol_version: &'static str,
    capabilities: Empty,
    client_info: ClientInfo,
    #[serde(rename = "_meta", skip_serializing_if = "Option::is_none")]
    meta: Option<Meta<'a>>,
}

/// The request in bytes.
pub(super) fn encode(id: u64, meta: Option<Meta<'_>>) -> Bytes {
    let params = InitializeParams {
        protocol_version: rpc::LEGACY_VERSION,
        capabilities: Empty {},
        client_info: rpc::CLIENT_INFO,
        meta,
    };
    rpc::encode(Some(id), METHOD, Some(params))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitializeResult {
    protocol_version: Option<String>,
    capabilities: Option<serde_json::Map<String, serde_json::Value>>,
    server_info: Option<RawServerInfo>,
}

/// `serverInfo` as it came.
#[derive(Deserialize)]
pub(super) struct RawServerInfo {
    name: Option<String>,
    version: Option<String>,
}

impl RawServerInfo {
    fn is_whole(&self) -> bool {
        self.name.is_some() && self.version.is_some()
    }
}

pub(super) fn server_info(raw: RawServerInfo) -> ServerInfo {
    ServerInfo {
        name: raw.name.unwrap_or_default().into(),
        version: raw.version.unwrap_or_default().into(),
    }
}

/// Checks the result and answers the version that was agreed.
pub(super) fn read_result(result: &RawValue, record: &mut Record) -> Result<String, Fault> {
    let found: InitializeResult = serde_json::from_str(result.get()).map_err(|error| {
        rpc::invalid(&format!("the result of initialize is malformed: {error}"))
    })?;
    let version = found
        .protocol_version
        .ok_or_else(|| rpc::invalid("the result of initialize has no protocolVersion"))?;
    if !rpc::KNOWN_VERSIONS.contains(&version.as_str()) {
        return Err(Fault::new(
            Reason::UnsupportedProtocolVersion,
            format!("the server chose protocol version {version}, which is not known"),
        ));
    }
    // Required by the schema, and the SDKs' clients refuse a session without them.
    if found.capabilities.is_none() {
        return Err(rpc::invalid("the result of initialize has no capabilities"));
    }
    if !found
        .server_info
        .as_ref()
        .is_some_and(RawServerInfo::is_whole)
    {
        return Err(rpc::invalid(
            "the result of initialize has no serverInfo with a name and a version",
        ));
    }
    record.declares_tools = found.capabilities.is_some_and(|c| c.contains_key("tools"));
    record.era = Some(Era::Legacy);
    record.protocol_version = Some(version.as_str().into());
    record.server = found.server_info.map(server_info);
    Ok(version)
}
