//! Trusted proxies (`TRUSTED_PROXIES`): the peers that may say for whom they speak.

use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use http::HeaderMap;

use crate::networks::{BadNetworks, Networks};

/// Networks of the reverse proxies in front of us. From any other peer `X-Forwarded-*` is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Networks);

impl FromStr for TrustedProxies {
    type Err = BadNetworks;

    fn from_str(text: &str) -> Result<Self, BadNetworks> {
        text.parse().map(Self)
    }
}

impl TrustedProxies {
    /// True where `peer` is a trusted proxy.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.0.contains(peer)
    }

    /// Sender of the request: the last address in `X-Forwarded-For` that is not a trusted proxy, else `peer`. What
    /// stands before it was written by the client itself. A hop may have a port or a zone. One that can't be read
    /// ends the search at the proxy that wrote it down.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let mut client = Client { address: peer.to_canonical(), is_unreadable: false };
        let chain = headers.get_all("x-forwarded-for").iter().rev();
        let hops = chain.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        for hop in hops.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()) {
            if !self.trusts(client.address) {
                break;
            }
            let Some(address) = hop_address(hop) else {
                client.is_unreadable = true;
                break;
            };
            client.address = address;
        }
        client
    }

    /// Subscriber that `client` is of; none where it is a trusted proxy which doesn't say for whom it speaks, as that may
    /// be anyone.
    pub fn subscriber(&self, client: Client) -> Option<Subscriber> {
        let may_be_anyone = self.trusts(client.address) && !client.is_unreadable;
        let Client { address, is_unreadable } = client;
        (!may_be_anyone).then(|| Subscriber { network: network(address), is_unreadable })
    }

    /// Host that the client asked for, `host[:port]`: `X-Forwarded-Host` of a trusted proxy, else the request's own
    /// (`own`). The last one counts where there are several; one that is not ASCII is no host, and empty.
    pub fn host<'a>(&self, peer: IpAddr, headers: &'a HeaderMap, own: &'a str) -> &'a str {
        if !self.trusts(peer) {
            return own;
        }
        let chain = headers.get_all("x-forwarded-host").iter().rev();
        let mut hops = chain.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        let forwarded = hops.find_map(|hop| Some(hop.trim_ascii()).filter(|hop| !hop.is_empty()));
        match forwarded {
            None => own,
            Some(host) => str::from_utf8(host).ok().filter(|host| host.is_ascii()).unwrap_or_default(),
        }
    }
}

/// Sender of a request, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Address of the sender, or of the last proxy that could be followed.
    pub address: IpAddr,
    /// True where that proxy named somebody whom we can't read: `address` then stands for all of those together.
    pub is_unreadable: bool,
}

/// Subscriber of a network: what stands behind one address, for limits that are shared by all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subscriber {
    network: IpAddr,
    /// True for all of those together whom the proxy at that address names in a way that we can't read.
    is_unreadable: bool,
}

