//! What must be reachable for the prober itself to be well (`[self] control`): asked here, judged elsewhere.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, UdpSocket};

use crate::model::ControlPoint;

/// For one control. Whoever is near answers within milliseconds; results of probes wait for this judgement, and every
/// second of it delays a page.
const PATIENCE: Duration = Duration::from_secs(2);

/// A query or its answer may be lost on the way: it is asked again in this time, twice within [`PATIENCE`].
const ASK_AGAIN: Duration = Duration::from_millis(700);

/// Ports that gateways usually answer on, if only by refusing.
const GATEWAY_PORTS: [u16; 2] = [53, 80];

/// Addresses of one kind that are asked; machines have one or two.
const MAX_ADDRESSES: usize = 8;

/// Bytes of an answer that are looked at: the head tells everything.
const DNS_HEAD: usize = 12;

/// Whether this control answers now, in at most two seconds. Needs no privilege.
pub async fn check(control: &ControlPoint) -> bool {
    let answers = async {
        match control {
            ControlPoint::Gateway => gateway(gateways()).await,
            ControlPoint::Dns => dns(name_servers()).await,
            ControlPoint::Tcp(address) => tcp(address).await,
            ControlPoint::Http(url) => http(url).await,
        }
    };
    tokio::time::timeout(PATIENCE, answers)
        .await
        .unwrap_or_default()
}

/// The controls of a machine whose owner has named none: those that it has.
pub fn usual() -> Vec<ControlPoint> {
    let gateway = (!gateways().is_empty()).then_some(ControlPoint::Gateway);
    let dns = (!name_servers().is_empty()).then_some(ControlPoint::Dns);
    gateway.into_iter().chain(dns).collect()
}

/// Whether any of these comes true; the others are given up then.
async fn any(asked: impl Iterator<Item = impl Future<Output = bool>>) -> bool {
    let mut asked: FuturesUnordered<_> = asked.collect();
    while let Some(answers) = asked.next().await {
        if answers {
            return true;
        }
    }
    false
}

async fn gateway(addresses: Vec<Gateway>) -> bool {
    let asked = addresses
        .iter()
        .flat_map(|gateway| GATEWAY_PORTS.map(|port| connects(gateway.at(port))));
    any(asked).await
}

async fn tcp(address: &str) -> bool {
    let Ok(found) = tokio::net::lookup_host(address).await else {
        return false;
    };
    any(found.take(MAX_ADDRESSES).map(connects)).await
}

/// A refusal comes from the host itself, or from somebody on the way: in both cases there is a network.
async fn connects(address: SocketAddr) -> bool {
    match TcpStream::connect(address).await {
        Ok(_) => true,
        Err(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
        ),
    }
}

/// Any answer with a status; where it leads to is not followed.
async fn http(url: &str) -> bool {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    match client.build() {
        Ok(client) => client.get(url).send().await.is_ok(),
        Err(_) => false,
    }
}

async fn dns(servers: Vec<SocketAddr>) -> bool {
    any(servers.into_iter().map(asks)).await
}

/// Asks a name server; whether it answers that a name exists or does not.
async fn asks(server: SocketAddr) -> bool {
    loop {
        match tokio::time::timeout(ASK_AGAIN, ask_once(server)).await {
            Ok(Ok(answered)) => return answered,
            // Nobody listens there, or there is no way.
            Ok(Err(_)) => return false,
            Err(_) => {}
        }
    }
}

async fn ask_once(server: SocketAddr) -> io::Result<bool> {
    let own: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(own).await?;
    socket.connect(server).await?;
    let id = fastrand::u16(..);
    socket.send(&query(id, fastrand::u64(..))).await?;
    loop {
        let mut head = [0; DNS_HEAD];
        let length = socket.recv(&mut head).await?;
        if length == DNS_HEAD
            && let Some(answered) = answer(id, &head)
        {
            return Ok(answered);
        }
    }
}

