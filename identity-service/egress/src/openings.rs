//! The openings that the operator has made for calls on customers' behalf, beside public hosts. They hold for every
//! organisation.

use std::str::FromStr;

use serve::Networks;
use url::Host;

/// Networks and hosts that may be called though they are not public.
#[derive(Debug, Clone, Default)]
pub struct Openings {
    /// Networks of which any address may be called (`OUTBOUND_ALLOW_CIDRS`).
    pub networks: Networks,
    /// Names of internal hosts (`OUTBOUND_ALLOW_HOSTS`).
    pub hosts: InternalHosts,
}

/// Names of hosts, and of domains whose hosts, that may be at private addresses and called over plain http.
#[derive(Debug, Clone, Default)]
pub struct InternalHosts(Vec<String>);

/// The reason for which a list of hosts can't be read.
#[derive(Debug, thiserror::Error)]
#[error("must be names of hosts, or of domains with a dot before them, separated by commas")]
pub struct BadHosts;

impl InternalHosts {
    /// True where `name`, in lower case and without a final dot, is one of them: a host's own name, or a name below one
    /// that begins with a dot.
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|own| {
            if own.starts_with('.') {
                name.len() > own.len() && name.ends_with(own.as_str())
            } else {
                name == own
            }
        })
    }
}

impl FromStr for InternalHosts {
    type Err = BadHosts;

    fn from_str(text: &str) -> Result<Self, BadHosts> {
        text.split(',').map(|name| parse_name(name.trim())).collect::<Result<_, _>>().map(Self)
    }
}

/// Reads one name. Addresses are networks' to open, and what is loopback by its name is no host of its own.
fn parse_name(text: &str) -> Result<String, BadHosts> {
    let (dot, name) = text.strip_prefix('.').map_or(("", text), |name| (".", name));
    let Ok(Host::Domain(name)) = Host::parse(name) else { return Err(BadHosts) };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let is_loopback = name == "localhost" || name.ends_with(".localhost");
    if !name.split('.').all(is_label) || is_loopback {
        return Err(BadHosts);
    }
    Ok(format!("{dot}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_is_below_domains() {
        let hosts: InternalHosts =
            "cdp, CRM.shop.internal,.svc.cluster.local , .bücher.example".parse().unwrap();
        for name in [
            "cdp",
            "crm.shop.internal",
            "a.svc.cluster.local",
            "a.b.svc.cluster.local",
            "x.xn--bcher-kva.example",
        ] {
            assert!(hosts.contains(name), "{name}");
        }
        for name in [
            "",
            "x.cdp",
            "a.crm.shop.internal",
            "svc.cluster.local",
            ".svc.cluster.local",
            "evilsvc.cluster.local",
        ] {
            assert!(!hosts.contains(name), "{name}");
        }
        assert!(!InternalHosts::default().contains("cdp"));
    }

    #[test]
    fn what_is_no_list_of_names() {
        for text in [
            "",
            ",",
            "a,",
            ".",
            "..a",
            "a..b",
            "a.",
            "*.a",
            "a/b",
            "a:80",
            "http://a",
            "10.0.0.1",
            "127.1",
            "[::1]",
            "::1",
            "a b",
            "localhost",
            ".localhost",
            "x.localhost",
            "a;b",
            "10.0.0.0/8",
        ] {
            assert!(text.parse::<InternalHosts>().is_err(), "{text}");
        }
    }
}
