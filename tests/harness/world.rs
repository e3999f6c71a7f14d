//! A whole world for one test: its own database and Redis behind proxies, its own services, customer,
//! vendors.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bb8_redis::redis::{self, FromRedisValue};
use proto::v1::{
    Caller, CollectCaller, IdentityVendorIds, ResolveRequest, Subject, VendorIdsRequest, caller::Kind,
    identity_ref::Id,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Status;
use url::Url;

use crate::{
    browser::Browser,
    cluster::{Cluster, Setup},
    database::TestDatabase,
    grpc::Api,
    people::named,
    postgres::PostgresServer,
    proxy::Proxy,
    redis::RedisServer,
    seed::Customer,
    signature::sign,
    system,
    vendor_sim::{VENDORS, VendorSim},
    wire::Protocol,
};

/// Places for worlds that run at once. Each is five processes; more would only wait for each other.
static SLOTS: Semaphore = Semaphore::const_new(4);

/// Settings that differ from world to world.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of cores that serve.
    pub cores: usize,
    /// The pipeline's consent mode.
    pub consent_mode: &'static str,
    /// The pipeline removes what it collected when consent is withdrawn.
    pub purge_on_withdrawal: bool,
    /// Names of the vendors whose sync is enabled.
    pub vendors: &'static [&'static str],
    /// Names of the vendors whose click IDs are collected and whose IDs are made, beside those of `vendors`.
    pub generated: &'static [&'static str],
    /// The services' log level.
    pub log_level: &'static str,
    /// Events a second of the customer's keys; none for what is seeded.
    pub rate_limit_rps: Option<i32>,
    /// Networks of proxies that the edge trusts, in front of which browsers have addresses of their own.
    pub trusted_proxies: &'static str,
    /// Networks that the cores may call, beside public hosts.
    pub open_networks: &'static str,
}

impl Default for Options {
    /// Options with one core, explicit consent, and Pinterest.
    fn default() -> Self {
        Self {
            cores: 1,
            consent_mode: "explicit",
            purge_on_withdrawal: false,
            vendors: &["pinterest"],
            generated: &[],
            log_level: "info",
            rate_limit_rps: None,
            trusted_proxies: "",
            open_networks: "",
        }
    }
}

/// A world for one test. Everything in it ends when it is dropped.
#[derive(Debug)]
pub struct World {
    /// The edge and the cores.
    pub cluster: Cluster,
    /// The customer they serve.
    pub customer: Customer,
    /// The simulated endpoints of the vendors.
    pub vendors: VendorSim,
    /// Proxy between the cores and Redis.
    pub redis_proxy: Proxy,
    /// Proxy between the cores and PostgreSQL.
    pub postgres_proxy: Proxy,
    /// Redis itself, past the proxy.
    pub redis: RedisServer,
    /// The database itself, past the proxy.
    pub database: TestDatabase,
    _slot: SemaphorePermit<'static>,
}

impl World {
    /// Starts a world with the default options.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// Starts a world with other options.
    pub async fn with(options: Options) -> Self {
        Self::build(&options, None).await.unwrap_or_else(|error| panic!("no world: {error:#}"))
    }

    /// Starts a world over a PostgreSQL of the test's own, which it may break.
    pub async fn over(server: &PostgresServer, options: Options) -> Self {
        Self::build(&options, Some(server)).await.unwrap_or_else(|error| panic!("no world: {error:#}"))
    }

    async fn build(options: &Options, server: Option<&PostgresServer>) -> Result<Self> {
        let slot = SLOTS.acquire().await?;
        let database = async {
            match server {
                Some(server) => TestDatabase::on(server).await,
                None => TestDatabase::create().await,
            }
        };
        let (database, redis, vendors) =
            tokio::try_join!(database, RedisServer::start(), VendorSim::start())?;
        let mut url = Url::parse(&database.url)?;
        let postgres: SocketAddr =
            format!("127.0.0.1:{}", url.port().unwrap_or(5432)).parse().context("DATABASE_URL")?;
        let postgres_proxy = Proxy::start(postgres, Protocol::Postgres).await?;
        let redis_proxy = Proxy::start(redis.addr, Protocol::Redis).await?;
        url.set_port(Some(postgres_proxy.addr.port())).ok().context("DATABASE_URL")?;
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let cluster = Cluster::start(&Setup {
            database_url: url.into(),
            redis_url: format!("redis://{}/", redis_proxy.addr),
            cores: options.cores,
            core_addr: free,
            edge_addr: free,
            log_level: options.log_level.to_owned(),
            trusted_proxies: options.trusted_proxies.to_owned(),
            open_networks: options.open_networks.to_owned(),
        })
        .await?;
        let key = &cluster.secrets.encryption_key;
        let customer =
            Customer::seed(&mut database.connection().await?, key, options.consent_mode, "shop.example.com")
                .await?;
        let collected = [options.vendors, options.generated].concat();
        customer.collect_only(&mut database.connection().await?, &collected).await?;
        if options.purge_on_withdrawal {
            database.execute("UPDATE pipelines SET purge_on_withdrawal = true").await;
        }
        if let Some(rate) = options.rate_limit_rps {
            database.execute(&format!("UPDATE pipelines SET rate_limit_rps = {rate}")).await;
        }
        let world =
            Self { cluster, customer, vendors, redis_proxy, postgres_proxy, redis, database, _slot: slot };
        world
            .cluster
            .open(&mut world.database.connection().await?, &world.customer, &world.vendors, options.vendors)
            .await?;
        Ok(world)
    }

