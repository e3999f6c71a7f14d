//! Origins and URLs of the web as settings may have them: one rule for whoever stores and whoever obeys them.

use std::net::IpAddr;

use url::{Host, Url};

use crate::address::is_public;

/// An origin in the form browsers send: scheme, host and a port that is not the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// Reads a source's domain: `host[:port]`, https implied, `http://host[:port]` on loopback, or a hybrid app's
    /// (see [`app_origin`]). None for anything else: a path, credentials, a wildcard, plain http elsewhere.
    pub fn from_domain(domain: &str) -> Option<Self> {
        let has_scheme = domain.contains("://");
        let https = || bare_origin(&format!("https://{domain}"));
        if has_scheme { app_origin(domain).or_else(|| bare_origin(domain)) } else { https() }.map(Self)
    }

    /// True where the Origin header names this origin, to the letter: browsers send it lower-case and without the
    /// scheme's own port.
    pub fn is(&self, header: &str) -> bool {
        self.0 == header
    }

    /// The origin of a page, as its URL or a Referer header says; none where that is no URL.
    pub fn of_page(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let of_app = app_origin(&format!("{}://{}", url.scheme(), url.authority()));
        Some(Self(of_app.unwrap_or_else(|| url.origin().ascii_serialization())))
    }

    /// True where it is on this machine or in a private network, as [`is_inside`] says. An app's is in the app.
    pub fn is_inside(&self) -> bool {
        app_origin(&self.0).is_none() && is_origin_inside(&self.0)
    }

    /// True where a Referer header belongs to this origin.
    pub fn has_page(&self, referer: &str) -> bool {
        Self::of_page(referer).as_ref() == Some(self)
    }
}

/// Schemes of the pages that a hybrid app brings along: Capacitor's and Ionic's, on iOS.
const APP_SCHEMES: [&str; 2] = ["capacitor", "ionic"];

/// `scheme://host` of a hybrid app's pages, in the form its web view sends: `capacitor://localhost`, unless the app is
/// configured with another host. None for anything else.
pub fn app_origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, host) = text.split_once("://")?;
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let fits = APP_SCHEMES.contains(&scheme) && host.len() <= 253 && host.split('.').all(is_label);
    fits.then_some(text)
}

/// `scheme://host[:port]` in the form browsers send, where `text` is that and nothing more: no path, query,
/// credentials or wildcard, and plain http on loopback only.
pub fn bare_origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let bare = url.path() == "/"
        && !text.ends_with('/')
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    // What the parser would correct was meant otherwise: an empty user name, %2e for a dot, two dots.
    let (_, authority) = text.split_once("://")?;
    let plain =
        !authority.contains(is_odd_in_authority) && !authority.contains("..") && !authority.starts_with('.');
    (bare && plain && is_secure_or_loopback(&url)).then(|| url.origin().ascii_serialization())
}

/// Characters that no origin has in its authority, though the parser takes them.
pub(crate) fn is_odd_in_authority(c: char) -> bool {
    c.is_control() || c.is_whitespace() || is_unseen(c) || "*\\/@%".contains(c)
}

/// Characters without a picture of their own, with which two names look the same or read in another order.
/// The joiner of emoji is none of them.
pub fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// True for https, and for http on loopback (`localhost`, `*.localhost`, 127.0.0.0/8, ::1).
pub fn is_secure_or_loopback(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback(url),
        _ => false,
    }
}

/// True where `host[:port]` is this machine: `localhost`, below it, or a loopback address.
pub fn is_loopback_host(host: &str) -> bool {
    Url::parse(&format!("http://{host}")).is_ok_and(|url| is_loopback(&url))
}

/// True where `host[:port]` is an address and no name. Browsers take cookies with `Secure` from plain http on `localhost`
/// and names below it, and not from a loopback address.
pub fn is_address(host: &str) -> bool {
    let url = Url::parse(&format!("http://{host}"));
    url.is_ok_and(|url| matches!(url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_))))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// True where a URL leads to this machine or into a private network: `localhost`, below it, or an address that is no
/// public host's. The operator may allow that (`ALLOW_LOOPBACK`); what a name resolves to is not looked at.
pub fn is_inside(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => !is_public(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => !is_public(IpAddr::V6(address)),
        None => false,
    }
}

/// True where an origin, or any URL as text, is inside, as [`is_inside`] says.
pub fn is_origin_inside(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| is_inside(&url))
}

/// A URL that browsers may be sent to: https, or http on loopback, in printable ASCII, without credentials or
/// fragment. None for anything else.
pub fn redirect_target(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let fits = plain && text.chars().all(|c| c.is_ascii_graphic()) && is_secure_or_loopback(&url);
    fits.then_some(url)
}

