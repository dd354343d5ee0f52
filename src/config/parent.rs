//! `parent` of the servers: each exists, and none is its own ancestor.

use std::collections::BTreeMap;

use super::checked::Findings;
use super::complaint::Complaint;
use super::keys::{Typed, nearest};
use super::raw::RawServer;

/// Complains about parents that do not exist and about cycles, each cycle once.
pub(super) fn check(servers: &[RawServer], out: &mut Findings) {
    let name = |server: &RawServer| server.name.as_ref().map(|name| name.value.clone());
    let names: Vec<_> = servers.iter().filter_map(name).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut parents: BTreeMap<&str, &Typed<String>> = BTreeMap::new();
    for server in servers {
        let Some(parent) = &server.parent else {
            continue;
        };
        if !names.contains(&parent.value.as_str()) {
            out.error(no_such_server(parent, &names));
        }
        if let Some(name) = &server.name {
            parents.insert(&name.value, parent);
        }
    }
    // Of a cycle that has been told, or a line that ends.
    let mut seen: Vec<&str> = Vec::new();
    for start in &names {
        let mut line: Vec<&str> = Vec::new();
        let mut at = *start;
        while !seen.contains(&at)
            && let Some(parent) = parents.get(at)
        {
            line.push(at);
            seen.push(at);
            at = parent.value.as_str();
            if let Some(from) = line.iter().position(|name| *name == at) {
                out.error(cycle(parent, line.get(from..).unwrap_or_default()));
            }
        }
    }
}

fn no_such_server(parent: &Typed<String>, names: &[&str]) -> Complaint {
    let label = match nearest(&parent.value, names) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "no [[server]] has this name".to_owned(),
    };
    Complaint::at(
        parent.span.clone(),
        format!("there is no server \"{}\"", parent.value.escape_debug()),
        label,
    )
}

fn cycle(parent: &Typed<String>, names: &[&str]) -> Complaint {
    let label = match names {
        [_] => "a server cannot be its own parent".to_owned(),
        names => format!("{} -> {}", names.join(" -> "), parent.value),
    };
    Complaint::at(parent.span.clone(), "`parent` leads back to itself", label)
}
