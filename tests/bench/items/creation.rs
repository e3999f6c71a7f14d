//! New visitors: what each costs PostgreSQL, against the safe ways of storing them straight.

use std::sync::Arc;

use anyhow::{Result, ensure};
use harness::grpc::Authorized;
use proto::v1::{
    Caller, CollectCaller, ConsentSignals, ResolveRequest, Subject, caller::Kind,
    resolve_service_client::ResolveServiceClient,
};
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

use super::{GRPC, clients, resolve::Known};
use crate::{
    load::{Flood, Lane, Round, alternate},
    report::{Item, Report},
    visitors::CONSENT,
    world::{Product, World},
};

/// Statements in flight of the floor with one row a statement, and its connections.
const SINGLE: (usize, usize) = (64, 16);
/// The same of the floor with many rows a statement.
const GROUPED: (usize, usize) = (4, 4);
/// Rows of a grouped statement.
const ROWS: usize = 100;

/// Inserts a canonical identity and its link for each row, nothing where the link is there already. Names the columns
/// alone that a base's schema has as well.
const INSERT: &str = "WITH linked AS ( \
        INSERT INTO links (org_id, canonical_id, kind, value) \
        SELECT $1, id, 0, value FROM unnest($2::uuid[], $3::text[]) AS one (id, value) \
        ON CONFLICT (org_id, kind, value) DO NOTHING RETURNING org_id, canonical_id) \
    INSERT INTO canonicals (org_id, id) SELECT org_id, canonical_id FROM linked";
/// The same for a single row.
const INSERT_ONE: &str = "WITH linked AS ( \
        INSERT INTO links (org_id, canonical_id, kind, value) VALUES ($1, $2, 0, $3) \
        ON CONFLICT (org_id, kind, value) DO NOTHING RETURNING org_id, canonical_id) \
    INSERT INTO canonicals (org_id, id) SELECT org_id, canonical_id FROM linked";

/// Statement in flight, straight to PostgreSQL.
struct StatementLane {
    org: Uuid,
    connection: Arc<Mutex<(Client, Statement)>>,
    rows: usize,
}

impl Lane for StatementLane {
    async fn ask(&mut self, _: u64) -> Result<()> {
        let new = || (Uuid::now_v7(), Uuid::new_v4().to_string());
        let connection = self.connection.lock().await;
        let (client, statement) = &*connection;
        let inserted = if self.rows == 1 {
            let (canonical, browser) = new();
            client.execute(statement, &[&self.org, &canonical, &browser]).await?
        } else {
            let (canonicals, browsers): (Vec<Uuid>, Vec<String>) = (0..self.rows).map(|_| new()).unzip();
            client.execute(statement, &[&self.org, &canonicals, &browsers]).await?
        };
        ensure!(inserted == self.rows as u64, "{inserted} of {} rows", self.rows);
        Ok(())
    }
}

async fn statements(
    product: &Product,
    sql: &str,
    rows: usize,
    (in_flight, connections): (usize, usize),
) -> Result<Flood<StatementLane>> {
    let mut pool = Vec::with_capacity(connections);
    for _ in 0..connections {
        let (client, connection) = tokio_postgres::connect(&product.database.url, NoTls).await?;
        tokio::spawn(connection);
        let statement = client.prepare(sql).await?;
        pool.push(Arc::new(Mutex::new((client, statement))));
    }
    let lane = |at: usize| StatementLane {
        org: product.customer.org_id,
        connection: pool[at % connections].clone(),
        rows,
    };
    Ok(Flood::of((0..in_flight).map(lane).collect()))
}

/// Request in flight about a new visitor.
struct NewLane {
    client: ResolveServiceClient<Authorized>,
    caller: CollectCaller,
    /// Asks as the edge does for a browser: with consent, and for pending syncs.
    browser: bool,
}

impl Lane for NewLane {
    async fn ask(&mut self, _: u64) -> Result<()> {
        let consent = ConsentSignals { json: Some(CONSENT.to_owned()), sec_gpc: false };
        let visitor = Uuid::new_v4();
        // From an address of its own: one brings only so many.
        let [a, b, c, ..] = *visitor.as_bytes();
        let client_ip = Some(format!("11.{a}.{b}.{c}"));
        let subject = Subject {
            anonymous_id: Some(visitor.to_string()),
            consent: self.browser.then_some(consent),
            want_pending_syncs: self.browser,
            ..Subject::default()
        };
        let caller =
            Some(Caller { kind: Some(Kind::Collect(CollectCaller { client_ip, ..self.caller.clone() })) });
        let answer = self
            .client
            .resolve(ResolveRequest { caller, subjects: vec![subject], ..ResolveRequest::default() })
            .await?
            .into_inner();
        let right = answer.resolutions.first().is_some_and(|resolution| {
            resolution.error.is_none()
                && resolution.created
                && resolution.pending_syncs.is_empty() != self.browser
        });
        ensure!(right, "Resolve of a new visitor was answered {answer:?}");
        Ok(())
    }
}

/// Compares the product with both floors: as it is asked bare, and as the edge asks for a browser.
pub async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let flood = |product: &Product, browser| {
        let caller = Known::of(product, world.stored).caller;
        let clients = clients(product.core().0, &product.cluster.secrets.edge_token, GRPC)?;
        let lane = |client| NewLane { client, caller: caller.clone(), browser };
        anyhow::Ok(Flood::of(clients.into_iter().map(lane).collect()))
    };
    let mut floors = [Vec::new(), Vec::new()];
    for product in world.products() {
        floors[0].push(statements(product, INSERT_ONE, 1, SINGLE).await?);
        floors[1].push(statements(product, INSERT, ROWS, GROUPED).await?);
    }
    let mut products = Vec::new();
    for browser in [false, true] {
        for product in world.products() {
            products.push(flood(product, browser)?);
        }
    }
    let meters = vec![vec![world.postgres_meter]; 2 + products.len()];
    let rounds = alternate(&meters, async |side| {
        let Some(floor) = floors.get_mut(side) else { return products[side - 2].round().await };
        // Each round in the next product's tables, so that those of all grow alike.
        floor.rotate_left(1);
        Ok(floor[0].round().await? * if side == 1 { ROWS as u64 } else { 1 })
    })
    .await?;
    let (floors, products) = rounds.split_at(2);
    let (plain, browsers) = products.split_at(products.len() / 2);
    let against = |floor: usize, products: &[Vec<Round>]| [&floors[floor..=floor], products].concat();
    let item = |name: &str, floor, target| Item {
        name: name.to_owned(),
        floor,
        processes: vec![("postgres", target)],
    };
    let one = "one row a statement straight to PostgreSQL, conflict-safe, committed synchronously, 64 in flight over \
               16 connections";
    let many = "the same with 100 rows a statement, 4 in flight";
    report.add(&item("New visitor / one row", one, Some(0.2)), world.stored, &against(0, plain));
    report.add(&item("New visitor / 100 rows", many, None), world.stored, &against(1, plain));
    report.add(&item("… with consent / one row", one, None), world.stored, &against(0, browsers));
    Ok(())
}
