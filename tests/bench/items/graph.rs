//! Logins and merges of known visitors: what each costs PostgreSQL, against the same done by bare SQL as safely: the
//! canonical identities locked in one order, looked at again, and what moves written down.

use std::sync::Arc;

use anyhow::{Result, ensure};
use harness::grpc::Authorized;
use proto::v1::{
    Caller, CollectCaller, ResolveRequest, Subject, caller::Kind,
    resolve_service_client::ResolveServiceClient,
};
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

use super::{GRPC, clients, resolve::Known};
use crate::{
    load::{Flood, Lane, ROUNDS, alternate},
    report::{Item, Report},
    visitors::{anonymous_id, canonical},
    world::World,
};

/// Changes of a round; no visitor takes part twice.
const CHANGES: u64 = 400;
/// Rounds of a side, with the one that warms up.
const ALL_ROUNDS: u64 = ROUNDS as u64 + 1;
/// Changes in flight of the floor, and its connections.
const FLOOR: (usize, usize) = (64, 16);

const LOCK: &str = "SELECT id FROM canonicals WHERE org_id = $1 AND id = ANY ($2) AND merged_into IS NULL \
     ORDER BY id FOR NO KEY UPDATE";
const HOMES: &str = "SELECT canonical_id, kind FROM links WHERE org_id = $1 AND canonical_id = ANY ($2) ORDER BY canonical_id";
/// The user and the way of their browser, which is nobody's own any more.
const LINK: &str = "WITH browser AS ( \
         UPDATE links SET via = 'claim' WHERE org_id = $1 AND canonical_id = $3 AND kind = 0 AND via = 'own') \
     INSERT INTO links (org_id, kind, value, canonical_id, via) VALUES ($1, 1, $2, $3, 'claim') \
     ON CONFLICT (org_id, kind, value) DO NOTHING";
/// The history of a merge. Of vendor IDs and attempts each row has its owner, by whom it goes back.
const REMEMBER: &str = "INSERT INTO merge_history (id, org_id, survivor_id, merged_id, moved) \
     SELECT $4, $1, $2, $3, jsonb_build_object( \
         'links', (SELECT jsonb_agg(l) FROM links l WHERE l.org_id = $1 AND l.canonical_id = $3), \
         'vendor_ids', (SELECT count(*) FROM vendor_ids v WHERE v.org_id = $1 AND v.canonical_id = $3))";
const MOVE: [&str; 6] = [
    "UPDATE links SET canonical_id = $2 WHERE org_id = $1 AND canonical_id = $3",
    "INSERT INTO vendor_ids AS own (org_id, canonical_id, field, value, source, collected_at, expires_at, owner, \
         pipeline_id, owner_kind, is_withheld) \
     SELECT org_id, $2, field, value, source, collected_at, expires_at, owner, pipeline_id, owner_kind, is_withheld \
     FROM vendor_ids WHERE org_id = $1 AND canonical_id = $3 \
     ON CONFLICT (org_id, canonical_id, field, owner_kind, owner) DO UPDATE SET value = excluded.value, \
         source = excluded.source, collected_at = excluded.collected_at, expires_at = excluded.expires_at, \
         pipeline_id = excluded.pipeline_id, is_withheld = excluded.is_withheld \
     WHERE (excluded.expires_at > now(), excluded.collected_at) > (own.expires_at > now(), own.collected_at)",
    "DELETE FROM vendor_ids WHERE org_id = $1 AND canonical_id = $3 AND $2::uuid IS NOT NULL",
    "INSERT INTO sync_attempts AS own (org_id, canonical_id, vendor, last_synced, ttl_days, outcome, attempts, \
         unanswered_since, next_at, anonymous_id) \
     SELECT org_id, $2, vendor, last_synced, ttl_days, outcome, attempts, unanswered_since, next_at, anonymous_id \
     FROM sync_attempts WHERE org_id = $1 AND canonical_id = $3 \
     ON CONFLICT (org_id, canonical_id, vendor, anonymous_id) DO UPDATE SET next_at = excluded.next_at \
     WHERE excluded.last_synced > own.last_synced",
    "DELETE FROM sync_attempts WHERE org_id = $1 AND canonical_id = $3 AND $2::uuid IS NOT NULL",
    "UPDATE canonicals SET merged_into = $2 WHERE org_id = $1 AND (id = $3 OR merged_into = $3)",
];

/// A connection with everything prepared.
struct Connection {
    client: Client,
    lock: Statement,
    homes: Statement,
    link: Statement,
    remember: Statement,
    moves: Vec<Statement>,
}

impl Connection {
    async fn open(url: &str) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let mut moves = Vec::with_capacity(MOVE.len());
        for sql in MOVE {
            moves.push(client.prepare(sql).await?);
        }
        Ok(Self {
            lock: client.prepare(LOCK).await?,
            homes: client.prepare(HOMES).await?,
            link: client.prepare(LINK).await?,
            remember: client.prepare(REMEMBER).await?,
            moves,
            client,
        })
    }

    /// The canonical identities, locked and nobody's user's.
    async fn lock(&self, org: &Uuid, ids: &[Uuid]) -> Result<()> {
        let locked = self.client.query(&self.lock, &[org, &ids]).await?;
        ensure!(locked.len() == ids.len(), "not all are roots");
        let homes = self.client.query(&self.homes, &[org, &ids]).await?;
        ensure!(homes.iter().all(|row| row.get::<_, i16>(1) == 0), "somebody is logged in");
        Ok(())
    }
}

