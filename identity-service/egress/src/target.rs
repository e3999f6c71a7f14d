//! URLs of hosts that customers name. A name is looked at here as far as it goes without asking anybody; what it
//! resolves to is looked at when a connection is made, by [`serve::address`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serve::{Authority, Networks, address};
use url::{Host, Url};

use crate::openings::Openings;

/// Last labels of names that are no public host's.
const PRIVATE_NAMES: [&str; 10] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "lan",
    "svc",
    "home.arpa",
];

/// Ports from 1024 that speak to stores, queues and machines, never to a web service of a customer's. Below,
/// 443 alone is open, and 80 where plain http is.
const CLOSED_PORTS: [u16; 31] = [
    1433, 1434, 1521, 1883, 2049, 2375, 2376, 2379, 2380, 3306, 3389, 4222, 5432, 5672, 5900, 5984, 6000,
    6379, 6380, 6432, 6443, 8500, 9042, 9092, 9200, 9300, 10250, 10255, 11211, 26379, 27017,
];

/// The facts that decide where a URL may lead.
pub struct Reach<'a> {
    /// Networks and hosts that the operator has opened.
    pub allowed: &'a Openings,
    /// True for a collect host of the organisation: a call to it would reach this service itself.
    pub is_ours: &'a dyn Fn(&Authority) -> bool,
}

/// Reads the URL of a host that may be called, or says why not, in words for the people who have written it.
///
/// Allowed are https, or http to a network or host that the operator has opened; no credentials; a public host, or one
/// of those, that is none of our own, and a port where a web service may be.
pub fn parse(text: &str, reach: &Reach<'_>) -> Result<Url, &'static str> {
    // What a parser mends is no URL that anyone means to write: tabs in the host, backslashes, a missing `//`.
    let clean = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if !clean || !(text.starts_with("https://") || text.starts_with("http://")) {
        return Err("must be a URL that begins with https://");
    }
    let url = Url::parse(text).map_err(|_| "must be a URL")?;
    check(&url, reach.allowed)?;
    if Authority::of(&url).is_some_and(|host| (reach.is_ours)(&host)) {
        return Err("must not be one of your collect hosts");
    }
    Ok(url)
}

/// Refuses a parsed URL that leads where it may not.
pub(crate) fn check(url: &Url, allowed: &Openings) -> Result<(), &'static str> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold credentials");
    }
    let opened = match url.host() {
        Some(Host::Ipv4(address)) => check_address(address.into(), &allowed.networks)?,
        Some(Host::Ipv6(address)) => check_address(address.into(), &allowed.networks)?,
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            // The parser lets braces pass.
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
                return Err("must name a host");
            }
            let ends_in =
                |end: &str| name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            // By definition (RFC 6761) these are loopback.
            let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            if ends_in("localhost") && loopback.iter().any(|address| allowed.networks.contains(*address)) {
                true
            } else if allowed.hosts.contains(&name) {
                // What it resolves to is looked at with each connection.
                true
            } else if !name.contains('.') || PRIVATE_NAMES.iter().any(|end| ends_in(end)) {
                return Err("must name a public host");
            } else {
                false
            }
        }
        None => return Err("must name a host"),
    };
    match url.scheme() {
        "https" => {}
        "http" if opened => {}
        _ => return Err("must begin with https://"),
    }
    match url.port_or_known_default() {
        Some(443) => Ok(()),
        Some(80) if opened => Ok(()),
        Some(port) if port >= 1024 && !CLOSED_PORTS.contains(&port) => Ok(()),
        _ => Err("must not use that port"),
    }
}

