//! A name server that answers what a case says (RFC 1035), by UDP and TCP.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::case::{Case, Manner, Zone};

const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const AAAA: u16 = 28;

/// The name that the question stands for, where it stands in every message.
const QUESTION: [u8; 2] = [0xc0, 12];

pub(super) struct NameServer {
    case: Arc<Case>,
    pub(super) port: u16,
    /// Types that were asked for.
    asked: Mutex<BTreeSet<u16>>,
}

impl NameServer {
    /// Without a zone in the case it takes no port.
    pub(super) async fn start(case: Arc<Case>) -> Arc<Self> {
        if case.resolver.is_none() {
            return Arc::new(Self {
                case,
                port: 0,
                asked: Mutex::default(),
            });
        }
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // The same port may be somebody else's there.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let server = Arc::new(Self {
            port: udp.local_addr().unwrap().port(),
            case,
            asked: Mutex::default(),
        });
        if server
            .zone()
            .is_some_and(|zone| zone.manner != Manner::Nobody)
        {
            tokio::spawn(server.clone().serve_udp(udp));
            tokio::spawn(server.clone().serve_tcp(tcp));
        }
        server
    }

    fn zone(&self) -> Option<&Zone> {
        self.case.resolver.as_ref()
    }

    pub(super) fn mistakes(&self) -> Vec<String> {
        let Some(zone) = self.zone() else {
            return Vec::new();
        };
        let asked: Vec<_> = self.asked.lock().unwrap().iter().copied().collect();
        let holds = match &zone.asked {
            Some(expected) => asked == *expected,
            None => asked.is_empty() == (zone.manner == Manner::Nobody),
        };
        if holds {
            return Vec::new();
        }
        vec![format!("the name server was asked for types {asked:?}")]
    }

    async fn serve_udp(self: Arc<Self>, udp: UdpSocket) -> io::Result<()> {
        let mut question = [0; 512];
        loop {
            let (length, from) = udp.recv_from(&mut question).await?;
            if let Some(answer) = self.answer(&question[..length], false) {
                udp.send_to(&answer, from).await?;
            }
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        loop {
            let (tcp, _) = listener.accept().await?;
            let server = self.clone();
            tokio::spawn(async move { server.serve_stream(tcp).await });
        }
    }

    async fn serve_stream(&self, mut tcp: TcpStream) -> io::Result<()> {
        loop {
            let mut question = vec![0; tcp.read_u16().await?.into()];
            tcp.read_exact(&mut question).await?;
            if let Some(answer) = self.answer(&question, true) {
                tcp.write_u16(answer.len().try_into().unwrap()).await?;
                tcp.write_all(&answer).await?;
            }
        }
    }

    fn answer(&self, question: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let zone = self.zone()?;
        // The name ends with an empty label; type and class follow.
        let end = 12 + question[12..].iter().position(|byte| *byte == 0)? + 5;
        let asked = u16::from_be_bytes([question[end - 4], question[end - 3]]);
        self.asked.lock().unwrap().insert(asked);
        let mut id = [question[0], question[1]];
        let mut truncated = 0;
        match zone.manner {
            Manner::Mute | Manner::Nobody => return None,
            Manner::Garbage => return Some([&id[..], &[0xff; 40]].concat()),
            Manner::WrongId => id[0] = !id[0],
            Manner::Truncated if !by_tcp => truncated = 2,
            Manner::Usual | Manner::Truncated => {}
        }
        let records = if truncated > 0 {
            Vec::new()
        } else {
            records(zone, asked)
        };
        let count = u8::try_from(records.len()).unwrap();
        let soa = zone.soa.then(soa);
        let header = [
            &id[..],
            // An answer to a standard question that wants recursion; recursion is available.
            &[0x81 | truncated, 0x80 | zone.code],
            &[0, 1, 0, count, 0, soa.is_some().into(), 0, 0],
        ];
        Some(
            [
                header.concat(),
                question[12..end].to_vec(),
                records.concat(),
                soa.unwrap_or_default(),
            ]
            .concat(),
        )
    }
}

fn records(zone: &Zone, asked: u16) -> Vec<Vec<u8>> {
    let alias = zone.cname.as_deref().map(name);
    let owner = alias.clone().unwrap_or_else(|| QUESTION.to_vec());
    let addresses: Vec<_> = match asked {
        A => zone.a.iter().map(|ip| ip.octets().to_vec()).collect(),
        AAAA => zone.aaaa.iter().map(|ip| ip.octets().to_vec()).collect(),
        _ => Vec::new(),
    };
    let alias = alias.map(|alias| record(&QUESTION, CNAME, &alias));
    let addresses = addresses.iter().map(|data| record(&owner, asked, data));
    alias.into_iter().chain(addresses).collect()
}

fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let (kind, length) = (
        kind.to_be_bytes(),
        u16::try_from(data.len()).unwrap().to_be_bytes(),
    );
    // Class IN, for a minute.
    [owner, &kind, &[0, 1, 0, 0, 0, 60], &length, data].concat()
}

fn soa() -> Vec<u8> {
    let data = [name("ns.test"), name("nobody.test"), vec![0; 20]].concat();
    record(&name("test"), SOA, &data)
}

fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in text.split('.') {
        bytes.push(label.len().try_into().unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
