//! Where our own spans go.

use http::HeaderMap;
use url::Url;

use super::ClientTls;

/// The OTLP receiver, as `[telemetry]` describes it. The environment may say otherwise.
#[derive(Clone, Debug, Default)]
pub struct ReceiverSettings {
    /// Base URL; nothing is exported without one.
    pub endpoint: Option<Url>,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// Sent with every request. All are treated as secret.
    pub headers: HeaderMap,
    /// For an `https` endpoint.
    pub tls: ClientTls,
}

/// `protocol`: one of OTLP's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// POST of protobuf over HTTP/1.1.
    #[default]
    Http,
    /// gRPC.
    Grpc,
}

impl OtlpProtocol {
    /// Each with its name, which is the specification's.
    pub const NAMES: [(&str, Self); 2] = [("http/protobuf", Self::Http), ("grpc", Self::Grpc)];
}