/// Says whether the operator has opened the network of `address`; refused where it is neither opened nor
/// public.
fn check_address(address: IpAddr, allowed: &Networks) -> Result<bool, &'static str> {
    let permitted = address::is_permitted(address, allowed);
    permitted.then(|| allowed.contains(address)).ok_or("must name a public host")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody(allowed: &Openings) -> Reach<'_> {
        Reach { allowed, is_ours: &|_| false }
    }

    /// Spellings of what leads to no public host, one list a group.
    const REFUSED: [&[&str]; 6] = [
        // IPv4 spellings.
        &[
            "https://2130706433",
            "https://0x7f000001",
            "https://0x7f.1",
            "https://127.1",
            "https://127.0.0.1.",
            "https://①②⑦.⓪.⓪.①",
            "https://%31%32%37.0.0.1",
            "https://2852039166",
            "https://0",
            "https://017700000001",
        ],
        // IPv6 that holds IPv4.
        &[
            "https://[::ffff:127.0.0.1]",
            "https://[::127.0.0.1]",
            "https://[::ffff:0:169.254.169.254]",
            "https://[64:ff9b::a9fe:a9fe]",
            "https://[64:ff9b:1::1]",
            "https://[2001:0:a9fe:a9fe::1]",
        ],
        // Ranges, of which address.rs tries all.
        &[
            "https://10.0.0.1",
            "https://169.254.169.254/latest/meta-data",
            "https://[fd00:ec2::254]",
            "https://[::1]",
        ],
        // Names.
        &[
            "https://localhost",
            "https://LOCALHOST.",
            "https://x.localhost",
            "https://metadata.google.internal",
            "https://metadata",
            "https://redis.default.svc",
            "https://a.svc.cluster.local",
            "https://printer.local.",
            "https://router.lan",
            "https://a.home.arpa",
            "https://b.corp",
            "https://a.internal:8443",
            "https://{{user_id}}.example.com",
            "https://a,b.example.com",
        ],
        // Shape, ports and schemes.
        &[
            "https://user:pw@example.com",
            "https://user@example.com",
            "http://example.com\\@169.254.169.254/",
            "http:example.com",
            "https://example.com:0",
            "https://example.com:22",
            "https://example.com:25",
            "https://example.com:80",
            "https://example.com:5432",
            "https://example.com:6379",
            "https://example.com:1023",
            "https://example.com:65536",
        ],
        &[
            "http://example.com",
            "file:///etc/passwd",
            "gopher://example.com",
            "ftp://example.com",
            "//example.com",
            "example.com",
            "",
            "https://",
            "https:///x",
            "javascript:alert(1)",
            "data:,x",
        ],
    ];

    /// Texts that a parser makes a public host of, and nobody means to write.
    const SLOPPY: [&str; 6] = [
        "https:example.com",
        "https:/example.com",
        "https:\\\\example.com",
        "https://exam\tple.com",
        " https://example.com",
        "https://example.com/ x",
    ];

    #[test]
    fn what_leads_to_no_public_host_is_refused() {
        let nothing = Openings::default();
        for text in REFUSED.concat() {
            assert!(parse(text, &nobody(&nothing)).is_err(), "{text}");
            // However it is written: what was parsed is what counts.
            if let Ok(url) = Url::parse(text) {
                assert!(check(&url, &nothing).is_err(), "{text} as {url}");
            }
        }
        for text in SLOPPY {
            assert!(parse(text, &nobody(&nothing)).is_err(), "{text}");
        }
    }

    #[test]
    fn public_hosts_are_fine() {
        for text in [
            "https://example.com",
            "https://cdp.internal.example.com/v1/resolve",
            "https://example.com:8443/x?a=b",
            "https://api.us-east-1.a.realid.rapid.acxiom.io",
            "https://8.8.8.8",
            "https://[2606:4700::1111]:443/",
            "https://localhost.example.com",
            "https://xn--bcher-kva.example",
            "https://notlocal.notinternal",
        ] {
            assert!(parse(text, &nobody(&Openings::default())).is_ok(), "{text}");
        }
    }

    #[test]
    fn networks_that_the_operator_opens_may_be_plain() {
        let networks = "127.0.0.0/8,10.0.0.0/8".parse().unwrap();
        let allowed = Openings { networks, ..Openings::default() };
        for text in
            ["http://127.0.0.1:40000/x", "http://localhost:40000", "https://10.1.2.3", "http://10.1.2.3"]
        {
            assert!(parse(text, &nobody(&allowed)).is_ok(), "{text}");
        }
        for text in [
            "http://example.com",
            "https://192.168.0.1",
            "http://127.0.0.1:6379",
            "http://127.0.0.1:22",
            "http://u:p@127.0.0.1:40000",
            "https://db.internal",
            "http://[::1]:40000",
            "ftp://127.0.0.1:40000",
        ] {
            assert!(parse(text, &nobody(&allowed)).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_that_the_operator_opens_may_be_internal_and_plain() {
        let hosts = "cdp,.svc.cluster.local,crm.internal".parse().unwrap();
        let allowed = Openings { hosts, ..Openings::default() };
        for text in [
            "https://cdp/v1/resolve",
            "http://cdp:8080",
            "http://CRM.internal.",
            "https://redis.default.svc.cluster.local",
            "http://a.svc.cluster.local:80/x",
        ] {
            assert!(parse(text, &nobody(&allowed)).is_ok(), "{text}");
        }
        for text in [
            "https://crm",
            "https://a.crm.internal",
            "http://example.com",
            "https://10.0.0.1",
            "http://localhost:8080",
            "http://cdp:6379",
            "http://u:p@cdp",
        ] {
            assert!(parse(text, &nobody(&allowed)).is_err(), "{text}");
        }
    }

    #[test]
    fn nobody_calls_us() {
        let allowed = Openings::default();
        let reach = Reach { allowed: &allowed, is_ours: &|host| host.as_str() == "collect.example.com" };
        for text in ["https://collect.example.com/v1/t", "https://COLLECT.example.com.:443"] {
            assert_eq!(parse(text, &reach), Err("must not be one of your collect hosts"), "{text}");
        }
        assert!(parse("https://collect.example.com:8443", &reach).is_ok());
    }
}
