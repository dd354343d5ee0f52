//! Every bad server of the tests at once, and one `check` of them all.
#![expect(
    clippy::unwrap_used,
    dead_code,
    reason = "the servers are the tests' own, where a panic is a failed test and more of them is used"
)]

#[path = "../../tests/bad_server/case.rs"]
mod case;
#[path = "../../tests/bad_server/coding.rs"]
mod coding;
#[path = "../../tests/bad_server/http2.rs"]
mod http2;
#[path = "../../tests/bad_server/name_server.rs"]
mod name_server;
#[path = "../../tests/bad_server/proxy.rs"]
mod proxy;
#[path = "../../tests/bad_server/request.rs"]
mod request;
#[path = "../../tests/bad_server/server.rs"]
mod server;
#[path = "../../tests/bad_server/target.rs"]
mod target;
#[path = "../../tests/bad_server/tls.rs"]
mod tls;

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;

use super::Trouble;
use case::Case;
use server::Server;

/// Where the behaviours are, one in each file.
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/servers");

/// Servers that run for as long as this lives.
pub(crate) struct BadServers {
    /// A configuration with all of them.
    pub(crate) file: std::path::PathBuf,
    /// How many there are.
    pub(crate) count: usize,
    folder: TempDir,
    servers: Vec<Arc<Server>>,
}

impl BadServers {
    /// Starts them all, but for those that need an environment or a file of their own, or that end the program by a signal.
    pub(crate) async fn start() -> Result<Self, Trouble> {
        let folder = tempfile::tempdir()?;
        let cases = Case::all(Path::new(CASES));
        let usual = |case: &Case| {
            case.env.is_empty() && case.profile.is_none() && !case.name.contains("interrupted")
        };
        let (mut servers, mut targets) = (Vec::new(), Vec::new());
        for case in cases.into_iter().filter(usual) {
            let case = Arc::new(case);
            let own = folder.path().join(&case.name);
            std::fs::create_dir(&own)?;
            let server = Server::start(Arc::clone(&case), &own).await;
            targets.push(target::target(&case, &server, &own));
            servers.push(server);
        }
        let file = folder.path().join("servers.toml");
        let count = targets.len();
        std::fs::write(&file, toml::to_string(&json!({ "server": targets }))?)?;
        Ok(Self {
            file,
            count,
            folder,
            servers,
        })
    }

    /// The authority that signed the certificates of the good ones.
    pub(crate) fn authority(&self) -> &'static Path {
        tls::authority().1.path()
    }
}
