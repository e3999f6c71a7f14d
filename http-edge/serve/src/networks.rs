//! Lists of networks, as the environment names them.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// Networks and addresses; by default none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

/// Error of a text that is not a comma-separated list of addresses and CIDR networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a comma-separated list of addresses and CIDR networks")]
pub struct BadNetworks;

impl FromStr for Networks {
    type Err = BadNetworks;

    fn from_str(text: &str) -> Result<Self, BadNetworks> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(parse_network)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn parse_network(text: &str) -> Result<IpNet, BadNetworks> {
    text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| BadNetworks)
}

impl Networks {
    /// True where `address` is in one of the networks; an IPv4 address may be written as IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}
