//! Whose an identity's field is, and what consent its ID needs.

use std::collections::BTreeSet;

use super::generated::GENERATED_IDS;
use crate::{
    first_party_ids::click::CLICK_IDS,
    storage::postgres::rows::VendorIdRow,
    vendors::{enrichment_table, sync_table},
};

/// What a vendor's record names unless it says otherwise.
const CATEGORY: &str = "marketing";
/// The vendor of all fields that customers' own providers fill.
const CUSTOM: &str = "custom";

/// The vendor of a field, and the consent category that is needed.
pub fn owner(field: &str) -> (&'static str, &'static str) {
    all()
        .find(|(own, ..)| *own == field)
        .map_or((CUSTOM, CATEGORY), |(_, vendor, category)| (vendor, category))
}

/// Every category that some field needs.
pub fn categories() -> BTreeSet<&'static str> {
    all().map(|(.., category)| category).chain([CATEGORY]).collect()
}

/// The fields of vendors' records, with vendor and category.
fn all() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let synced = sync_table::VENDORS.iter().map(|vendor| (vendor.field, vendor.name, vendor.category));
    let clicks = CLICK_IDS.iter().map(|record| (record.field, record.vendor, record.category));
    let generated = GENERATED_IDS.iter().map(|record| (record.field, record.vendor, record.category));
    let enriched = enrichment_table::VENDORS.iter().map(|vendor| (vendor.field, vendor.name, CATEGORY));
    synced.chain(clicks).chain(generated).chain(enriched)
}

/// The vendor whose gateway sync has brought an ID.
pub fn synced_by(row: &VendorIdRow) -> Option<&'static str> {
    let is_sync = row.source == "sync";
    sync_table::VENDORS.iter().find(|vendor| is_sync && vendor.field == row.field).map(|vendor| vendor.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_an_owner_and_a_field_of_two_has_one() {
        assert_eq!(owner("pin_unauth"), ("pinterest", "marketing"));
        assert_eq!(owner("epik"), ("pinterest", "marketing"));
        assert_eq!(owner("client_id"), ("google", "analytics"));
        assert_eq!(owner("uid2_token"), ("uid2", "marketing"));
        assert_eq!(owner("cdp_customer_id"), ("custom", "marketing"));
        assert_eq!(categories(), BTreeSet::from(["analytics", "marketing"]));
        // A gateway sync and a generated ID share a field only where both need the same.
        for record in GENERATED_IDS {
            assert_eq!(owner(record.field), (record.vendor, record.category));
        }
    }
}
