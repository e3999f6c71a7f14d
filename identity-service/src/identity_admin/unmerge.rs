//! Taking a merge apart again.

use diesel_async::AsyncPgConnection;
use proto::v1::ErrorReason;
use time::OffsetDateTime;
use uuid::Uuid;

use super::IdentityAdmin;
use crate::{
    error::{Error, Result},
    graph::{Graph, writing},
    identifiers::Identifier,
    storage::{
        change::{self, Change},
        postgres::{
            clusters::Moved,
            graph,
            history::{self, MergeRow},
            identities,
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
        let undone = row.moved();
        self.correct_outer(connection, &row, root, &undone).await?;
        let before = Graph::new(graph::clusters(connection, org, &[root]).await?, self.now);
        let mut after = before.clone();
        after.part(root, row.merged_id, &undone.links);
        history::undo(connection, org, &row, root, self.now).await?;
        let entries = writing::write(connection, org, &before, &mut after, &[root, row.merged_id]).await?;
        Ok((row.merged_id, entries))
    }
}

impl Unmerge {
    /// Takes what the merge had brought out of what later merges of its survivor recorded, up to the root.
    async fn correct_outer(
        &self,
        connection: &mut AsyncPgConnection,
        row: &MergeRow,
        root: Uuid,
        undone: &Moved,
    ) -> Result<()> {
        let all: Vec<Uuid> = history::all_of(connection, self.org, &[root]).await?.into_keys().collect();
        let mut others = history::among(connection, self.org, &all).await?;
        others.retain(|other| other.id != row.id && other.undone_at.is_none());
        let mut survivor = row.survivor_id;
        while let Some(outer) = others.iter().find(|other| other.merged_id == survivor) {
            let mut moved = outer.moved();
            moved.without(row.merged_id, undone);
            if moved != outer.moved() {
                history::correct(connection, self.org, outer.id, &moved).await?;
            }
            survivor = outer.survivor_id;
        }
        Ok(())
    }
}

impl Graph {
    /// Takes these identifiers out of `root`, as far as they are there: they are `merged` again, each with its own.
    fn part(&mut self, root: Uuid, merged: Uuid, identifiers: &[Identifier]) {
        let Some(from) = self.clusters.get_mut(&root) else { return };
        let mut apart = from.part(merged, identifiers, self.now);
        from.settle();
        apart.settle();
        self.homes.extend(apart.links.keys().map(|id| (id.clone(), merged)));
        self.clusters.insert(merged, apart);
    }
}
