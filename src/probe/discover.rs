//! `server/discover`: the handshake of the modern era, and the question by which the era is found.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault::Fault;
use super::initialize::{RawServerInfo, server_info};
use super::record::Record;
use super::rpc::{self, Answer, RpcError};
use crate::model::{Era, Reason};

pub(super) const METHOD: &str = "server/discover";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DiscoverResult {
    supported_versions: Option<Vec<String>>,
    result_type: Option<String>,
    capabilities: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(rename = "_meta")]
    meta: Option<DiscoverMeta>,
}

#[derive(Deserialize)]
struct DiscoverMeta {
    #[serde(rename = "io.modelcontextprotocol/serverInfo")]
    server_info: Option<RawServerInfo>,
}

/// What an answer to `server/discover` means.
pub(super) enum Discovered {
    /// A modern server that we can talk to.
    Modern,
    /// Not modern, or not only: `initialize` decides. The text says what was answered.
    NotModern(String),
    /// Modern, but no session would work.
    Refused(Fault),
}

/// Reads a result.
pub(super) fn read_result(result: &RawValue, record: &mut Record) -> Discovered {
    let Ok(found) = serde_json::from_str::<DiscoverResult>(result.get()) else {
        return Discovered::NotModern("a result that is none of server/discover".to_owned());
    };
    let versions = found.supported_versions.unwrap_or_default();
    if !versions
        .iter()
        .any(|version| version == rpc::MODERN_VERSION)
    {
        return match versions.iter().find(|version| is_newer(version)) {
            Some(_)
                if !versions
                    .iter()
                    .any(|v| rpc::KNOWN_VERSIONS.contains(&v.as_str())) =>
            {
                Discovered::Refused(no_common_version(&versions))
            }
            _ => Discovered::NotModern(format!("a result for versions {}", versions.join(", "))),
        };
    }
    if found.result_type.as_deref() == Some("input_required") {
        return Discovered::Refused(Fault::new(
            Reason::InputRequired,
            "server/discover wants input from a user",
        ));
    }
    if found.result_type.as_deref() != Some("complete") {
        record.note("the result of server/discover lacks resultType \"complete\"");
    }
    if found.capabilities.is_none() {
        record.note("the result of server/discover lacks capabilities");
    }
    record.declares_tools = found.capabilities.is_some_and(|c| c.contains_key("tools"));
    record.era = Some(Era::Modern);
    record.protocol_version = Some(rpc::MODERN_VERSION.into());
    record.server = found
        .meta
        .and_then(|meta| meta.server_info)
        .map(server_info);
    Discovered::Modern
}

/// Reads a JSON-RPC error: one of the three of the modern era, with its shape, proves a modern
/// server; any other proves nothing.
pub(super) fn read_error(error: &RpcError) -> Discovered {
    match error.code {
        rpc::UNSUPPORTED_VERSION => {
            let Some(versions) = supported(error) else {
                return Discovered::NotModern(format!("JSON-RPC error {}", error.code));
            };
            let legacy = rpc::KNOWN_VERSIONS
                .iter()
                .any(|known| versions.iter().any(|version| version == known));
            if legacy {
                Discovered::NotModern(format!("versions {}", versions.join(", ")))
            } else {
                Discovered::Refused(no_common_version(&versions).with_code(error.code))
            }
        }
        rpc::HEADER_MISMATCH | rpc::MISSING_CAPABILITY => Discovered::Refused(error.into()),
        code => Discovered::NotModern(format!("JSON-RPC error {code}")),
    }
}

/// The version that we asked with was refused by a server that supports it. It is still the newest in common, with
/// which a client has to try again: behind one address may be servers of different age. A second refusal is an answer.
pub(super) fn asks_again(answer: &Answer) -> bool {
    answer.as_ref().is_err_and(|error| {
        error.code == rpc::UNSUPPORTED_VERSION
            && supported(error)
                .is_some_and(|versions| versions.iter().any(|v| v == rpc::MODERN_VERSION))
    })
}

/// `data.supported` of an unsupported version error.
fn supported(error: &RpcError) -> Option<Vec<String>> {
    let list = error.data.as_ref()?.get("supported")?.as_array()?;
    Some(
        list.iter()
            .filter_map(|version| Some(version.as_str()?.to_owned()))
            .collect(),
    )
}

/// Versions are dates, so that they compare as text.
fn is_newer(version: &str) -> bool {
    version > rpc::MODERN_VERSION
}

fn no_common_version(versions: &[String]) -> Fault {
    Fault::new(
        Reason::UnsupportedProtocolVersion,
        format!("the server speaks only {}", versions.join(", ")),
    )
}
