//! Sends spans to the receiver, over HTTP or gRPC.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::{BuilderVerifierExt, Verifier};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::receiver::Receiver;
use super::settings::ExportSettings;
use crate::model::{OtlpProtocol, Text};

/// The SDK's exporter, and what it takes to make another.
pub(super) struct Exporter {
    receiver: Receiver,
    client: Client,
    resource: Resource,
    /// Of one request with all its repetitions, connection included.
    timeout: Duration,
    sdk: SpanExporter,
}

/// With TLS set up: reading the platform's roots takes milliseconds, so it is done once, and only for `https`.
enum Client {
    Http(reqwest::Client),
    Grpc(Box<Endpoint>),
}

impl Exporter {
    /// Has to be called in a tokio runtime. Connects to nobody yet.
    ///
    /// # Errors
    /// What cannot be used; a failure to make a client.
    pub(super) fn new(receiver: &Receiver, settings: &ExportSettings) -> Result<Self, String> {
        let failed = |error: Box<dyn Error>| format!("the exporter cannot be made: {error}");
        let client = match receiver.protocol {
            OtlpProtocol::Http => http_client(receiver).map(Client::Http),
            OtlpProtocol::Grpc => {
                grpc_endpoint(receiver).map(|endpoint| Client::Grpc(Box::new(endpoint)))
            }
        }
        .map_err(failed)?;
        let resource = resource(settings);
        let sdk = sdk(receiver, &client, settings.timeout, &resource).map_err(failed)?;
        Ok(Self {
            receiver: receiver.clone(),
            client,
            resource,
            timeout: settings.timeout,
            sdk,
        })
    }

    /// Sends a batch.
    ///
    /// # Errors
    /// Why the receiver does not have it.
    pub(super) async fn export(&mut self, batch: Vec<SpanData>) -> Result<(), Text> {
        // The SDK only refrains from repeating after this time, and gRPC waits for its connection without end.
        match tokio::time::timeout(self.timeout, self.sdk.export(batch)).await {
            Ok(result) => result.map_err(|error| Text::new(error.to_string())),
            Err(_) => {
                // A connection whose other end has vanished would be waited on again.
                if let Ok(sdk) = sdk(&self.receiver, &self.client, self.timeout, &self.resource) {
                    self.sdk = sdk;
                }
                let timeout = humantime::format_duration(self.timeout);
                Err(Text::from(format!("no answer within {timeout}")))
            }
        }
    }

    /// The receiver as it may be shown.
    pub(super) fn shown(&self) -> String {
        self.receiver.shown()
    }
}

/// Who we are.
pub(super) fn resource(settings: &ExportSettings) -> Resource {
    let mut resource = Resource::builder();
    if !settings.service_named {
        resource = resource.with_service_name("mcpprobe");
    }
    resource.build()
}

fn sdk(
    receiver: &Receiver,
    client: &Client,
    timeout: Duration,
    resource: &Resource,
) -> Result<SpanExporter, Box<dyn Error>> {
    let mut exporter = match client {
        Client::Http(client) => SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_endpoint(receiver.url.as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(timeout)
            .build()?,
        Client::Grpc(endpoint) => SpanExporter::builder()
            .with_tonic()
            .with_channel(endpoint.connect_lazy())
            .with_metadata(MetadataMap::from_headers(receiver.headers.clone()))
            .with_timeout(timeout)
            .build()?,
    };
    exporter.set_resource(resource);
    Ok(exporter)
}

/// Headers and certificates go to the receiver that the user named, so no redirect is followed.
fn http_client(receiver: &Receiver) -> Result<reqwest::Client, Box<dyn Error>> {
    Ok(reqwest::Client::builder()
        .default_headers(receiver.headers.clone())
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(http_tls(receiver)?)
        .build()?)
}

fn http_tls(receiver: &Receiver) -> Result<ClientConfig, Box<dyn Error>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match &receiver.tls.authorities {
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for certificate in authorities.to_certificates()? {
                roots.add(certificate)?;
            }
            builder.with_root_certificates(roots)
        }
        None if receiver.url.scheme() == "https" => builder.with_platform_verifier()?,
        // Never asked, and the platform's roots would be read for nothing.
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(match &receiver.tls.identity {
        Some(identity) => builder.with_client_auth_cert(
            identity.certificate().to_certificates()?,
            identity.key().to_private_key()?,
        )?,
        None => builder.with_no_client_auth(),
    })
}

fn grpc_endpoint(receiver: &Receiver) -> Result<Endpoint, Box<dyn Error>> {
    let endpoint = Endpoint::from_shared(receiver.url.to_string())?;
    if receiver.url.scheme() != "https" {
        return Ok(endpoint);
    }
    let mut tls = ClientTlsConfig::new();
    if let Some(identity) = &receiver.tls.identity {
        tls = tls.identity(Identity::from_pem(
            identity.certificate().expose(),
            identity.key().expose(),
        ));
    }
    Ok(match &receiver.tls.authorities {
        Some(authorities) => {
            endpoint.tls_config(tls.ca_certificate(Certificate::from_pem(authorities.expose())))?
        }
        None => {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            endpoint.tls_config_with_verifier(tls, Arc::new(Verifier::new(provider)?))?
        }
    })
}
