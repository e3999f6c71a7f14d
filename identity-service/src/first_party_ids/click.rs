//! Reading click IDs from where the address of a page may hold them.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::vendors::ClickId;

/// Longest part of an address that is looked at, in bytes; a click is usually in front.
const MAX_ADDRESS_BYTES: usize = 4096;

/// The address of a page, as an event tells it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Page<'a> {
    /// The page's URL.
    pub url: &'a str,
    /// The query as the page's script sees it, beside a URL that may be the canonical one.
    pub search: &'a str,
    /// The page that led here, where it is of the same site: a landing page may redirect by script.
    pub same_site_referrer: &'a str,
}

impl<'a> Page<'a> {
    /// The lists of parameters, in the order in which they count: the URL's query, the script's, the URL's fragment (a
    /// route of a single-page application may have a query of its own), the referrer's query.
    fn places(&self) -> [&'a str; 4] {
        let (page, fragment) = split(cut(self.url), '#');
        [
            split(page, '?').1,
            cut(self.search),
            fragment,
            split(split(cut(self.same_site_referrer), '#').0, '?').1,
        ]
    }

    /// The click IDs of `records`, each with its value. The first value that fits its record counts.
    pub fn clicks(&self, records: &[&'static ClickId]) -> Vec<(&'static ClickId, String)> {
        let places = self.places();
        // Most pages have none.
        if !places.iter().any(|place| names_any(records, place)) {
            return Vec::new();
        }
        let value = |record: &ClickId| places.iter().find_map(|place| find(record, place));
        records.iter().filter_map(|record| Some((*record, value(record)?))).collect()
    }
}

/// True where an address, or a part of one, names a parameter of `records`, whatever its value.
pub fn names_any(records: &[&'static ClickId], address: &str) -> bool {
    let is_known = |name: &str| records.iter().any(|record| record.params.contains(&name));
    let mut names = address.split(['?', '&', '#']).filter_map(|pair| pair.split_once('='));
    names.any(|(name, _)| decode(name).is_some_and(|name| is_known(&name)))
}

fn split(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

/// The first 4 KiB of an address, up to where the last parameter that is whole ends.
fn cut(address: &str) -> &str {
    if address.len() <= MAX_ADDRESS_BYTES {
        return address;
    }
    let head = address.get(..address.floor_char_boundary(MAX_ADDRESS_BYTES)).unwrap_or_default();
    head.rfind('&').and_then(|end| head.get(..end)).unwrap_or_default()
}

/// The value of a click ID among parameters; none where what goes with it says that it is another vendor's.
fn find(record: &ClickId, parameters: &str) -> Option<String> {
    // A second question mark is a mistake for `&`, and a fragment's own query begins with one.
    let pairs = || parameters.split(['?', '&']).filter_map(|pair| pair.split_once('='));
    let values = |name: &'static str| {
        pairs().filter(move |(key, _)| decode(key).is_some_and(|key| key == name)).map(|(_, value)| value)
    };
    let belongs = record.only_with.is_none_or(|(name, value)| values(name).all(|found| found == value));
    let usable = |raw: &str| decode(raw).filter(|value| record.fits(value)).map(Cow::into_owned);
    record.params.iter().filter(|_| belongs).find_map(|name| values(name).find_map(usable))
}

/// Percent-decoded once. A plus sign stays one: these are tokens, not forms.
fn decode(raw: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(raw).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vendors;

    fn all() -> Vec<&'static ClickId> {
        vendors::click_ids().collect()
    }

    fn on(page: &Page<'_>) -> Vec<(&'static str, String)> {
        page.clicks(&all()).into_iter().map(|(record, value)| (record.field, value)).collect()
    }

    fn of(url: &str) -> Vec<(&'static str, String)> {
        on(&Page { url, ..Page::default() })
    }

    fn one(field: &'static str, value: &str) -> Vec<(&'static str, String)> {
        vec![(field, value.to_owned())]
    }

    #[test]
    fn names_are_exact_and_case_is_kept() {
        assert_eq!(
            of("https://shop.example/?a=1&fbclid=IwAR_aB%2Dc-d&ScCid=X"),
            [("fbclid", "IwAR_aB-c-d".to_owned()), ("sccid", "X".to_owned())]
        );
        assert_eq!(of("/?sccid=y&%67clid=%41"), [("gclid", "A".to_owned()), ("sccid", "y".to_owned())]);
        assert_eq!(of("/?msclkid=a&msclkid=b"), one("msclkid", "a"));
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
    fn what_is_none_of_the_vendor_s_is_nothing() {
        for (field, bad) in [
            ("ttclid", "__CLICKID__"),
            ("gclid", "{gclid}"),
            ("gclid", "{{gclid}}"),
            ("gclid", "%7Bgclid%7D"),
            ("gclid", "%257Bgclid%257D"),
            ("gclid", "null"),
            ("fbclid", "undefined"),
            ("msclkid", "{msclkid}"),
            ("tblci", "{click_id}"),
            ("dicbo", "$dicbo$"),
            ("gclid", "a.b"),
            ("gclid", "a%20b"),
            ("fbclid", "a+b"),
            ("msclkid", "a_b"),
            ("epik", "0"),
        ] {
            assert_eq!(of(&format!("/?{field}={bad}")), [], "{field}={bad}");
            assert_eq!(of(&format!("/?{field}={bad}&{field}=Good1")), one(field, "Good1"), "{field}={bad}");
        }
        for (field, good) in [("ttclid", "E.C.P.v3fQ2RHacd-_x"), ("epik", "dj0yJnU9=="), ("tblci", "GiC_a-b")]
        {
            assert_eq!(of(&format!("/?{field}={good}")), one(field, good));
        }
    }

    #[test]
    fn a_gclid_counts_for_google_ads_alone() {
        assert_eq!(of("/?gclid=1"), one("gclid", "1"));
        assert_eq!(of("/?gclsrc=aw.ds&gclid=1"), one("gclid", "1"));
        assert_eq!(of("/?gclid=1&gclsrc=3p.ds"), []);
    }

    #[test]
    fn it_is_looked_for_wherever_a_page_may_have_it() {
        let page = Page {
            url: "https://shop.example/p",
            search: "?gclid=search&fbclid=search",
            same_site_referrer: "https://shop.example/?gclid=referrer&epik=referrer#twclid=no",
        };
        let found = [("fbclid", "search"), ("gclid", "search"), ("epik", "referrer")];
        let mut on_page = on(&page);
        on_page.sort_unstable();
        let mut found = found.map(|(field, value)| (field, value.to_owned()));
        found.sort_unstable();
        assert_eq!(on_page, found);
        let query = Page { url: "/?gclid=query#gclid=fragment", ..page };
        assert!(on(&query).contains(&("gclid", "query".to_owned())));
        for url in
            ["/#/promo?gclid=x", "/#gclid=x", "/?a=1?gclid=x", "/?gclid=&gclid=x", "/?gclid=null#gclid=x"]
        {
            assert_eq!(of(url), one("gclid", "x"), "{url}");
        }
    }

    #[test]
    fn what_is_too_long_is_none_and_an_address_is_cut_at_a_parameter_s_end() {
        assert_eq!(of(&format!("/?gclid={}", "a".repeat(512))).len(), 1);
        assert_eq!(of(&format!("/?gclid={}", "a".repeat(513))), []);
        let long = |end: &str| format!("/?gclid=1&x={}{end}", "é".repeat(2100));
        assert_eq!(of(&long("")), one("gclid", "1"));
        assert_eq!(of(&long("&fbclid=2")), one("gclid", "1"));
        let half = format!("/?{}&gclid=half", "a".repeat(4096 - "/?&gclid=ha".len()));
        assert_eq!(of(&half), [], "half of a value is none");
    }

    proptest! {
        #[test]
        fn no_address_yields_what_its_vendor_would_not_write(
            url in "(https?://[a-z./]{0,9})?[?#&]{0,2}((gclid|fbclid|epik|ScCid|gclsrc|%67clid)[=%&?#{}]{1,3}.{0,40}){0,6}",
            any in any::<String>(),
        ) {
            let page = Page { url: &any, search: &url, same_site_referrer: &any };
            let found = page.clicks(&all()).into_iter().chain(Page { url: &url, ..page }.clicks(&all()));
            for (record, value) in found {
                prop_assert!(record.fits(&value) && value.is_ascii());
                let is_clean = !value.contains(|c: char| c.is_control() || matches!(c, ' ' | '{'));
                prop_assert!(is_clean);
            }
        }
    }
}
