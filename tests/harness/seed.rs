//! A customer's settings, written as the management service will write them.

use anyhow::Result;
use diesel::ExpressionMethods;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::{
    rows::{CollectHost, GeneratedIds, Org, ServerSecret, hash_pipeline_key},
    schema,
    sealed::{Place, SealKey, SealKeys},
};
use secrecy::SecretString;
use uuid::Uuid;

/// Events a second of a seeded pipeline's keys: more than a test or a try-out of the demo brings, unless it
/// means to.
const RATE_LIMIT_RPS: i32 = 10_000;

/// An organisation with one source, its keys, its secret and its pipeline.
#[derive(Debug, Clone)]
pub struct Customer {
    /// ID of the organisation.
    pub org_id: Uuid,
    /// ID of the sibling organisation, for the data of the test key.
    pub test_org_id: Uuid,
    /// ID of the source.
    pub source_id: Uuid,
    /// ID of the source's pipeline.
    pub pipeline_id: Uuid,
    /// The live key, `dk_live_…`.
    pub live_key: String,
    /// The test key, `dk_test_…`.
    pub test_key: String,
    /// Secret that the customer's server signs with.
    pub server_secret: String,
    /// The origin of its page.
    pub origin: String,
    /// Name of its collect host, which leads to this machine.
    pub collect_name: String,
}

impl Customer {
    /// Writes a new organisation with its sibling, and all else, to the database. `encryption_key` is the
    /// services' own, 64 hex digits.
    pub async fn seed(
        database: &mut AsyncPgConnection,
        encryption_key: &str,
        consent_mode: &str,
        domain: &str,
    ) -> Result<Self> {
        let (org_id, test_org_id) = (Uuid::now_v7(), Uuid::now_v7());
        for (id, name, test_of) in [(org_id, "Shop", None), (test_org_id, "Shop (test data)", Some(org_id))] {
            let row = Org { id, name: name.to_owned(), test_of };
            diesel::insert_into(schema::orgs::table).values(row).execute(database).await?;
        }
        Self::seed_in(database, org_id, test_org_id, encryption_key, consent_mode, domain).await
    }

    /// Writes a source and what belongs to it into an organisation that is there.
    pub async fn seed_in(
        database: &mut AsyncPgConnection,
        org_id: Uuid,
        test_org_id: Uuid,
        encryption_key: &str,
        consent_mode: &str,
        domain: &str,
    ) -> Result<Self> {
        let random = || Uuid::new_v4().simple().to_string();
        let customer = Self {
            org_id,
            test_org_id,
            source_id: Uuid::now_v7(),
            pipeline_id: Uuid::now_v7(),
            live_key: format!("dk_live_{}", random()),
            test_key: format!("dk_test_{}", random()),
            server_secret: format!("{}{}", random(), random()),
            origin: format!("https://{domain}"),
            collect_name: "127.0.0.1".to_owned(),
        };
        let source_id = customer.source_id;
        // Columns that an older schema has as well: `make bench BASE=…` seeds one.
        let source = (
            schema::sources::id.eq(source_id),
            schema::sources::org_id.eq(org_id),
            schema::sources::name.eq("Shop"),
            schema::sources::domains.eq(vec![domain]),
            schema::sources::browser_identity.eq("verified"),
        );
        diesel::insert_into(schema::sources::table).values(source).execute(database).await?;
        let pipeline = (
            schema::pipelines::id.eq(customer.pipeline_id),
            schema::pipelines::org_id.eq(org_id),
            schema::pipelines::source_id.eq(source_id),
            schema::pipelines::consent_mode.eq(consent_mode),
            schema::pipelines::rate_limit_rps.eq(RATE_LIMIT_RPS),
        );
        diesel::insert_into(schema::pipelines::table).values(pipeline).execute(database).await?;
        for (environment, key) in [("live", &customer.live_key), ("test", &customer.test_key)] {
            customer.add_key(database, environment, key).await?;
        }
        customer.add_server_secret(database, encryption_key, &customer.server_secret).await?;
        customer.collect_only(database, &[]).await?;
        Ok(customer)
    }

    /// Adds a server secret; those that are there stay in force.
    pub async fn add_server_secret(
        &self,
        database: &mut AsyncPgConnection,
        encryption_key: &str,
        secret: &str,
    ) -> Result<()> {
        let keys = SealKeys::new(SealKey::from_hex(&SecretString::from(encryption_key))?, None);
        let id = Uuid::now_v7();
        let place = Place { org: self.org_id, table: "server_secrets", row: id, column: "sealed" };
        let sealed = keys.seal(place, secret.as_bytes())?;
        let (org_id, source_id) = (self.org_id, self.source_id);
        let row = ServerSecret { id, org_id, source_id, sealed, expires_at: None };
        diesel::insert_into(schema::server_secrets::table).values(row).execute(database).await?;
        Ok(())
    }

