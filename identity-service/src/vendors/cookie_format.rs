//! Formats of the vendors' own cookies. Whatever comes from a browser is read strictly. A cookie of a form that is not
//! known is its vendor's all the same, and stays: only a placeholder counts as absent.

use std::time::Duration as StdDuration;

use time::{Duration, OffsetDateTime};
use uuid::Builder;

use crate::{clock, identifiers::placeholder::is_placeholder};

/// Longest cookie value that is looked at, in bytes; the edge forwards no longer one.
const MAX_BYTES: usize = 512;
/// Beginning of the client IDs that AMP's pages make.
const AMP: &str = "amp-";
/// Randomness that an ID is made of.
pub type Random = [u8; 32];

/// The format of a vendor's cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Meta's browser ID, `fb.{index}.{unix ms}.{random}`.
    Fbp,
    /// Meta's click ID, `fb.{index}.{unix ms}.{fbclid}`, made from a click alone.
    Fbc,
    /// TikTok's ID, made of 27 URL-safe characters.
    Ttp,
    /// Google Analytics' client ID, in a cookie `GA1.{level}.{random uint32}.{unix s}`: the ID is all behind the level,
    /// whatever the site has put there, and the version may change. AMP's `amp-…` is the ID as it is.
    Ga,
    /// A UUID, and nothing beside it.
    Uuid,
    /// Reddit's ID, `{unix ms}.{uuid}`.
    RdtUuid,
}

/// What a vendor's cookie holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading<'a> {
    /// The vendor's ID.
    Id(&'a str),
    /// A text that may be the vendor's, in a form that is not known: neither stored nor replaced.
    Unreadable,
    /// Nothing: a placeholder, or what no cookie of a vendor's is.
    Junk,
}

impl Format {
    /// Reads a cookie's value.
    pub fn read(self, cookie: &str) -> Reading<'_> {
        if !(1..=MAX_BYTES).contains(&cookie.len()) || !cookie.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Reading::Junk;
        }
        let id = self.id(cookie);
        if is_placeholder(id.unwrap_or(cookie)) {
            return Reading::Junk;
        }
        id.map_or(Reading::Unreadable, Reading::Id)
    }

    /// The ID in a cookie's value, if that is well-formed.
    fn id(self, cookie: &str) -> Option<&str> {
        let parts: Vec<&str> = cookie.split('.').collect();
        let fits = match self {
            Self::Fbp | Self::Fbc => is_meta(self, &parts),
            Self::Ttp => {
                (20..=64).contains(&cookie.len()) && cookie.bytes().all(|b| b == b'.' || is_token(b))
            }
            Self::Ga => return client_id(cookie),
            Self::Uuid => is_uuid(cookie),
            Self::RdtUuid => matches!(parts[..], [ms, uuid] if is_number(ms, 10..=14) && is_uuid(uuid)),
        };
        fits.then_some(cookie)
    }

    /// The cookie's value for an ID. `labels` is the number of labels that the cookie's domain has.
    pub fn cookie(self, id: &str, labels: usize) -> String {
        match self {
            Self::Ga if !id.starts_with(AMP) => format!("GA1.{labels}.{id}"),
            _ => id.to_owned(),
        }
    }

    /// A new ID; none where it takes a click to make one.
    pub fn make(self, random: Random, labels: usize, now: OffsetDateTime) -> Option<String> {
        let [a, b, c, d, ..] = random;
        let number = u32::from_be_bytes([a, b, c, d]);
        let uuid = || {
            let (bytes, _) = random.split_first_chunk().unwrap_or((&[0; 16], &[]));
            Builder::from_random_bytes(*bytes).into_uuid()
        };
        let ms = clock::unix_ms(now);
        Some(match self {
            // As Meta's own library draws it.
            Self::Fbp => format!("fb.{}.{ms}.{}", labels.saturating_sub(1), number % 2_147_483_647),
            Self::Fbc => return None,
            Self::Ttp => random.iter().take(27).map(|byte| token(*byte)).collect(),
            Self::Ga => format!("{number}.{}", now.unix_timestamp()),
            Self::Uuid => uuid().to_string(),
            Self::RdtUuid => format!("{ms}.{}", uuid()),
        })
    }

    /// End of an ID that came or was made now and lives for `days`; none where it has ended. A click's ID
    /// counts from the click, whose time is in it.
    pub fn expires(self, id: &str, days: u16, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let life = Duration::days(i64::from(days));
        let from = match self {
            // A clock a little ahead is no reason to lose a click.
            Self::Fbc => clicked_at(id).filter(|at| *at < now + StdDuration::from_hours(24))?.min(now),
            _ => now,
        };
        Some(from + life).filter(|at| *at > now)
    }

    /// True where two IDs are of the same click; where no click is needed they always are.
    pub fn same_click(self, one: &str, other: &str) -> bool {
        self != Self::Fbc || fbclid(one) == fbclid(other)
    }
}

