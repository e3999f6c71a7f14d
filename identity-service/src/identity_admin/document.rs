//! The document of all that is stored about a person, to be handed to them.

use prost_types::Struct;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{events::KeptEvents, lookup::StoredPerson};

impl StoredPerson {
    /// The document: what [`StoredPerson::person`] shows, and all that it leaves out (schedules, what merges
    /// moved, vendor IDs that have expired but are still stored), with what is kept of their events. Times are RFC 3339
    /// in UTC.
    pub fn document(&self, kept: &KeptEvents) -> Struct {
        let links = self.cluster.links.iter().map(|(id, link)| {
            json!({
                "kind": id.kind.word(),
                "value": id.value,
                "via": self.via(id, link).word(),
                "linked_at": text(link.linked_at),
                "last_used_at": text(link.last_used_at),
            })
        });
        let consents = self.consents.values().map(|row| {
            json!({
                "anonymous_id": row.anonymous_id,
                // As it came: a message can't hold every number, a name twice, or much nesting.
                "signals": row.signals,
                "sec_gpc": row.sec_gpc,
                "updated_at": text(row.updated_at),
            })
        });
        let contacts = self.contacts.iter().map(|row| {
            json!({
                "what": row.what,
                "identifier": {"kind": row.kind().word(), "value": row.value},
                "lower": digests(Some(&row.lower_sha256), row.lower_sha1.as_ref(), row.lower_md5.as_ref()),
                "uid2": digests(row.uid2_sha256.as_ref(), row.uid2_sha1.as_ref(), row.uid2_md5.as_ref()),
                "digits": in_a_row(row.digits.as_deref()),
                "ten": in_a_row(row.ten.as_deref()),
                "verified": row.verified,
                "seen_at": text(row.seen_at),
            })
        });
        let merges = self.merges.iter().map(|row| {
            json!({
                "merge_id": row.id,
                "survivor_canonical_id": row.survivor_id,
                "merged_canonical_id": row.merged_id,
                "merged_at": text(row.merged_at),
                "undone_at": row.undone_at.map(text),
                "moved": row.moved(),
            })
        });
        let refusals = self.refusals.iter().map(|row| {
            json!({
                "identifier": row.identifier,
                "reason": row.reason,
                "times": row.times,
                "last_at": text(row.last_at),
            })
        });
        let vendor_ids = self.cluster.vendor_ids.values().map(|row| {
            json!({
                "field": row.field,
                "owner": row.owner.id().map(|id| json!({"kind": id.kind.word(), "value": id.value})),
                "value": row.value,
                "source": row.source,
                "collected_at": text(row.collected_at),
                "expires_at": text(row.expires_at),
                "pipeline_id": row.pipeline_id,
                "is_withheld": row.is_withheld,
            })
        });
        let attempts = self.cluster.attempts.iter().map(|((vendor, browser), attempt)| {
            json!({"vendor": vendor, "anonymous_id": Some(browser).filter(|id| !id.is_empty()), "schedule": attempt})
        });
        let document = json!({
            "canonical_id": self.cluster.id,
            "created_at": text(self.created_at),
            "identifiers": links.collect::<Vec<_>>(),
            "consent": consents.collect::<Vec<_>>(),
            "contacts": contacts.collect::<Vec<_>>(),
            "vendor_ids": vendor_ids.collect::<Vec<_>>(),
            "sync_attempts": attempts.collect::<Vec<_>>(),
            "merges": merges.collect::<Vec<_>>(),
            "refusals": refusals.collect::<Vec<_>>(),
            "events": kept.events,
            "deliveries": kept.deliveries,
            "events_are_all": kept.is_all,
        });
        match document {
            Value::Object(document) => proto::json::document(document),
            _ => Struct::default(),
        }
    }
}

/// Writes digests in hex; null for those that are not stored.
fn digests(sha256: Option<&Vec<u8>>, sha1: Option<&Vec<u8>>, md5: Option<&Vec<u8>>) -> Value {
    json!({"sha256": sha256.map(hex::encode), "sha1": sha1.map(hex::encode), "md5": md5.map(hex::encode)})
}

/// Writes three digests that are stored in a row.
fn in_a_row(all: Option<&[u8]>) -> Value {
    let part = |from: usize, to: usize| all.and_then(|all| all.get(from..to)).map(hex::encode);
    json!({"sha256": part(0, 32), "sha1": part(32, 52), "md5": part(52, 68)})
}

pub(super) fn text(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
