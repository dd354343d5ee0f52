//! The probing engine alone: what a handshake costs without schedule, store, spans and output.

use std::net::SocketAddr;
use std::sync::Arc;

use mcpprobe::config::AdHoc;
use mcpprobe::model::{Dialect, EraMode, State};
use mcpprobe::probe::{Wish, probe};
use tokio_util::sync::CancellationToken;

use super::{AT_ONCE, Trouble};

/// Probes `server` as often as this core can, [`AT_ONCE`] at a time.
pub(crate) async fn run(server: SocketAddr) -> Result<(), Trouble> {
    mcpprobe::install_tls_provider();
    let mut target = AdHoc::Url(format!("http://{server}/mcp")).target(None, &|_| None)?;
    target.era = EraMode::Legacy;
    let target = Arc::new(target);
    println!("{server}");
    let wish = Wish {
        hint: Some(Dialect::Legacy),
        ..Wish::default()
    };
    let cancel = CancellationToken::new();
    for _ in 0..AT_ONCE {
        let (target, cancel) = (Arc::clone(&target), cancel.clone());
        tokio::spawn(async move {
            loop {
                let result = probe(&target, wish, &cancel).await;
                if let Some(result) = result.filter(|result| result.state != State::Up) {
                    eprintln!("TROUBLE in the engine: {:?}", result.failure);
                }
            }
        });
    }
    std::future::pending().await
}
