//! A request as a `curl` that repeats it, for somebody to paste into a shell.

use std::net::SocketAddr;

use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderName, Method};
use url::{Host, Url};

use super::transcript::shown;
use crate::model::{HttpEndpoint, IpFamily};

/// Where requests go, and what the user said about the way.
pub(super) struct Curl<'a> {
    pub(super) endpoint: &'a HttpEndpoint,
    /// The endpoint's URL, or where it redirected to.
    pub(super) url: &'a Url,
    /// The user's headers and certificate may be sent to `url`.
    pub(super) own: bool,
    /// The address that was connected to: a proxy's, where there is one.
    pub(super) reached: Option<SocketAddr>,
}

impl Curl<'_> {
    /// The whole command.
    pub(super) fn command(&self, method: &Method, headers: &HeaderMap, body: &[u8]) -> String {
        let mut words = vec!["curl -sS -i".to_owned()];
        if *method != Method::POST {
            words.push(format!("-X {method}"));
        }
        words.extend(self.way());
        words.extend(self.tls());
        words.push(self.place());
        words.extend(self.headers(headers));
        if !body.is_empty() {
            let body = String::from_utf8_lossy(body);
            words.push(format!("--data-raw {}", quoted(&body)));
        }
        words.join(" ")
    }

    /// How to get there.
    fn way(&self) -> Vec<String> {
        if let Some(socket) = self.endpoint.socket.as_deref().filter(|_| self.own) {
            return vec![format!(
                "--unix-socket {}",
                quoted(&socket.to_string_lossy())
            )];
        }
        let network = &self.endpoint.network;
        let mut words = Vec::new();
        words.extend(network.family.map(|family| match family {
            IpFamily::V4 => "-4".to_owned(),
            IpFamily::V6 => "-6".to_owned(),
        }));
        words.extend(network.source_address.map(|ip| format!("--interface {ip}")));
        let first = match &network.proxy {
            Some(proxy) => {
                words.push(format!("--proxy {}", quoted(proxy.url.as_str())));
                &proxy.url
            }
            None => self.url,
        };
        // Few curls can ask another name server: the address that ours gave stands for it.
        if let (Some(_), Some(reached), Some(Host::Domain(name))) =
            (network.resolver, self.reached, first.host())
        {
            let (port, ip) = (port(first), reached.ip());
            words.push(format!(
                "--resolve {}",
                quoted(&format!("{name}:{port}:{ip}"))
            ));
        }
        words
    }

    /// Whom to trust, and who we are.
    fn tls(&self) -> Vec<String> {
        if self.url.scheme() != "https" {
            return Vec::new();
        }
        let tls = &self.endpoint.tls;
        let file = |option: &str, path: &Option<String>| {
            let path = path.as_ref()?;
            Some(format!("{option} {}", word(path)))
        };
        let mut words: Vec<_> = file("--cacert", &tls.files.ca_file).into_iter().collect();
        if self.own {
            words.extend(file("--cert", &tls.files.cert_file));
            words.extend(file("--key", &tls.files.key_file));
            words.extend(tls.insecure_skip_verify.then(|| "--insecure".to_owned()));
        }
        if let Some((name, _)) = self.other_name() {
            let (host, port) = (self.url.host_str().unwrap_or_default(), port(self.url));
            let to = format!("{name}:{port}:{host}:{port}");
            words.push(format!("--connect-to {}", quoted(&to)));
        }
        words
    }

    /// The name that TLS asks for in place of the URL's, and the URL with it: curl has no other way to say so.
    fn other_name(&self) -> Option<(String, String)> {
        let name = self.endpoint.tls.server_name.as_ref();
        let name = name.filter(|_| self.own && self.url.scheme() == "https")?;
        let name = match name.contains(':') {
            true => format!("[{name}]"),
            false => name.clone(),
        };
        let shown = self.shown_url();
        let (scheme, rest) = shown.split_once("://")?;
        let path = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
        let url = format!("{scheme}://{name}:{}{path}", port(self.url));
        Some((name, url))
    }

    /// As it was typed, as long as nothing sent us elsewhere.
    fn shown_url(&self) -> String {
        let typed = self.own && self.endpoint.socket.is_none() && *self.url == self.endpoint.url;
        if typed {
            self.endpoint.shown.clone()
        } else {
            self.url.to_string()
        }
    }

    fn place(&self) -> String {
        match self.other_name() {
            Some((_, url)) => word(&url),
            None => word(&self.shown_url()),
        }
    }

    fn headers(&self, headers: &HeaderMap) -> Vec<String> {
        let typed = |name: &HeaderName| {
            let header = self.endpoint.headers.iter().rfind(|h| h.name == *name)?;
            self.own.then(|| header.shown.clone())
        };
        let mut words = Vec::new();
        // Where the URL has another name, `Host` has to say the right one.
        if self.other_name().is_some() && typed(&HOST).is_none() {
            let host = self.url.host_str().unwrap_or_default();
            let host = match self.url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            };
            words.push(format!("-H {}", quoted(&format!("host: {host}"))));
        }
        for (name, value) in headers {
            words.extend(match typed(name) {
                Some(typed) => Some(format!("-H {}", word(&format!("{name}: {typed}")))),
                // curl makes the one itself, and the other belongs to a session that has ended.
                None if [HOST, COOKIE].contains(name) => None,
                None => {
                    let line = format!("{name}: {}", shown(name, value));
                    Some(format!("-H {}", quoted(&line)))
                }
            });
        }
        words
    }
}

