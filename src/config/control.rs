//! `[self] control`: what must be reachable for the prober itself to be well.

use toml::de::DeTable;
use url::Url;

use super::checked::Findings;
use super::complaint::Complaint;
use super::keys::{Keys, Typed, nearest};
use crate::model::ControlPoint;

/// All of them are asked at once in the moment of trouble; a few prove as much as many.
const MAX_CONTROLS: usize = 16;

/// The words and beginnings that a control can have.
const KINDS: &str = "\"gateway\", \"dns\", \"tcp://192.0.2.1:443\", \"https://example.com/\"";

/// `control` as it was typed.
pub(super) struct RawControls(Typed<Vec<Typed<String>>>);

impl RawControls {
    pub(super) fn read<'t>(
        table: &'t DeTable<'t>,
        complaints: &mut Vec<Complaint>,
    ) -> Option<Self> {
        let mut keys = Keys::of(table, "[self]", &["control"], complaints);
        keys.texts("control").map(Self)
    }

    pub(super) fn check(self, out: &mut Findings) -> Vec<ControlPoint> {
        let Self(list) = self;
        if list.value.len() > MAX_CONTROLS {
            out.error(Complaint::at(
                list.span,
                format!("`control` names more than {MAX_CONTROLS}"),
                "a few prove as much",
            ));
        }
        let typed = list.value.into_iter();
        typed
            .filter_map(|typed| check_control(&typed, out))
            .collect()
    }
}

fn check_control(typed: &Typed<String>, out: &mut Findings) -> Option<ControlPoint> {
    match parse(&typed.value) {
        Ok(control) => Some(control),
        Err(why) => {
            out.error(
                Complaint::at(typed.span.clone(), "this cannot be a control", why)
                    .help(format!("possible: {KINDS}")),
            );
            None
        }
    }
}

fn parse(text: &str) -> Result<ControlPoint, String> {
    match text {
        "gateway" => return Ok(ControlPoint::Gateway),
        "dns" => return Ok(ControlPoint::Dns),
        _ => {}
    }
    if !text.contains("://") {
        return Err(match nearest(text, &["gateway", "dns"]) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "neither a known word nor a URL".to_owned(),
        });
    }
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".to_owned());
    }
    // A control is shown wherever it fails.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a control is asked without user and password".to_owned());
    }
    match (url.scheme(), url.host_str(), url.port()) {
        ("http" | "https", ..) => Ok(ControlPoint::Http(text.to_owned())),
        ("tcp", _, _) if !matches!(url.path(), "" | "/") || url.query().is_some() => {
            Err("only a host and a port follow tcp://".to_owned())
        }
        ("tcp", Some(host), Some(port)) => Ok(ControlPoint::Tcp(format!("{host}:{port}"))),
        ("tcp", ..) => Err("names no port".to_owned()),
        (scheme, ..) => Err(format!("{scheme}:// is not supported")),
    }
}
