//! The services as they run in production: cores and an edge, with their own tokens and key.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result};
use diesel_async::AsyncPgConnection;
use identity_service::vendors::find_sync;
use proto::v1::CheckOriginRequest;
use uuid::Uuid;

use crate::{eventually, grpc::Api, process::Service, seed::Customer, vendor_sim::VendorSim};

/// Stores, ports and log level of a cluster.
#[derive(Debug, Clone)]
pub struct Setup {
    /// `DATABASE_URL` of the cores, which leads to PostgreSQL.
    pub database_url: String,
    /// `REDIS_URL` of the cores, which leads to Redis.
    pub redis_url: String,
    /// Number of cores to start.
    pub cores: usize,
    /// `LISTEN_ADDR` of the first core; others take free ports.
    pub core_addr: SocketAddr,
    /// `LISTEN_ADDR` of the edge.
    pub edge_addr: SocketAddr,
    /// `LOG_LEVEL` of all services.
    pub log_level: String,
    /// `TRUSTED_PROXIES` of the edge.
    pub trusted_proxies: String,
    /// `OUTBOUND_ALLOW_CIDRS` of the cores.
    pub open_networks: String,
}

/// Secrets that one cluster shares. All are random.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// `DATAFLY_ENCRYPTION_KEY` of the services, 64 hex digits.
    pub encryption_key: String,
    /// Token that the edge calls the cores with.
    pub edge_token: String,
    /// A token with the role `internal`.
    pub internal_token: String,
    /// A token with the role `admin`.
    pub admin_token: String,
    /// A token with the roles `internal` and `admin`.
    pub operator_token: String,
}

/// Services that run together; they end when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The cores, in the order in which they were started.
    pub cores: Vec<Service>,
    /// The edge, which knows all of them.
    pub edge: Service,
    /// Secrets that the services share.
    pub secrets: Secrets,
}

impl Secrets {
    /// Makes new secrets, each at random.
    pub fn random() -> Self {
        let random = || format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        Self {
            encryption_key: random(),
            edge_token: random(),
            internal_token: random(),
            admin_token: random(),
            operator_token: random(),
        }
    }

    /// Value of `SERVICE_TOKENS` for the cores.
    pub fn service_tokens(&self) -> String {
        let Self { edge_token, internal_token, admin_token, operator_token, .. } = self;
        format!(
            "edge:edge:{edge_token},processor:internal:{internal_token},management:admin:{admin_token},\
             operator:internal:{operator_token},operator:admin:{operator_token}"
        )
    }
}

impl Cluster {
    /// Starts everything over a migrated database.
    pub async fn start(setup: &Setup) -> Result<Self> {
        Self::start_built_in(None, setup).await
    }

    /// Starts the binaries of another build, which are in `folder`; none: this build's.
    pub async fn start_built_in(folder: Option<&Path>, setup: &Setup) -> Result<Self> {
        let core = of_build(folder, "identity-service");
        let secrets = Secrets::random();
        let tokens = secrets.service_tokens();
        let mut cores = Vec::new();
        for number in 0..setup.cores {
            let addr = if number == 0 { setup.core_addr.to_string() } else { "127.0.0.1:0".to_owned() };
            let env = [
                ("DATABASE_URL", setup.database_url.as_str()),
                ("REDIS_URL", &setup.redis_url),
                ("DATAFLY_ENCRYPTION_KEY", &secrets.encryption_key),
                ("SERVICE_TOKENS", &tokens),
                ("LISTEN_ADDR", &addr),
                ("LOG_LEVEL", &setup.log_level),
                ("OUTBOUND_ALLOW_CIDRS", &setup.open_networks),
                ("ALLOW_LOOPBACK", "true"),
            ];
            cores.push(Service::start(&core, &env, &["grpc", "metrics"]).await?);
        }
        let addr = setup.edge_addr.to_string();
        let edge = of_build(folder, "http-edge");
        let edge =
            start_edge(&edge, &cores, &secrets, &addr, &setup.log_level, &setup.trusted_proxies).await?;
        Ok(Self { cores, edge, secrets })
    }

    /// Starts another edge in front of the same cores.
    pub async fn another_edge(&self) -> Result<Service> {
        start_edge("http-edge", &self.cores, &self.secrets, "127.0.0.1:0", "info", "").await
    }

    /// The URL at which browsers find the edge.
    pub fn collect_url(&self) -> String {
        format!("http://{}", self.edge.addr("http"))
    }

    /// The URL at which browsers find the edge as that customer's.
    pub fn collect_url_of(&self, customer: &Customer) -> String {
        self.collect_url_at(&customer.collect_name)
    }

    /// The URL at which browsers find the edge by a name of this machine.
    pub fn collect_url_at(&self, name: &str) -> String {
        format!("http://{}", self.host_at(name))
    }

    /// The Host header of requests to the edge by a name of this machine.
    pub fn host_at(&self, name: &str) -> String {
        format!("{name}:{}", self.edge.addr("http").port())
    }

    /// Gives a customer the edge as its collect host and syncs with these vendors, for their own days, and waits until every core
    /// knows.
    pub async fn open(
        &self,
        database: &mut AsyncPgConnection,
        customer: &Customer,
        vendors: &VendorSim,
        names: &[&str],
    ) -> Result<()> {
        for name in names {
            let record = find_sync(name).with_context(|| format!("no vendor {name}"))?;
            let days = i32::from(record.ttl_days);
            customer.add_sync(database, name, days, &vendors.endpoint(name)).await?;
            self.agree(customer, vendors, name);
        }
        // Last, and what is waited for: a core that knows it knows the rest as well.
        customer.add_collect_host(database, &self.collect_url_of(customer)).await?;
        self.knows(customer).await
    }

    /// Agrees the customer's callback with a vendor, where that has to be.
    pub fn agree(&self, customer: &Customer, vendors: &VendorSim, name: &str) {
        vendors.register(name, &customer.partner_id(name), &self.collect_url_of(customer));
    }

    /// Waits until every core knows the customer's collect host.
    pub async fn knows(&self, customer: &Customer) -> Result<()> {
        let host = self.host_at(&customer.collect_name);
        let request = CheckOriginRequest { host, origin: customer.origin.clone() };
        for core in 0..self.cores.len() {
            let mut auth = self.api(core, &self.secrets.edge_token)?.auth();
            eventually("the core to know the customer", async || {
                match auth.check_origin(request.clone()).await {
                    Ok(answer) if answer.get_ref().allowed => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
        }
        Ok(())
    }

    /// A core as the holder of `token` sees it.
    pub fn api(&self, core: usize, token: &str) -> Result<Api> {
        Api::new(self.cores[core].addr("grpc"), Some(token))
    }
}

/// The name of a binary for [`Service::start`]: its path where the build is another.
pub fn of_build(folder: Option<&Path>, name: &str) -> String {
    folder.map_or_else(|| name.to_owned(), |folder| folder.join(name).display().to_string())
}

async fn start_edge(
    name: &str,
    cores: &[Service],
    secrets: &Secrets,
    addr: &str,
    log_level: &str,
    trusted_proxies: &str,
) -> Result<Service> {
    let urls: Vec<String> = cores.iter().map(|core| format!("http://{}", core.addr("grpc"))).collect();
    let urls = urls.join(",");
    let env = [
        ("IDENTITY_URL", urls.as_str()),
        ("SERVICE_TOKEN", &secrets.edge_token),
        ("LISTEN_ADDR", addr),
        ("LOG_LEVEL", log_level),
        ("TRUSTED_PROXIES", trusted_proxies),
    ];
    Service::start(name, &env, &["http", "metrics"]).await
}
