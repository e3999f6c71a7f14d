//! Laws of callbacks: of whatever query comes back, nothing is taken but the vendor's own ID and the state, each as the
//! query carried it, once decoded. They are told here without the reader's own means, so that no fault is shared.

use std::{fs, path::PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use serve::origin::is_unseen;

use crate::{
    identifiers::placeholder::is_placeholder,
    sync::uid::{self, Callback, Uid},
    vendors::{
        self, SyncVendor,
        sync::{Mode, UidShape},
    },
};

/// Checks the laws on an input: a byte for the vendor, and the query.
pub fn hold(input: &[u8]) {
    let Some((vendor, query)) = input.split_first() else { return };
    let vendor = vendors::syncs().nth(usize::from(*vendor) % vendors::syncs().count());
    if let (Some(vendor), Ok(query)) = (vendor, str::from_utf8(query)) {
        check(vendor, query);
    }
}

/// Inputs to begin with: the callbacks of the fixtures, at each vendor.
pub fn seeds() -> Vec<Vec<u8>> {
    let vendors = vendors::syncs().enumerate();
    let inputs = vendors.flat_map(|(number, vendor)| {
        let number = u8::try_from(number).unwrap();
        queries(vendor).into_iter().map(move |query| [&[number], query.as_bytes()].concat())
    });
    inputs.collect()
}

/// Checks the laws on a query that is sent to a vendor's callback.
fn check(vendor: &SyncVendor, query: &str) {
    let Callback { state, uid, is_unfilled } = uid::read(vendor, query);
    assert!(!is_unfilled || uid == Uid::Missing, "a macro is no ID: {query}");
    let (ours, ids) = apart(vendor, query);
    match &*values(ours, "state") {
        [only] => assert_eq!(state, decoded(only), "the state is the query's: {query}"),
        _ => assert_eq!(state, None, "no state, or several: {query}"),
    }
    let has_opted_out = ["opt_out=1", "opt_out=true", "optout=1", "optout=true"];
    let has_opted_out = query.split('&').any(|pair| has_opted_out.contains(&pair));
    match (uid, &*ids) {
        (Uid::Value(value), [only]) => {
            assert!(!has_opted_out, "the visitor has opted out: {query}");
            assert_eq!(Some(&value), decoded(only).as_ref(), "the ID is the query's: {query}");
            assert!(is_allowed(vendor, &value), "{} assigns no such ID: {query}", vendor.name);
        }
        (Uid::Value(value), _) => panic!("{value:?} of {} IDs: {query}", ids.len()),
        (Uid::Missing, [only]) => {
            let is_fit = decoded(only).is_some_and(|value| is_allowed(vendor, &value));
            assert!(has_opted_out || !is_fit || is_placeholder(only), "an ID is lost: {query}");
        }
        (Uid::Invalid, [only]) => {
            let is_fit = decoded(only).is_some_and(|value| is_allowed(vendor, &value));
            assert!(!is_fit, "an ID is refused: {query}");
        }
        (Uid::Missing, []) => {}
        (Uid::Missing, _) => assert!(has_opted_out, "IDs are lost: {query}"),
        (Uid::Invalid, _) => assert!(ids.len() > 1, "what is not there is not invalid: {query}"),
    }
}

/// The part of a query that may hold the state, and the raw IDs in the whole.
fn apart<'a>(vendor: &SyncVendor, query: &'a str) -> (&'a str, Vec<&'a str>) {
    let Mode::Append { tail, .. } = vendor.mode else { return (query, values(query, vendor.uid_param)) };
    let marker = format!("{}=", vendor.uid_param);
    // The places behind each `&`, and the beginning.
    let starts = |text: &'a str| std::iter::once(0).chain(text.match_indices('&').map(|(at, _)| at + 1));
    let Some(at) = starts(query).find(|at| query[*at..].starts_with(&marker)) else { return (query, vec![]) };
    let rest = &query[at + marker.len()..];
    let ends_id = |at: &usize| tail.iter().any(|name| rest[*at..].starts_with(&format!("{name}=")));
    let end = starts(rest).filter(|at| *at > 0).find(ends_id).map_or(rest.len(), |at| at - 1);
    let again = starts(rest).filter(|at| (1..=end).contains(at) && rest[*at..].starts_with(&marker));
    (&query[..at], std::iter::once(&rest[..end]).chain(again.map(|at| &rest[at..end])).collect())
}

