//! IDs that a vendor's JavaScript would make and keep in a cookie on the customer's own domain. Here they are made for
//! it, so that they live their full life where browsers cut short what scripts set.

use super::cookie_format::Format;

/// An ID that is made in the vendor's own format.
#[derive(Debug, PartialEq, Eq)]
pub struct GeneratedId {
    /// In settings.
    pub vendor: &'static str,
    /// Field of the identity that holds it.
    pub field: &'static str,
    /// The vendor's cookie.
    pub cookie: &'static str,
    /// How long it is kept, in days; browsers keep no cookie longer than 400.
    pub days: u16,
    /// The consent category that is needed.
    pub category: &'static str,
    /// What it looks like.
    pub format: Format,
    /// The vendor assigns the same ID in its gateway sync, so it is made only where that is off.
    pub unless_synced: bool,
}

/// Every generated ID (design section 7).
pub const GENERATED_IDS: &[GeneratedId] = &[
    generated("meta", "fbp", "_fbp", 90, Format::Fbp),
    generated("meta", "fbc", "_fbc", 90, Format::Fbc),
    generated("tiktok", "ttp", "_ttp", 395, Format::Ttp),
    GeneratedId { category: "analytics", ..generated("google", "client_id", "_ga", 400, Format::Ga) },
    GeneratedId { unless_synced: true, ..generated("snapchat", "sc_cookie1", "_scid", 395, Format::Uuid) },
    GeneratedId { unless_synced: true, ..generated("reddit", "rdt_uuid", "_rdt_uuid", 90, Format::RdtUuid) },
];

const fn generated(
    vendor: &'static str,
    field: &'static str,
    cookie: &'static str,
    days: u16,
    format: Format,
) -> GeneratedId {
    GeneratedId { vendor, field, cookie, days, category: "marketing", format, unless_synced: false }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::first_party_ids::click::CLICK_IDS;

    #[test]
    fn records_are_sound() {
        let mut fields: HashSet<&str> = CLICK_IDS.iter().map(|record| record.field).collect();
        for record in GENERATED_IDS {
            assert!(fields.insert(record.field), "{}: field taken", record.field);
            assert!((1..=400).contains(&record.days), "{}", record.field);
        }
    }
}
