//! Taking a merge apart again.

use diesel_async::AsyncPgConnection;
use proto::v1::ErrorReason;
use time::OffsetDateTime;
use uuid::Uuid;

use super::IdentityAdmin;
use crate::{
    error::{Error, Result},
    graph::{Graph, writing},
    storage::{
        change::{self, Change},
        postgres::{
            clusters::{Cluster, Link, Moved},
            graph,
            history::{self, MergeRow},
            identities,
            rows::VendorIdRow,
        },
        redis::protocol::Entry,
    },
};

impl IdentityAdmin {
    /// Undoes `merge` and returns the canonical identity that stands on its own again. What moved with it goes back,
    /// as far as it is still where the merge brought it. Undoing it twice changes nothing.
    pub async fn unmerge(&self, org: Uuid, merge: Uuid, now: OffsetDateTime) -> Result<Uuid> {
        Ok(change::commit(&self.stores, Unmerge { org, merge, now }).await?.output)
    }
}

struct Unmerge {
    org: Uuid,
    merge: Uuid,
    now: OffsetDateTime,
}

impl Change for Unmerge {
    type Output = Uuid;

    fn org(&self) -> Uuid {
        self.org
    }

    async fn apply(&self, connection: &mut AsyncPgConnection) -> Result<(Uuid, Vec<Entry>)> {
        let org = self.org;
        let row = history::find(connection, org, self.merge)
            .await?
            .ok_or_else(|| Error::refused(ErrorReason::MergeNotFound))?;
        let ends = [row.survivor_id, row.merged_id];
        let before = identities::roots(connection, org, &ends).await?;
        let Some(root) = before.first().copied().flatten() else { return Err(Error::Moved) };
        identities::lock(connection, org, [root]).await?;
        // Under the root's lock nothing is merged into it or taken from it.
        let row = history::find(connection, org, self.merge).await?.ok_or(Error::Moved)?;
        if row.undone_at.is_some() {
            return Ok((row.merged_id, Vec::new()));
        }
        if identities::roots(connection, org, &ends).await? != [Some(root), Some(root)] {
            return Err(Error::Moved);
        }
        let undone = self.take_out(connection, &row, root).await?;
        let before = Graph::new(graph::clusters(connection, org, &[root]).await?, self.now);
        let mut after = before.clone();
        after.part(root, row.merged_id, &undone);
        history::undo(connection, org, &row, root, self.now).await?;
        let entries = writing::write(connection, org, &before, &mut after, &[root, row.merged_id]).await?;
        Ok((row.merged_id, entries))
    }
}

impl Unmerge {
    /// Takes what the merge had brought out of what later merges recorded, and returns it with what comes back for it
    /// at the root.
    async fn take_out(
        &self,
        connection: &mut AsyncPgConnection,
        row: &MergeRow,
        root: Uuid,
    ) -> Result<Moved> {
        let all: Vec<Uuid> = history::all_of(connection, self.org, &[root]).await?.into_keys().collect();
        let mut others = history::among(connection, self.org, &all).await?;
        others.retain(|other| other.id != row.id && other.undone_at.is_none());
        let mut undone = row.moved();
        // Outwards, from survivor to survivor: what comes back at one is what the next is told of.
        let mut level = row.survivor_id;
        loop {
            let (here, elsewhere): (Vec<_>, Vec<_>) =
                others.into_iter().partition(|other| other.survivor_id == level);
            others = elsewhere;
            for other in here {
                let mut moved = other.moved();
                moved.replaced_without(&undone);
                self.correct(connection, &other, &moved).await?;
            }
            let Some(at) = others.iter().position(|other| other.merged_id == level) else {
                return Ok(undone);
            };
            let outer = others.swap_remove(at);
            let mut moved = outer.moved();
            moved.without(row.merged_id, &mut undone);
            self.correct(connection, &outer, &moved).await?;
            level = outer.survivor_id;
        }
    }

    async fn correct(&self, connection: &mut AsyncPgConnection, row: &MergeRow, moved: &Moved) -> Result<()> {
        if *moved == row.moved() {
            return Ok(());
        }
        history::correct(connection, self.org, row.id, moved).await
    }
}

impl Graph {
    /// Takes `merged` out of `root` again.
    fn part(&mut self, root: Uuid, merged: Uuid, moved: &Moved) {
        let now = self.now;
        let Some(from) = self.clusters.get_mut(&root) else { return };
        let mut apart = Cluster { made: false, ..Cluster::made(merged, now.date()) };
        for row in &moved.vendor_ids {
            let mut back = row.clone();
            if from.vendor_ids.get(&row.field).is_some_and(|own| own.is_same(row)) {
                // It still knows its browser, which goes with it.
                back.anonymous_id = from.vendor_ids.remove(&row.field).and_then(|own| own.anonymous_id);
                let replaced = moved.replaced_ids.iter().find(|own| own.field == row.field);
                let own = replaced.map(|own| VendorIdRow { canonical_id: root, ..own.clone() });
                from.vendor_ids.extend(own.map(|own| (own.field.clone(), own)));
            }
            apart.vendor_ids.insert(row.field.clone(), VendorIdRow { canonical_id: merged, ..back });
        }
        for id in &moved.links {
            if let Some(link) = from.release(id) {
                apart.links.insert(id.clone(), Link { linked_at: now, ..link });
                self.homes.insert(id.clone(), merged);
            }
        }
        for (vendor, attempt) in &moved.attempts {
            apart.attempts.insert(vendor.clone(), attempt.clone());
            if from.attempts.get(vendor) == Some(attempt) {
                from.attempts.remove(vendor);
                let own = moved.replaced_attempts.get(vendor).cloned();
                from.attempts.extend(own.map(|own| (vendor.clone(), own)));
            }
        }
        self.clusters.insert(merged, apart);
    }
}
