//! Servers that run beside the load: stores, the product, and the floors.

use std::{net::SocketAddr, ops::Range, path::Path};

use anyhow::{Context, Result, ensure};
use bb8_redis::redis;
use harness::{
    cluster::{Cluster, Setup, of_build},
    database::TestDatabase,
    process::{self, Service},
    redis::RedisServer,
    seed::Customer,
    system::now,
    vendor_sim::VendorSim,
};

use crate::{
    cpu::{self, Meter},
    floor::{Floor, SHAPE, Shape},
    seed,
    visitors::{BENCHED, CONSENT, Population, Vendor, known_vendors},
};

/// Number of the first visitor who never synced anything; beyond all others.
const UNSYNCED: u64 = 1 << 40;
/// Numbers of visitors who take part in changes begin there.
const OTHERS: u64 = 2 * UNSYNCED;
/// Number of the first visitor who is synced while that is measured.
const DUE: u64 = 3 * UNSYNCED;
/// Number of the first visitor whose consent is a string.
const WITH_STRINGS: u64 = 4 * UNSYNCED;

/// `TRUSTED_PROXIES` of the edges.
const LOOPBACK: &str = "127.0.0.0/8";

/// Core and edge of one build, in stores of their own.
pub struct Product {
    /// Running services and their tokens.
    pub cluster: Cluster,
    /// Customer that the visitors belong to.
    pub customer: Customer,
    /// Meter of its Redis' CPU.
    pub redis_meter: Meter,
    /// Redis that serves the visitors.
    pub redis: RedisServer,
    /// Database that the visitors are stored in.
    pub database: TestDatabase,
}

impl Product {
    /// Starts the build whose binaries are in `folder`, none: this one, over a database that the build has migrated
    /// itself.
    async fn start(folder: Option<&Path>, vendors: &VendorSim) -> Result<Self> {
        let (database, redis) = tokio::try_join!(database(folder), RedisServer::start())?;
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
        let cluster = Cluster::start_built_in(folder, &setup).await?;
        let (key, connection) = (&cluster.secrets.encryption_key, &mut database.connection().await?);
        let customer = Customer::seed(connection, key, "explicit", "shop.example.com").await?;
        // More than any load brings.
        database.execute("UPDATE pipelines SET rate_limit_rps = 1000000").await;
        // As the builds did by themselves that had no setting: so that a base has the same work.
        customer.collect_only(connection, &BENCHED).await?;
        cluster.open(connection, &customer, vendors, &BENCHED).await?;
        Ok(Self { cluster, customer, redis_meter: Meter::Process(redis_pid(&redis).await?), redis, database })
    }

    async fn store(&self, numbers: Range<u64>, vendors: Vec<Vendor>, consent: &str) -> Result<()> {
        let (org, consent) = (self.customer.org_id, consent.to_owned());
        let population = Population { org, numbers, vendors, consent, now: now() };
        seed::seed(&population, &self.database.url, &self.redis.url()).await
    }

    /// Address and meter of its core.
    pub fn core(&self) -> (SocketAddr, Meter) {
        let core = &self.cluster.cores[0];
        (core.addr("grpc"), Meter::Process(core.pid()))
    }

    /// Address and meter of its edge.
    pub fn edge(&self) -> (SocketAddr, Meter) {
        (self.cluster.edge.addr("http"), Meter::Process(self.cluster.edge.pid()))
    }
}

/// Running servers. They end with this value.
pub struct World {
    /// Floor that the core is compared with.
    pub floor_core: Floor,
    /// Floor that the edge is compared with.
    pub floor_edge: Floor,
    /// Edges of the products, in their order, over the core's floor: what an edge costs by itself.
    pub lone_edges: Vec<Service>,
    /// Today's build. The floors use its stores.
    pub today: Product,
    /// Build of another commit, which today's is compared with.
    pub base: Option<Product>,
    /// Meter of PostgreSQL's CPU, with all its backends.
    pub postgres_meter: Meter,
    /// Number of visitors that are stored.
    pub stored: u64,
    vendors: VendorSim,
}

impl World {
    /// Starts everything, with nobody stored. `base` is the folder with the binaries of another commit.
    pub async fn start(base: Option<&Path>) -> Result<Self> {
        let vendors = VendorSim::start().await?;
        let today = Product::start(None, &vendors).await?;
        // A commit is to reach the disk, as in production.
        for setting in ["fsync", "full_page_writes"] {
            today.database.execute(&format!("ALTER SYSTEM SET {setting} = on")).await;
        }
        today.database.execute("SELECT pg_reload_conf()").await;
        let floor_core = start_core(SHAPE, &today).await?;
        let core = format!("http://{}", floor_core.addr);
        let floor_edge = Floor::start(SHAPE, &["floor-edge", "--core", &core]).await?;
        let mut lone_edges = vec![lone_edge(None, &core, &today).await?];
        let base = match base {
            None => None,
            folder => {
                let base = Product::start(folder, &vendors).await?;
                lone_edges.push(lone_edge(folder, &core, &base).await?);
                Some(base)
            }
        };
        Ok(Self {
            floor_core,
            floor_edge,
            lone_edges,
            postgres_meter: Meter::Tree(postmaster(&today.database).await?),
            stored: 0,
            today,
            base,
            vendors,
        })
    }

