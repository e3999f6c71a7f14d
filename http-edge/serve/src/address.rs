//! Addresses that a customer's settings must not lead to: everything that is not a public host. Asked of addresses in
//! URLs, when settings are saved and when they are loaded, and at each connection, of what a name resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Networks;
use ipnet::{Ipv4Net, Ipv6Net};

/// True where a connection to `address` may be made. `allowed` are networks that are open all the same,
/// because the operator says so (`OUTBOUND_ALLOW_CIDRS`).
pub fn is_permitted(address: IpAddr, allowed: &Networks) -> bool {
    allowed.contains(address) || is_public(address)
}

/// True where `address` is of a network that organisations number for themselves: RFC 1918, and fc00::/7 (RFC 4193).
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

/// True where `address` is that of a public host. IPv6 that holds an IPv4 address is that address.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            if let Some(embedded) = translated(address) {
                return is_public_v4(embedded);
            }
            GLOBAL_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|network| network.contains(&address))
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4.iter().any(|network| network.contains(&address))
}

/// The IPv4 address that NAT64 has translated to `address` (RFC 6052): on a network without IPv4 all public
/// hosts have such addresses.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x0064, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else { return None };
    let [[a, b], [c, d]] = [high, low].map(u16::to_be_bytes);
    Some(Ipv4Addr::new(a, b, c, d))
}

const fn v4(a: u8, b: u8, c: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), length)
}

const fn v6(a: u16, b: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length)
}

/// IANA's special-purpose addresses of IPv4, and multicast.
const NOT_PUBLIC_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    // With it the metadata service of the clouds.
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    v4(192, 0, 0, 24),
    v4(192, 0, 2, 24),
    v4(192, 88, 99, 24),
    v4(192, 168, 0, 16),
    v4(198, 18, 0, 15),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    v4(224, 0, 0, 4),
    v4(240, 0, 0, 4),
];

/// The block that IANA has given out for hosts; `::1`, `::127.0.0.1`, fc00::/7, fe80::/10, ff00::/8,
/// 5f00::/16 and so on are outside of it.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

/// Special-purpose blocks within [`GLOBAL_V6`].
const NOT_PUBLIC_V6: [Ipv6Net; 4] = [
    // Protocols: Teredo, which holds IPv4 addresses, benchmarks, ORCHID.
    v6(0x2001, 0, 23),
    // Documentation.
    v6(0x2001, 0x0db8, 32),
    v6(0x3fff, 0, 20),
    // 6to4, which holds IPv4 addresses, and is no more.
    v6(0x2002, 0, 16),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn address(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Tries both ends of each range, and IPv6 that holds IPv4.
    #[test]
    fn what_is_no_public_host() {
        for text in [
            "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.255",
            "169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.255",
            "192.0.2.0 192.0.2.255 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255",
            "198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255 224.0.0.0 239.255.255.255 240.0.0.0",
            "255.255.255.255",
            ":: ::1 ::127.0.0.1 ::a9fe:a9fe ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:0:169.254.169.254 ::8.8.8.8",
            "64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1 64:ff9b:1::1 64:ff9b:1::8.8.8.8 2001:0:a9fe:a9fe::1 2001::1",
            "2001:2::1 2001:20::1 2001:1ff:ffff::1 2001:db8::1 2001:db8:ffff::1 2002:7f00:1::1 2002:808:808::1",
            "3fff::1 3fff:fff::1 fc00::1 fdff::1 fd00:ec2::254 fe80::1 febf::1 fec0::1 ff00::1 ff02::1 5f00::1",
            "100::1 1fff::1 4000::1",
        ]
        .iter()
        .flat_map(|line| line.split(' '))
        {
            assert!(!is_public(address(text)), "{text}");
        }
    }

    #[test]
    fn what_is_one() {
        for text in
            "1.0.0.0 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
            169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 \
            198.17.255.255 198.20.0.0 223.255.255.255 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2001:200::1 \
            2001:4860:4860::8888 2003::1 2606:4700::1111 2a00::1"
                .split_whitespace()
        {
            assert!(is_public(address(text)), "{text}");
        }
    }

    #[test]
    fn the_operator_opens_networks() {
        let allowed: Networks = "127.0.0.0/8, ::1,10.1.2.3".parse().unwrap();
        for text in ["127.0.0.1", "::ffff:127.0.0.1", "::1", "10.1.2.3", "8.8.8.8"] {
            assert!(is_permitted(address(text), &allowed), "{text}");
        }
        // The IPv4 networks don't open what only holds such an address.
        for text in ["10.1.2.4", "::127.0.0.1", "64:ff9b::7f00:1", "169.254.169.254"] {
            assert!(!is_permitted(address(text), &allowed), "{text}");
        }
        assert_eq!("".parse(), Ok(Networks::default()));
        for bad in ["localhost", "10.0.0.0/33", "10.0.0.0/8;::1", "*"] {
            assert!(bad.parse::<Networks>().is_err(), "{bad}");
        }
    }
}
