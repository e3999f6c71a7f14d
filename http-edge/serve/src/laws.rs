//! Laws of hosts and origins, for any text, whoever made it up: each has one form, which is its own; an origin has no
//! pages of another host; and browsers are sent to https alone, or to this machine.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a law that fails is to stop the test")]

use url::Url;

use crate::{
    Authority,
    origin::{self, Origin},
};

/// Checks the laws on an input: a domain, host or URL; and, on a second line, a page.
pub fn hold(input: &[u8]) {
    let Ok(input) = str::from_utf8(input) else { return };
    let (text, page) = input.split_once('\n').unwrap_or((input, ""));
    check_authority(text);
    check_origin(text, page);
    check_target(text);
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let seeds = [
        "collect.example\nhttps://collect.example/a?b#c",
        "COLLECT.Example.:443",
        "shop.example:8443\nhttps://shop.example:8443/",
        "bücher.example\nhttps://xn--bcher-kva.example",
        "0x7f.0.0.1:8080\nhttp://127.1:8080/x",
        "[0:0:0:0:0:0:0:1]:443\nhttp://[::1]",
        "http://shop.localhost:8080\nhttp://shop.localhost:8080/x",
        "capacitor://localhost\nCapacitor://LOCALHOST/cart",
        "https://ct.example/user/?a=b\nhttps://evil.example/https://shop.example/",
        "https://u:p@shop.example/#x",
        "a.example%2e\nnull",
        "shop\u{ad}.example",
    ];
    seeds.map(|seed| seed.as_bytes().to_vec()).to_vec()
}

fn check_authority(text: &str) {
    let Some(authority) = Authority::parse(text) else { return };
    let form = authority.as_str();
    assert_eq!(Authority::parse(form).as_ref(), Some(&authority), "the form of {text:?} has another");
    assert!(!form.is_empty() && form.is_ascii() && !form.contains(origin::is_odd_in_authority), "{form:?}");
    assert!(!form.contains(|c: char| c.is_ascii_uppercase()), "{form:?}");
    for scheme in ["https", "http"] {
        let url =
            Url::parse(&format!("{scheme}://{form}/")).unwrap_or_else(|error| panic!("{error}: {form:?}"));
        assert_eq!(
            (url.path(), url.username(), url.password(), url.query()),
            ("/", "", None, None),
            "{form:?}"
        );
        assert_eq!(Authority::of(&url).as_ref(), Some(&authority), "{url} is another host");
    }
    // Other spellings of it.
    let has_port = form.rsplit(':').next().is_some_and(|port| port.len() < form.len() && !port.contains(']'));
    let mut spellings = vec![form.to_ascii_uppercase()];
    if !has_port {
        spellings.extend([format!("{form}:443"), format!("{form}:80")]);
    }
    for spelling in spellings {
        assert_eq!(Authority::parse(&spelling).as_ref(), Some(&authority), "{spelling:?} of {text:?}");
    }
}

fn check_origin(domain: &str, page: &str) {
    if let Some(bare) = origin::bare_origin(domain) {
        assert_eq!(origin::bare_origin(&bare).as_ref(), Some(&bare), "of {domain:?}");
        assert!(bare.starts_with("https://") || origin::is_origin_inside(&bare), "{bare} of {domain:?}");
    }
    if let Some(app) = origin::app_origin(domain) {
        assert_eq!(origin::app_origin(&app).as_ref(), Some(&app), "of {domain:?}");
    }
    let Some(origin) = Origin::from_domain(domain) else { return };
    let forms = [
        origin::app_origin(domain),
        origin::bare_origin(domain),
        origin::bare_origin(&format!("https://{domain}")),
    ];
    let form = forms.iter().flatten().find(|form| origin.is(form));
    let form = &**form.unwrap_or_else(|| panic!("{origin:?} is none of {forms:?}"));
    assert_eq!(Origin::from_domain(form).as_ref(), Some(&origin), "the form of {domain:?} has another");
    assert!(origin.has_page(&format!("{form}/a?b#c")), "{form} has none of its own pages");
    for other in
        [format!("https://evil.example/{form}"), format!("{form}.evil.example/"), format!("{form}0/")]
    {
        assert!(
            !origin.has_page(&other) || Origin::of_page(&other).as_ref() == Some(&origin),
            "{form}: {other}"
        );
    }
    assert!(!origin.has_page(&format!("https://evil.example/{form}/")) || form == "https://evil.example");
    if origin.has_page(page) {
        let host = |url: &str| Url::parse(url).unwrap().host_str().map(str::to_ascii_lowercase);
        assert_eq!(host(page), host(form), "{page:?} is no page of {form}");
        let scheme = |url: &str| Url::parse(url).unwrap().scheme().to_owned();
        assert_eq!(scheme(page), scheme(form), "{page:?} is no page of {form}");
    }
}

fn check_target(text: &str) {
    let Some(url) = origin::redirect_target(text) else { return };
    assert_eq!(origin::redirect_target(url.as_str()).as_ref(), Some(&url), "{text:?}");
    assert!(url.has_host() && url.username().is_empty() && url.fragment().is_none(), "{url}");
    assert!(url.scheme() == "https" || origin::is_inside(&url), "{url}");
    assert!(origin::is_inside(&url) || !origin::is_loopback_host(url.authority()), "{url}");
    let (own, host) = (origin::origin_of(text), origin::host_of(text));
    assert_eq!(own, origin::origin_of(url.as_str()), "{text:?}");
    assert!(host.is_some_and(|host| host.starts_with(url.host_str().unwrap())), "{text:?}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_hold_for_the_seeds() {
        for seed in seeds() {
            hold(&seed);
        }
    }

    proptest! {
        #[test]
        fn they_hold_for_any_text(
            text in prop_oneof![any::<String>(), "(https?://)?[a-zA-Z0-9.:%_@/?#ü\\[\\]-]{1,24}"], page in any::<String>(),
        ) {
            hold(format!("{text}\n{page}").as_bytes());
            hold(format!("{text}\n{text}").as_bytes());
        }
    }
}
