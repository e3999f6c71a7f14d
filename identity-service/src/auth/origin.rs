//! Origins and hosts: what a source lists as its domains, and what a browser sends.

use url::{Host, Url};

/// An origin in the form browsers send: scheme, host and a port that is not the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// A source's domain: `host[:port]`, https implied, or `http://host[:port]` on loopback. None for anything
    /// else: a path, credentials, a wildcard, plain http elsewhere.
    pub fn from_domain(domain: &str) -> Option<Self> {
        let text = if domain.contains("://") { domain.to_owned() } else { format!("https://{domain}") };
        let url = Url::parse(&text).ok()?;
        let bare = url.path() == "/"
            && !text.ends_with('/')
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        (bare && !text.contains('*') && is_secure_or_loopback(&url))
            .then(|| Self(url.origin().ascii_serialization()))
    }

    /// The Origin header names this origin, to the letter: browsers send it lower-case and without the
    /// scheme's own port.
    pub fn is(&self, header: &str) -> bool {
        self.0 == header
    }

    /// A Referer header belongs to this origin.
    pub fn has_page(&self, referer: &str) -> bool {
        Url::parse(referer).is_ok_and(|url| url.origin().ascii_serialization() == self.0)
    }
}

/// https, or http on loopback (`localhost`, `*.localhost`, 127.0.0.0/8, ::1).
pub fn is_secure_or_loopback(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback(url),
        _ => false,
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_exact_origins() {
        let shop = Origin::from_domain("Shop.example:443").unwrap();
        assert!(shop.is("https://shop.example"));
        for other in [
            "http://shop.example",
            "https://shop.example:8443",
            "https://www.shop.example",
            "https://shop.example.evil.test",
            "https://shop.example/",
            "HTTPS://SHOP.EXAMPLE",
            "null",
            "",
        ] {
            assert!(!shop.is(other), "{other}");
        }
        assert!(Origin::from_domain("http://localhost:3000").unwrap().is("http://localhost:3000"));
    }

    #[test]
    fn what_is_no_domain() {
        for text in [
            "*",
            "*.example",
            "null://x",
            "http://shop.example",
            "shop.example/path",
            "shop.example/",
            "user@shop.example",
            "shop.example?x",
            "",
            "ftp://x",
        ] {
            assert_eq!(Origin::from_domain(text), None, "{text}");
        }
    }

    #[test]
    fn pages_belong_to_origins() {
        let shop = Origin::from_domain("shop.example").unwrap();
        assert!(shop.has_page("https://shop.example/a?b") && shop.has_page("https://shop.example"));
        assert!(!shop.has_page("https://evil.test/?https://shop.example") && !shop.has_page("about:blank"));
    }
}