/// The raw values of a parameter; a name alone has an empty one.
fn values<'a>(query: &'a str, name: &str) -> Vec<&'a str> {
    let value = |pair: &'a str| match pair.strip_prefix(name)? {
        "" => Some(""),
        rest => rest.strip_prefix('='),
    };
    query.split('&').filter_map(value).collect()
}

/// Decodes percent signs with two hexadecimal digits behind them, once; none where no text comes of it.
fn decoded(raw: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), raw.as_bytes());
    while let [first, behind @ ..] = rest {
        let digits =
            behind.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let number = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(number.unwrap_or(*first));
        rest = if number.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8(bytes).ok()
}

/// True where the vendor's record allows an ID, and it can be somebody's.
fn is_allowed(vendor: &SyncVendor, value: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_uuid = |text: &str| {
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        lengths == [8, 4, 4, 4, 12] && is_hex(&text.replace('-', ""))
    };
    let fits = match vendor.uid_shape {
        UidShape::Opaque => true,
        UidShape::Uuid => is_uuid(value),
        UidShape::Hex32 => value.len() == 32 && is_hex(value),
        UidShape::TimedUuid => value.split_once('.').is_some_and(|(time, uuid)| {
            time.len() == 13 && time.chars().all(|c| c.is_ascii_digit()) && is_uuid(uuid)
        }),
    };
    let is_odd = |c: char| c.is_control() || is_unseen(c) || c != ' ' && c.is_whitespace();
    let is_printed = |c: char| c.is_ascii() || c.is_alphanumeric();
    fits && (1..=512).contains(&value.len())
        && !value.contains(is_odd)
        && value.chars().all(is_printed)
        && !vendor.sentinels.contains(&value.to_ascii_lowercase().as_str())
        && !is_placeholder(value)
}

/// The queries of a vendor's fixture and of those that hold for all.
fn queries(vendor: &SyncVendor) -> Vec<String> {
    let (own, of_all) = (fixture(vendor.name), fixture("_every"));
    let id = utf8_percent_encode(text(&own["simulator"]["id"]), NON_ALPHANUMERIC).to_string();
    let cases = [&own["callbacks"], &of_all].into_iter().flat_map(|cases| cases.as_array().unwrap());
    let query = |case: &Value| text(&case["query"]).replace("PARAM", vendor.uid_param).replace("THE_ID", &id);
    cases.map(query).collect()
}

