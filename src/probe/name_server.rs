//! The name server that the user named in place of the system's own resolution.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;

use super::fault::Fault;
use crate::model::{IpFamily, Reason};

/// For one answer, before it is asked for again. Less than the 5 s of the system's own resolver, for a server that is
/// silent about one family only must not use up the probe's time.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is asked.
const ATTEMPTS: usize = 2;

/// Asks `server` for the addresses of `name`, by UDP, and by TCP where an answer is cut. What it says is final: who
/// names a server wants to know what that one answers.
pub(super) async fn look_up(
    server: SocketAddr,
    name: &str,
    family: Option<IpFamily>,
) -> Result<Vec<IpAddr>, Fault> {
    let resolver = resolver(server, family).map_err(|error| fault(server, name, &error))?;
    // A final dot: search domains are the system's, not those of this server. Underscores are no letters of a host's
    // name, and yet containers and clusters have such names.
    let absolute = Name::from_ascii(format!("{}.", name.trim_end_matches('.')));
    let absolute = absolute.map_err(|error| {
        Fault::new(
            Reason::DnsNotFound,
            format!("{name} cannot be a name in DNS: {error}"),
        )
    })?;
    match resolver.lookup_ip(absolute).await {
        Ok(found) => Ok(found.iter().collect()),
        Err(error) => Err(fault(server, name, &error)),
    }
}

/// Made for one look-up: nothing of it may be remembered, for a probe wants to know what holds now.
fn resolver(server: SocketAddr, family: Option<IpFamily>) -> Result<TokioResolver, NetError> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let name_server = NameServerConfig::new(server.ip(), true, connections.into());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = PATIENCE;
    options.attempts = ATTEMPTS - 1;
    options.ip_strategy = match family {
        None => LookupIpStrategy::Ipv6AndIpv4,
        Some(IpFamily::V4) => LookupIpStrategy::Ipv4Only,
        Some(IpFamily::V6) => LookupIpStrategy::Ipv6Only,
    };
    builder.build()
}

fn fault(server: SocketAddr, name: &str, error: &NetError) -> Fault {
    let (reason, message) = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => (
                Reason::DnsNotFound,
                format!("{server} says that {name} does not exist"),
            ),
            ResponseCode::NoError => (
                Reason::DnsNotFound,
                format!("{server} has no address for {name}"),
            ),
            code => (
                Reason::DnsFailure,
                format!("{server} cannot look up {name}: {code}"),
            ),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => (
            Reason::DnsFailure,
            format!("{server} cannot look up {name}: {code}"),
        ),
        NetError::Timeout => (
            Reason::DnsTimeout,
            format!("{server} did not answer for {name}"),
        ),
        other => (
            Reason::DnsFailure,
            format!("{server} cannot be asked for {name}: {other}"),
        ),
    };
    Fault::new(reason, message)
}
