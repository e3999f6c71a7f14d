//! Rows as statements return them.

use std::fmt;

use diesel::prelude::*;
use migrations::schema;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    identifiers::{Identifier, Kind},
    storage::attempt::{Attempt, Outcome, Period, VendorAndBrowser},
};

/// The last consent signals of a browser.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, QueryableByName, Selectable)]
#[diesel(table_name = schema::consent, check_for_backend(diesel::pg::Pg))]
pub struct ConsentRow {
    /// Anonymous ID of the browser.
    pub anonymous_id: String,
    /// The consent object, verbatim; none where the browser sent none.
    pub signals: Option<String>,
    /// True where the browser sent `Sec-GPC: 1`.
    pub sec_gpc: bool,
    /// The time at which they were stored.
    pub updated_at: OffsetDateTime,
}

/// The owner of a vendor ID: the browser that brought it, or the user ID of a signed call that named no browser.
/// Nobody where that one has left the identity, or is not known.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Queryable, Selectable)]
#[diesel(table_name = schema::vendor_ids, check_for_backend(diesel::pg::Pg))]
pub struct Owner {
    #[diesel(column_name = owner_kind)]
    kind: i16,
    #[diesel(column_name = owner)]
    value: String,
}

impl Owner {
    /// The owner of what belongs to nobody.
    pub const NOBODY: Self = Self { kind: 0, value: String::new() };

    /// The browser or user of an identifier.
    pub fn of(id: &Identifier) -> Self {
        Self { kind: id.kind.number(), value: id.value.clone() }
    }

    /// The number of its kind, in `vendor_ids.owner_kind`.
    pub fn kind(&self) -> i16 {
        self.kind
    }

    /// The text of its identifier; empty for nobody.
    pub fn text(&self) -> &str {
        &self.value
    }

    /// True where `id` is the owner.
    pub fn is(&self, id: &Identifier) -> bool {
        self.kind == id.kind.number() && self.value == id.value
    }

    /// The owner's identifier; none of nobody.
    pub fn id(&self) -> Option<Identifier> {
        let id = Identifier { kind: Kind::from_number(self.kind), value: self.value.clone() };
        (!self.value.is_empty()).then_some(id)
    }

    /// The owner's anonymous ID, where it is a browser.
    pub fn anonymous_id(&self) -> Option<&str> {
        let is_browser = self.kind == Kind::AnonymousId.number() && !self.value.is_empty();
        is_browser.then_some(self.value.as_str())
    }

    /// The owner's user ID, where it is a user.
    pub fn user_id(&self) -> Option<&str> {
        (self.kind == Kind::UserId.number()).then_some(self.value.as_str())
    }
}

/// An identifier is a bearer value: only its first four characters are ever printed.
impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id() {
            Some(id) => id.fmt(f),
            None => f.write_str("nobody"),
        }
    }
}

/// A vendor ID of a canonical identity.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = schema::vendor_ids, check_for_backend(diesel::pg::Pg))]
pub struct VendorIdRow {
    /// The canonical identity that it belongs to.
    pub canonical_id: Uuid,
    /// Name of its field.
    pub field: String,
    /// The owner, each of which has one ID a field.
    #[diesel(embed)]
    pub owner: Owner,
    /// The vendor's ID for the visitor.
    pub value: String,
    /// The way it was come by: `sync`, `enrichment`, `click` or `generated`.
    pub source: String,
    /// The time at which it was received.
    pub collected_at: OffsetDateTime,
    /// The time from which on it is not returned any more.
    pub expires_at: OffsetDateTime,
    /// The pipeline that collected it, where that is known.
    pub pipeline_id: Option<Uuid>,
    /// True where the latest signals of its browser deny it: it answers for nobody else.
    pub is_withheld: bool,
}

/// The schedule of one vendor for a browser of a canonical identity.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = schema::sync_attempts, check_for_backend(diesel::pg::Pg))]
pub struct AttemptRow {
    canonical_id: Uuid,
    vendor: String,
    last_synced: Option<OffsetDateTime>,
    ttl_days: Option<i32>,
    outcome: String,
    attempts: i32,
    unanswered_since: Option<OffsetDateTime>,
    next_at: OffsetDateTime,
    anonymous_id: String,
    period_since: Option<OffsetDateTime>,
    period_stored: bool,
}

impl AttemptRow {
    /// Takes the row apart: the canonical identity, the vendor and browser, and the schedule.
    pub fn into_attempt(self) -> (Uuid, VendorAndBrowser, Attempt) {
        let attempt = Attempt {
            last_synced: self.last_synced,
            ttl_days: self.ttl_days,
            outcome: Outcome::from_word(&self.outcome).unwrap_or(Outcome::Attempted),
            attempts: self.attempts,
            unanswered_since: self.unanswered_since,
            next_at: self.next_at,
            period: self.period_since.map(|since| Period { since, is_stored: self.period_stored }),
        };
        (self.canonical_id, (self.vendor, self.anonymous_id), attempt)
    }
}

/// A browser, by its anonymous ID, and the name of a vendor.
pub type BrowserAndVendor = (String, String);
