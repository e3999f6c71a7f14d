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
    /// The key holds what is none of ours; it is to be dropped, and may be filled then.
    Junk,
}

/// Judges a `cvid:` key by two of its fields, [`VERSION_FIELD`] and [`NEXT_FIELD`].
pub fn is_readable(version: Option<&str>, next: Option<&str>, now: OffsetDateTime) -> Result<(), Unread> {
    match protocol::hash_state(version) {
        Cached::Miss => Err(Unread::Missing),
        Cached::Busy => Err(Unread::Busy),
        Cached::Junk => Err(Unread::Junk),
        Cached::Hit(()) => match cache_entries::has_ended(next, now) {
            Some(false) => Ok(()),
            Some(true) => Err(Unread::Ended),
            None => Err(Unread::Junk),
        },
    }
}

impl StoredId {
    /// The ID in PostgreSQL's row.
    pub fn of_row(row: &VendorIdRow) -> Self {
        Self::of(cache_entries::vendor_id(row))
    }

    /// The ID in a field of a `cvid:` key, where the browser of `mark` owns it.
    fn of_text(text: &str, mark: Mark) -> Result<Option<Self>, Unread> {
        // None for what is written as [`cache_entries::NO_ID`].
        let entry: Option<VendorIdEntry<'_>> = serde_json::from_str(text).map_err(|_| Unread::Junk)?;
        let own = entry.filter(|entry| entry.by.as_deref() == Some(mark.as_str()));
        Ok(own.map(Self::of))
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
    let mut texts = protocol::strings(answer).ok_or(Unread::Junk)?.into_iter();
    let (version, next) = (texts.next().flatten(), texts.next().flatten());
    is_readable(version.as_deref(), next.as_deref(), now)?;
    let texts: Vec<Option<String>> = texts.collect();
    let (shared, own) = texts.split_at_checked(fields.len()).unwrap_or_default();
    let mut ids = StoredIds::new();
    for (field, (shared, own)) in fields.iter().zip(shared.iter().zip(own)) {
        if let (Some(text), Some(mark)) = (own.as_deref().or(shared.as_deref()), mark)
            && let Some(id) = StoredId::of_text(text, mark)?
        {
            ids.insert((*field).to_owned(), id);
        }
    }
    Ok(ids)
}
