//! Click IDs: what an advertising platform adds to the URL of the page that its advertisement leads to. Opaque, and
//! case counts.

use super::ConsentNeed;

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
    /// A parameter and its value: the click ID counts only where the parameter is absent or has that value.
    pub only_with: Option<(&'static str, &'static str)>,
    /// Member of the vendor's conversions API that takes the ID, where its documentation has one.
    pub conversions_field: Option<&'static str>,
}

impl ClickId {
    /// The click ID that a parameter of the field's own name brings, kept for 90 days, as most vendors document.
    pub const fn new(
        vendor: &'static str,
        field: &'static str,
        params: &'static [&'static str],
        need: ConsentNeed,
    ) -> Self {
        Self { vendor, field, params, days: 90, need, only_with: None, conversions_field: None }
    }
}
