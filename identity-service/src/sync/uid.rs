//! Reading what a vendor brought back: the callback's query string, taken strictly.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::{
    identifiers::placeholder::is_placeholder,
    vendors::{SyncVendor, sync::Mode},
};

/// Longest vendor ID that is stored, in bytes (as in IABTechLab's trusted-server).
const MAX_BYTES: usize = 512;

/// A callback's query string, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Callback {
    /// The sealed state. None where it is absent or repeated.
    pub state: Option<String>,
    /// The vendor's ID, or the reason for having none.
    pub uid: Uid,
    /// True where a macro stands in the place of the ID: the vendor did not fill it in.
    pub is_unfilled: bool,
}

/// The vendor's ID, judged.
#[derive(Debug, PartialEq, Eq)]
pub enum Uid {
    /// An ID that is fit to be stored.
    Value(String),
    /// The vendor has none for this visitor: empty, a placeholder, an opt-out, its own macro unreplaced.
    Missing,
    /// Not an ID of this vendor: too long, unprintable, of another shape, or sent twice.
    Invalid,
}

/// Reads `raw_query`, the part after `?`, as `vendor` would have written it.
pub fn read(vendor: &SyncVendor, raw_query: &str) -> Callback {
    let (ours, uid) = match vendor.mode {
        Mode::Append { tail, .. } => split_appended(raw_query, vendor.uid_param, tail),
        Mode::Redirect { .. } | Mode::Registered { .. } => {
            (raw_query, RawUid::of(raw_query, vendor.uid_param))
        }
    };
    let state = match RawUid::of(ours, "state") {
        RawUid::Once(state) => decode(state).map(Cow::into_owned),
        RawUid::Never | RawUid::Repeatedly => None,
    };
    let (uid, is_unfilled) = match uid {
        _ if opted_out(raw_query) => (Uid::Missing, false),
        RawUid::Never => (Uid::Missing, false),
        RawUid::Repeatedly => (Uid::Invalid, false),
        RawUid::Once(raw) => {
            let uid = parse_uid(vendor, raw);
            let is_unfilled = uid == Uid::Missing && is_macro(raw);
            (uid, is_unfilled)
        }
    };
    Callback { state, uid, is_unfilled }
}

/// The raw value of a parameter, by how often the parameter stands in the query.
enum RawUid<'a> {
    Never,
    Once(&'a str),
    Repeatedly,
}

impl<'a> RawUid<'a> {
    fn of(query: &'a str, name: &str) -> Self {
        let mut values = pairs(query).filter(|(key, _)| *key == name).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (None, _) => Self::Never,
            (Some(value), None) => Self::Once(value),
            (Some(_), Some(_)) => Self::Repeatedly,
        }
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// An appended ID is the raw rest of the query and may hold `&` itself (Index Exchange's do), so only the parameters of
/// `tail` behind it are cut off.
fn split_appended<'a>(query: &'a str, name: &str, tail: &[&str]) -> (&'a str, RawUid<'a>) {
    let marker = format!("{name}=");
    let after_others = format!("&{marker}");
    let (ours, rest) = if let Some(rest) = query.strip_prefix(&marker) {
        ("", rest)
    } else if let Some((ours, rest)) = query.split_once(&after_others) {
        (ours, rest)
    } else {
        return (query, RawUid::Never);
    };
    let mut end = 0;
    for segment in rest.split('&') {
        let key = segment.split_once('=').map(|(key, _)| key);
        if end > 0 && key == Some(name) {
            return (ours, RawUid::Repeatedly);
        }
        if end > 0 && key.is_some_and(|key| tail.contains(&key)) {
            break;
        }
        end += segment.len() + 1;
    }
    (ours, RawUid::Once(rest.get(..end.saturating_sub(1)).unwrap_or(rest)))
}

fn opted_out(query: &str) -> bool {
    pairs(query).any(|(key, value)| matches!(key, "opt_out" | "optout") && matches!(value, "1" | "true"))
}

/// Decodes percent signs once. A plus sign stays one: IDs are often base64, and vendors do not form-encode
/// them.
fn decode(raw: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(raw).decode_utf8().ok()
}

/// True where what is no ID is a name between the signs of a macro, in any encoding: `$UID`, `[UID]`, `%3CTUID%3E`.
fn is_macro(raw: &str) -> bool {
    raw.starts_with(|c: char| c.is_ascii_punctuation() && c != '-')
        && raw.contains(|c: char| c.is_ascii_alphabetic())
}

pub(super) fn parse_uid(vendor: &SyncVendor, raw: &str) -> Uid {
    let Some(value) = decode(raw) else { return Uid::Invalid };
    let is_sentinel = vendor.sentinels.iter().any(|sentinel| value.eq_ignore_ascii_case(sentinel));
    if is_sentinel || is_placeholder(raw) || is_placeholder(&value) {
        return Uid::Missing;
    }
    let fits = vendor.uid_shape.fits(&value);
    if value.len() > MAX_BYTES || !value.chars().all(is_printable) || !fits {
        return Uid::Invalid;
    }
    Uid::Value(value.into_owned())
}

/// Letters and digits of any script, ASCII punctuation and the space: no control, format or separator
/// characters.
fn is_printable(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric()
}
