//! A header of the user's, judged.

use http::{HeaderName, HeaderValue};

use super::checked::Findings;
use super::complaint::Complaint;
use super::endpoint::shown_header;
use super::raw::Pair;
use super::substitute::Sources;
use crate::model::{Header, Secret};

/// A header that can be sent, marked as sensitive, or a complaint. What must not be shown of it goes to `secrets`.
pub(super) fn check_header(
    (name, value): &Pair,
    secrets: &mut Vec<Secret>,
    sources: &Sources<'_>,
    out: &mut Findings,
) -> Option<Header> {
    let text = out.substitute(value, sources)?;
    let Ok(header) = name.value.parse::<HeaderName>() else {
        out.error(Complaint::at(
            name.span.clone(),
            "this is no name for a header",
            "letters, digits and hyphens",
        ));
        return None;
    };
    let Ok(mut header_value) = HeaderValue::from_str(&text.value) else {
        out.error(Complaint::at(
            value.span.clone(),
            format!("the value of header {header} cannot be sent"),
            "it holds a line end or a control character",
        ));
        return None;
    };
    header_value.set_sensitive(true);
    secrets.extend(text.secrets);
    secrets.extend(secrets_of_header(&text.value));
    Some(Header {
        name: header,
        value: header_value,
        shown: shown_header(&text.shown),
    })
}

/// A header's value and its parts, typed in clear or not: all but the name of a scheme (`Bearer`) and of cookies.
fn secrets_of_header(value: &str) -> Vec<Secret> {
    let is_scheme = |index: usize, part: &str| {
        index == 0 && part != value && part.chars().all(|c| c.is_ascii_alphabetic())
    };
    let parts = value.split([' ', ';', ',']).filter(|part| !part.is_empty());
    let parts = parts
        .enumerate()
        .filter(|(index, part)| !is_scheme(*index, part))
        .map(|(_, part)| part.split_once('=').map_or(part, |(_, value)| value));
    std::iter::once(value)
        .chain(parts)
        .map(Secret::new)
        .collect()
}
