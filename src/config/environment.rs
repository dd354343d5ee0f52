//! The proxy that the environment names: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, by the rules of curl.

use base64::Engine;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use super::network::proxy_at;
use crate::model::{Proxy, Secret};

/// Looks up a variable.
type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

/// What the environment says about the way to one URL.
#[derive(Default)]
pub(super) struct ProxyOfEnvironment {
    pub(super) proxy: Option<Proxy>,
    /// A sentence for each variable that was meant for this URL and cannot be used. None repeats a value.
    pub(super) doubts: Vec<String>,
}

impl ProxyOfEnvironment {
    /// For `url`; what must not be shown goes to `secrets`.
    pub(super) fn of(env: Variables<'_>, url: &Url, secrets: &mut Vec<Secret>) -> Self {
        let own = match url.scheme() {
            "https" => named(env, ["https_proxy", "HTTPS_PROXY"]),
            _ => named(env, ["http_proxy", "HTTP_PROXY"]),
        };
        let all = named(env, ["all_proxy", "ALL_PROXY"]);
        // Nearly always there is none: then no target costs more than these two looks.
        if own.is_none() && all.is_none() {
            return Self::default();
        }
        let not_for = named(env, ["no_proxy", "NO_PROXY"]);
        let not_for = not_for.map(|(_, value)| value).unwrap_or_default();
        let mut found = Self::default();
        for (name, value) in own.into_iter().chain(all) {
            let problem = problem_of(&value);
            // Whom `NO_PROXY` keeps away from a proxy need not hear of it.
            let usable = if problem.is_none() {
                &value
            } else {
                "http://x"
            };
            let Some(intercept) = through(usable, &not_for, url) else {
                return found;
            };
            if let Some(problem) = problem {
                let doubt = format!("the variable {name} {problem}: it is passed over");
                found.doubts.push(doubt);
                continue;
            }
            found.proxy = proxy(&intercept, secrets);
            break;
        }
        found
    }
}

/// The first of the names that is set, and its value.
fn named(env: Variables<'_>, names: [&'static str; 2]) -> Option<(&'static str, String)> {
    let values = names
        .into_iter()
        .filter_map(|name| Some((name, env(name)?)));
    // Set and empty means none, also where the other one says otherwise.
    values.take(1).find(|(_, value)| !value.trim().is_empty())
}

/// Why no proxy can be meant. The value may hold a credential and is not told.
fn problem_of(value: &str) -> Option<&'static str> {
    let uri = value.trim().parse::<Uri>().ok();
    let Some(uri) = uri.filter(|uri| uri.authority().is_some()) else {
        return Some("is no URL of a proxy");
    };
    match uri.scheme_str() {
        None | Some("http" | "https") => None,
        Some(scheme) if scheme.starts_with("socks") => {
            Some("names a SOCKS proxy, which is not supported")
        }
        Some(_) => Some("names a proxy that is neither http:// nor https://"),
    }
}

/// The way to `url` by the proxy `value`, unless `not_for` keeps it off.
fn through(
    value: &str,
    not_for: &str,
    url: &Url,
) -> Option<hyper_util::client::proxy::matcher::Intercept> {
    // For curl that is every host; the matcher takes it for the name of one.
    if not_for.split(',').any(|part| part.trim() == "*") {
        return None;
    }
    let matcher = Matcher::builder()
        .all(value.trim().to_owned())
        .no(not_for.to_owned());
    matcher.build().intercept(&url.as_str().parse().ok()?)
}

fn proxy(
    found: &hyper_util::client::proxy::matcher::Intercept,
    secrets: &mut Vec<Secret>,
) -> Option<Proxy> {
    let mut proxy = proxy_at(Url::parse(&found.uri().to_string()).ok()?, secrets);
    if let Some(authorization) = found.basic_auth() {
        let mut authorization = authorization.clone();
        authorization.set_sensitive(true);
        secrets.extend(secrets_of_basic(&authorization));
        proxy.authorization = Some(authorization);
    }
    Some(proxy)
}

/// What Basic authentication hides: the pair as it is sent, and the password.
fn secrets_of_basic(value: &HeaderValue) -> Vec<Secret> {
    let text = value.to_str().unwrap_or_default();
    let pair = text.split(' ').next_back().unwrap_or_default();
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(pair)
        .unwrap_or_default();
    let decoded = String::from_utf8_lossy(&decoded);
    let password = decoded.split_once(':').map(|(_, password)| password);
    [Some(pair), password]
        .into_iter()
        .flatten()
        .map(Secret::new)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy for `https://host.example/`, and the variables that are doubted.
    fn found(vars: &[(&str, &str)]) -> (String, Vec<String>) {
        let env = |name: &str| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let url = Url::parse("https://host.example/mcp").unwrap();
        let found = ProxyOfEnvironment::of(&env, &url, &mut Vec::new());
        let doubted = found.doubts.iter().map(|doubt| {
            assert!(!doubt.contains("hidden"), "{doubt}");
            doubt.split(' ').nth(2).unwrap().to_owned()
        });
        let proxy = found
            .proxy
            .map_or_else(String::new, |proxy| proxy.url.to_string());
        (proxy, doubted.collect())
    }

    #[test]
    fn what_cannot_be_used_is_told_where_it_matters() {
        let (socks, good) = ("socks5h://user:hidden@p:1080", "http://p:3128");
        for (vars, proxy, doubted) in [
            (&[("ALL_PROXY", good)][..], "http://p:3128/", &[][..]),
            (&[("https_proxy", "p:3128")], "http://p:3128/", &[]),
            (&[("ALL_PROXY", socks)], "", &["ALL_PROXY"]),
            (&[("all_proxy", "ftp://p")], "", &["all_proxy"]),
            (
                &[("HTTPS_PROXY", "not a url, hidden")],
                "",
                &["HTTPS_PROXY"],
            ),
            (
                &[("HTTPS_PROXY", socks), ("ALL_PROXY", good)],
                "http://p:3128/",
                &["HTTPS_PROXY"],
            ),
            (
                &[("HTTPS_PROXY", good), ("ALL_PROXY", socks)],
                "http://p:3128/",
                &[],
            ),
            (&[("HTTP_PROXY", socks)], "", &[]),
            (&[("https_proxy", ""), ("HTTPS_PROXY", good)], "", &[]),
            (&[("ALL_PROXY", socks), ("NO_PROXY", "a, *.b , *")], "", &[]),
            (&[("ALL_PROXY", good), ("NO_PROXY", "*, foo")], "", &[]),
            (
                &[("ALL_PROXY", socks), ("no_proxy", "host.example")],
                "",
                &[],
            ),
            (
                &[("ALL_PROXY", good), ("no_proxy", "other")],
                "http://p:3128/",
                &[],
            ),
        ] {
            let doubted = doubted.iter().map(|name: &&str| (*name).to_owned());
            assert_eq!(
                found(vars),
                (proxy.to_owned(), doubted.collect()),
                "{vars:?}"
            );
        }
    }
}
