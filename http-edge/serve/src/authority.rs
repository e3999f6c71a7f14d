//! Authorities: hosts that requests are sent to and that sources collect at, in the one form in which both are known.

use std::net::Ipv4Addr;

use url::{Host, Url};

use crate::origin::is_odd_in_authority;

/// Longest Host header that is read, in bytes: the longest name in any spelling, and a port.
const MAX_BYTES: usize = 512;
/// Longest name in bytes, in the form of the domain name system (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 253;

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
        // Nearly every request's, and each has to be read at the edge and in the core.
        if is_canonical(host) {
            return Some(Self(host.to_owned()));
        }
        Self::of(&Url::parse(&format!("https://{host}")).ok()?)
    }

    /// Takes the authority out of a URL; none where it has no host.
    pub fn of(url: &Url) -> Option<Self> {
        let host = url.host()?;
        let text = without_dot(&host);
        // A dot more than a full name's would be taken for that when the form is read again.
        let is_name = || text.len() <= MAX_NAME_BYTES && text.split('.').all(|label| !label.is_empty());
        if matches!(host, Host::Domain(_)) && !is_name() {
            return None;
        }
        Some(Self(match url.port().filter(|port| ![80, 443].contains(port)) {
            Some(port) => format!("{text}:{port}"),
            None => text,
        }))
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

/// True where the text is in that form already: a name, whose last label begins with a letter as no address's does, or an
/// address of IPv4; and a port that is none of the schemes'.
fn is_canonical(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_letter) && !label.contains("--");
    let is_name = || {
        host.len() <= MAX_NAME_BYTES
            && host.split('.').all(is_label)
            && host.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    let is_port = |port: &str| {
        port.starts_with(|c: char| c.is_ascii_digit() && c != '0')
            && port.parse::<u16>().is_ok_and(|port| ![80, 443].contains(&port))
    };
    port.is_none_or(is_port) && (is_name() || host.parse::<Ipv4Addr>().is_ok())
}

fn without_dot(host: &Host<&str>) -> String {
    match host {
        Host::Domain(name) => name.strip_suffix('.').unwrap_or(name).to_owned(),
        address => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            "..",
            "a.example..",
            "a..example",
            "0x7f.0..:8080",
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
            &"ü.".repeat(80),
            &"a".repeat(254),
            &format!("{}aa", "a.".repeat(126)),
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }

    proptest! {
        /// The short way and the whole one agree on every name.
        #[test]
        fn a_canonical_host_is_read_as_any_other(
            name in "[a-z0-9.-]{1,24}(:[0-9]{1,6})?", odd in "[a-zA-Z0-9.:%_ü-]{1,24}",
            address in "[0-9]{1,4}(\\.[0-9]{1,4}){1,4}(:[0-9]{1,6})?",
        ) {
            for name in [name, odd, address] {
                let whole = Url::parse(&format!("https://{name}")).ok().and_then(|url| Authority::of(&url));
                if is_canonical(&name) {
                    prop_assert_eq!(Authority::parse(&name), whole, "{}", name);
                }
            }
        }
    }
}
