//! The stored IDs of an owner, as producers compare new ones with them, and reading a browser's from Redis.

use std::collections::BTreeMap;

use bb8_redis::redis::{Pipeline, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::storage::{
    cache_entries::{self, NEXT_FIELD, VendorIdEntry},
    mark::Mark,
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
    /// Time at which it stops counting.
    pub expires_at: OffsetDateTime,
}

/// The stored IDs of one owner, by field.
pub type StoredIds = BTreeMap<String, StoredId>;

/// The reason why Redis does not say what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The key is missing, and may be filled.
    Missing,
    /// The key is marked by somebody who writes or fills it.
    Busy,
    /// The key has to be written anew: something that it shows has ended.
    Ended,
}

/// Judges a `cvid:` key by two of its fields, [`VERSION_FIELD`] and [`NEXT_FIELD`].
pub fn is_readable(version: Option<&str>, next: Option<&str>, now: OffsetDateTime) -> Result<(), Unread> {
    match protocol::hash_state(version) {
        Cached::Miss => Err(Unread::Missing),
        Cached::Busy => Err(Unread::Busy),
        Cached::Hit(_) if cache_entries::has_ended(next, now) => Err(Unread::Ended),
        Cached::Hit(_) => Ok(()),
    }
}

impl StoredId {
    /// The ID in PostgreSQL's row.
    pub fn of_row(row: &VendorIdRow) -> Self {
        Self::of(cache_entries::vendor_id(row))
    }

    /// The ID in a field of a `cvid:` key, where the browser of `mark` owns it; none where the text is not
    /// understood.
    fn of_text(text: &str, mark: Mark) -> Option<Self> {
        let entry: VendorIdEntry<'_> = serde_json::from_str(text).ok()?;
        (entry.by.as_deref() == Some(mark.as_str())).then(|| Self::of(entry))
    }

    fn of(entry: VendorIdEntry<'_>) -> Self {
        Self {
            value: entry.value.into_owned(),
            generated: entry.source == "generated",
            expires_at: entry.expires_at,
        }
    }
}

/// Adds the command whose answer [`read`] takes: `fields` of a canonical identity, as all share them and as the
/// browser of `mark` has them.
pub fn ask(pipe: &mut Pipeline, org: Uuid, canonical: Uuid, fields: &[&'static str], mark: Option<Mark>) {
    let own =
        mark.map(|mark| fields.iter().map(|field| cache_entries::own_field(field, mark)).collect::<Vec<_>>());
    let key = keys::vendor_ids(org, canonical).name;
    pipe.cmd("HMGET").arg(key).arg(VERSION_FIELD).arg(NEXT_FIELD).arg(fields).arg(own);
}

/// Reads the browser's own IDs in `fields`.
pub fn read(
    answer: Value,
    fields: &[&'static str],
    mark: Option<Mark>,
    now: OffsetDateTime,
) -> Result<StoredIds, Unread> {
    let mut texts = protocol::strings(answer).into_iter();
    let (version, next) = (texts.next().flatten(), texts.next().flatten());
    is_readable(version.as_deref(), next.as_deref(), now)?;
    let texts: Vec<Option<String>> = texts.collect();
    let (shared, own) = texts.split_at_checked(fields.len()).unwrap_or_default();
    let stored = |(field, (shared, own)): (&&str, (&Option<String>, &Option<String>))| {
        let text = own.as_deref().or(shared.as_deref())?;
        Some(((*field).to_owned(), StoredId::of_text(text, mark?)?))
    };
    Ok(fields.iter().zip(shared.iter().zip(own)).filter_map(stored).collect())
}
