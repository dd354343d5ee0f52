//! The client of Rust's SDK, a new one for each handshake: what others spend.

use std::net::SocketAddr;

use rmcp::ServiceExt;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use super::{AT_ONCE, Trouble};

/// Shakes hands with `server` as often as this core can, [`AT_ONCE`] at a time: with the client as it comes, or with one
/// whose HTTP client does not read the platform's roots, which takes milliseconds.
pub(crate) async fn run(server: SocketAddr, without_roots: bool) -> Result<(), Trouble> {
    mcpprobe::install_tls_provider();
    println!("{server}");
    for _ in 0..AT_ONCE {
        tokio::spawn(async move {
            loop {
                if let Err(trouble) = handshake(server, without_roots).await {
                    eprintln!("TROUBLE in rmcp: {trouble}");
                }
            }
        });
    }
    std::future::pending().await
}

async fn handshake(server: SocketAddr, without_roots: bool) -> Result<(), Trouble> {
    let url = format!("http://{server}/mcp");
    let transport = if without_roots {
        let http = reqwest::Client::builder().tls_certs_only([]).build()?;
        let config = StreamableHttpClientTransportConfig::with_uri(url);
        StreamableHttpClientTransport::with_client(http, config)
    } else {
        StreamableHttpClientTransport::from_uri(url)
    };
    let client = ().serve(transport).await?;
    client.list_tools(None).await?;
    client.cancel().await?;
    Ok(())
}
