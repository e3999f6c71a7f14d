//! Names to addresses that a connection may be made to. The addresses that are checked are those that are connected
//! to, so a name that resolves to another one the next moment gains nothing.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serve::address;

use crate::openings::Openings;

/// The name has no address that may be called.
#[derive(Debug, thiserror::Error)]
#[error("resolves to no address that may be called")]
pub struct NotAllowed;

/// The name has no address at all.
#[derive(Debug, thiserror::Error)]
#[error("has no address")]
pub struct NoSuchHost;

/// Resolver that keeps addresses which the operator's openings allow.
pub struct GuardedResolver {
    /// The openings beside public hosts.
    pub openings: Arc<Openings>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let openings = self.openings.clone();
        Box::pin(async move {
            let name = name.as_str().trim_end_matches('.').to_ascii_lowercase();
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found: Vec<SocketAddr> = found.map_err(|_| NoSuchHost)?.collect();
            let allowed = permitted(&name, found, &openings);
            if allowed.is_empty() {
                return Err(Box::new(NotAllowed) as _);
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Keeps those of the addresses that `name` was resolved to which may be called.
fn permitted(name: &str, found: Vec<SocketAddr>, openings: &Openings) -> Vec<SocketAddr> {
    let is_internal = openings.hosts.contains(name);
    let is_permitted = |address: IpAddr| {
        address::is_permitted(address, &openings.networks)
            || (is_internal && address::is_private(address) && !is_our_own(address))
    };
    found.into_iter().filter(|found| is_permitted(found.ip())).collect()
}

/// True where `address` is this machine's: no other can be bound to.
fn is_our_own(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str, addresses: &[&str], openings: &Openings) -> Vec<String> {
        let found = addresses.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 443)).collect();
        permitted(name, found, openings).iter().map(|kept| kept.ip().to_string()).collect()
    }

    #[test]
    fn a_public_name_keeps_its_public_addresses_alone() {
        let nothing = Openings::default();
        let mixed =
            ["10.0.0.1", "8.8.8.8", "127.0.0.1", "::1", "169.254.169.254", "fd00::1", "2606:4700::1111"];
        assert_eq!(kept("rebinding.example.com", &mixed, &nothing), ["8.8.8.8", "2606:4700::1111"]);
        assert_eq!(kept("cdp.example.com", &["10.0.0.1", "::ffff:127.0.0.1"], &nothing), [""; 0]);
    }

    #[test]
    fn an_internal_name_may_be_private_and_never_loopback_or_link_local() {
        let hosts = "cdp.internal".parse().unwrap();
        let openings = Openings { hosts, ..Openings::default() };
        let all = [
            "10.1.2.3",
            "172.16.0.9",
            "192.168.7.7",
            "fd00::7",
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "fe80::1",
            "100.64.0.1",
            "0.0.0.0",
        ];
        assert_eq!(
            kept("cdp.internal", &all, &openings),
            ["10.1.2.3", "172.16.0.9", "192.168.7.7", "fd00::7"]
        );
        assert_eq!(kept("other.internal", &all, &openings), [""; 0]);
        let networks = "127.0.0.0/8".parse().unwrap();
        assert_eq!(
            kept("any.example", &["127.0.0.1"], &Openings { networks, ..Openings::default() }),
            ["127.0.0.1"]
        );
    }

    #[test]
    fn our_own_addresses_are_known() {
        assert!(is_our_own("127.0.0.1".parse().unwrap()));
        assert!(!is_our_own("192.0.2.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn what_a_name_resolves_to_is_looked_at() {
        let resolve = async |networks: &str| {
            let openings = Openings { networks: networks.parse().unwrap(), ..Openings::default() };
            let resolver = GuardedResolver { openings: Arc::new(openings) };
            resolver.resolve("localhost".parse().unwrap()).await.map(Iterator::count)
        };
        assert_eq!(resolve("").await.unwrap_err().to_string(), NotAllowed.to_string());
        assert!(resolve("127.0.0.0/8,::1").await.unwrap() > 0);
    }
}
