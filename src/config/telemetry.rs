//! `[telemetry]`, judged.

use std::fs::File;

use super::checked::Findings;
use super::complaint::Complaint;
use super::endpoint::check_url;
use super::header::check_header;
use super::keys::Typed;
use super::raw::RawTelemetry;
use super::substitute::Sources;
use super::{DEFAULT_TRACESTATE, TelemetrySettings, tracestate};
use crate::model::{ClientTls, Identity, Pem, ReceiverSettings};

pub(super) fn check_telemetry(
    raw: RawTelemetry,
    sources: &Sources<'_>,
    out: &mut Findings,
) -> TelemetrySettings {
    let tls = check_tls(&raw, sources, out);
    let endpoint = raw.endpoint.and_then(|endpoint| {
        let text = out.substitute(&endpoint, sources)?;
        check_url(&text.value, &endpoint.span, "endpoint", out)
    });
    if endpoint.as_ref().is_some_and(|url| url.scheme() == "http") {
        for file in [&raw.ca_file, &raw.cert_file, &raw.key_file] {
            out.warnings.extend(file.as_ref().map(|file| {
                Complaint::at(
                    file.span.clone(),
                    "this has no effect here",
                    "only for an https endpoint, and `endpoint` is http",
                )
            }));
        }
    }
    let headers = raw
        .headers
        .iter()
        // What the receiver says back is never shown, so what must not be shown need not be remembered.
        .filter_map(|header| check_header(header, &mut Vec::new(), sources, out))
        .collect();
    TelemetrySettings {
        receiver: ReceiverSettings {
            endpoint,
            protocol: raw.protocol.unwrap_or_default(),
            headers,
            tls,
        },
        tracestate: check_tracestate(raw.tracestate, out),
    }
}

fn check_tracestate(state: Option<Typed<String>>, out: &mut Findings) -> String {
    let Some(state) = state else {
        return DEFAULT_TRACESTATE.to_owned();
    };
    if let Err(why) = tracestate::check(&state.value) {
        out.error(
            Complaint::at(state.span, "`tracestate` is not valid", why)
                .help("W3C Trace Context: key=value pairs with commas between, such as alivemcp=probe,vendor=otlp"),
        );
    }
    state.value
}

fn check_tls(raw: &RawTelemetry, sources: &Sources<'_>, out: &mut Findings) -> ClientTls {
    let mut pem = |file: &Option<Typed<String>>, key, read: fn(File) -> Result<Pem, String>| {
        let file = file.as_ref()?;
        let path = sources.folder.join(out.substitute(file, sources)?.value);
        let read = File::open(path)
            .map_err(|error| format!("cannot be read: {error}"))
            .and_then(read);
        read.map_err(|why| out.error(unusable(file, key, why))).ok()
    };
    let authorities = pem(&raw.ca_file, "ca_file", Pem::certificates);
    let certificate = pem(&raw.cert_file, "cert_file", Pem::certificates);
    let private_key = pem(&raw.key_file, "key_file", Pem::private_key);
    for (file, other) in [(&raw.cert_file, "key_file"), (&raw.key_file, "cert_file")] {
        if let Some(file) = file
            && !raw.given.contains(&other)
        {
            out.error(Complaint::at(
                file.span.clone(),
                format!("`{other}` is missing"),
                "a client's certificate and its key are needed together",
            ));
        }
    }
    let identity = certificate.zip(private_key).and_then(|(certificate, key)| {
        let file = raw.key_file.as_ref()?;
        Identity::new(certificate, key)
            .map_err(|why| out.error(unusable(file, "key_file", why)))
            .ok()
    });
    ClientTls {
        authorities,
        identity,
    }
}

fn unusable(file: &Typed<String>, key: &str, why: String) -> Complaint {
    // The path is not told: where PEM was typed or put in instead of a path, it is the secret itself.
    Complaint::at(
        file.span.clone(),
        format!("the file of `{key}` cannot be used"),
        format!("it {why}"),
    )
    .help("a file in PEM; a relative path starts at the folder of this file")
}