/// A query for the address of a top-level domain that nobody has. A name that exists, the root's own servers above all,
/// would be answered out of a cache on this machine for days after the network is gone.
fn query(id: u16, name: u64) -> Vec<u8> {
    let name = format!("mcpprobe-{name:016x}");
    let mut query = Vec::with_capacity(48);
    query.extend(id.to_be_bytes());
    // Recursion desired; one question, nothing else.
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    query.push(u8::try_from(name.len()).unwrap_or_default());
    query.extend(name.bytes());
    // The root, type A, class IN.
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// Whether this answer to `id` tells of a name (no error, or no such name); none when it is no answer to us.
fn answer(id: u16, head: &[u8; DNS_HEAD]) -> Option<bool> {
    let [first, second, flags, code, ..] = *head;
    let is_ours = [first, second] == id.to_be_bytes() && flags & 0x80 != 0;
    is_ours.then_some(matches!(code & 0x0f, 0 | 3))
}

/// The name servers that the machine's own resolution asks.
fn name_servers() -> Vec<SocketAddr> {
    name_servers_of(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn name_servers_of(resolv_conf: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        let word = words.next()?;
        let Some((address, zone)) = word.split_once('%') else {
            return Some(SocketAddr::new(word.parse().ok()?, 53));
        };
        let scope = zone.parse().ok().or_else(|| interface_index(zone))?;
        let address = SocketAddrV6::new(address.parse().ok()?, 53, 0, scope);
        Some(SocketAddr::V6(address))
    };
    let found = resolv_conf.lines().filter_map(address);
    found.take(MAX_ADDRESSES).collect()
}

/// A router that everything goes through for which there is no better way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gateway {
    address: IpAddr,
    /// The interface's number, without which an address of the link means nothing.
    scope: u32,
}

impl Gateway {
    fn at(&self, port: u16) -> SocketAddr {
        match self.address {
            IpAddr::V4(address) => SocketAddr::new(address.into(), port),
            IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, self.scope).into(),
        }
    }
}

/// The default gateways of this machine; none where the kernel does not tell.
fn gateways() -> Vec<Gateway> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (four, six) = (read("/proc/net/route"), read("/proc/net/ipv6_route"));
    let found = four.lines().filter_map(gateway_4);
    let found = found.chain(
        six.lines()
            .filter_map(|line| gateway_6(line, interface_index)),
    );
    found.take(MAX_ADDRESSES).collect()
}

/// `RTF_UP | RTF_GATEWAY`.
const BY_GATEWAY: u32 = 3;

/// Interface, destination, gateway, flags, three numbers, mask: of these the default route has zeros for the
/// destination and the mask.
fn gateway_4(line: &str) -> Option<Gateway> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [_, destination, gateway, flags, _, _, _, mask, ..] = fields[..] else {
        return None;
    };
    let hex = |text| u32::from_str_radix(text, 16).ok();
    if hex(destination)? != 0 || hex(mask)? != 0 || hex(flags)? & BY_GATEWAY != BY_GATEWAY {
        return None;
    }
    // The kernel writes the number that the four bytes are on this machine.
    let address = Ipv4Addr::from(hex(gateway)?.to_ne_bytes());
    Some(Gateway {
        address: address.into(),
        scope: 0,
    })
}

/// Destination, its length, source, its length, next hop, three numbers, flags, interface.
fn gateway_6(line: &str, index: impl Fn(&str) -> Option<u32>) -> Option<Gateway> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [_, length, _, _, next, _, _, _, flags, interface] = fields[..] else {
        return None;
    };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    if length != "00" || flags & BY_GATEWAY != BY_GATEWAY {
        return None;
    }
    let address = Ipv6Addr::from(u128::from_str_radix(next, 16).ok()?);
    Some(Gateway {
        address: address.into(),
        scope: index(interface).unwrap_or_default(),
    })
}