/// Network that one subscriber has: an IPv4 address, or an IPv6 /64, within which anybody can pick addresses at will.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Address of a hop: `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]`, where proxies write it also with a port, and that
/// of a link with its zone (RFC 4007, section 11).
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(hop).ok()?;
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
    } else {
        match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (text, None),
        }
    };
    if port.is_some_and(|port| port.starts_with('+') || port.parse::<u16>().is_err()) {
        return None;
    }
    let (host, zone) = host.split_once('%').map_or((host, None), |(host, zone)| (host, Some(zone)));
    let address: IpAddr = host.parse().ok()?;
    let has_odd_zone = zone.is_some_and(|zone| zone.is_empty() || !address.is_ipv6());
    (!has_odd_zone).then(|| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(proxies: &str, peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let proxies: TrustedProxies = proxies.parse().unwrap();
        let client = proxies.client(peer.parse().unwrap(), &headers);
        format!("{}{}", client.address, if client.is_unreadable { " and beyond" } else { "" })
    }

    #[test]
    fn only_what_a_trusted_peer_added_counts() {
        let proxies = "10.0.0.0/8, ::1";
        assert_eq!(client(proxies, "192.0.2.9", &["127.0.0.1"]), "192.0.2.9");
        assert_eq!(client(proxies, "10.0.0.1", &["127.0.0.1, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            client(proxies, "::ffff:10.0.0.1", &["1.1.1.1", "198.51.100.7, 10.2.3.4"]),
            "198.51.100.7"
        );
        assert_eq!(client(proxies, "10.0.0.1", &["1.1.1.1", "198.51.100.7, "]), "198.51.100.7");
        assert_eq!(client("", "10.0.0.1", &["198.51.100.7"]), "10.0.0.1");
    }

    #[test]
    fn a_hop_may_have_a_port_or_a_zone() {
        for (hop, address) in [
            ("198.51.100.7:4711", "198.51.100.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("fe80::7%eth0", "fe80::7"),
            ("[fe80::7%25eth0]:443", "fe80::7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
        ] {
            assert_eq!(client("10.0.0.0/8", "10.0.0.1", &[hop]), address, "{hop}");
            // What a client writes in front of it changes nothing, whatever bytes it has.
            let behind = format!("\u{fc}, {hop}, 10.0.0.2:80");
            assert_eq!(client("10.0.0.0/8", "10.0.0.1", &[&behind]), address, "{hop}");
        }
    }

    #[test]
    fn a_hop_that_can_t_be_read_stands_for_itself() {
        for hop in [
            "unknown",
            "_hidden",
            "\u{fc}",
            "198.51.100.7:",
            "198.51.100.7:65536",
            "198.51.100.7:+1",
            "198.51.100.7%eth0",
            "fe80::7%",
            "[2001:db8::7",
            "[2001:db8::7]443",
            "198.51.100.007",
            "198.51.100.7 10.0.0.3",
        ] {
            let found = client("10.0.0.0/8", "10.0.0.1", &[&format!("1.1.1.1, {hop}")]);
            assert_eq!(found, "10.0.0.1 and beyond", "{hop}");
            assert_eq!(client("10.0.0.0/8", "192.0.2.9", &[hop]), "192.0.2.9", "{hop}");
        }
    }

    #[test]
    fn a_subscriber_is_an_address_or_a_network_and_never_a_proxy_that_names_nobody() {
        let proxies: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        let of = |peer: &str, hop: &str| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("x-forwarded-for"),
                HeaderValue::from_str(hop).unwrap(),
            )]);
            proxies.subscriber(proxies.client(peer.parse().unwrap(), &headers))
        };
        assert_eq!(of("2001:db8::1", ""), of("2001:db8::ffff:1", ""));
        assert_ne!(of("2001:db8::1", ""), of("2001:db8:0:1::1", ""));
        assert_ne!(of("192.0.2.1", ""), of("192.0.2.2", ""));
        assert_eq!(of("192.0.2.1", ""), of("10.0.0.1", "::ffff:192.0.2.1"));
        assert_eq!(of("10.0.0.1", ""), None);
        assert_eq!(of("10.0.0.1", "unknown"), of("10.0.0.1", "hidden"));
        assert_ne!(of("10.0.0.1", "unknown"), of("10.0.0.2", "unknown"));
    }

    #[test]
    fn the_forwarded_host_needs_a_trusted_peer_too() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-host", "collect.example".parse().unwrap());
        let proxies: TrustedProxies = "10.0.0.1".parse().unwrap();
        assert_eq!(proxies.host([10, 0, 0, 1].into(), &headers, "inner"), "collect.example");
        assert_eq!(proxies.host([10, 0, 0, 2].into(), &headers, "inner"), "inner");
        headers.append("x-forwarded-host", "a.example, b.example".parse().unwrap());
        assert_eq!(proxies.host([10, 0, 0, 1].into(), &headers, "inner"), "b.example");
        headers.append("x-forwarded-host", HeaderValue::from_bytes(b"b\xfc.example").unwrap());
        assert_eq!(proxies.host([10, 0, 0, 1].into(), &headers, "inner"), "");
    }

    #[test]
    fn a_malformed_list_is_refused() {
        for bad in ["10.0.0.0/33", "example.com", "10.0.0.1;10.0.0.2"] {
            assert_eq!(bad.parse::<TrustedProxies>(), Err(BadNetworks));
        }
    }
}
