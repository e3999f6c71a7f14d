//! Click IDs: what an advertising platform adds to the URL of the page that its advertisement leads to. Opaque, and
//! case counts.

use super::ConsentNeed;
use crate::identifiers::placeholder::is_placeholder;

/// A click ID of a vendor.
#[derive(Debug, PartialEq, Eq)]
pub struct ClickId {
    /// The name of the vendor.
    pub vendor: &'static str,
    /// Field of the identity that holds the ID.
    pub field: &'static str,
    /// Names of the URL's parameter, matched exactly; the first that is there counts.
    pub params: &'static [&'static str],
    /// Life of the ID in days.
    pub days: u16,
    /// The consent that it needs.
    pub need: ConsentNeed,
    /// Signs that its values hold beside letters and digits; a text with others is none.
    pub signs: &'static str,
    /// Longest value, in bytes.
    pub max_bytes: usize,
    /// A parameter and its value: the click ID counts only where the parameter is absent or has that value.
    pub only_with: Option<(&'static str, &'static str)>,
    /// Member of the vendor's conversions API that takes the ID, where its documentation has one.
    pub conversions_field: Option<&'static str>,
}

impl ClickId {
    /// The click ID that a parameter of the field's own name brings: base64url of at most 512 bytes, where the longest
    /// seen have some 250, kept for 90 days, as most vendors document.
    pub const fn new(
        vendor: &'static str,
        field: &'static str,
        params: &'static [&'static str],
        need: ConsentNeed,
    ) -> Self {
        Self {
            vendor,
            field,
            params,
            days: 90,
            need,
            signs: "-_",
            max_bytes: 512,
            only_with: None,
            conversions_field: None,
        }
    }

    /// True where `value` can be one of its vendor's at all.
    pub fn fits(&self, value: &str) -> bool {
        (1..=self.max_bytes).contains(&value.len())
            && value.chars().all(|c| c.is_ascii_alphanumeric() || self.signs.contains(c))
            && !is_placeholder(value)
    }
}
