//! From a name to addresses, by the system's own resolution, so that hosts files, nsswitch and VPNs count.

use std::io;
use std::net::{IpAddr, SocketAddr};

use url::Host;

use super::fault::{Fault, reason_of_io};
use super::{limits, name_server};
use crate::model::{IpFamily, Network, Reason};

/// The addresses of `host`, both families taking turns, at most [`limits::MAX_ADDRESSES`].
pub(super) async fn resolve(
    host: &Host<&str>,
    port: u16,
    network: &Network,
) -> Result<Vec<SocketAddr>, Fault> {
    let family = network.family.or(network.source_address.map(IpFamily::of));
    let name = match host {
        Host::Ipv4(ip) => return literal((*ip).into(), port, family),
        Host::Ipv6(ip) => return literal((*ip).into(), port, family),
        Host::Domain(name) => *name,
    };
    let found: Vec<_> = match network.resolver {
        Some(server) => {
            let found = name_server::look_up(server, name, family).await?;
            found
                .into_iter()
                .map(|ip| SocketAddr::new(ip, port))
                .collect()
        }
        None => tokio::net::lookup_host((name, port))
            .await
            .map_err(|error| fault(name, &error))?
            .collect(),
    };
    let usable = |address: &SocketAddr| family.is_none_or(|f| IpFamily::of(address.ip()) == f);
    let addresses = alternate(found.into_iter().filter(usable));
    if addresses.is_empty() {
        let kind = family.map_or("address".to_owned(), |family| format!("{family} address"));
        return Err(Fault::new(
            Reason::DnsNotFound,
            format!("{name} has no {kind}"),
        ));
    }
    Ok(addresses)
}

/// An address that was typed, or came by a redirect.
fn literal(ip: IpAddr, port: u16, family: Option<IpFamily>) -> Result<Vec<SocketAddr>, Fault> {
    match family {
        Some(wanted) if wanted != IpFamily::of(ip) => Err(Fault::new(
            Reason::Unreachable,
            format!("{ip} is no {wanted} address"),
        )),
        _ => Ok(vec![SocketAddr::new(ip, port)]),
    }
}

/// Keeps the system's order (RFC 6724) inside each family and lets the families take turns, the
/// first one's first (RFC 8305, section 4).
fn alternate(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found = found.peekable();
    let Some(first_is_v6) = found.peek().map(SocketAddr::is_ipv6) else {
        return Vec::new();
    };
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        found.partition(|address| address.is_ipv6() == first_is_v6);
    first.dedup();
    second.dedup();
    let mut second = second.into_iter();
    let mut order = Vec::with_capacity(limits::MAX_ADDRESSES);
    for address in first {
        order.push(address);
        order.extend(second.next());
    }
    order.extend(second);
    order.truncate(limits::MAX_ADDRESSES);
    order
}

/// `getaddrinfo` tells its errors apart only by text. The texts are glibc's, musl's and Apple's, in
/// the C locale, in which a Rust program runs unless it sets another.
fn fault(name: &str, error: &io::Error) -> Fault {
    if let Some(reason) = reason_of_io(error) {
        return Fault::new(reason, format!("cannot look up {name}: {error}"));
    }
    let text = error.to_string();
    let missing = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "nodename nor servname provided",
    ];
    if missing.iter().any(|known| text.contains(known)) {
        Fault::new(Reason::DnsNotFound, format!("{name} does not exist in DNS"))
    } else {
        let why = text
            .strip_prefix("failed to lookup address information: ")
            .unwrap_or(&text);
        Fault::new(Reason::DnsFailure, format!("cannot look up {name}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_the_list_is_bounded() {
        let v4 = |n: u8| SocketAddr::from(([10, 0, 0, n], 80));
        let v6 = |n: u16| SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, n], 80));
        assert_eq!(
            alternate([v6(1), v6(2), v4(1)].into_iter()),
            [v6(1), v4(1), v6(2)]
        );
        assert_eq!(alternate([v4(1), v4(2)].into_iter()), [v4(1), v4(2)]);
        assert_eq!(alternate((0..200).map(v4)).len(), limits::MAX_ADDRESSES);
        assert!(alternate(std::iter::empty()).is_empty());
    }
}
