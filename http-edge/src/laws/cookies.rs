//! Laws of cookies: what is read stood in a header under its name, within its bounds; other cookies change nothing; and
//! what is set reads back.

use http::{HeaderMap, HeaderValue, header};
use proto::v1::{Cookie, SameSite};

use crate::cookies::{self, BrowserCookies, DFID};

/// Names of vendors' cookies, as the core tells them.
const NAMES: [&str; 4] = ["_fbp", "_ga", "_ttp", "_scid"];

/// Checks the laws on an input: Cookie headers, each on a line.
pub fn hold(input: &[u8]) {
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let headers = lines.iter().map(|line| HeaderValue::from_bytes(line).map(|value| (header::COOKIE, value)));
    let Ok(headers) = headers.collect::<Result<HeaderMap, _>>() else { return };
    let names = NAMES.map(str::to_owned);
    let read = BrowserCookies::read(&headers, &names);
    check_ids(&lines, &headers, &read);
    for (name, value) in read.vendors.iter().chain(&read.further_vendors) {
        assert!(NAMES.contains(&&**name) && (1..=512).contains(&value.len()), "{name}={value}");
        assert!(stands_in(&lines, name, value), "{name}={value} was not sent");
    }
    let mut pairs: Vec<_> = read.vendors.iter().chain(&read.further_vendors).collect();
    pairs.sort();
    assert!(pairs.windows(2).all(|two| two[0] != two[1]), "twice: {pairs:?}");
    assert!(read.vendors.len() <= NAMES.len() && read.further_vendors.len() <= 16);

    let state = cookies::state(&headers, "criteo");
    assert!(state.is_none_or(|state| !state.is_empty() && stands_in(&lines, "_dfs_criteo", &state)));
    let mut more = headers.clone();
    for other in ["session=s3cret; _dfid2=x; x_dfid=y; __fbp=z", "_dfi=; =; ; _dfs_=a", "; _fb p=1; _dfid_=v"]
    {
        more.append(header::COOKIE, HeaderValue::from_static(other));
    }
    let with_others = BrowserCookies::read(&more, &names);
    assert_eq!(format!("{with_others:?}"), format!("{read:?}"), "others' cookies change what is read");
    check_set(&String::from_utf8_lossy(input));
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 6] = [
        b"session=s3cret; _fbp=fb.1.2.3\n_dfid=a%3Bb; _dfs_criteo=x=y; _dfid=second",
        b"_dfid=; _dfid=a; _dfid=%20; _dfid=b; _dfid=a\n_fbp=; _ga=g; _fbp=f; _fbp=f; _fbp=h",
        b"name=J\xc3\xbcrgen; _dfid=a\n\xff; =; ;_fbp=fb.1.2.\xe9; _ga=g",
        b"_dfid=%ff; _dfid=%00; _dfid=%F0%9F%8D%AA",
        b"_dfid=7d0f5c3e-2b1a-4c9d-8e6f-0a1b2c3d4e5f; _ga=GA1.1.1; _scid=1; _ttp=2",
        b"a; Domain=evil\t%41",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

fn check_ids(lines: &[&[u8]], headers: &HeaderMap, read: &BrowserCookies) {
    let ids = cookies::anonymous_ids(headers);
    assert_eq!(ids, read.anonymous_ids);
    assert!(ids.len() <= 8 && (ids.len() < 2 || cookies::has_several_ids(headers)), "{ids:?}");
    for (at, id) in ids.iter().enumerate() {
        assert!(!id.trim().is_empty() && id.len() <= 128 && !ids[..at].contains(id), "{ids:?}");
        let decodes_to =
            |raw: &str| percent_encoding::percent_decode_str(raw).decode_utf8().is_ok_and(|own| own == *id);
        assert!(sent(lines, DFID).iter().any(|raw| decodes_to(raw)), "{id:?} was not sent");
        let set =
            cookies::set_cookie(&Cookie { name: DFID.to_owned(), value: id.clone(), ..Cookie::default() });
        let set = set.unwrap_or_else(|| panic!("{id:?} can't be set"));
        let pair = set.to_str().unwrap().split("; ").next().unwrap();
        let back = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(pair).unwrap())]);
        assert_eq!(cookies::anonymous_ids(&back), [&**id], "{pair}");
    }
}

/// Checks that nothing in a value becomes an attribute, or another header.
fn check_set(value: &str) {
    let cookie = Cookie {
        name: DFID.to_owned(),
        value: value.to_owned(),
        path: "/".to_owned(),
        max_age_seconds: 60,
        domain: Some("shop.example".to_owned()),
        secure: true,
        http_only: true,
        same_site: SameSite::Lax.into(),
    };
    let set = cookies::set_cookie(&cookie).unwrap_or_else(|| panic!("{value:?} can't be set"));
    let set = set.to_str().unwrap_or_else(|_| panic!("{value:?} is not ASCII where it is set"));
    let (pair, attributes) = set.split_once(';').unwrap();
    assert_eq!(attributes, " Max-Age=60; Path=/; Domain=shop.example; HttpOnly; Secure; SameSite=Lax");
    assert!(pair.strip_prefix("_dfid=").is_some_and(|own| own.bytes().all(is_cookie_octet)), "{pair}");
}

/// True for the bytes that RFC 6265 has in a cookie's value.
fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

/// The values of a cookie, by the plainest of readers.
fn sent<'a>(lines: &[&'a [u8]], name: &str) -> Vec<&'a str> {
    let pairs = lines.iter().flat_map(|line| line.split(|byte| *byte == b';'));
    let texts = pairs.filter_map(|pair| str::from_utf8(pair.trim_ascii()).ok());
    texts
        .filter_map(|pair| pair.split_once('='))
        .filter(|(own, _)| *own == name)
        .map(|(_, value)| value)
        .collect()
}

fn stands_in(lines: &[&[u8]], name: &str, value: &str) -> bool {
    sent(lines, name).contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_hold_for_the_seeds() {
        for seed in seeds() {
            hold(&seed);
        }
    }
}
