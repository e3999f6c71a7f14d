//! A person as stored: identifiers with their trust and dates, vendor IDs, merges, refusals.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::canonicals;
use proto::v1::{ErrorReason, LinkRefusal, LinkedIdentifier, Merge, Person, RefusalReason, VendorId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::IdentityAdmin;
use crate::{
    clock::timestamp,
    error::{Error, Result},
    identifiers::{Identifier, Kind},
    storage::{
        cache_entries,
        lookup::{self, IdentityName},
        postgres::{
            clusters::{Cluster, Link},
            consent, graph,
            history::{self, MergeRow, RefusalRow},
            pii::{self, DigestRow},
            rows::{ConsentRow, VendorIdRow},
        },
        via::Via,
    },
    vendor_ids::{entries, precedence::Asker, read},
};

/// The rows that are stored about one person.
pub struct StoredPerson {
    /// Their canonical identities, those that were merged into another as well.
    pub canonicals: Vec<Uuid>,
    /// Identifiers, vendor IDs and schedules.
    pub cluster: Cluster,
    /// The time at which the canonical identity was made.
    pub created_at: OffsetDateTime,
    /// Consent of the person's browsers, by anonymous ID.
    pub consents: HashMap<String, ConsentRow>,
    /// Digests of emails and phones.
    pub contacts: Vec<DigestRow>,
    /// Merges into the canonical identity, and into those merged into it, newest first.
    pub merges: Vec<MergeRow>,
    /// Links that were refused, newest first.
    pub refusals: Vec<RefusalRow>,
}

impl IdentityAdmin {
    /// Reads a person, from PostgreSQL.
    pub async fn find(&self, org: Uuid, name: &IdentityName) -> Result<StoredPerson> {
        let not_found = || Error::refused(ErrorReason::IdentityNotFound);
        let root = lookup::root(&self.stores, org, name).await?.ok_or_else(not_found)?;
        let mut connection = self.stores.connection().await?;
        read(&mut connection, org, root).await?.ok_or_else(not_found)
    }
}

async fn read(connection: &mut AsyncPgConnection, org: Uuid, root: Uuid) -> Result<Option<StoredPerson>> {
    let Some(cluster) = graph::clusters(connection, org, &[root]).await?.into_iter().next() else {
        return Ok(None);
    };
    let created_at =
        canonicals::table.find((org, root)).select(canonicals::created_at).get_result(connection).await?;
    let browsers = cluster.links.keys().filter(|id| id.kind == Kind::AnonymousId);
    let browsers: Vec<&str> = browsers.map(|id| id.value.as_str()).collect();
    let consents = consent::find(connection, org, &browsers).await?;
    let all: Vec<Uuid> = history::all_of(connection, org, &[root]).await?.into_keys().collect();
    Ok(Some(StoredPerson {
        created_at,
        consents: consents.into_iter().map(|row| (row.anonymous_id.clone(), row)).collect(),
        contacts: pii::find(connection, org, cluster.links.keys()).await?,
        merges: history::of(connection, org, &all).await?,
        refusals: history::refusals(connection, org, &all).await?,
        canonicals: all,
        cluster,
    }))
}

impl StoredPerson {
    /// Builds the person as it is answered; vendor IDs that have expired are left out.
    pub fn person(&self, now: OffsetDateTime) -> Person {
        let live = || self.cluster.vendor_ids.values().filter(|row| row.expires_at > now);
        let identifiers = self.cluster.links.iter().map(|(id, link)| LinkedIdentifier {
            kind: id.kind.word().to_owned(),
            value: id.value.clone(),
            via: self.via(id, link).word().to_owned(),
            linked_at: Some(timestamp(link.linked_at)),
            last_used_at: Some(timestamp(link.last_used_at)),
            consent: self
                .consents
                .get(&id.value)
                .filter(|_| id.kind == Kind::AnonymousId)
                .and_then(|row| read::stored_consent(&cache_entries::consent_entry(Some(row)))),
            vendor_ids: live().filter(|row| row.owner.is(id)).map(told).collect(),
        });
        let known = self.cluster.known();
        let delivered = entries::answers(&known, Asker::Person, now);
        let merges = self.merges.iter().map(|row| {
            let moved = row.moved();
            let count = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
            Merge {
                merge_id: row.id.to_string(),
                merged_canonical_id: row.merged_id.to_string(),
                merged_at: Some(timestamp(row.merged_at)),
                undone_at: row.undone_at.map(timestamp),
                survivor_canonical_id: row.survivor_id.to_string(),
                moved_identifiers: count(moved.links.len()),
                moved_vendor_ids: count(moved.vendor_ids),
            }
        });
        let refusals = self.refusals.iter().map(|row| LinkRefusal {
            identifier: row.identifier.clone(),
            reason: RefusalReason::from_str_name(&row.reason).unwrap_or_default().into(),
            times: row.times,
            last_at: Some(timestamp(row.last_at)),
        });
        Person {
            canonical_id: self.cluster.id.to_string(),
            created_at: Some(timestamp(self.created_at)),
            identifiers: identifiers.collect(),
            vendor_ids: delivered.into_values().map(told).collect(),
            merges: merges.collect(),
            refusals: refusals.collect(),
        }
    }

    /// The way in which an identifier came to the person. A browser has come to nobody while there is no user.
    pub fn via(&self, id: &Identifier, link: &Link) -> Via {
        if id.kind == Kind::AnonymousId && self.cluster.user().is_none() { Via::Own } else { link.via }
    }
}

/// The ID as it is told, with its owner, and its field.
fn told(row: &VendorIdRow) -> (String, VendorId) {
    let id = read::vendor_id(cache_entries::vendor_id(row));
    let (anonymous_id, user_id) = (row.owner.anonymous_id(), row.owner.user_id());
    let (anonymous_id, user_id) = (anonymous_id.map(str::to_owned), user_id.map(str::to_owned));
    (row.field.clone(), VendorId { anonymous_id, user_id, ..id })
}