/// Scheme and authority of a URL, which credentials are bound to. None where it names no host.
pub fn origin_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.has_host().then(|| url.origin().ascii_serialization())
}

/// `host[:port]` of a URL, which secrets are bound to; without the port of https. None where it names no host.
pub fn host_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(match url.port_or_known_default()? {
        443 => host.to_owned(),
        port => format!("{host}:{port}"),
    })
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
    fn apps_have_origins_of_their_own() {
        for text in ["capacitor://localhost", "Ionic://LOCALHOST", "capacitor://app.shop.example"] {
            let origin = Origin::from_domain(text).unwrap();
            assert!(origin.is(&text.to_lowercase()) && !origin.is_inside(), "{text}");
            assert!(origin.has_page(&format!("{}/cart?x", text.to_lowercase())), "{text}");
            assert!(!origin.is("https://localhost") && !origin.has_page("https://localhost/"), "{text}");
        }
        for text in [
            "capacitor://",
            "capacitor:localhost",
            "capacitor://localhost/",
            "capacitor://localhost:8080",
            "capacitor://a@b",
            "capacitor://*",
            "capacitor://a..b",
            "file://localhost",
            "app://localhost",
            "evil-capacitor://localhost",
        ] {
            assert_eq!(Origin::from_domain(text), None, "{text}");
        }
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
    fn origins_are_bare() {
        assert_eq!(
            bare_origin("https://Collect.Shop.example:443").as_deref(),
            Some("https://collect.shop.example")
        );
        assert_eq!(bare_origin("http://127.0.0.1:8080").as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(bare_origin("http://shop.localhost:8080").as_deref(), Some("http://shop.localhost:8080"));
        for bad in [
            "http://shop.example",
            "https://shop.example/",
            "https://shop.example/x",
            "https://*.example",
            "https://u@shop.example",
            "https://shop.example?x",
            "ftp://shop.example",
            "shop.example",
            "null",
            "",
            "https://",
            "https://shop\\.example",
            "https://shop .example",
            "https:shop.example",
            "https:///shop.example",
            "https://@shop.example",
            "https://shop%2eexample",
            "https://shop..example",
            "https://.",
            "https://shop\u{ad}.example",
            "http://localhost.evil.test",
        ] {
            assert_eq!(bare_origin(bad), None, "{bad}");
        }
    }

    #[test]
    fn browsers_are_sent_to_plain_urls_alone() {
        for good in ["https://ct.example/user/?a=b", "http://127.0.0.1:9000/sync", "https://[2001:db8::1]/"] {
            assert!(redirect_target(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "ct.example/user",
            "http://ct.example/user",
            "https://u:p@ct.example/",
            "https://ct.example/#x",
            "https://ct.example/a b",
            "https://ct.example/\n",
            "https://bücher.example/",
            "javascript:alert(1)",
            "//ct.example",
        ] {
            assert!(redirect_target(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn whom_credentials_are_for() {
        for (url, origin, host) in [
            ("https://A.example/v1?x=y", "https://a.example", "a.example"),
            ("https://a.example:443", "https://a.example", "a.example"),
            ("https://a.example:8443/", "https://a.example:8443", "a.example:8443"),
            ("http://a.example", "http://a.example", "a.example:80"),
            ("http://[::1]:9000/", "http://[::1]:9000", "[::1]:9000"),
            ("https://a.example.", "https://a.example.", "a.example."),
        ] {
            assert_eq!((origin_of(url).as_deref(), host_of(url).as_deref()), (Some(origin), Some(host)));
        }
        for url in ["", "a.example", "data:,x", "/v1"] {
            assert_eq!((origin_of(url), host_of(url)), (None, None), "{url}");
        }
    }

    #[test]
    fn what_is_inside() {
        for text in [
            "http://localhost:3000",
            "https://localhost.",
            "https://shop.localhost",
            "https://127.0.0.1",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://10.0.0.7:8443",
            "https://172.16.0.1",
            "https://192.168.1.1",
            "https://169.254.169.254/latest",
            "https://[::1]",
            "https://[fd00::1]",
            "https://[::ffff:10.0.0.1]",
        ] {
            assert!(is_origin_inside(text), "{text}");
        }
        for text in
            ["https://shop.example", "https://localhost.example", "https://8.8.8.8", "https://[2606:4700::1]"]
        {
            assert!(!is_origin_inside(text), "{text}");
        }
    }

    #[test]
    fn pages_belong_to_origins() {
        let shop = Origin::from_domain("shop.example").unwrap();
        assert!(shop.has_page("https://shop.example/a?b") && shop.has_page("https://shop.example"));
        assert!(!shop.has_page("https://evil.test/?https://shop.example") && !shop.has_page("about:blank"));
    }
}