/// A file of the fixtures of syncs.
fn fixture(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/sync/{name}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[cfg(test)]
mod tests {
    use migrations::sealed::{SealKey, SealKeys};
    use proptest::{collection::vec, prelude::*, sample::select};
    use secrecy::SecretString;
    use time::{Duration, OffsetDateTime, macros::datetime};
    use uuid::Uuid;

    use super::*;
    use crate::sync::state::{StateKeys, SyncState};

    const NOW: OffsetDateTime = datetime!(2026-11-30 10:00 UTC);

    #[test]
    fn they_hold_for_the_fixtures() {
        for seed in seeds() {
            hold(&seed);
        }
    }

    fn encoded(text: &str) -> String {
        utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
    }

    fn vendor() -> impl Strategy<Value = &'static SyncVendor> {
        select(vendors::syncs().collect::<Vec<_>>())
    }

    /// IDs as the vendor assigns them.
    fn ids(vendor: &SyncVendor) -> Vec<String> {
        let good = fixture(vendor.name)["good"].clone();
        let good = good.as_array().unwrap().iter().map(|id| text(id).to_owned());
        good.chain([vendor.uid_shape.example().to_owned()]).collect()
    }

    /// A parameter's value: an ID, something in its place, or anything, written in one of the ways that are met.
    fn value(vendor: &'static SyncVendor) -> impl Strategy<Value = String> {
        let nobodys =
            ["", "0", "none", "[UID]", "${UID}", "optout", "undefined", "@USERID@", "%%TTD_USERID%%"];
        let nobodys =
            nobodys.iter().chain(vendor.sentinels).map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let value = prop_oneof![
            4 => select(ids(vendor)),
            1 => select(nobodys),
            1 => "[a-zA-Z0-9]{8}&[a-z_]{2,8}=[a-z0-9]{1,4}",
            1 => "[ -~]{0,24}",
            1 => any::<String>(),
            1 => "a{510,514}",
            1 => "(%[0-9A-Fa-f]{0,2}|[a-z+]){1,8}",
        ];
        (value, 0..4).prop_map(|(value, way)| match way {
            0 => value,
            1 => encoded(&encoded(&value)),
            _ => encoded(&value),
        })
    }

    /// A query of the parameters that the vendor, a proxy on the way or a forger may have put there.
    fn query(vendor: &'static SyncVendor) -> impl Strategy<Value = String> {
        let others =
            ["opt_out", "optout", "gdpr", "us_privacy", "gppsid", "uid", "id", "", "State", "state%"];
        let name = prop_oneof![6 => Just(vendor.uid_param), 3 => Just("state"), 3 => select(others.to_vec())];
        let pair = (name, value(vendor), 0..12).prop_map(|(name, value, way)| match way {
            0 => name.to_owned(),
            1 => format!("{name}=1"),
            2 => format!("{name}=={value}"),
            _ => format!("{name}={value}"),
        });
        let separator = prop_oneof![15 => Just("&"), 1 => Just("&&"), 1 => Just("?"), 1 => Just(";")];
        (vec(pair, 0..5), separator).prop_map(|(pairs, separator)| pairs.join(separator))
    }

    fn state(vendor: &str, visitor: u8) -> SyncState {
        SyncState {
            key: Uuid::from_u128(u128::from(visitor % 2)),
            vendor: vendor.to_owned(),
            anonymous_id: format!("visitor-{visitor}"),
            issued_at: NOW - Duration::minutes(visitor.into()),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(80_000))]

        #[test]
        fn they_hold_for_what_may_come_back((vendor, query) in vendor().prop_flat_map(|v| (Just(v), query(v)))) {
            check(vendor, &query);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// The other side of the laws: what the vendor has assigned is not lost, however it is written.
        #[test]
        fn an_id_of_the_vendor_s_is_read(
            (vendor, id) in vendor().prop_flat_map(|vendor| (Just(vendor), select(ids(vendor)))),
            written in any::<u64>(), before in "(state=[a-z]{4}&)?(x=[a-z]{0,4}&){0,2}", behind in "(&gdpr=[01])?",
        ) {
            let raw = |at: usize| written >> (at % 64) & 1 == 0 && !matches!(vendor.mode, Mode::Append { .. });
            let byte = |(at, byte): (usize, u8)| match byte {
                byte if byte.is_ascii_alphanumeric() && raw(at) => char::from(byte).to_string(),
                byte => format!("%{byte:02x}"),
            };
            let id_text: String = id.bytes().enumerate().map(byte).collect();
            let query = format!("{before}{}={id_text}{behind}", vendor.uid_param);
            check(vendor, &query);
            prop_assert_eq!(uid::read(vendor, &query).uid, Uid::Value(id), "{}", query);
        }

        /// A state opens to what it was sealed with, if at all: whatever is made of those of several visitors, none
        /// comes to another visitor, vendor, key or time.
        #[test]
        fn a_state_is_one_that_was_issued_or_none(
            names in [vendor(), vendor(), vendor()],
            (from, to, at, length) in (0..3usize, 0..3usize, any::<prop::sample::Index>(), 0..200usize),
            change in 0..4, minutes in -2i64..15,
        ) {
            let keys = StateKeys::derive(&SealKeys::new(
                SealKey::from_hex(&SecretString::from("11".repeat(32))).unwrap(), None));
            let issued = [0, 1, 2].map(|n| state(names[n].name, u8::try_from(n).unwrap()));
            let texts = issued.clone().map(|state| keys.seal(&state).unwrap());
            let (mut text, other) = (texts[from].clone().into_bytes(), texts[to].as_bytes());
            let start = at.index(text.len());
            let end = (start + length).min(text.len()).min(other.len());
            match change {
                0 => {}
                1 if start < end => text[start..end].copy_from_slice(&other[start..end]),
                2 => text.truncate(start),
                _ => text.extend(&other[start.min(other.len())..]),
            }
            let now = NOW + Duration::minutes(minutes);
            let query = format!("state={}&uid=x", String::from_utf8(text.clone()).unwrap());
            let read = uid::read(names[from], &query).state.unwrap();
            prop_assert_eq!(read.as_bytes(), &*text);
            let opened = keys.open(&read, now).ok();
            let known = texts.iter().position(|issued| issued.as_bytes() == &*text).map(|n| &issued[n]);
            let is_of_age = |state: &&SyncState| {
                (Duration::seconds(-30)..=Duration::minutes(10)).contains(&(now - state.issued_at))
            };
            prop_assert_eq!(opened.as_ref(), known.filter(is_of_age));
        }
    }
}
