//! Syntax of cookies. Which ones are set, and what they hold, is the core's decision.

use std::fmt::Write;

use http::{HeaderMap, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use proto::v1::{Cookie, SameSite};
use serve::origin::is_loopback_host;

/// Longest `_dfid` in bytes, as for each ID that a browser sends; a longer one is not ours.
const MAX_ANONYMOUS_ID_BYTES: usize = 128;
/// Longest value of a vendor's cookie in bytes; they are about 30 to 200 long.
const MAX_VENDOR_COOKIE_BYTES: usize = 512;
/// Bytes that RFC 6265 forbids in a value, and the escape itself.
const NOT_IN_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b',').add(b';').add(b'\\').add(b'%');

/// Value of the first cookie called `name`, as sent; none where that is no ASCII, which ours and the vendors'
/// are. Beside it may stand the site's own, with any bytes.
fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // HTTP/2 may send several fields.
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'))
        .find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .filter(|value| value.is_ascii())
        .and_then(|value| str::from_utf8(value).ok())
}

/// Anonymous ID of the browser, from `_dfid`; none where it is empty, too long or not UTF-8.
pub fn anonymous_id(headers: &HeaderMap) -> Option<String> {
    let value = percent_decode_str(get(headers, "_dfid")?).decode_utf8().ok()?;
    (!value.is_empty() && value.len() <= MAX_ANONYMOUS_ID_BYTES).then(|| value.into_owned())
}

/// Value of the state cookie of a vendor's sync.
pub fn state(headers: &HeaderMap, vendor: &str) -> Option<String> {
    get(headers, &state_name(vendor)).map(str::to_owned)
}

/// The cookies called as in `names`, those that are empty or too long left out.
pub fn vendor_cookies<'a>(
    headers: &'a HeaderMap,
    names: &'a [String],
) -> impl Iterator<Item = (&'a str, &'a str)> {
    names
        .iter()
        .filter_map(|name| Some((name.as_str(), get(headers, name)?)))
        .filter(|(_, value)| (1..=MAX_VENDOR_COOKIE_BYTES).contains(&value.len()))
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
/// the attributes follow the collect URL's scheme, which is plain http on loopback hosts only.
pub fn clear_state(vendor: &str, host: &str) -> Option<HeaderValue> {
    let secure = !is_loopback_host(host);
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

    fn names() -> Vec<String> {
        ["_fbp", "_ga"].map(str::to_owned).to_vec()
    }

    #[test]
    fn only_our_cookies_and_the_vendors_are_read() {
        let sent = headers(&["session=s3cret; _fbp=fb.1.2.3", "_dfid=a%3Bb; _dfs_criteo=x=y; _dfid=second"]);
        assert_eq!(anonymous_id(&sent).as_deref(), Some("a;b"));
        assert_eq!(state(&sent, "criteo").as_deref(), Some("x=y"));
        assert_eq!(state(&sent, "pinterest"), None);
        assert_eq!(vendor_cookies(&sent, &names()).collect::<Vec<_>>(), [("_fbp", "fb.1.2.3")]);
    }

    #[test]
    fn a_cookie_of_the_site_may_hold_any_bytes() {
        let sent: &[&[u8]] = &[b"name=J\xc3\xbcrgen; _dfid=a", b"\xff; =; ;_fbp=fb.1.2.\xe9; _ga=g"];
        let fields = sent.iter().map(|field| (header::COOKIE, HeaderValue::from_bytes(field).unwrap()));
        let sent: HeaderMap = fields.collect();
        assert_eq!(anonymous_id(&sent).as_deref(), Some("a"));
        assert_eq!(vendor_cookies(&sent, &names()).collect::<Vec<_>>(), [("_ga", "g")]);
    }

    #[test]
    fn an_id_that_is_empty_too_long_or_not_text_is_ignored() {
        for value in ["", &"a".repeat(129), "%ff", &"%00".repeat(129)] {
            assert_eq!(anonymous_id(&headers(&[&format!("_dfid={value}")])), None, "{value}");
        }
        assert!(anonymous_id(&headers(&[&format!("_dfid={}", "%F0%9F%8D%AA".repeat(32))])).is_some());
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
        assert_eq!(anonymous_id(&headers(&[pair])).as_deref(), Some(cookie.value.as_str()));
    }

    #[test]
    fn clearing_matches_how_the_cookie_was_set() {
        let secure = clear_state("criteo", "collect.shop.example").unwrap();
        assert_eq!(secure, "_dfs_criteo=; Max-Age=0; Path=/v1/sync/criteo; HttpOnly; Secure; SameSite=None");
        for host in ["127.0.0.1:8080", "localhost", "a.LOCALHOST:1", "[::1]:8080", "[::1]"] {
            assert!(
                clear_state("criteo", host).unwrap().to_str().unwrap().ends_with("HttpOnly; SameSite=Lax")
            );
        }
        let elsewhere = clear_state("criteo", "127.evil.test").unwrap();
        assert_eq!(elsewhere, secure, "a name that only begins as an address of loopback");
    }
}
