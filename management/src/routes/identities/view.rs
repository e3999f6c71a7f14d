//! A person as the API shows them.

use std::collections::BTreeMap;

use proto::v1;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::json::time;

/// A canonical identity with all that belongs to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Person {
    canonical_id: String,
    #[serde(with = "time::serde::rfc3339::option")]
    created_at: Option<OffsetDateTime>,
    identifiers: Vec<Identifier>,
    /// Vendor IDs that the person is delivered with, by field of the identity.
    vendor_ids: BTreeMap<String, VendorId>,
    /// Merges into this identity, newest first.
    merges: Vec<Merge>,
    /// Links that were refused, newest first.
    refusals: Vec<Refusal>,
}

/// An ID that leads to the person.
#[derive(Debug, Serialize, ToSchema)]
pub struct Identifier {
    /// Kind of the ID, `anonymous_id` or `user_id`.
    kind: String,
    value: String,
    /// Way in which it came to the person: `own` for a browser while its identity has no user, else the strongest
    /// of `signed`, `user_hash`, `identity_token` (these three are proofs) and `claim` by which it, or the user ID,
    /// did, else `cookie` or `link_token`.
    via: String,
    #[serde(with = "time::serde::rfc3339::option")]
    linked_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
    /// The last consent of an anonymous ID.
    consent: Option<Consent>,
    /// Vendor IDs that it has brought itself, by field; expired ones are left out.
    vendor_ids: BTreeMap<String, VendorId>,
}

/// Consent signals of a browser.
#[derive(Debug, Serialize, ToSchema)]
pub struct Consent {
    /// Signals in the form in which they came.
    signals: Option<Value>,
    /// True where `Sec-GPC: 1` came with them.
    sec_gpc: bool,
    #[serde(with = "time::serde::rfc3339::option")]
    updated_at: Option<OffsetDateTime>,
}

/// A vendor's ID of the person.
#[derive(Debug, Serialize, ToSchema)]
pub struct VendorId {
    value: String,
    /// Way in which it was collected: `sync`, `enrichment`, `click` or `generated`.
    source: &'static str,
    #[serde(with = "time::serde::rfc3339::option")]
    collected_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// Anonymous ID of the browser that brought it. Null: a user ID did, or it is not known any more who did.
    anonymous_id: Option<String>,
    /// User ID of the signed call that brought it and named no browser.
    user_id: Option<String>,
}

/// Two identities that became one.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "fields are called as the core calls them")]
pub struct Merge {
    /// ID of the merge, which names it to `unmerge`.
    merge_id: String,
    merged_canonical_id: String,
    survivor_canonical_id: String,
    moved_identifiers: i32,
    moved_vendor_ids: i32,
    #[serde(with = "time::serde::rfc3339::option")]
    merged_at: Option<OffsetDateTime>,
    /// Time when it was taken apart again. Null: still in force.
    #[serde(with = "time::serde::rfc3339::option")]
    undone_at: Option<OffsetDateTime>,
}

/// Links that were refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refusal {
    /// Name of the kind of identifier, such as `user_id`, not its value.
    identifier: String,
    /// Reason: `JUNK`, `DIFFERENT_USERS`, `TOO_MANY_LINKS` or `INVALID_PROOF`.
    reason: &'static str,
    times: i32,
    #[serde(with = "time::serde::rfc3339::option")]
    last_at: Option<OffsetDateTime>,
}

impl From<v1::Person> for Person {
    fn from(person: v1::Person) -> Self {
        Self {
            canonical_id: person.canonical_id,
            created_at: person.created_at.and_then(time),
            identifiers: person.identifiers.into_iter().map(Into::into).collect(),
            vendor_ids: by_field(person.vendor_ids),
            merges: person.merges.into_iter().map(Into::into).collect(),
            refusals: person.refusals.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::LinkedIdentifier> for Identifier {
    fn from(id: v1::LinkedIdentifier) -> Self {
        Self {
            kind: id.kind,
            value: id.value,
            via: id.via,
            linked_at: id.linked_at.and_then(time),
            last_used_at: id.last_used_at.and_then(time),
            consent: id.consent.map(|consent| Consent {
                signals: consent.json.and_then(|text| serde_json::from_str(&text).ok()),
                sec_gpc: consent.sec_gpc,
                updated_at: consent.updated_at.and_then(time),
            }),
            vendor_ids: by_field(id.vendor_ids),
        }
    }
}

impl From<v1::VendorId> for VendorId {
    fn from(id: v1::VendorId) -> Self {
        use v1::VendorIdSource as Source;
        let source = match id.source() {
            Source::Sync => "sync",
            Source::Enrichment => "enrichment",
            Source::Click => "click",
            Source::Generated => "generated",
            Source::Unspecified => "unknown",
        };
        Self {
            source,
            collected_at: id.collected_at.and_then(time),
            expires_at: id.expires_at.and_then(time),
            value: id.value,
            anonymous_id: id.anonymous_id,
            user_id: id.user_id,
        }
    }
}

impl From<v1::Merge> for Merge {
    fn from(merge: v1::Merge) -> Self {
        Self {
            merge_id: merge.merge_id,
            merged_canonical_id: merge.merged_canonical_id,
            survivor_canonical_id: merge.survivor_canonical_id,
            moved_identifiers: merge.moved_identifiers,
            moved_vendor_ids: merge.moved_vendor_ids,
            merged_at: merge.merged_at.and_then(time),
            undone_at: merge.undone_at.and_then(time),
        }
    }
}

impl From<v1::LinkRefusal> for Refusal {
    fn from(refusal: v1::LinkRefusal) -> Self {
        let name = refusal.reason().as_str_name();
        Self {
            reason: name.strip_prefix("REFUSAL_REASON_").unwrap_or(name),
            identifier: refusal.identifier,
            times: refusal.times,
            last_at: refusal.last_at.and_then(time),
        }
    }
}

fn by_field(ids: impl IntoIterator<Item = (String, v1::VendorId)>) -> BTreeMap<String, VendorId> {
    ids.into_iter().map(|(field, id)| (field, id.into())).collect()
}
