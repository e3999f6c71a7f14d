//! Trusted proxies (`TRUSTED_PROXIES`): the peers that may say for whom they speak.

use std::{net::IpAddr, str::FromStr};

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

    /// Address of the sender of the request: the last one in `X-Forwarded-For` that is not a trusted proxy,
    /// else `peer`. What stands before it was written by the client itself.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let chain = headers.get_all("x-forwarded-for").iter().rev();
        let hops = chain.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        for hop in hops {
            if !self.trusts(client) {
                break;
            }
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
        }
        client
    }

    /// Host that the client asked for, `host[:port]`: `X-Forwarded-Host` of a trusted proxy, else the
    /// request's own (`own`).
    pub fn host<'a>(&self, peer: IpAddr, headers: &'a HeaderMap, own: &'a str) -> &'a str {
        let forwarded = headers.get("x-forwarded-host").and_then(|value| value.to_str().ok());
        let forwarded = forwarded.and_then(|value| value.rsplit(',').next()).map(str::trim);
        forwarded.filter(|host| !host.is_empty() && self.trusts(peer)).unwrap_or(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &str, peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let proxies: TrustedProxies = proxies.parse().unwrap();
        proxies.client(peer.parse().unwrap(), &headers).to_string()
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
        assert_eq!(client(proxies, "10.0.0.1", &["198.51.100.7, unknown"]), "10.0.0.1");
        assert_eq!(client("", "10.0.0.1", &["198.51.100.7"]), "10.0.0.1");
    }

    #[test]
    fn the_forwarded_host_needs_a_trusted_peer_too() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-host", "collect.example".parse().unwrap());
        let proxies: TrustedProxies = "10.0.0.1".parse().unwrap();
        assert_eq!(proxies.host([10, 0, 0, 1].into(), &headers, "inner"), "collect.example");
        assert_eq!(proxies.host([10, 0, 0, 2].into(), &headers, "inner"), "inner");
    }

    #[test]
    fn a_malformed_list_is_refused() {
        for bad in ["10.0.0.0/33", "example.com", "10.0.0.1;10.0.0.2"] {
            assert_eq!(bad.parse::<TrustedProxies>(), Err(BadNetworks));
        }
    }
}
