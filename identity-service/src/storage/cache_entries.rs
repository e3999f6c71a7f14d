//! Cache entries: PostgreSQL's rows as Redis holds them, and the fields that are read back from there.

use std::{borrow::Cow, collections::BTreeMap, sync::OnceLock};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    attempt::Attempt,
    postgres::rows::{ConsentRow, VendorIdRow},
    redis::{
        keys,
        protocol::{Entry, Value},
    },
};
use crate::{clock, consent::Signals, identifiers::Identifier};

/// The life of serving keys, after which they are loaded anew; they hold nothing that PostgreSQL does not.
const SERVING: Duration = Duration::days(30);
/// The life of an entry that says that a browser has sent no consent. Shorter, as anybody can name browsers
/// that don't exist.
const NOTHING: Duration = Duration::days(1);
/// Field of `cvid:` with the newest consent among the identity's browsers. A field of ours, as it begins with
/// `_`.
pub const CONSENT_FIELD: &str = "_consent";

/// Field of `syncs:` with all that a batch asks of it: `vendor=ms` for each vendor, separated by spaces, the
/// milliseconds since the Unix epoch from which on it may be tried again. A field of ours.
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
    /// The [`mark`] of the browser that a generated ID was made for, or found in.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct SyncEntry {
    #[serde(with = "time::serde::rfc3339::option")]
    last_synced: Option<OffsetDateTime>,
    ttl_days: Option<i32>,
    outcome: &'static str,
    attempts: i32,
    #[serde(with = "time::serde::rfc3339::option")]
    unanswered_since: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    next_at: OffsetDateTime,
}

/// Builds `canonical:` of one identifier; without a canonical identity the key goes.
pub fn canonical(org: Uuid, id: &Identifier, canonical: Option<Uuid>) -> Entry {
    let value = canonical.map_or(Value::Nothing, |id| Value::Text(id.to_string()));
    Entry { key: keys::canonical(org, id), value, ttl_ms: millis(SERVING) }
}

/// Builds `consent:` of one browser, also where it has sent none.
pub fn consent(org: Uuid, anonymous_id: &str, row: Option<&ConsentRow>) -> Entry {
    let value = Value::Text(consent_text(row));
    let life = if row.is_some() { SERVING } else { NOTHING };
    Entry { key: keys::consent(org, anonymous_id), value, ttl_ms: millis(life) }
}

fn consent_text(row: Option<&ConsentRow>) -> String {
    serde_json::to_string(&consent_entry(row)).unwrap_or_default()
}

/// Consent as served, from PostgreSQL's row.
pub fn consent_entry(row: Option<&ConsentRow>) -> ConsentEntry {
    ConsentEntry {
        // A text that is no JSON denies, as `null` does: it must not look as if none had been sent.
        signals: row
            .and_then(|row| row.signals.clone())
            .map(|text| RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())),
        sec_gpc: row.is_some_and(|row| row.sec_gpc),
        updated_at: row.map(|row| row.updated_at),
        parsed: OnceLock::new(),
    }
}

/// Builds `syncs:` of one canonical identity from its vendors' schedules.
pub fn syncs(org: Uuid, canonical: Uuid, attempts: &BTreeMap<String, Attempt>) -> Entry {
    let mut fields: Vec<(String, String)> =
        attempts.iter().map(|(vendor, attempt)| (vendor.clone(), sync_text(attempt))).collect();
    fields.push((DUE_FIELD.to_owned(), due_text(attempts)));
    Entry { key: keys::syncs(org, canonical), value: Value::Hash(fields), ttl_ms: millis(SERVING) }
}

fn sync_text(attempt: &Attempt) -> String {
    let entry = SyncEntry {
        last_synced: attempt.last_synced,
        ttl_days: attempt.ttl_days,
        outcome: attempt.outcome.word(),
        attempts: attempt.attempts,
        unanswered_since: attempt.unanswered_since,
        next_at: attempt.next_at,
    };
    serde_json::to_string(&entry).unwrap_or_default()
}

/// Writes [`DUE_FIELD`] of `attempts`.
pub fn due_text(attempts: &BTreeMap<String, Attempt>) -> String {
    let due =
        attempts.iter().map(|(vendor, attempt)| format!("{vendor}={}", clock::unix_ms(attempt.due_at())));
    due.collect::<Vec<_>>().join(" ")
}

/// Builds `cvid:` of one canonical identity from what is live at `now`. The key lives as long as its longest
/// field.
pub fn vendor_ids(
    org: Uuid,
    canonical: Uuid,
    ids: &[VendorIdRow],
    newest_consent: Option<&ConsentRow>,
    now: OffsetDateTime,
) -> Entry {
    let mut fields = vec![(CONSENT_FIELD.to_owned(), consent_text(newest_consent))];
    let live = || ids.iter().filter(|row| row.expires_at > now);
    let life = live().map(|row| row.expires_at - now).max().unwrap_or(SERVING);
    for row in live() {
        fields.push((row.field.clone(), serde_json::to_string(&vendor_id(row)).unwrap_or_default()));
    }
    Entry { key: keys::vendor_ids(org, canonical), value: Value::Hash(fields), ttl_ms: millis(life) }
}

/// A vendor ID as it is served, from PostgreSQL's row.
pub fn vendor_id(row: &VendorIdRow) -> VendorIdEntry<'_> {
    VendorIdEntry {
        value: Cow::Borrowed(&row.value),
        source: Cow::Borrowed(&row.source),
        collected_at: row.collected_at,
        expires_at: row.expires_at,
        by: row.anonymous_id.as_deref().filter(|_| row.source == "generated").map(|id| mark(id).into()),
    }
}

/// The mark by which a browser is recognised as the one that an ID is from: the first 8 bytes of its
/// anonymous ID's SHA-256, in URL-safe base64.
pub fn mark(anonymous_id: &str) -> String {
    let digest = Sha256::digest(anonymous_id.as_bytes());
    URL_SAFE_NO_PAD.encode(digest.get(..8).unwrap_or_default())
}

/// Builds `identity:` of one browser: plain values for other systems. The key lives as long as its shortest
/// field, and is gone where there is none.
pub fn identity(org: Uuid, anonymous_id: &str, ids: &[VendorIdRow], now: OffsetDateTime) -> Entry {
    let live: Vec<&VendorIdRow> = ids.iter().filter(|row| row.expires_at > now).collect();
    let life = live.iter().map(|row| row.expires_at - now).min();
    let value = match life {
        None => Value::Nothing,
        Some(_) => Value::Hash(live.iter().map(|row| (row.field.clone(), row.value.clone())).collect()),
    };
    Entry { key: keys::identity(org, anonymous_id), value, ttl_ms: millis(life.unwrap_or(SERVING)) }
}

fn millis(life: Duration) -> i64 {
    i64::try_from(life.whole_milliseconds()).unwrap_or(i64::MAX)
}
