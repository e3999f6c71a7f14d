//! Authorities: hosts that requests are sent to and that sources collect at, in the one form in which both are known.

use url::{Host, Url};

use crate::origin::is_odd_in_authority;

/// Longest Host header that is read, in bytes: the longest name in any spelling, and a port.
const MAX_BYTES: usize = 512;

/// A host with its port, `collect.example` or `collect.example:8443`, however it was spelled: lower-case, names of
/// other scripts in punycode, addresses in their shortest form, without the dot at the end of a full name and without
/// the ports of the schemes. The request says nothing of its scheme, as TLS ends in front of us, so both ports,
/// 443 and 80, stand for none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority(String);

impl Authority {
    /// Reads a Host header; none where it names no host.
    pub fn parse(host: &str) -> Option<Self> {
        if host.len() > MAX_BYTES || host.contains(is_odd_in_authority) || host.contains(['?', '#']) {
            return None;
        }
        Self::of(&Url::parse(&format!("https://{host}")).ok()?)
    }

    /// Takes the authority out of a URL; none where it has no host.
    pub fn of(url: &Url) -> Option<Self> {
        let host = url.host()?;
        let text = match url.port().filter(|port| ![80, 443].contains(port)) {
            Some(port) => format!("{}:{port}", without_dot(&host)),
            None => without_dot(&host),
        };
        (!text.is_empty()).then_some(Self(text))
    }

    /// Text of it, `host[:port]`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Authority> for String {
    fn from(authority: Authority) -> Self {
        authority.0
    }
}

fn without_dot(host: &Host<&str>) -> String {
    match host {
        Host::Domain(name) => name.strip_suffix('.').unwrap_or(name).to_owned(),
        address => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_form() {
        for (form, spellings) in [
            (
                "collect.example",
                &[
                    "collect.example",
                    "COLLECT.Example",
                    "collect.example.",
                    "collect.example:443",
                    "collect.example.:80",
                ][..],
            ),
            ("collect.example:8443", &["collect.example:8443", "Collect.example.:08443"]),
            ("xn--bcher-kva.example", &["bücher.example", "BÜCHER.example.", "xn--bcher-kva.example"]),
            ("127.0.0.1:8080", &["127.0.0.1:8080", "127.1:8080", "0x7f.0.0.1:8080"]),
            ("[::1]", &["[::1]", "[0:0:0:0:0:0:0:1]:443"]),
            ("localhost", &["localhost", "LOCALHOST:80"]),
        ] {
            for text in spellings {
                assert_eq!(Authority::parse(text).as_ref().map(Authority::as_str), Some(form), "{text}");
            }
        }
        for url in ["https://collect.example./x", "http://collect.example", "https://u@collect.example:443"] {
            assert_eq!(
                Authority::of(&Url::parse(url).unwrap()),
                Authority::parse("collect.example"),
                "{url}"
            );
        }
    }

    #[test]
    fn what_names_no_host_is_none() {
        for text in [
            "",
            ".",
            ":443",
            "a.example b.example",
            "a.example/b",
            "a.example?b",
            "a.example#b",
            "a.example\\b",
            "u@a.example",
            "@a.example",
            "a.example:x",
            "a.example:65536",
            "a.example:-1",
            "a.example%2e",
            "a\u{ad}.example",
            "*.example",
            "[::1",
            "a\r\n.example",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }
}