    /// Today's product, and the base's where there is one.
    pub fn products(&self) -> impl Iterator<Item = &Product> {
        std::iter::once(&self.today).chain(&self.base)
    }

    /// Stores further visitors until there are that many.
    pub async fn grow(&mut self, stored: u64) -> Result<()> {
        self.store(self.stored..stored, known_vendors(), CONSENT).await?;
        self.stored = stored;
        Ok(())
    }

    /// Stores that many visitors beside them who never synced anything.
    pub async fn store_unsynced(&self, visitors: u64) -> Result<Range<u64>> {
        self.store(UNSYNCED..UNSYNCED + visitors, Vec::new(), CONSENT).await
    }

    /// Stores that many more of those, to be synced.
    pub async fn store_due(&self, visitors: u64) -> Result<Range<u64>> {
        self.store(DUE..DUE + visitors, Vec::new(), CONSENT).await
    }

    /// Stores that many visitors beside them who are known in everything.
    pub async fn store_others(&self, visitors: u64) -> Result<Range<u64>> {
        self.store(OTHERS..OTHERS + visitors, known_vendors(), CONSENT).await
    }

    /// Stores that many visitors beside them who are known in everything, and have that consent.
    pub async fn store_with(&self, visitors: u64, consent: &str) -> Result<Range<u64>> {
        self.store(WITH_STRINGS..WITH_STRINGS + visitors, known_vendors(), consent).await
    }

    /// Stores the same visitors for each product.
    async fn store(&self, numbers: Range<u64>, vendors: Vec<Vendor>, consent: &str) -> Result<Range<u64>> {
        for product in self.products() {
            product.store(numbers.clone(), vendors.clone(), consent).await?;
        }
        Ok(numbers)
    }

    /// Adds a customer on today's edge, whose keys may bring `rate` events a second.
    pub async fn another_customer(&self, rate: u32) -> Result<Customer> {
        let Product { cluster, database, .. } = &self.today;
        let (key, connection) = (&cluster.secrets.encryption_key, &mut database.connection().await?);
        let mut customer = Customer::seed(connection, key, "explicit", "other.example.com").await?;
        customer.collect_name = "other.localhost".to_owned();
        let pipeline = customer.pipeline_id;
        let sql = format!("UPDATE pipelines SET rate_limit_rps = {rate} WHERE id = '{pipeline}'");
        database.execute(&sql).await;
        cluster.open(connection, &customer, &self.vendors, &[]).await?;
        Ok(customer)
    }

    /// Adds a source to the organisation of today's product, which collects of these vendors.
    pub async fn another_source(&self, vendors: &[&str]) -> Result<Customer> {
        let Product { cluster, database, customer, .. } = &self.today;
        let (key, connection) = (&cluster.secrets.encryption_key, &mut database.connection().await?);
        let (org, test) = (customer.org_id, customer.test_org_id);
        let mut source =
            Customer::seed_in(connection, org, test, key, "explicit", "second.example.com").await?;
        source.collect_name = "second.localhost".to_owned();
        database
            .execute(&format!(
                "UPDATE pipelines SET rate_limit_rps = 1000000 WHERE id = '{}'",
                source.pipeline_id
            ))
            .await;
        source.collect_only(connection, vendors).await?;
        cluster.open(connection, &source, &self.vendors, vendors).await?;
        Ok(source)
    }

    /// Starts one more floor of the core, in that shape.
    pub async fn another_floor(&self, shape: Shape) -> Result<Floor> {
        start_core(shape, &self.today).await
    }
}

/// Makes a database with the schema of the build whose binaries are in `folder`; none: this one.
async fn database(folder: Option<&Path>) -> Result<TestDatabase> {
    let Some(folder) = folder else { return TestDatabase::create().await };
    let database = TestDatabase::empty().await?;
    let core = of_build(Some(folder), "identity-service");
    let ended = process::run(&core, &["--migrate"], &[("DATABASE_URL", &database.url)], "").await?;
    ensure!(ended.status.success(), "{core} --migrate failed: {}", ended.text());
    Ok(database)
}

async fn start_core(shape: Shape, product: &Product) -> Result<Floor> {
    let (redis, org) = (product.redis.url(), product.customer.org_id.to_string());
    let postgres = &product.database.url;
    let arguments = ["floor-core", "--redis", &redis, "--postgres", postgres, "--org", &org];
    Floor::start(shape, &arguments).await
}

/// Starts the edge of a build over the core's floor, `core`.
async fn lone_edge(folder: Option<&Path>, core: &str, product: &Product) -> Result<Service> {
    let environment = [
        ("IDENTITY_URL", core),
        ("SERVICE_TOKEN", &product.cluster.secrets.edge_token),
        ("TRUSTED_PROXIES", LOOPBACK),
    ];
    Service::start(&of_build(folder, "http-edge"), &environment, &["http", "metrics"]).await
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
