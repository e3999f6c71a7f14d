//! Linking identifiers to canonical identities, in one transaction.

use std::collections::HashMap;

use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    error::Result,
    identifiers::{Identifier, Kind},
    storage::{
        change::Change,
        entries,
        postgres::{identities, rows::VendorIdRow, vendor_ids},
        redis::protocol::Entry,
    },
};

/// Identifiers to link: to which canonical identity, and whether they are vouched for.
pub struct Link {
    org: Uuid,
    links: Vec<(Identifier, Uuid, bool)>,
    now: OffsetDateTime,
}

impl Link {
    /// Links of one organisation. They are stored in one order for all writers.
    pub fn new(org: Uuid, mut links: Vec<(Identifier, Uuid, bool)>, now: OffsetDateTime) -> Self {
        links.sort();
        Self { org, links, now }
    }
}

impl Change for Link {
    /// Where each identifier is linked now; an identifier that another linked first stays there, and one that
    /// would give a canonical identity a second user is left out.
    type Output = Vec<(Identifier, Uuid)>;

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<(Self::Output, Vec<Entry>)> {
        let org = self.org;
        let targets: Vec<Uuid> = self.links.iter().map(|(_, target, _)| *target).collect();
        let roots = identities::lock_roots(connection, org, &targets).await?;
        let all: Vec<Uuid> = roots.values().copied().collect();
        // Planned without a lock: another login may have come first.
        let users = identities::with_user(connection, org, &all).await?;
        let links: Vec<(&Identifier, Uuid, bool)> = self
            .links
            .iter()
            .filter_map(|(id, target, verified)| Some((id, *roots.get(target)?, *verified)))
            .filter(|(id, root, _)| id.kind != Kind::UserId || !users.contains(root))
            .collect();
        identities::link(connection, org, &links).await?;

        let ids: Vec<Identifier> = self.links.iter().map(|(id, _, _)| id.clone()).collect();
        let found = identities::find(connection, org, &ids).await?;
        let linked: Vec<(Identifier, Uuid)> =
            ids.into_iter().zip(found).filter_map(|(id, root)| Some((id, root?))).collect();
        let mut known: HashMap<Uuid, Vec<VendorIdRow>> = HashMap::new();
        for row in vendor_ids::find(connection, org, &all).await? {
            known.entry(row.canonical_id).or_default().push(row);
        }
        let mut changed = Vec::with_capacity(linked.len());
        for (id, root) in &linked {
            changed.push(entries::canonical(org, id, Some(*root)));
            if let (Kind::AnonymousId, Some(rows)) = (id.kind, known.get(root)) {
                changed.push(entries::identity(org, &id.value, rows, self.now));
            }
        }
        Ok((linked, changed))
    }
}