/// The `fbc` of a click now; none where the click ID has characters that Meta's have not, or is too long.
pub fn fbc(fbclid: &str, labels: usize, now: OffsetDateTime) -> Option<String> {
    let id = format!("fb.{}.{}.{fbclid}", labels.saturating_sub(1), clock::unix_ms(now));
    (fbclid.bytes().all(is_token) && Format::Fbc.id(&id).is_some() && id.len() <= MAX_BYTES).then_some(id)
}

/// The click ID in an `fbc`.
pub fn fbclid(fbc: &str) -> Option<&str> {
    fbc.split('.').nth(3)
}

/// Time of the click that an `fbc` was made from.
pub fn clicked_at(fbc: &str) -> Option<OffsetDateTime> {
    clock::from_unix_ms(fbc.split('.').nth(2)?.parse().ok()?)
}

/// Checks the parts of a cookie of Meta's. A fifth one may follow, which names the library that wrote it.
fn is_meta(format: Format, parts: &[&str]) -> bool {
    let (["fb", index, ms, own] | ["fb", index, ms, own, _]) = parts else { return false };
    let own_fits = match format {
        Format::Fbc => !own.is_empty() && own.bytes().all(is_token),
        _ => is_number(own, 1..=20),
    };
    let library =
        parts.get(4).is_none_or(|library| matches!(library.len(), 2 | 8) && library.bytes().all(is_token));
    is_number(index, 1..=2) && is_number(ms, 10..=14) && own_fits && library
}

/// The client ID in a `_ga` cookie.
fn client_id(cookie: &str) -> Option<&str> {
    let is_id = |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|b| b == b'.' || is_token(b));
    if cookie.starts_with(AMP) {
        return Some(cookie).filter(is_id);
    }
    let (version, rest) = cookie.strip_prefix("GA")?.split_once('.')?;
    let (level, id) = rest.split_once('.')?;
    let level_fits = (1..=4).contains(&level.len()) && level.bytes().all(|b| b == b'-' || b.is_ascii_digit());
    Some(id).filter(is_id).filter(|_| level_fits && is_number(version, 1..=2))
}

