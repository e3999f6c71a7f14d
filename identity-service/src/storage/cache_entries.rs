//! Cache entries: PostgreSQL's rows as Redis holds them, and the fields that are read back from there.

use std::{borrow::Cow, sync::OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    mark::Mark,
    postgres::rows::{ConsentRow, VendorIdRow},
    redis::{
        keys,
        protocol::{Entry, Value},
    },
};
use crate::{clock, consent::Signals, identifiers::Identifier};

/// The life of serving keys, after which they are loaded anew; they hold nothing that PostgreSQL does not.
pub const SERVING: Duration = Duration::days(30);
/// The life of an entry that says that a browser has sent no consent. Shorter, as anybody can name browsers
/// that don't exist.
const NOTHING: Duration = Duration::days(1);
/// Field of `cvid:` with the newest consent among the identity's browsers. A field of ours, as it begins with
/// `_`.
pub const CONSENT_FIELD: &str = "_consent";

/// Field of `cvid:` with the moment, in milliseconds since the Unix epoch, from which on it has to be written anew:
/// what it shows has ended then, and something else stands behind it. A field of ours.
pub const NEXT_FIELD: &str = "_next";
/// Text of a browser's own field where the person has an ID that is not the browser's to have.
pub const NO_ID: &str = "null";

/// Field of `syncs:` with all that a batch asks of it: `vendor=ms` for each vendor, separated by spaces, the
/// milliseconds since the Unix epoch from which on it may be tried again; then `@mark=way` for each browser of an
/// identity with a user. A field of ours.
pub const DUE_FIELD: &str = "_due";

/// Consent signals of one browser, as served. They are parsed once, when they are first asked for a decision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConsentEntry {
    /// The consent object, verbatim; none where the browser never sent one.
    signals: Option<Box<RawValue>>,
    /// True where `Sec-GPC: 1` came with or after it.
    sec_gpc: bool,
    /// Time at which the signals were stored. None: there are none.
    #[serde(with = "time::serde::rfc3339::option")]
    pub updated_at: Option<OffsetDateTime>,
    #[serde(skip)]
    parsed: OnceLock<Signals>,
}

impl ConsentEntry {
    /// The text of the consent object.
    pub fn text(&self) -> Option<&str> {
        self.signals.as_deref().map(RawValue::get)
    }

    /// True where `Sec-GPC: 1` came with the object or after it.
    pub fn sec_gpc(&self) -> bool {
        self.sec_gpc
    }

    /// The same signals, with Sec-GPC where `came` says that it came just now.
    pub fn with_gpc(mut self, came: bool) -> Self {
        if came && !self.sec_gpc {
            self.sec_gpc = true;
            self.parsed = OnceLock::new();
        }
        self
    }

    /// The signals, parsed when they are first asked for.
    pub fn signals(&self) -> &Signals {
        self.parsed.get_or_init(|| Signals::parse(self.text(), self.sec_gpc))
    }
}

/// A vendor ID as it is served.
#[derive(Debug, Serialize, Deserialize)]
pub struct VendorIdEntry<'a> {
    /// The vendor's ID for the visitor.
    #[serde(borrow)]
    pub value: Cow<'a, str>,
    /// The way it was come by: `sync`, `enrichment`, `click` or `generated`.
    #[serde(borrow)]
    pub source: Cow<'a, str>,
    /// The time at which it was received.
    #[serde(with = "time::serde::rfc3339")]
    pub collected_at: OffsetDateTime,
    /// The time from which on it is not returned any more.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// The [`Mark`] of the browser that owns it, if one does.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Cow<'a, str>>,
}

/// Builds `canonical:` of one identifier; without a canonical identity the key goes.
pub fn canonical(org: Uuid, id: &Identifier, canonical: Option<Uuid>) -> Entry {
    let value = canonical.map_or(Value::Nothing, |id| Value::Text(id.to_string()));
    Entry { key: keys::canonical(org, id), value, ttl_ms: millis(SERVING) }
}

/// Takes back all profiles that Redis has of an identity: something that they were found by has changed.
pub fn no_profiles(org: Uuid, canonical: Uuid) -> Entry {
    Entry { key: keys::profiles(org, canonical), value: Value::Nothing, ttl_ms: 0 }
}

/// Builds `consent:` of one browser, also where it has sent none.
pub fn consent(org: Uuid, anonymous_id: &str, row: Option<&ConsentRow>) -> Entry {
    let value = Value::Text(consent_text(row));
    let life = if row.is_some() { SERVING } else { NOTHING };
    Entry { key: keys::consent(org, anonymous_id), value, ttl_ms: millis(life) }
}

/// Writes consent as it is served, also where none was sent.
pub fn consent_text(row: Option<&ConsentRow>) -> String {
    serde_json::to_string(&consent_entry(row)).unwrap_or_default()
}

/// Consent as served, from PostgreSQL's row.
pub fn consent_entry(row: Option<&ConsentRow>) -> ConsentEntry {
    ConsentEntry {
        // A text that is no JSON denies, as one does that is no object: it must not look as if none had been sent.
        signals: row
            .and_then(|row| row.signals.clone())
            .map(|text| RawValue::from_string(text).unwrap_or_else(|_| RawValue::TRUE.to_owned())),
        sec_gpc: row.is_some_and(|row| row.sec_gpc),
        updated_at: row.map(|row| row.updated_at),
        parsed: OnceLock::new(),
    }
}

/// The signals that one call brings, which are stored for nobody.
pub fn consent_of_call(signals: Option<String>, sec_gpc: bool) -> ConsentEntry {
    let (anonymous_id, updated_at) = (String::new(), OffsetDateTime::UNIX_EPOCH);
    consent_entry(Some(&ConsentRow { anonymous_id, signals, sec_gpc, updated_at }))
}

/// A vendor ID as it is served, from PostgreSQL's row.
pub fn vendor_id(row: &VendorIdRow) -> VendorIdEntry<'_> {
    VendorIdEntry {
        value: Cow::Borrowed(&row.value),
        source: Cow::Borrowed(&row.source),
        collected_at: row.collected_at,
        expires_at: row.expires_at,
        by: row.owner.anonymous_id().map(|id| Mark::of(id).to_string().into()),
    }
}

/// True where the moment that [`NEXT_FIELD`] tells has come; none where the text tells no moment.
pub fn has_ended(next: Option<&str>, now: OffsetDateTime) -> Option<bool> {
    let at: Option<i64> = next.map(str::parse).transpose().ok()?;
    Some(at.is_some_and(|at| at <= clock::unix_ms(now)))
}

/// The field of a browser's own value, beside the field that all share.
pub fn own_field(field: &str, mark: Mark) -> String {
    // Every request makes several, so without `format!`.
    let mut own = String::with_capacity(field.len() + 2 + Mark::CHARS);
    own.push('_');
    own.push_str(field);
    own.push('@');
    own.push_str(mark.as_str());
    own
}

/// A life in milliseconds, as Redis takes it.
pub fn millis(life: Duration) -> i64 {
    i64::try_from(life.whole_milliseconds()).unwrap_or(i64::MAX)
}
