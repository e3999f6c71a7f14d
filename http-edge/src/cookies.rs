//! Syntax of cookies. Which ones are set, and what they hold, is the core's decision.

use std::fmt::Write;

use http::{HeaderMap, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use proto::v1::{Cookie, SameSite};
use serve::origin::{is_address, is_loopback_host};

/// Name of the cookie that holds the browser's anonymous ID.
pub const DFID: &str = "_dfid";
/// Longest `_dfid` in bytes, as for each ID that a browser sends; a longer one is not ours.
const MAX_ANONYMOUS_ID_BYTES: usize = 128;
/// Most values of `_dfid` that count (`Subject.cookie_anonymous_id` and `cookie_anonymous_ids`).
const MAX_ANONYMOUS_IDS: usize = 8;
/// Longest value of a vendor's cookie in bytes; they are about 30 to 200 long.
const MAX_VENDOR_COOKIE_BYTES: usize = 512;
/// Most values of vendors' cookies beside the first of each name (`Subject.further_vendor_cookies`).
const MAX_FURTHER_VENDOR_COOKIES: usize = 16;
/// Bytes that RFC 6265 forbids in a value, and the escape itself.
const NOT_IN_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b',').add(b';').add(b'\\').add(b'%');

/// Values of all cookies called `name`, as sent; those left out that are no ASCII, which ours and the vendors' are.
/// Beside them may stand the site's own, with any bytes. A browser sends a name more than once where hosts and domains
/// have set it, in an order that says nothing (RFC 6265, 5.4).
fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    // HTTP/2 may send several fields.
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .filter_map(|value| str::from_utf8(value).ok().filter(|value| value.is_ascii()))
}

/// Anonymous IDs of the browser, from `_dfid`, each once; those left out that are blank, too long or not UTF-8.
pub fn anonymous_ids(headers: &HeaderMap) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for value in values(headers, DFID) {
        if let Ok(id) = percent_decode_str(value).decode_utf8()
            && !id.trim().is_empty()
            && id.len() <= MAX_ANONYMOUS_ID_BYTES
            && ids.len() < MAX_ANONYMOUS_IDS
            && !ids.iter().any(|known| *known == id)
        {
            ids.push(id.into_owned());
        }
    }
    ids
}

/// True where the browser sends several `_dfid`, whatever is in them.
pub fn has_several_ids(headers: &HeaderMap) -> bool {
    values(headers, DFID).nth(1).is_some()
}

/// Value of the state cookie of a vendor's sync.
pub fn state(headers: &HeaderMap, vendor: &str) -> Option<String> {
    values(headers, &state_name(vendor)).find(|value| !value.is_empty()).map(str::to_owned)
}

/// Cookies of a browser that the core is told of.
#[derive(Debug, Default)]
pub struct BrowserCookies {
    /// Values of `_dfid`, each once.
    pub anonymous_ids: Vec<String>,
    /// First value of each vendor's cookie, by name.
    pub vendors: Vec<(String, String)>,
    /// Further values of vendors' cookies, by name, each once.
    pub further_vendors: Vec<(String, String)>,
}

impl BrowserCookies {
    /// Reads the cookies, those of the vendors called as in `names`; what is empty or too long is left out.
    pub fn read(headers: &HeaderMap, names: &[String]) -> Self {
        let mut cookies = Self { anonymous_ids: anonymous_ids(headers), ..Self::default() };
        for name in names {
            let mut usable: Vec<&str> = Vec::new();
            for value in values(headers, name) {
                if (1..=MAX_VENDOR_COOKIE_BYTES).contains(&value.len()) && !usable.contains(&value) {
                    usable.push(value);
                }
            }
            let mut pairs = usable.into_iter().map(|value| (name.clone(), value.to_owned()));
            cookies.vendors.extend(pairs.next());
            let room = MAX_FURTHER_VENDOR_COOKIES - cookies.further_vendors.len();
            cookies.further_vendors.extend(pairs.take(room));
        }
        cookies
    }
}

/// Ends the cookie that a host has set without a Domain beside `cookie`, which has one: before collect hosts had a
/// domain they set it so.
pub fn end_host_only(cookie: &Cookie) -> Cookie {
    Cookie { value: String::new(), max_age_seconds: 0, domain: None, ..cookie.clone() }
}

/// `cookie` as a `Set-Cookie` value; `None` where its name, domain or path can't stand in a header.
pub fn set_cookie(cookie: &Cookie) -> Option<HeaderValue> {
    let value = utf8_percent_encode(&cookie.value, NOT_IN_VALUE);
    let mut text =
        format!("{}={value}; Max-Age={}; Path={}", cookie.name, cookie.max_age_seconds, cookie.path);
    if let Some(domain) = &cookie.domain {
        // Writing to a string can't fail.
        let _ = write!(text, "; Domain={domain}");
    }
    if cookie.http_only {
        text.push_str("; HttpOnly");
    }
    if cookie.secure {
        text.push_str("; Secure");
    }
    match cookie.same_site() {
        SameSite::None => text.push_str("; SameSite=None"),
        SameSite::Lax => text.push_str("; SameSite=Lax"),
        SameSite::Unspecified => {}
    }
    HeaderValue::try_from(text).ok()
}

/// Takes the state cookie of `vendor` back. A browser obeys only if it would also let us set the cookie, so
/// the attributes are those that it was set with: a loopback address has Lax.
pub fn clear_state(vendor: &str, host: &str) -> Option<HeaderValue> {
    let secure = !(is_loopback_host(host) && is_address(host));
    set_cookie(&Cookie {
        name: state_name(vendor),
        path: format!("/v1/sync/{vendor}"),
        secure,
        http_only: true,
        same_site: if secure { SameSite::None } else { SameSite::Lax }.into(),
        ..Cookie::default()
    })
}

