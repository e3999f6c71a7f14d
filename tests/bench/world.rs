//! Servers that run beside the load: stores, the product, and the floors.

use std::{net::SocketAddr, ops::Range};

use anyhow::{Context, Result, ensure};
use bb8_redis::redis;
use harness::{
    cluster::{Cluster, Setup},
    database::TestDatabase,
    process::Service,
    redis::RedisServer,
    seed::Customer,
    system::now,
    vendor_sim::VendorSim,
    world::all_vendors,
};

use crate::{
    cpu::{self, Meter},
    floor::{Floor, SHAPE, Shape},
    seed,
    visitors::{Population, known_vendors},
};

/// Number of the first visitor who never synced anything; beyond all others.
const UNSYNCED: u64 = 1 << 40;
/// Numbers of visitors who take part in changes begin there.
const OTHERS: u64 = 2 * UNSYNCED;

/// `TRUSTED_PROXIES` of the edges.
const LOOPBACK: &str = "127.0.0.0/8";

/// Running servers. They end with this value.
pub struct World {
    /// Core and edge of the product.
    pub cluster: Cluster,
    /// Customer that the visitors belong to.
    pub customer: Customer,
    /// Floor that the core is compared with.
    pub floor_core: Floor,
    /// Floor that the edge is compared with.
    pub floor_edge: Floor,
    /// The product's edge, over the core's floor: what the edge costs by itself.
    pub lone_edge: Service,
    /// Meter of PostgreSQL's CPU, with all its backends.
    pub postgres_meter: Meter,
    /// Meter of Redis' CPU.
    pub redis_meter: Meter,
    /// Number of visitors that are stored.
    pub stored: u64,
    /// Redis that serves the visitors.
    pub redis: RedisServer,
    /// Database that the visitors are stored in.
    pub database: TestDatabase,
    vendors: VendorSim,
}

impl World {
    /// Starts everything, with nobody stored.
    pub async fn start() -> Result<Self> {
        let (database, redis, vendors) =
            tokio::try_join!(TestDatabase::create(), RedisServer::start(), VendorSim::start())?;
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let setup = Setup {
            database_url: database.url.clone(),
            redis_url: redis.url(),
            cores: 1,
            core_addr: free,
            edge_addr: free,
            log_level: "info".to_owned(),
            // The load stands for the proxy in front, and names a visitor's address in each request.
            trusted_proxies: LOOPBACK.to_owned(),
            open_networks: String::new(),
        };
        // A commit is to reach the disk, as in production.
        for setting in ["fsync", "full_page_writes"] {
            database.execute(&format!("ALTER SYSTEM SET {setting} = on")).await;
        }
        database.execute("SELECT pg_reload_conf()").await;
        let cluster = Cluster::start(&setup).await?;
        let (key, connection) = (&cluster.secrets.encryption_key, &mut database.connection().await?);
        let customer = Customer::seed(connection, key, "explicit", "shop.example.com").await?;
        // More than any load brings.
        database.execute("UPDATE pipelines SET rate_limit_rps = 1000000").await;
        cluster.open(connection, &customer, &vendors, &all_vendors()).await?;
        let floor_core = start_core(SHAPE, &database, &redis, &customer).await?;
        let core = format!("http://{}", floor_core.addr);
        let floor_edge = Floor::start(SHAPE, &["floor-edge", "--core", &core]).await?;
        let environment = [
            ("IDENTITY_URL", core.as_str()),
            ("SERVICE_TOKEN", &cluster.secrets.edge_token),
            ("TRUSTED_PROXIES", LOOPBACK),
        ];
        let lone_edge = Service::start("http-edge", &environment, &["http", "metrics"]).await?;
        Ok(Self {
            floor_core,
            floor_edge,
            lone_edge,
            postgres_meter: Meter::Tree(postmaster(&database).await?),
            redis_meter: Meter::Process(redis_pid(&redis).await?),
            stored: 0,
            cluster,
            customer,
            redis,
            database,
            vendors,
        })
    }

    /// Stores further visitors until there are that many.
    pub async fn grow(&mut self, stored: u64) -> Result<()> {
        let numbers: Range<u64> = self.stored..stored;
        let org = self.customer.org_id;
        let population = Population { org, numbers, vendors: known_vendors(), now: now() };
        seed::seed(&population, &self.database.url, &self.redis.url()).await?;
        self.stored = stored;
        Ok(())
    }

    /// Stores that many visitors beside them who never synced anything.
    pub async fn store_unsynced(&self, visitors: u64) -> Result<Range<u64>> {
        let numbers = UNSYNCED..UNSYNCED + visitors;
        let org = self.customer.org_id;
        let population = Population { org, numbers: numbers.clone(), vendors: Vec::new(), now: now() };
        seed::seed(&population, &self.database.url, &self.redis.url()).await?;
        Ok(numbers)
    }

    /// Stores that many visitors beside them who are known in everything.
    pub async fn store_others(&self, visitors: u64) -> Result<Range<u64>> {
        let numbers = OTHERS..OTHERS + visitors;
        let org = self.customer.org_id;
        let population = Population { org, numbers: numbers.clone(), vendors: known_vendors(), now: now() };
        seed::seed(&population, &self.database.url, &self.redis.url()).await?;
        Ok(numbers)
    }

    /// Adds a customer on the same edge, whose keys may bring `rate` events a second.
    pub async fn another_customer(&self, rate: u32) -> Result<Customer> {
        let (key, connection) =
            (&self.cluster.secrets.encryption_key, &mut self.database.connection().await?);
        let customer = Customer::seed(connection, key, "explicit", "other.example.com").await?;
        let pipeline = customer.pipeline_id;
        let sql = format!("UPDATE pipelines SET rate_limit_rps = {rate} WHERE id = '{pipeline}'");
        self.database.execute(&sql).await;
        self.cluster.open(connection, &customer, &self.vendors, &[]).await?;
        Ok(customer)
    }

    /// Starts one more floor of the core, in that shape.
    pub async fn another_floor(&self, shape: Shape) -> Result<Floor> {
        start_core(shape, &self.database, &self.redis, &self.customer).await
    }

    /// Address and meter of the product's core.
    pub fn core(&self) -> (SocketAddr, Meter) {
        let core = &self.cluster.cores[0];
        (core.addr("grpc"), Meter::Process(core.pid()))
    }

    /// Address and meter of the product's edge.
    pub fn edge(&self) -> (SocketAddr, Meter) {
        (self.cluster.edge.addr("http"), Meter::Process(self.cluster.edge.pid()))
    }
}

async fn start_core(
    shape: Shape,
    database: &TestDatabase,
    redis: &RedisServer,
    customer: &Customer,
) -> Result<Floor> {
    let (redis, org) = (redis.url(), customer.org_id.to_string());
    let arguments = ["floor-core", "--redis", &redis, "--postgres", &database.url, "--org", &org];
    Floor::start(shape, &arguments).await
}

/// The process that all of PostgreSQL's descend from.
async fn postmaster(database: &TestDatabase) -> Result<u32> {
    let (client, connection) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let backend = u32::try_from(backend)?;
    let name = std::fs::read_to_string(format!("/proc/{backend}/comm")).unwrap_or_default();
    ensure!(
        name.starts_with("postgres"),
        "PostgreSQL does not run here; unset DATABASE_URL to have a private one"
    );
    cpu::parent(backend)
}

async fn redis_pid(redis: &RedisServer) -> Result<u32> {
    let mut connection = redis.connection().await?;
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")).context("process_id")?;
    Ok(pid.trim().parse()?)
}