/// Visitors that the changes of one side concern, and what the changes do.
#[derive(Debug, Clone, Copy)]
struct Changes {
    /// Number of the first visitor.
    first: u64,
    /// True where two visitors become one; otherwise a user logs in.
    merge: bool,
}

impl Changes {
    /// The visitors of the `number`th change.
    fn visitors(self, number: u64) -> (u64, Option<u64>) {
        if self.merge {
            (self.first + 2 * number, Some(self.first + 2 * number + 1))
        } else {
            (self.first + number, None)
        }
    }
}

/// Change in flight, straight to PostgreSQL.
struct SqlLane {
    org: Uuid,
    connection: Arc<Mutex<Connection>>,
    changes: Changes,
}

impl Lane for SqlLane {
    async fn ask(&mut self, number: u64) -> Result<()> {
        let connection = self.connection.lock().await;
        let (org, client) = (&self.org, &connection.client);
        let (own, other) = self.changes.visitors(number);
        let (own, other) = (canonical(own), other.map(canonical));
        client.batch_execute("BEGIN").await?;
        let ids: Vec<Uuid> = std::iter::once(own).chain(other).collect();
        connection.lock(org, &ids).await?;
        if let Some(merged) = other {
            client.execute(&connection.remember, &[org, &own, &merged, &Uuid::now_v7()]).await?;
            for statement in &connection.moves {
                client.execute(statement, &[org, &own, &merged]).await?;
            }
        } else {
            let user = format!("floor-{number}");
            ensure!(client.execute(&connection.link, &[org, &user, &own]).await? == 1, "{user} is linked");
        }
        client.batch_execute("COMMIT").await?;
        Ok(())
    }
}

/// Request in flight that has the product make a change.
struct ResolveLane {
    client: ResolveServiceClient<Authorized>,
    caller: CollectCaller,
    changes: Changes,
}

impl Lane for ResolveLane {
    async fn ask(&mut self, number: u64) -> Result<()> {
        let (own, other) = self.changes.visitors(number);
        let subject = Subject {
            anonymous_id: Some(anonymous_id(own)),
            cookie_anonymous_id: other.map(anonymous_id),
            user_id: (!self.changes.merge).then(|| format!("ours-{number}")),
            ..Subject::default()
        };
        let caller = Some(Caller { kind: Some(Kind::Collect(self.caller.clone())) });
        let answer = self
            .client
            .resolve(ResolveRequest { caller, subjects: vec![subject], ..ResolveRequest::default() })
            .await?
            .into_inner();
        let right = answer.resolutions.first().is_some_and(|resolution| {
            resolution.error.is_none()
                && resolution.refusals.is_empty()
                && resolution.canonical_id == canonical(own).to_string()
                && resolution.merged_from.len() == usize::from(self.changes.merge)
        });
        ensure!(right, "Resolve was answered {answer:?}");
        Ok(())
    }
}

/// Compares floor and product in logins, and then in merges.
pub async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let each = CHANGES * ALL_ROUNDS;
    let visitors = world.store_others(6 * each).await?;
    let mut first = visitors.start;
    let mut connections = Vec::with_capacity(FLOOR.1);
    for _ in 0..FLOOR.1 {
        connections.push(Arc::new(Mutex::new(Connection::open(&world.today.database.url).await?)));
    }
    let meters = vec![vec![world.postgres_meter]; 1 + world.products().count()];
    for merge in [false, true] {
        let mut changes = || {
            let changes = Changes { first, merge };
            first += if merge { 2 * each } else { each };
            changes
        };
        let (floor, ours) = (changes(), changes());
        let lane = |at: usize| SqlLane {
            org: world.today.customer.org_id,
            connection: connections[at % FLOOR.1].clone(),
            changes: floor,
        };
        let mut floor = Flood::counted((0..FLOOR.0).map(lane).collect(), CHANGES);
        let mut products = Vec::new();
        for product in world.products() {
            let caller = Known::of(product, world.stored).caller;
            let lane = |client| ResolveLane { client, caller: caller.clone(), changes: ours };
            let clients = clients(product.core().0, &product.cluster.secrets.edge_token, GRPC)?;
            products.push(Flood::counted(clients.into_iter().map(lane).collect(), CHANGES));
        }
        let rounds = alternate(&meters, async |side| match side {
            0 => floor.round().await,
            _ => products[side - 1].round().await,
        })
        .await?;
        let name = if merge { "Merge of two known visitors" } else { "Login of a known visitor" };
        let item = Item {
            name: name.to_owned(),
            floor: "a transaction straight to PostgreSQL that locks, looks again, moves what is known and keeps \
                    what moved, 64 in flight over 16 connections",
            processes: vec![("postgres", Some(1.0))],
        };
        report.add(&item, world.stored, &rounds);
    }
    Ok(())
}
