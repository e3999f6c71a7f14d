//! What an identity has in the fields that are collected.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::storage::{
    cache_entries::{self, VendorIdEntry},
    postgres::rows::VendorIdRow,
};

/// An ID that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The ID.
    pub value: String,
    /// Made in the vendor's format, or found in its cookie; not the vendor's own word.
    pub generated: bool,
    /// [`cache_entries::mark`] of the browser it is from, of generated ones.
    pub by: Option<String>,
    /// When it was received.
    pub collected_at: OffsetDateTime,
    /// When it stops counting.
    pub expires_at: OffsetDateTime,
}

/// By field.
pub type Fields = BTreeMap<String, Held>;

impl Held {
    /// From PostgreSQL's row.
    pub fn of_row(row: &VendorIdRow) -> Self {
        Self::of(cache_entries::vendor_id(row))
    }

    /// From the field of a `cvid:` key.
    pub fn of_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self::of)
    }

    fn of(entry: VendorIdEntry<'_>) -> Self {
        Self {
            value: entry.value.into_owned(),
            generated: entry.source == "generated",
            by: entry.by.map(std::borrow::Cow::into_owned),
            collected_at: entry.collected_at,
            expires_at: entry.expires_at,
        }
    }

    /// It was made for this browser, or found in it.
    pub fn is_of(&self, mark: &str) -> bool {
        self.generated && self.by.as_deref() == Some(mark)
    }
}
