//! The stored IDs of an identity, as producers compare new ones with them, and reading them from Redis.

use std::collections::BTreeMap;

use bb8_redis::redis::{Pipeline, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::storage::{
    cache_entries::{self, VendorIdEntry},
    postgres::rows::VendorIdRow,
    redis::{
        keys,
        protocol::{self, Cached, VERSION_FIELD},
    },
};

/// An ID that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredId {
    /// The vendor's ID for the visitor.
    pub value: String,
    /// True where it was made in the vendor's format, or found in its cookie; not the vendor's own word.
    pub generated: bool,
    /// The [`cache_entries::mark`] of the browser it is from, of generated ones.
    pub by: Option<String>,
    /// Time at which it was received.
    pub collected_at: OffsetDateTime,
    /// Time at which it stops counting.
    pub expires_at: OffsetDateTime,
}

/// Stored IDs by field.
pub type StoredIds = BTreeMap<String, StoredId>;

impl StoredId {
    /// The ID in PostgreSQL's row.
    pub fn of_row(row: &VendorIdRow) -> Self {
        Self::of(cache_entries::vendor_id(row))
    }

    /// The ID in a field of a `cvid:` key; none where the text is not understood.
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

    /// True where it was made for the browser of `mark`, or found in it.
    pub fn is_of(&self, mark: &str) -> bool {
        self.generated && self.by.as_deref() == Some(mark)
    }
}

/// Adds the command whose answer [`read`] takes: the fields `fields` of a canonical identity.
pub fn ask(pipe: &mut Pipeline, org: Uuid, canonical: Uuid, fields: &[&'static str]) {
    pipe.cmd("HMGET").arg(keys::vendor_ids(org, canonical).name).arg(VERSION_FIELD).arg(fields);
}

/// Reads what the key says: the IDs in `fields`, or why it says nothing.
pub fn read(answer: Value, fields: &[&'static str]) -> Result<StoredIds, Cached> {
    let mut texts = protocol::strings(answer).into_iter();
    match protocol::hash_state(texts.next().flatten().as_deref()) {
        Cached::Hit(_) => {}
        other => return Err(other),
    }
    let stored =
        |(field, text): (&&str, Option<String>)| Some(((*field).to_owned(), StoredId::of_text(&text?)?));
    Ok(fields.iter().zip(texts).filter_map(stored).collect())
}
