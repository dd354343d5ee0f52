//! From addresses to a TCP connection, the address families raced (RFC 8305).

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream};

use super::fault::{Fault, reason_of_io};
use super::limits;
use crate::model::Reason;

/// Connects to the first address that answers, from `source` where that is given. Each address gets a head start over
/// the next, which a failure ends at once.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
) -> Result<TcpStream, Fault> {
    let mut waiting = addresses.iter().copied();
    let mut racing = FuturesUnordered::new();
    let mut failed: Vec<(SocketAddr, io::Error)> = Vec::new();
    loop {
        match waiting.next() {
            Some(address) => {
                racing.push(async move { (address, open(address, source).await) });
            }
            None if racing.is_empty() => return Err(fault(&failed)),
            None => {}
        }
        let next = if waiting.len() == 0 {
            racing.next().await
        } else {
            tokio::time::timeout(limits::HAPPY_EYEBALLS_DELAY, racing.next())
                .await
                .unwrap_or_default()
        };
        match next {
            Some((_, Ok(stream))) => {
                // Head and body go out in one write; Nagle could only hold back what follows.
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
            Some((address, Err(error))) => failed.push((address, error)),
            None => {}
        }
    }
}

async fn open(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(source) = source else {
        return TcpStream::connect(address).await;
    };
    let socket = if address.is_ipv6() {
        TcpSocket::new_v6()?
    } else {
        TcpSocket::new_v4()?
    };
    let bound = socket.bind(SocketAddr::new(source, 0));
    bound.map_err(|error| {
        // Not "address not available", which a server's address may be as well.
        io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("cannot connect from {source}: {error}"),
        )
    })?;
    socket.connect(address).await
}

/// Without IPv6 on this machine its addresses are "not available", which is no want of ports.
fn reason(address: &SocketAddr, error: &io::Error) -> Reason {
    match reason_of_io(error) {
        Some(Reason::ProberResources)
            if address.is_ipv6() && error.kind() == io::ErrorKind::AddrNotAvailable =>
        {
            Reason::Unreachable
        }
        reason => reason.unwrap_or(Reason::Unreachable),
    }
}

/// One fault for all addresses: the reason is that of the answer that says the most about the
/// server (a refusal, then a reset, then silence, then our own troubles).
fn fault(failed: &[(SocketAddr, io::Error)]) -> Fault {
    let telling = [
        Reason::ConnectionRefused,
        Reason::ConnectionReset,
        Reason::ConnectTimeout,
        Reason::ProberResources,
        Reason::Unreachable,
    ];
    let reasons: Vec<_> = failed
        .iter()
        .map(|(address, error)| reason(address, error))
        .collect();
    let reason = telling
        .into_iter()
        .find(|reason| reasons.contains(reason))
        .unwrap_or(Reason::Unreachable);
    let all: Vec<_> = failed
        .iter()
        .map(|(address, error)| match reason_of_io(error) {
            Some(Reason::ConnectionRefused) => format!("{address} refused the connection"),
            _ => format!("{address}: {error}"),
        })
        .collect();
    Fault::new(reason, all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn refused_port() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_dead_address_does_not_hide_a_live_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let stream = connect(&[refused_port(), live], None).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live);
    }

    #[test]
    fn a_refusal_outweighs_a_family_that_this_machine_does_not_have() {
        let no_family = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9));
        let v4 = SocketAddr::from(([127, 0, 0, 1], 9));
        assert_eq!(reason(&v6, &no_family), Reason::Unreachable);
        assert_eq!(reason(&v4, &no_family), Reason::ProberResources);
        let both = fault(&[(v6, no_family), (v4, refused)]);
        assert_eq!(both.reason, Reason::ConnectionRefused);
    }

    #[tokio::test]
    async fn every_address_is_named_when_all_refuse() {
        let (one, other) = (refused_port(), refused_port());
        let fault = connect(&[one, other], None).await.unwrap_err();
        assert_eq!(fault.reason, Reason::ConnectionRefused);
        for address in [one, other] {
            assert!(fault.message.as_str().contains(&address.to_string()));
        }
    }
}
