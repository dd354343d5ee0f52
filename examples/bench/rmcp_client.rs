//! The client of Rust's SDK, a new one for each handshake: what others spend.

use std::net::SocketAddr;

use rmcp::ServiceExt;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use super::{AT_ONCE, Trouble};

/// Shakes hands with `server` as often as this core can, [`AT_ONCE`] at a time.
pub(crate) async fn run(server: SocketAddr) -> Result<(), Trouble> {
    mcpprobe::install_tls_provider();
    println!("{server}");
    for _ in 0..AT_ONCE {
        tokio::spawn(async move {
            loop {
                if let Err(trouble) = handshake(server).await {
                    eprintln!("TROUBLE in rmcp: {trouble}");
                }
            }
        });
    }
    std::future::pending().await
}

async fn handshake(server: SocketAddr) -> Result<(), Trouble> {
    // Without the platform's roots, which are of no use here and take milliseconds to read.
    let http = reqwest::Client::builder().tls_certs_only([]).build()?;
    let config = StreamableHttpClientTransportConfig::with_uri(format!("http://{server}/mcp"));
    let transport = StreamableHttpClientTransport::with_client(http, config);
    let client = ().serve(transport).await?;
    client.list_tools(None).await?;
    client.cancel().await?;
    Ok(())
}
