//! The vendors' own cookies, as browsers are given them.

use proto::v1::{Cookie, SameSite};
use time::OffsetDateTime;
use url::{Host, Url};

use crate::{settings::CollectHost, vendors::GeneratedId};

/// A cookie that ends at `expires_at`. Not HttpOnly: the vendor's own library may run on the page and reads
/// it.
pub fn cookie(
    record: &GeneratedId,
    value: String,
    expires_at: OffsetDateTime,
    host: Option<&CollectHost>,
    now: OffsetDateTime,
) -> Cookie {
    Cookie {
        name: record.cookie.to_owned(),
        value,
        max_age_seconds: (expires_at - now).whole_seconds(),
        domain: host.and_then(|host| host.cookie_domain.clone()),
        path: "/".to_owned(),
        secure: !host.is_some_and(|host| host.is_http),
        http_only: false,
        same_site: SameSite::Lax.into(),
    }
}

/// Number of labels in the domain that `host`'s cookies sit on. An address has one, and an unknown host
/// counts as `example.com`, as Meta asks of servers.
pub fn labels(host: Option<&CollectHost>) -> usize {
    let count = |domain: &str| domain.split('.').filter(|label| !label.is_empty()).count();
    let Some(host) = host else { return 2 };
    if let Some(domain) = &host.cookie_domain {
        return count(domain);
    }
    match Url::parse(&host.url).ok().as_ref().and_then(Url::host) {
        Some(Host::Domain(domain)) => count(domain),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => 1,
        None => 2,
    }
}

#[cfg(test)]
mod tests {
    use serve::Authority;

    use super::*;

    #[test]
    fn labels_are_those_of_the_cookie_s_domain() {
        let host = |url: &str, domain: Option<&str>| {
            labels(Some(&CollectHost {
                url: url.to_owned(),
                authority: Authority::of(&Url::parse(url).unwrap()).unwrap(),
                is_http: false,
                cookie_domain: domain.map(str::to_owned),
            }))
        };
        assert_eq!(host("https://collect.shop.example.com", Some("example.com")), 2);
        assert_eq!(host("https://collect.shop.example.com", Some(".shop.example.com")), 3);
        assert_eq!(host("https://collect.example.com:8443", None), 3);
        assert_eq!((host("http://127.0.0.1:80", None), host("http://[::1]:80", None)), (1, 1));
        assert_eq!((host("http://localhost", None), labels(None)), (1, 2));
    }
}