fn is_number(text: &str, digits: std::ops::RangeInclusive<usize>) -> bool {
    digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

/// Characters of base64url, none of which a cookie has to escape.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn token(byte: u8) -> char {
    const TOKEN: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    TOKEN.get(usize::from(byte & 63)).copied().unwrap_or(b'A').into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);
    const ALL: [Format; 6] =
        [Format::Fbp, Format::Fbc, Format::Ttp, Format::Ga, Format::Uuid, Format::RdtUuid];

    #[test]
    fn they_are_made_as_the_vendors_make_them() {
        let make = |format: Format| format.make([7; 32], 2, NOW).unwrap_or_default();
        assert_eq!(make(Format::Fbp), "fb.1.1795255200000.117901063");
        assert_eq!(make(Format::Ga), "117901063.1795255200");
        assert_eq!(Format::Ga.cookie(&make(Format::Ga), 3), "GA1.3.117901063.1795255200");
        assert_eq!(make(Format::Uuid), "07070707-0707-4707-8707-070707070707");
        assert_eq!(make(Format::RdtUuid), "1795255200000.07070707-0707-4707-8707-070707070707");
        assert_eq!(make(Format::Ttp), "H".repeat(27));
        assert_eq!(Format::Fbc.make([7; 32], 2, NOW), None);
        assert_eq!(fbc("IwAR_x-1", 3, NOW).as_deref(), Some("fb.2.1795255200000.IwAR_x-1"));
        let largest = Format::Fbp.make([255; 32], 1, NOW).unwrap();
        assert_eq!(largest, "fb.0.1795255200000.1", "a random number is below 2^31 - 1");
    }

    #[test]
    fn a_cookie_s_id_is_read() {
        for (cookie, id) in [
            ("GA1.2.123.456", "123.456"),
            ("GA1.2-2.123.456", "123.456"),
            ("GA2.1.123.456", "123.456"),
            ("GA1.1.customer-4711", "customer-4711"),
            ("GA1.1.07070707-0707-4707-8707-070707070707", "07070707-0707-4707-8707-070707070707"),
            ("amp-Xy_1-9.a", "amp-Xy_1-9.a"),
        ] {
            assert_eq!(Format::Ga.read(cookie), Reading::Id(id));
        }
        assert_eq!(Format::Ga.cookie("amp-Xy_1", 2), "amp-Xy_1");
        for good in ["fb.1.1596403881668.1116446470", "fb.1.1596403881668.1116446470.AQ"] {
            assert_eq!(Format::Fbp.read(good), Reading::Id(good));
        }
        let fbc = "fb.2.1795255200000.IwAR_x-1.AQIBAQAA";
        assert_eq!((Format::Fbc.read(fbc), fbclid(fbc)), (Reading::Id(fbc), Some("IwAR_x-1")));
    }

    #[test]
    fn a_form_that_is_not_known_is_the_vendor_s_all_the_same() {
        for (format, cookie) in [
            (Format::Fbp, "fb.1.1596403881668.AbC_d-9"),
            (Format::Fbp, "fb.x.1596403881668.1"),
            (Format::Fbp, "fb.1.1596403881668.1.longer"),
            (Format::Fbc, "fb.1.1596403881668.a%20"),
            (Format::Ga, "GS1.1.abc"),
            (Format::Ga, "GA1..1.2"),
            (Format::Ga, "4711"),
            (Format::Uuid, "07070707070747078707070707070707"),
            (Format::Uuid, "Yjk1ZGY4ZGEtNWY3Ni00"),
            (Format::RdtUuid, "1.07070707-0707-4707-8707-070707070707"),
            (Format::Ttp, "short1"),
            (Format::Ttp, "2a5fD1u3XrYgAqlWSxT4rTEGRt%"),
        ] {
            assert_eq!(format.read(cookie), Reading::Unreadable, "{format:?} {cookie}");
        }
    }

    #[test]
    fn a_placeholder_is_nobody_s() {
        let long = "a1".repeat(257);
        let all = ["", "null", "deleted", "{{fbp}}", "%7Bfbp%7D", "GA1.2.null", "a b", "\u{e9}", &long];
        for (format, cookie) in ALL.into_iter().flat_map(|format| all.map(|cookie| (format, cookie))) {
            let is_others = cookie.starts_with("GA1") && format != Format::Ga;
            assert_eq!(format.read(cookie) == Reading::Junk, !is_others, "{format:?} {cookie}");
        }
    }

    #[test]
    fn of_tiktok_s_only_the_characters_are_known() {
        for good in
            ["2a5fD1u3XrYgAqlWSxT4rTEGRtq", "0b7cd9a4e9be4b1c8b1d6c7b4f7d8d11", "01J8XAMPLEXAMPLE_.tt.1"]
        {
            assert_eq!(Format::Ttp.read(good), Reading::Id(good));
        }
    }

    #[test]
    fn a_click_s_life_counts_from_the_click() {
        let ends = |ms: i64| Format::Fbc.expires(&format!("fb.1.{ms}.x"), 90, NOW).map(|at| at - NOW);
        let now = clock::unix_ms(NOW);
        assert_eq!(ends(now), Some(Duration::days(90)));
        assert_eq!(ends(now - 86_400_000), Some(Duration::days(89)));
        assert_eq!(ends(now - 90 * 86_400_000), None);
        assert_eq!(ends(now + 3_600_000), Some(Duration::days(90)));
        assert_eq!(ends(now + 86_400_000), None);
        assert_eq!(Format::Fbp.expires("fb.1.1.1", 90, NOW), Some(NOW + Duration::days(90)));
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_back(random in any::<Random>(), labels in 0..9_usize, s in 1_000_000_000..4_000_000_000_i64) {
            let now = OffsetDateTime::from_unix_timestamp(s).unwrap();
            for format in ALL {
                let Some(id) = format.make(random, labels, now) else { continue };
                let cookie = format.cookie(&id, labels);
                prop_assert_eq!(format.read(&cookie), Reading::Id(&id));
                prop_assert!(format.expires(&id, 1, now).is_some());
            }
        }

        #[test]
        fn no_cookie_yields_what_is_out_of_bounds(
            text in "(fb|GA1)?[.]?[0-9.]{0,16}.{0,60}", any in any::<String>(), s in 0..4_000_000_000_i64,
        ) {
            let now = OffsetDateTime::from_unix_timestamp(s).unwrap();
            for (format, cookie) in ALL.into_iter().flat_map(|format| [(format, &text), (format, &any)]) {
                if let Reading::Id(id) = format.read(cookie) {
                    prop_assert!((1..=512).contains(&id.len()) && id.bytes().all(|b| b == b'.' || is_token(b)));
                    let _ = format.expires(id, 90, now);
                }
            }
            if let Some(id) = fbc(&any, 1, now) {
                prop_assert_eq!(fbclid(&id), Some(any.as_str()));
            }
        }
    }
}
