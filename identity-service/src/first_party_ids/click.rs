//! Reading click IDs from the URL of a page.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::vendors::ClickId;

/// Longest click ID, in bytes; the longest seen have some 250.
const MAX_BYTES: usize = 512;

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
    use proptest::prelude::*;

    use super::*;
    use crate::vendors;

    fn all() -> Vec<&'static ClickId> {
        vendors::click_ids().collect()
    }

    fn of(url: &str) -> Vec<(&'static str, String)> {
        of_page(&all(), url).into_iter().map(|(record, value)| (record.field, value)).collect()
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
