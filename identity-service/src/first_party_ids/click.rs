//! Click IDs: what an advertising platform adds to the URL of the page that its advertisement leads to. Opaque, and
//! case counts.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Longest click ID, in bytes; the longest seen have some 250.
const MAX_BYTES: usize = 512;

/// A click ID of a vendor.
#[derive(Debug, PartialEq, Eq)]
pub struct ClickId {
    /// In settings.
    pub vendor: &'static str,
    /// Field of the identity that holds it.
    pub field: &'static str,
    /// Names of the URL's parameter, matched exactly.
    pub params: &'static [&'static str],
    /// How long it is kept, in days.
    pub days: u16,
    /// The consent category that is needed.
    pub category: &'static str,
    /// It counts only where this parameter is absent or has this value.
    pub only_with: Option<(&'static str, &'static str)>,
}

/// Every click ID. Names and lives are those of the vendors' public documentation; 90 days where they name none.
pub const CLICK_IDS: &[ClickId] = &[
    // Search Ads 360 and others send a gclid that is none of Google Ads', and say so.
    ClickId { only_with: Some(("gclsrc", "aw.ds")), ..click("google", "gclid", &["gclid"]) },
    click("google", "wbraid", &["wbraid"]),
    click("google", "gbraid", &["gbraid"]),
    click("google", "dclid", &["dclid"]),
    click("meta", "fbclid", &["fbclid"]),
    click("tiktok", "ttclid", &["ttclid"]),
    ClickId { days: 365, ..click("pinterest", "epik", &["epik"]) },
    click("microsoft", "msclkid", &["msclkid"]),
    click("snapchat", "sccid", &["ScCid", "sccid"]),
    click("reddit", "rdt_cid", &["rdt_cid"]),
    ClickId { days: 30, ..click("linkedin", "li_fat_id", &["li_fat_id"]) },
    ClickId { days: 30, ..click("x", "twclid", &["twclid"]) },
    click("nextdoor", "ndclid", &["ndclid"]),
    click("taboola", "tblci", &["tblci"]),
    click("outbrain", "dicbo", &["dicbo"]),
];

const fn click(vendor: &'static str, field: &'static str, params: &'static [&'static str]) -> ClickId {
    ClickId { vendor, field, params, days: 90, category: "marketing", only_with: None }
}

/// The click IDs of `records` that a page's URL holds, each with its value. Of a parameter that comes twice the first
/// counts.
pub fn of_page(records: &[&'static ClickId], url: &str) -> Vec<(&'static ClickId, String)> {
    let page = url.split_once('#').map_or(url, |(page, _)| page);
    // Most pages have none.
    let Some((_, query)) = page.split_once('?') else { return Vec::new() };
    let find = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| decode(key).is_some_and(|key| key == name)).map(|(_, value)| value)
    };
    let value = |record: &ClickId| {
        let fits = record.only_with.is_none_or(|(name, value)| find(name).is_none_or(|found| found == value));
        let raw = record.params.iter().find_map(|name| find(name)).filter(|_| fits)?;
        decode(raw).filter(|value| is_usable(value)).map(Cow::into_owned)
    };
    records.iter().filter_map(|record| Some((*record, value(record)?))).collect()
}

/// Percent-decoded once. A plus sign stays one: these are tokens, not forms.
fn decode(raw: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(raw).decode_utf8().ok()
}

fn is_usable(value: &str) -> bool {
    (1..=MAX_BYTES).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn all() -> Vec<&'static ClickId> {
        CLICK_IDS.iter().collect()
    }

    fn of(url: &str) -> Vec<(&'static str, String)> {
        of_page(&all(), url).into_iter().map(|(record, value)| (record.field, value)).collect()
    }

    #[test]
    fn records_are_sound() {
        let mut fields = HashSet::new();
        for record in CLICK_IDS {
            assert!(fields.insert(record.field), "{}: field taken", record.field);
            assert!((1..=400).contains(&record.days), "{}", record.field);
            assert!(!record.params.is_empty(), "{}", record.field);
        }
        assert_eq!(fields.len(), 15);
    }

    #[test]
    fn names_are_exact_and_values_opaque() {
        assert_eq!(
            of("https://shop.example/?a=1&fbclid=IwAR_aB%2Fc+d&ScCid=X#gclid=no"),
            [("fbclid", "IwAR_aB/c+d".to_owned()), ("sccid", "X".to_owned())]
        );
        assert_eq!(of("/?sccid=y&%67clid=%2541"), [("gclid", "%41".to_owned()), ("sccid", "y".to_owned())]);
        assert_eq!(of("/?msclkid=a&msclkid=b"), [("msclkid", "a".to_owned())]);
        for url in [
            "",
            "?",
            "gclid=1",
            "/?GCLID=1",
            "/?gclid",
            "/?gclid=",
            "/?xgclid=1",
            "/?gclid=%ff",
            "/?gclid=%00",
        ] {
            assert_eq!(of(url), [], "{url}");
        }
    }

    #[test]
    fn a_gclid_counts_for_google_ads_alone() {
        let gclid = [("gclid", "1".to_owned())];
        assert_eq!(of("/?gclid=1"), gclid);
        assert_eq!(of("/?gclsrc=aw.ds&gclid=1"), gclid);
        assert_eq!(of("/?gclid=1&gclsrc=3p.ds"), []);
    }

    #[test]
    fn what_is_too_long_is_none() {
        assert_eq!(of(&format!("/?gclid={}", "a".repeat(512))).len(), 1);
        assert_eq!(of(&format!("/?gclid={}", "a".repeat(513))), []);
    }

    proptest! {
        #[test]
        fn no_url_yields_what_is_out_of_bounds(
            url in "(https?://[a-z./]{0,9})?[?#&]{0,2}((gclid|fbclid|epik|ScCid|gclsrc|%67clid)[=%&?#]{1,3}.{0,40}){0,6}",
            any in any::<String>(),
        ) {
            for (_, value) in of(&url).into_iter().chain(of(&any)) {
                prop_assert!((1..=512).contains(&value.len()) && value.is_ascii());
                prop_assert!(!value.contains(|c: char| c.is_control() || c == ' '));
            }
        }
    }
}
