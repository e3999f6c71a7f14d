//! Fields of the identity: whose each is, and what consent its ID needs.

use std::collections::BTreeSet;

use super::{ALL, ConsentNeed, Vendor};

/// The vendor of all fields that customers' own providers fill.
const CUSTOM: &str = "custom";

/// The name of a field's vendor, and the consent that the field's ID needs. A field of no record is a customer's own
/// provider's, vendor `custom`, and needs the category `marketing`.
pub fn owner_of(field: &str) -> (&'static str, ConsentNeed) {
    fields()
        .find(|(own, ..)| *own == field)
        .map_or((CUSTOM, ConsentNeed::MARKETING), |(_, vendor, need)| (vendor, need))
}

/// The needs of all fields.
pub fn needs() -> BTreeSet<ConsentNeed> {
    fields().map(|(.., need)| need).chain([ConsentNeed::MARKETING]).collect()
}

/// The name of the vendor whose gateway sync brings the ID of `field`, where `source` says that a sync did.
pub fn synced_by(source: &str, field: &str) -> Option<&'static str> {
    let is_sync = source == "sync";
    super::syncs().find(|vendor| is_sync && vendor.field == field).map(|vendor| vendor.name)
}

/// The fields that only a built-in vendor may fill.
pub fn reserved() -> impl Iterator<Item = &'static str> {
    fields().map(|(field, ..)| field)
}

/// True where only a built-in vendor may fill `field`, in whatever case it is written.
pub fn is_reserved(field: &str) -> bool {
    reserved().any(|own| own.eq_ignore_ascii_case(field))
}

/// The fields of all records, with vendor and need.
fn fields() -> impl Iterator<Item = (&'static str, &'static str, ConsentNeed)> {
    let of = |vendor: &'static Vendor| {
        let synced = vendor.sync.iter().map(|sync| (sync.field, sync.need));
        let clicks = vendor.click_ids.iter().map(|id| (id.field, id.need));
        let generated = vendor.generated_ids.iter().map(|id| (id.field, id.need));
        let enriched = vendor.enrichment.iter().map(|enrichment| (enrichment.field, enrichment.need));
        let own = synced.chain(clicks).chain(generated).chain(enriched);
        own.map(|(field, need)| (field, vendor.name, need))
    };
    ALL.iter().flat_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_an_owner_and_a_field_of_two_has_one() {
        let owner = |field| {
            let (vendor, need) = owner_of(field);
            (vendor, need.category)
        };
        assert_eq!(owner("pin_unauth"), ("pinterest", "marketing"));
        assert_eq!(owner("epik"), ("pinterest", "marketing"));
        assert_eq!(owner("client_id"), ("google", "analytics"));
        assert_eq!(owner("uid2_token"), ("uid2", "marketing"));
        assert_eq!(owner("cdp_customer_id"), ("custom", "marketing"));
        let categories: BTreeSet<&str> = needs().iter().map(|need| need.category).collect();
        assert_eq!(categories, BTreeSet::from(["analytics", "marketing"]));
        // A gateway sync and a generated ID share a field only where both need the same.
        for record in crate::vendors::generated_ids() {
            assert_eq!(owner_of(record.field), (record.vendor, record.need));
        }
    }

    #[test]
    fn a_vendor_s_field_is_reserved_in_any_case() {
        assert!(is_reserved("PIN_UNAUTH") && is_reserved("amazon_aax_id"));
        assert!(!is_reserved("cdp_customer_id"));
    }
}