fn state_name(vendor: &str) -> String {
    format!("_dfs_{vendor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &[&str]) -> HeaderMap {
        cookies.iter().map(|cookie| (header::COOKIE, cookie.parse().unwrap())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn names() -> Vec<String> {
        ["_fbp", "_ga"].map(str::to_owned).to_vec()
    }

    #[test]
    fn only_our_cookies_and_the_vendors_are_read() {
        let sent = headers(&["session=s3cret; _fbp=fb.1.2.3", "_dfid=a%3Bb; _dfs_criteo=x=y; _dfid=second"]);
        assert_eq!(anonymous_ids(&sent), ["a;b", "second"]);
        assert_eq!(state(&sent, "criteo").as_deref(), Some("x=y"));
        assert_eq!(state(&sent, "pinterest"), None);
        assert_eq!(BrowserCookies::read(&sent, &names()).vendors, pairs(&[("_fbp", "fb.1.2.3")]));
    }

    #[test]
    fn of_several_cookies_of_a_name_all_that_can_be_used_count_once() {
        let sent = headers(&[
            "_dfid=; _dfid=a; _dfid=%20; _dfid=b; _dfid=a",
            "_fbp=; _ga=g; _fbp=f; _fbp=f; _fbp=h",
        ]);
        assert!(has_several_ids(&sent) && has_several_ids(&headers(&["_dfid=; _dfid=a"])));
        assert!(!has_several_ids(&headers(&["_dfid=a; _dfi=b; _dfidx=c"])));
        let cookies = BrowserCookies::read(&sent, &names());
        assert_eq!(cookies.anonymous_ids, ["a", "b"]);
        assert_eq!(cookies.vendors, pairs(&[("_fbp", "f"), ("_ga", "g")]));
        assert_eq!(cookies.further_vendors, pairs(&[("_fbp", "h")]));
        let number = |name: &str, count: usize| {
            (0..count).map(|n| format!("{name}={n}")).collect::<Vec<_>>().join("; ")
        };
        let many = headers(&[&number("_dfid", 20), &number("_fbp", 12), &number("_ga", 12)]);
        let cookies = BrowserCookies::read(&many, &names());
        assert_eq!((cookies.anonymous_ids.len(), cookies.further_vendors.len()), (8, 16));
        assert_eq!(state(&headers(&["_dfs_criteo=; _dfs_criteo=s"]), "criteo").as_deref(), Some("s"));
    }

    #[test]
    fn a_cookie_of_the_site_may_hold_any_bytes() {
        let sent: &[&[u8]] = &[b"name=J\xc3\xbcrgen; _dfid=a", b"\xff; =; ;_fbp=fb.1.2.\xe9; _ga=g"];
        let fields = sent.iter().map(|field| (header::COOKIE, HeaderValue::from_bytes(field).unwrap()));
        let sent: HeaderMap = fields.collect();
        assert_eq!(anonymous_ids(&sent), ["a"]);
        assert_eq!(BrowserCookies::read(&sent, &names()).vendors, pairs(&[("_ga", "g")]));
    }

    #[test]
    fn an_id_that_is_empty_too_long_or_not_text_is_ignored() {
        for value in ["", &"a".repeat(129), "%ff", &"%00".repeat(129)] {
            assert_eq!(anonymous_ids(&headers(&[&format!("_dfid={value}")])), [""; 0], "{value}");
        }
        assert_eq!(anonymous_ids(&headers(&[&format!("_dfid={}", "%F0%9F%8D%AA".repeat(32))])).len(), 1);
    }

    #[test]
    fn a_cookie_is_written_so_that_it_reads_back() {
        let cookie = Cookie {
            name: "_dfid".into(),
            value: "a; Domain=evil\r\n%41ü".into(),
            max_age_seconds: 34_560_000,
            domain: Some("shop.example".into()),
            path: "/".into(),
            secure: true,
            http_only: true,
            same_site: SameSite::Lax.into(),
        };
        let written = set_cookie(&cookie).unwrap();
        assert_eq!(
            written,
            "_dfid=a%3B%20Domain=evil%0D%0A%2541%C3%BC; Max-Age=34560000; Path=/; Domain=shop.example; \
             HttpOnly; Secure; SameSite=Lax"
        );
        let pair = written.to_str().unwrap().split("; ").next().unwrap();
        assert_eq!(anonymous_ids(&headers(&[pair])), [cookie.value.as_str()]);
        let ended = set_cookie(&end_host_only(&cookie)).unwrap();
        assert_eq!(ended, "_dfid=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax");
    }

    #[test]
    fn clearing_matches_how_the_cookie_was_set() {
        let secure = clear_state("criteo", "collect.shop.example").unwrap();
        assert_eq!(secure, "_dfs_criteo=; Max-Age=0; Path=/v1/sync/criteo; HttpOnly; Secure; SameSite=None");
        for host in ["127.0.0.1:8080", "[::1]:8080", "[::1]"] {
            assert!(
                clear_state("criteo", host).unwrap().to_str().unwrap().ends_with("HttpOnly; SameSite=Lax")
            );
        }
        for host in ["localhost", "a.LOCALHOST:1", "127.evil.test"] {
            assert_eq!(clear_state("criteo", host).unwrap(), secure, "{host} is a name");
        }
    }
}