fn port(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(443)
}

/// One word of a shell's, as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// One word of a shell's, which puts `${VAR}` in as we did, and nothing else.
fn word(typed: &str) -> String {
    if !typed.contains("${") {
        return quoted(typed);
    }
    let mut word = String::from("\"");
    for (at, c) in typed.char_indices() {
        let is_variable = c == '$' && typed.get(at..).is_some_and(begins_with_a_variable);
        if matches!(c, '"' | '`' | '\\' | '$') && !is_variable {
            word.push('\\');
        }
        word.push(c);
    }
    word.push('"');
    word
}

fn begins_with_a_variable(text: &str) -> bool {
    let name = text
        .strip_prefix("${")
        .and_then(|rest| rest.split_once('}'));
    name.is_some_and(|(name, _)| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;
    use crate::config;
    use crate::model::Endpoint;

    /// The command for a server with these keys.
    fn command(keys: &str) -> String {
        let text = format!("[[server]]\nname = \"s\"\n{keys}\n");
        let env = |name: &str| name.starts_with("MY").then(|| format!("value-of-{name}"));
        let loaded = config::parse(&text, "f", Path::new("/etc"), &env, SystemTime::now());
        let config = loaded.unwrap().config;
        let Endpoint::Http(endpoint) = &config.targets[0].endpoint else {
            panic!("{keys}");
        };
        let headers = endpoint.headers.iter();
        let headers = headers.map(|header| (header.name.clone(), header.value.clone()));
        let curl = Curl {
            endpoint,
            url: &endpoint.url,
            own: true,
            reached: Some(([192, 0, 2, 7], 443).into()),
        };
        let command = curl.command(&Method::POST, &headers.collect(), b"");
        command.strip_prefix("curl -sS -i ").unwrap().to_owned()
    }

    #[test]
    fn says_the_way_as_the_user_did() {
        for (keys, expected) in [
            ("url = \"http://a/mcp\"", "'http://a/mcp'"),
            (
                "url = \"unix:///run/it's.sock\"",
                r"--unix-socket '/run/it'\''s.sock' 'http://localhost/mcp'",
            ),
            (
                "url = \"http://a/\"\nip = 6\nsource_address = \"::1\"",
                "-6 --interface ::1 'http://a/'",
            ),
            (
                "url = \"https://a/\"\nip = 4\nresolver = \"192.0.2.53\"",
                "-4 --resolve 'a:443:192.0.2.7' 'https://a/'",
            ),
            (
                "url = \"https://a/\"\nproxy = \"http://p:3128\"\nresolver = \"192.0.2.53\"",
                "--proxy 'http://p:3128/' --resolve 'p:3128:192.0.2.7' 'https://a/'",
            ),
            (
                "url = \"https://a:8443/mcp?x=1\"\nserver_name = \"b\"\ninsecure_skip_verify = true",
                "--insecure --connect-to 'b:8443:a:8443' 'https://b:8443/mcp?x=***' -H 'host: a:8443'",
            ),
            ("url = \"http://a/\"\nserver_name = \"b\"", "'http://a/'"),
        ] {
            assert_eq!(command(keys), expected, "{keys}");
        }
    }

    #[test]
    fn a_shell_puts_variables_in_and_nothing_else() {
        assert_eq!(
            command(
                "url = \"http://a/\"\nheaders = { A = \"Bearer ${MY_T}\", Cookie = \"${MY_C}\", B = \"$(x)\" }"
            ),
            r#"'http://a/' -H "a: Bearer ${MY_T}" -H 'b: ***' -H "cookie: ${MY_C}""#
        );
        assert_eq!(word("/it's"), r"'/it'\''s'");
        assert_eq!(
            word(r#"${A}"`\$(x)${file:b}$"#),
            r#""${A}\"\`\\\$(x)\${file:b}\$""#
        );
    }
}
