//! `[telemetry]`, judged.

use super::checked::Findings;
use super::client_tls::TlsFiles;
use super::complaint::Complaint;
use super::endpoint::check_url;
use super::header::check_header;
use super::keys::Typed;
use super::raw::RawTelemetry;
use super::substitute::Sources;
use super::{DEFAULT_TRACESTATE, TelemetrySettings, tracestate};
use crate::model::ReceiverSettings;

pub(super) fn check_telemetry(
    raw: RawTelemetry,
    sources: &Sources<'_>,
    out: &mut Findings,
) -> TelemetrySettings {
    let files = TlsFiles {
        given: &raw.given,
        ca_file: raw.ca_file.as_ref(),
        cert_file: raw.cert_file.as_ref(),
        key_file: raw.key_file.as_ref(),
    };
    let tls = files.check(sources, out);
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
        .map(|header| (header.name, header.value))
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