    /// Issues a key for `live` or `test`, beside those that there are.
    pub async fn add_key(
        &self,
        database: &mut AsyncPgConnection,
        environment: &str,
        key: &str,
    ) -> Result<()> {
        use schema::pipeline_keys as keys;
        let row = (
            keys::id.eq(Uuid::now_v7()),
            keys::org_id.eq(self.org_id),
            keys::source_id.eq(self.source_id),
            keys::environment.eq(environment),
            keys::hint.eq(&key[..12]),
        );
        // A base of `make bench BASE=…` may be from before migration 14, and keep hashes.
        let plain = "SELECT FROM information_schema.columns WHERE table_name = 'pipeline_keys' AND column_name = 'key'";
        if diesel::sql_query(plain).execute(database).await? == 1 {
            diesel::insert_into(keys::table).values((row, keys::key.eq(key))).execute(database).await?;
        } else {
            let hash = keys::key_hash.eq(hash_pipeline_key(key).to_vec());
            diesel::insert_into(keys::table).values((row, hash)).execute(database).await?;
        }
        Ok(())
    }

    /// Adds a collect host, `http://127.0.0.1:…`.
    pub async fn add_collect_host(&self, database: &mut AsyncPgConnection, url: &str) -> Result<()> {
        let row = CollectHost {
            id: Uuid::now_v7(),
            org_id: self.org_id,
            source_id: self.source_id,
            url: url.to_owned(),
            cookie_domain: None,
        };
        diesel::insert_into(schema::collect_hosts::table).values(row).execute(database).await?;
        Ok(())
    }

    /// Enables a vendor's gateway sync.
    pub async fn add_sync(
        &self,
        database: &mut AsyncPgConnection,
        vendor: &str,
        ttl_days: i32,
        endpoint: &str,
    ) -> Result<()> {
        use schema::identity_sources as syncs;
        // Columns that an older schema has as well: `make bench BASE=…` seeds one.
        let row = (
            syncs::org_id.eq(self.org_id),
            syncs::pipeline_id.eq(self.pipeline_id),
            syncs::vendor.eq(vendor),
            syncs::partner_id.eq(self.partner_id(vendor)),
            syncs::ttl_days.eq(ttl_days),
            syncs::enabled.eq(true),
            syncs::endpoint.eq(endpoint),
        );
        diesel::insert_into(schema::identity_sources::table).values(row).execute(database).await?;
        Ok(())
    }

    /// Has the click IDs of these vendors collected and their IDs made, and nobody else's, which a pipeline of which
    /// nothing is said would have as well. Most tests are not about them.
    pub async fn collect_only(&self, database: &mut AsyncPgConnection, vendors: &[&str]) -> Result<()> {
        for vendor in identity_service::vendors::ALL.iter().filter(|vendor| vendor.is_collected()) {
            self.add_generated(database, vendor.name, vendors.contains(&vendor.name)).await?;
        }
        Ok(())
    }

    /// Has a vendor's click IDs collected and its IDs made, or not.
    pub async fn add_generated(
        &self,
        database: &mut AsyncPgConnection,
        vendor: &str,
        enabled: bool,
    ) -> Result<()> {
        let (org_id, pipeline_id, vendor) = (self.org_id, self.pipeline_id, vendor.to_owned());
        diesel::insert_into(schema::generated_ids::table)
            .values(GeneratedIds { org_id, pipeline_id, vendor, enabled })
            .on_conflict((schema::generated_ids::pipeline_id, schema::generated_ids::vendor))
            .do_update()
            .set(schema::generated_ids::enabled.eq(enabled))
            .execute(database)
            .await?;
        Ok(())
    }

    /// The partner ID that is configured for a vendor; each customer has its own.
    pub fn partner_id(&self, vendor: &str) -> String {
        format!("{vendor}-{}", &self.source_id.simple().to_string()[20..])
    }
}

/// Keys that seal, from hex digits: the current one and the previous one.
pub fn seal_keys(current: &str, previous: Option<&str>) -> SealKeys {
    let key = |hex: &str| SealKey::from_hex(&SecretString::from(hex)).unwrap();
    SealKeys::new(key(current), previous.map(key))
}
