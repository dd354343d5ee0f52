//! `expect`: the same in a profile, in `[defaults]` and in a `[[server]]`, so it is read and judged in one go.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::checked::Findings;
use super::complaint::Complaint;
use super::keys::{Keys, Typed};
use crate::model::{Endpoint, Expect, Expectation, Layer};

/// A layer or probe that takes longer has long met its deadline; less than a millisecond nobody can promise.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);
/// More than any list that a probe reads to its end holds.
const TOOLS: RangeInclusive<u32> = 1..=1_000_000;
/// Ten years; certificates that are signed by public authorities live for months.
const DAYS: RangeInclusive<u32> = 1..=3_650;

/// `expect` as it was typed.
#[derive(Default)]
pub(super) struct RawExpect {
    /// What it says.
    pub(super) expect: Expect,
    /// Where each expectation stands.
    pub(super) given: Vec<(Expectation, Range<usize>)>,
}

/// Reads the key `expect` of a table: a table, or the word "auth_challenge" for it alone.
pub(super) fn read(keys: &mut Keys<'_, '_>) -> RawExpect {
    let mut raw = RawExpect::default();
    if keys.is_text("expect") {
        let span = keys.span("expect");
        if keys.word("expect", &[("auth_challenge", ())]).is_some() {
            raw.expect.auth_challenge = Some(true);
            raw.given.push((Expectation::AuthChallenge, span));
        }
        return raw;
    }
    let names = Expectation::ALL.map(Expectation::as_str);
    let known: Vec<_> = names.into_iter().chain(["down"]).collect();
    let Some(mut keys) = keys.inside("expect", &known) else {
        return raw;
    };
    let expect = &mut raw.expect;
    expect.auth_challenge = keys.boolean("auth_challenge");
    expect.tools = keys.texts("tools").map(values);
    expect.min_tools = keys.integer("min_tools", TOOLS);
    expect.max_latency = time(&mut keys, Expectation::MaxLatency);
    for layer in Layer::ALL {
        *expect.max_layer(layer) = time(&mut keys, Expectation::MaxLayer(layer));
    }
    expect.certificate_days = keys.integer("certificate_days", DAYS);
    let outages = Expectation::ALL
        .into_iter()
        .filter(|expectation| *expectation != Expectation::AuthChallenge)
        .map(|expectation| (expectation.as_str(), expectation));
    expect.down = keys.words("down", &outages.collect::<Vec<_>>());
    raw.given = Expectation::ALL
        .into_iter()
        .filter(|expectation| keys.has(expectation.as_str()))
        .map(|expectation| (expectation, keys.span(expectation.as_str())))
        .collect();
    raw
}

fn values(list: Typed<Vec<Typed<String>>>) -> Vec<String> {
    list.value.into_iter().map(|text| text.value).collect()
}

fn time(keys: &mut Keys<'_, '_>, expectation: Expectation) -> Option<Duration> {
    let key = expectation.as_str();
    let typed = keys.duration(key)?;
    if TIMES.contains(&typed.value) {
        return Some(typed.value);
    }
    keys.complain(Complaint::at(
        typed.span,
        format!("`{key}` is out of range"),
        "has to be from 1ms to 10m",
    ));
    None
}

impl RawExpect {
    /// Complains about what could never be looked at, because the probe ends before it.
    pub(super) fn check_depth(&self, depth: Layer, complaints: &mut Vec<Complaint>) {
        for (expectation, span) in &self.given {
            if expectation.needs() > depth {
                complaints.push(Complaint::at(
                    span.clone(),
                    format!("`{}` is never looked at", expectation.as_str()),
                    format!("the profile ends at `{}`", depth.as_str()),
                ));
            }
        }
    }

    /// Complains about what a server at `endpoint` cannot show.
    pub(super) fn check_endpoint(&self, endpoint: &Endpoint, out: &mut Findings) {
        let is_https = match endpoint {
            Endpoint::Http(http) => http.url.scheme() == "https",
            Endpoint::Stdio(_) => false,
        };
        let is_stdio = matches!(endpoint, Endpoint::Stdio(_));
        for (expectation, span) in &self.given {
            let why = match expectation {
                Expectation::CertificateDays if !is_https => "only for a `url` with https://",
                Expectation::AuthChallenge | Expectation::MaxLayer(Layer::Http) if is_stdio => {
                    "only for a `url`"
                }
                _ => continue,
            };
            out.error(Complaint::at(span.clone(), "this has no effect here", why));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;
    use crate::model::EraMode;

    #[test]
    fn the_servers_word_counts_then_its_profiles_then_that_of_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let profile = "description = \"Mine.\"\ndepth = \"tools_list\"\nera = \"modern\"\n\
                       expect = { min_tools = 2, tools = [\"profile\"] }\n";
        std::fs::write(folder.path().join("mine.toml"), profile).unwrap();
        let text = "
            [defaults]
            era = \"legacy\"
            expect = { min_tools = 3, tools = [\"defaults\"], certificate_days = 3 }
            [[server]]
            name = \"own\"
            url = \"https://a.example/mcp\"
            profile = \"mine.toml\"
            era = \"auto\"
            expect = { min_tools = 1 }
            [[server]]
            name = \"profile\"
            url = \"https://a.example/mcp\"
            profile = \"mine.toml\"
            [[server]]
            name = \"defaults\"
            url = \"https://a.example/mcp\"
        ";
        let targets = targets(text, folder.path());
        let found: Vec<_> = targets
            .iter()
            .map(|target| {
                let expect = &target.expect;
                let tools = expect.tools.as_ref().map(|tools| tools.concat());
                (target.era, expect.min_tools, tools.unwrap_or_default())
            })
            .collect();
        assert_eq!(
            found,
            [
                (EraMode::Auto, Some(1), "profile".to_owned()),
                (EraMode::Modern, Some(2), "profile".to_owned()),
                (EraMode::Legacy, Some(3), "defaults".to_owned()),
            ]
        );
        assert!(
            targets
                .iter()
                .all(|target| target.expect.certificate_days == Some(3))
        );
    }

    fn targets(text: &str, folder: &Path) -> Vec<crate::model::Target> {
        let loaded = parse(
            text,
            "servers.toml",
            folder,
            &|_| None,
            std::time::SystemTime::UNIX_EPOCH,
        );
        loaded.unwrap().config.targets
    }
}