fn interface_index(name: &str) -> Option<u32> {
    // Names are of the kernel's making or of a file of root's; they hold no slash all the same.
    let name = name.split('/').next()?;
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const HERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

    #[test]
    fn the_default_routes_gateway_is_found() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
             eth0\t0011A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
             eth1\t00000000\t0111A8C0\t0002\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth0\t00000000\t0111A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             short\t00000000\n";
        let found: Vec<_> = text.lines().filter_map(gateway_4).collect();
        let expected = if cfg!(target_endian = "little") {
            Ipv4Addr::new(192, 168, 17, 1)
        } else {
            Ipv4Addr::new(1, 17, 168, 192)
        };
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at(53), SocketAddr::new(expected.into(), 53));
    }

    #[test]
    fn the_default_routes_gateway_is_found_by_version_6_too() {
        let zeros = "00000000000000000000000000000000";
        let next = "fe800000000000000000000000000001";
        let text = format!(
            "{zeros} 00 {zeros} 00 {next} 00000400 00000001 00000000 00450003     eth0\n\
             fe800000000000000000000000000000 40 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001     eth0\n\
             {zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo\n"
        );
        let index = |name: &str| (name == "eth0").then_some(7);
        let found: Vec<_> = text
            .lines()
            .filter_map(|line| gateway_6(line, index))
            .collect();
        assert_eq!(found.len(), 1);
        let address = SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 0, 7);
        assert_eq!(found[0].at(80), address.into());
    }

    #[test]
    fn name_servers_are_read_as_the_system_reads_them() {
        let text = "# nameserver 192.0.2.9\nsearch example\nnameserver 127.0.0.53\n  nameserver  2001:db8::1 # x\n\
             nameserver fe80::1%3\nnameserver nonsense\nnameserver\n";
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 3);
        assert_eq!(
            name_servers_of(text),
            [
                "127.0.0.53:53".parse().unwrap(),
                "[2001:db8::1]:53".parse().unwrap(),
                SocketAddr::V6(scoped)
            ]
        );
    }

    #[test]
    fn the_machines_own_files_can_be_read() {
        // Whatever this machine has, nothing of it may make us panic.
        let usual = usual();
        assert!(usual.len() <= 2, "{usual:?}");
    }

    #[tokio::test]
    async fn an_accepted_and_a_refused_connection_are_answers() {
        let listener = TcpListener::bind(HERE).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(check(&ControlPoint::Tcp(address.to_string())).await);
        drop(listener);
        assert!(check(&ControlPoint::Tcp(address.to_string())).await);
        let nobody = ControlPoint::Tcp("no-such-host.invalid:1".to_owned());
        assert!(!check(&nobody).await);
        let local = |address: &str| {
            vec![Gateway {
                address: address.parse().unwrap(),
                scope: 0,
            }]
        };
        assert!(gateway(local("127.0.0.1")).await);
        assert!(!gateway(Vec::new()).await);
    }

    #[tokio::test]
    async fn any_status_is_an_answer_and_silence_is_none() {
        crate::install_tls_provider();
        let listener = TcpListener::bind(HERE).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new();
        let serving = tokio::spawn(async move { axum::serve(listener, app).await });
        let url = format!("http://{address}/not-found");
        assert!(check(&ControlPoint::Http(url.clone())).await);
        serving.abort();
        serving.await.ok();
        assert!(!check(&ControlPoint::Http(url)).await);
        assert!(!check(&ControlPoint::Http("no url".to_owned())).await);
    }

    #[tokio::test]
    async fn silence_is_waited_for_no_longer_than_the_limit() {
        crate::install_tls_provider();
        // It accepts, and says nothing.
        let listener = TcpListener::bind(HERE).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        assert!(!check(&ControlPoint::Http(url)).await);
    }

    /// A name server that answers each query with what `answer` makes of it, none to the first one.
    async fn name_server(answer: fn(Vec<u8>) -> Vec<u8>) -> SocketAddr {
        let socket = UdpSocket::bind(HERE).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut first = true;
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if !std::mem::take(&mut first) {
                    let answer = answer(buffer[..length].to_vec());
                    socket.send_to(&answer, from).await.ok();
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn a_name_server_that_knows_a_name_or_knows_that_there_is_none_answers() {
        for code in [0, 3] {
            let answer: fn(Vec<u8>) -> Vec<u8> = match code {
                0 => |query| changed(query, 0x81, 0x80),
                _ => |query| changed(query, 0x81, 0x83),
            };
            assert!(dns(vec![name_server(answer).await]).await, "code {code}");
        }
    }

    #[tokio::test]
    async fn a_name_server_that_cannot_ask_others_does_not_answer() {
        let failing = name_server(|query| changed(query, 0x81, 0x82)).await;
        assert!(!dns(vec![failing]).await);
        assert!(!dns(Vec::new()).await);
        let socket = UdpSocket::bind(HERE).await.unwrap();
        let closed = socket.local_addr().unwrap();
        drop(socket);
        assert!(!dns(vec![closed]).await);
        // One of several is enough.
        let good = name_server(|query| changed(query, 0x81, 0x83)).await;
        assert!(dns(vec![closed, failing, good]).await);
    }

    fn changed(mut query: Vec<u8>, flags: u8, code: u8) -> Vec<u8> {
        query[2] = flags;
        query[3] = code;
        query
    }

    #[test]
    fn only_an_answer_to_our_query_counts() {
        let head = |id: u16, flags, code| {
            let mut head = [0; DNS_HEAD];
            head[..2].copy_from_slice(&id.to_be_bytes());
            head[2] = flags;
            head[3] = code;
            head
        };
        assert_eq!(answer(7, &head(7, 0x81, 0x80)), Some(true));
        assert_eq!(answer(7, &head(7, 0x81, 0x85)), Some(false));
        assert_eq!(answer(7, &head(8, 0x81, 0x80)), None);
        assert_eq!(answer(7, &head(7, 0x01, 0)), None, "a query");
    }
}
