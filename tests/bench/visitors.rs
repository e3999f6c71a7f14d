//! The visitors that are stored: a number each, from which everything about them follows.

use std::{collections::BTreeMap, ops::Range};

use identity_service::{
    identifiers::{Identifier, Kind},
    storage::{
        attempt::Attempts,
        postgres::rows::{ConsentRow, Owner, VendorIdRow},
        via::Via,
    },
    sync::schedule,
    vendor_ids::{entries::Known, ties::Ties},
    vendors,
};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Consent of every usual visitor, as their events carry it.
pub const CONSENT: &str = r#"{"marketing":true}"#;
/// Days that a vendor ID is kept.
const TTL_DAYS: i32 = 90;
/// Visitors that a load goes through in turn.
const WORKING_SET: u64 = 20_000;

/// A vendor's name and the field of its ID.
pub type Vendor = (String, String);

/// Vendors that visitors are synced with: four that every base of `make bench BASE=…` knows, so that its figures and
/// this build's are of the same work.
pub const BENCHED: [&str; 4] = ["criteo", "index_exchange", "pinterest", "trade_desk"];

/// The names of [`BENCHED`], with their fields.
pub fn known_vendors() -> Vec<Vendor> {
    let known = vendors::syncs().filter(|vendor| BENCHED.contains(&vendor.name));
    known.map(|vendor| (vendor.name.to_owned(), vendor.field.to_owned())).collect()
}

/// Fifteen vendors, as many as the product is meant for, by names of usual length.
pub fn fifteen_vendors() -> Vec<Vendor> {
    (0..15).map(|number| (format!("vendor_{number:03}"), format!("vendor_{number:03}_id"))).collect()
}

/// The anonymous ID of a visitor: a UUID v4 whose beginning is scattered, as real ones are, and whose end is the
/// number, so that [`canonical_of`] needs no table.
pub fn anonymous_id(number: u64) -> String {
    let bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (a, b, c, d) = (bits >> 32, bits >> 16 & 0xffff, bits >> 4 & 0xfff, 0x800 | bits & 0x3ff);
    format!("{a:08x}-{b:04x}-4{c:03x}-{:04x}-{number:012x}", d | 0x8000)
}

/// The canonical ID of a visitor: shaped as a UUID v7, and ascending as those are.
pub fn canonical(number: u64) -> Uuid {
    Uuid::from_u64_pair(0x0190_0000_0000_7000, 0x8000_0000_0000_0000 | number)
}

/// The canonical ID that belongs to [`anonymous_id`].
pub fn canonical_of(anonymous_id: &str) -> Uuid {
    canonical(anonymous_id.get(24..36).and_then(|end| u64::from_str_radix(end, 16).ok()).unwrap_or_default())
}

/// The network address of a visitor.
pub fn address(number: u64) -> String {
    let [.., a, b, c] = number.to_be_bytes();
    format!("10.{a}.{b}.{c}")
}

/// The visitor whose turn the `turn`th request is: a working set that is spread over all of `stored`.
pub fn in_turn(turn: u64, stored: u64) -> u64 {
    let working = stored.min(WORKING_SET);
    turn % working * (stored / working)
}

/// Visitors, and what is known about them at one time.
#[derive(Debug, Clone)]
pub struct Population {
    /// Organisation that the visitors belong to.
    pub org: Uuid,
    /// Numbers of the visitors.
    pub numbers: Range<u64>,
    /// Vendors that have an ID of each visitor.
    pub vendors: Vec<Vendor>,
    /// Stored consent of each visitor.
    pub consent: String,
    /// Time at which all of it was stored.
    pub now: OffsetDateTime,
}

impl Population {
    /// The browser of a visitor.
    pub fn browser(number: u64) -> Identifier {
        Identifier { kind: Kind::AnonymousId, value: anonymous_id(number) }
    }

    /// The stored consent of a visitor.
    pub fn consent(&self, number: u64) -> ConsentRow {
        ConsentRow {
            anonymous_id: anonymous_id(number),
            signals: Some(self.consent.clone()),
            sec_gpc: false,
            updated_at: self.now,
        }
    }

    /// The vendor IDs of a visitor: some 50 bytes each.
    pub fn vendor_ids(&self, number: u64) -> Vec<VendorIdRow> {
        let row = |(_, field): &Vendor| VendorIdRow {
            canonical_id: canonical(number),
            field: field.clone(),
            owner: Owner::of(&Self::browser(number)),
            value: format!("{field}-{}", canonical(number)),
            source: "sync".to_owned(),
            collected_at: self.now,
            expires_at: self.now + Duration::days(i64::from(TTL_DAYS)),
            pipeline_id: None,
            is_withheld: false,
        };
        self.vendors.iter().map(row).collect()
    }

    /// What is known of a visitor's vendor IDs.
    pub fn known(&self, number: u64) -> Known {
        let ties = Ties::new(BTreeMap::from([(Self::browser(number), Via::Own)]));
        Known { ids: self.vendor_ids(number), ties }
    }

    /// The schedule of a visitor: everything is synced, nothing due.
    pub fn attempts(&self, number: u64) -> Attempts {
        let of = |name: &str| (name.to_owned(), anonymous_id(number));
        self.vendors
            .iter()
            .map(|(name, _)| (of(name), schedule::stored(None, TTL_DAYS, self.now, 0.0)))
            .collect()
    }
}
