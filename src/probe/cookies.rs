//! Cookies that servers handed out in this probe: a load balancer knows by them which replica holds our session.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use url::{Origin, Url};

use super::limits;
use crate::model::Secret;

/// One probe's cookies, shared by its clients. They are sent to the origin that they came from, whatever the path.
#[derive(Clone, Default)]
pub(super) struct Cookies(Arc<Mutex<Jar>>);

#[derive(Default)]
struct Jar {
    cookies: Vec<Cookie>,
    /// Every value that was kept once, and must not be shown.
    values: Vec<String>,
}

struct Cookie {
    origin: Origin,
    name: String,
    value: String,
}

impl Cookies {
    fn jar(&self) -> MutexGuard<'_, Jar> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what an answer from `url` sets, and forgets what it takes back.
    pub(super) fn keep(&self, url: &Url, headers: &HeaderMap) {
        // Nearly always there is none.
        if !headers.contains_key(SET_COOKIE) {
            return;
        }
        let lines = headers.get_all(SET_COOKIE).iter();
        for line in lines.filter_map(|line| line.to_str().ok()) {
            self.jar().keep(url.origin(), line);
        }
    }

    /// The `Cookie` of a request to `url` with these headers: one of the user's among them goes first and wins.
    pub(super) fn header(&self, url: &Url, headers: &HeaderMap) -> Option<HeaderValue> {
        let jar = self.jar();
        if jar.cookies.is_empty() {
            return None;
        }
        let typed = headers.get(COOKIE).and_then(|typed| typed.to_str().ok());
        let names: Vec<_> = typed
            .unwrap_or_default()
            .split(';')
            .map(|pair| pair.split('=').next().unwrap_or_default().trim())
            .collect();
        let origin = url.origin();
        let own = jar
            .cookies
            .iter()
            .filter(|cookie| cookie.origin == origin && !names.contains(&cookie.name.as_str()))
            .map(|cookie| format!("{}={}", cookie.name, cookie.value));
        let pairs: Vec<_> = typed.map(str::to_owned).into_iter().chain(own).collect();
        let mut value = HeaderValue::from_str(&pairs.join("; ")).ok()?;
        value.set_sensitive(true);
        (!value.is_empty()).then_some(value)
    }

    /// What a server may repeat and nobody may see.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let jar = self.jar();
        let values = jar.values.iter().map(|value| Secret::new(value.as_str()));
        values.flat_map(|secret| secret.forms()).collect()
    }
}

impl Jar {
    fn keep(&mut self, origin: Origin, line: &str) {
        let mut parts = line.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.len() + value.len() > limits::MAX_COOKIE {
            return;
        }
        let known = self
            .cookies
            .iter()
            .position(|cookie| cookie.origin == origin && cookie.name == name);
        if value.is_empty() || parts.any(is_over) {
            if let Some(index) = known {
                self.cookies.remove(index);
            }
            return;
        }
        let room = known.is_some() || self.cookies.len() < limits::MAX_COOKIES;
        if !room || !self.remember(value) {
            return;
        }
        if let Some(index) = known {
            self.cookies.remove(index);
        }
        self.cookies.push(Cookie {
            origin,
            name: name.to_owned(),
            value: value.to_owned(),
        });
    }

    /// Whether the value is among those that are not shown.
    fn remember(&mut self, value: &str) -> bool {
        if self.values.iter().any(|known| known == value) {
            return true;
        }
        let room = self.values.len() < limits::MAX_COOKIE_VALUES;
        if room {
            self.values.push(value.to_owned());
        }
        room
    }
}

/// `Max-Age=0`: the cookie is taken back.
fn is_over(attribute: &str) -> bool {
    attribute.split_once('=').is_some_and(|(name, value)| {
        let seconds = value.trim().parse::<i64>();
        name.trim().eq_ignore_ascii_case("max-age") && seconds.is_ok_and(|seconds| seconds <= 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    /// What is sent to `http://a/` after these were set by it.
    fn sent(set: &[&str], typed: Option<&'static str>) -> String {
        let cookies = Cookies::default();
        for line in set {
            let mut headers = HeaderMap::new();
            headers.insert(SET_COOKIE, HeaderValue::from_str(line).unwrap());
            cookies.keep(&url("http://a/mcp"), &headers);
        }
        let typed = typed.map(|typed| (COOKIE, HeaderValue::from_static(typed)));
        let elsewhere = cookies.header(&url("http://a:81/"), &HeaderMap::new());
        assert!(elsewhere.is_none());
        let value = cookies.header(&url("http://a/"), &typed.into_iter().collect());
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn keeps_names_and_values_of_one_origin() {
        let large = format!("large={}", "x".repeat(limits::MAX_COOKIE));
        for (set, typed, expected) in [
            (&["a=1; Path=/; HttpOnly"][..], None, "a=1"),
            (&["a=1", "b = 2=3 "], None, "a=1; b=2=3"),
            (&["a=1", "a=2; Max-Age=60"], None, "a=2"),
            (&["a=1", "a=x; max-age=0"], None, ""),
            (&["a=1", "b=2", "a="], None, "b=2"),
            (&["a=1", "b=2"], Some("b=mine; c"), "b=mine; c; a=1"),
            (&["novalue", "=1", &large], None, ""),
        ] {
            assert_eq!(sent(set, typed), expected, "{set:?}");
        }
    }

    #[test]
    fn keeps_no_more_than_a_few() {
        let many: Vec<_> = (0..1_000).map(|n| format!("c{n}=value-{n}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let count = sent(&many, None).split("; ").count();
        assert_eq!(count, limits::MAX_COOKIES);
        let changing: Vec<_> = (0..1_000).map(|n| format!("c=value-{n}")).collect();
        let changing: Vec<_> = changing.iter().map(String::as_str).collect();
        let last = limits::MAX_COOKIE_VALUES - 1;
        assert_eq!(sent(&changing, None), format!("c=value-{last}"));
    }
}