    /// Adds another customer, who collects over the same edge by another name.
    pub async fn another_customer(&self, consent_mode: &str) -> Customer {
        let key = &self.cluster.secrets.encryption_key;
        let mut database = self.database.connection().await.unwrap();
        let mut customer =
            Customer::seed(&mut database, key, consent_mode, "other.example.com").await.unwrap();
        customer.collect_name = format!("{}.localhost", customer.source_id);
        customer.collect_only(&mut database, &["pinterest"]).await.unwrap();
        self.cluster.open(&mut database, &customer, &self.vendors, &["pinterest"]).await.unwrap();
        customer
    }

    /// A new visitor's browser on the customer's page.
    pub fn browser(&self) -> Browser {
        self.browser_of(&self.customer)
    }

    /// A new visitor's browser on another customer's page.
    pub fn browser_of(&self, customer: &Customer) -> Browser {
        Browser::new(&self.cluster.collect_url_of(customer), &customer.live_key, &customer.origin)
    }

    /// The first core as an event processor sees it.
    pub fn internal(&self) -> Api {
        self.cluster.api(0, &self.cluster.secrets.internal_token).unwrap()
    }

    /// The first core as the management service sees it.
    pub fn admin(&self) -> Api {
        self.cluster.api(0, &self.cluster.secrets.admin_token).unwrap()
    }

    /// Makes a call to one core, signed by the customer's server now.
    pub async fn signed_call(&self, core: usize) -> Result<(), Status> {
        let timestamp = system::now().unix_timestamp().to_string();
        let collect = CollectCaller {
            pipeline_key: self.customer.live_key.clone(),
            host: self.cluster.edge.addr("http").to_string(),
            signature: Some(sign(&self.customer.server_secret, &format!("{timestamp}.{{}}"))),
            timestamp: Some(timestamp),
            signed_body: Some(b"{}".to_vec()),
            ..CollectCaller::default()
        };
        let subject = Subject { anonymous_id: Some("a-server-s".to_owned()), ..Subject::default() };
        let caller = Some(Caller { kind: Some(Kind::Collect(collect)) });
        let api = self.cluster.api(core, &self.cluster.secrets.edge_token).unwrap();
        api.resolve()
            .resolve(ResolveRequest { caller, subjects: vec![subject], ..ResolveRequest::default() })
            .await
            .map(drop)
    }

    /// Vendor IDs that delivery gets for an anonymous ID of the customer's.
    pub async fn vendor_ids(&self, anonymous_id: &str) -> IdentityVendorIds {
        self.vendor_ids_in(&self.customer.org_id.to_string(), anonymous_id).await
    }

    /// Vendor IDs that delivery gets for an anonymous ID of a given organisation.
    pub async fn vendor_ids_in(&self, org_id: &str, anonymous_id: &str) -> IdentityVendorIds {
        self.ask_vendor_ids(org_id, anonymous_id).await.unwrap()
    }

    /// Vendor IDs that delivery gets, or the error in their place.
    pub async fn ask_vendor_ids(
        &self,
        org_id: &str,
        anonymous_id: &str,
    ) -> Result<IdentityVendorIds, tonic::Status> {
        let request = VendorIdsRequest {
            org_id: org_id.to_owned(),
            identities: vec![named(Id::AnonymousId(anonymous_id.to_owned()))],
            fields: Vec::new(),
            ..VendorIdsRequest::default()
        };
        let answer = self.internal().resolve().vendor_ids(request).await?.into_inner();
        assert_eq!(answer.identities.len(), 1, "one answer an identity: {answer:?}");
        Ok(answer.identities.into_iter().next().unwrap())
    }

    /// The value of one field for an anonymous ID; none where it is not known.
    pub async fn vendor_id(&self, anonymous_id: &str, field: &str) -> Option<String> {
        let ids = self.vendor_ids(anonymous_id).await;
        ids.vendor_ids.get(field).map(|id| id.value.clone())
    }

    /// Sum of a metric over all cores.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut sum = 0.0;
        for core in &self.cluster.cores {
            sum += core.metrics().await.sum(name, labels);
        }
        sum
    }

    /// `datafly_sync_failed_total` for a reason, over all cores.
    pub async fn sync_failures(&self, vendor: &str, reason: &str) -> f64 {
        self.metric("datafly_sync_failed_total", &[("vendor", vendor), ("reason", reason)]).await
    }

    /// Sends one command to Redis, past the proxy.
    pub async fn redis<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = self.redis.connection().await.unwrap();
        let mut request = redis::cmd(command[0]);
        request.arg(&command[1..]);
        request.query_async(&mut connection).await.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Empties Redis with `FLUSHALL`. Their memory is freed in the background: a million keys take longer than an
    /// answer may.
    pub async fn flush_redis(&self) {
        let () = self.redis(&["FLUSHALL", "ASYNC"]).await;
    }

    /// Makes everything that is stored about visitors this much older, as PostgreSQL's interval, and lets
    /// Redis forget what it held.
    pub async fn age(&self, interval: &str) {
        let sql = format!(
            "UPDATE vendor_ids SET collected_at = collected_at - interval '{interval}',
                expires_at = expires_at - interval '{interval}';
             UPDATE sync_attempts SET last_synced = last_synced - interval '{interval}',
                unanswered_since = unanswered_since - interval '{interval}',
                next_at = next_at - interval '{interval}';
             UPDATE used_states SET issued_at = issued_at - interval '{interval}';
             UPDATE consent SET updated_at = updated_at - interval '{interval}';"
        );
        self.database.execute(&sql).await;
        self.flush_redis().await;
    }
}

/// Names of the simulator's vendors.
pub fn all_vendors() -> Vec<&'static str> {
    VENDORS.iter().map(|vendor| vendor.name).collect()
}
