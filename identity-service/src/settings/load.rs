//! Reading settings from PostgreSQL: those that changed since a version, in one consistent view.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Timestamptz},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use migrations::{
    rows,
    schema::{
        collect_hosts, config_version, destinations, generated_ids, identity_sources, orgs, pipeline_keys,
        pipelines, server_secrets, sources, tombstone_keys,
    },
    sealed::{Place, SealKeys, columns::TOMBSTONE_KEYS},
};
use secrecy::SecretSlice;
use serde::Deserialize;
use serve::{Authority, origin};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use super::{
    providers::{self, StoredProvider},
    snapshot::{CollectHost, EnabledVendor, Environment, Org, PipelineKey, Snapshot, Source, StoredKey},
};
use crate::{
    consent::{ConsentMapping, ConsentMode, ConsentRule},
    error::Result,
    limits::rate::Rate,
    pii::tombstone::{OrgKey, TombstoneKeys},
    vendors::{self, GeneratedId},
};

/// The answer of a look at the settings.
#[derive(QueryableByName)]
pub struct Current {
    /// Version of the settings, which grows with each change.
    #[diesel(sql_type = BigInt)]
    pub version: i64,
    /// True where the server takes writes.
    #[diesel(sql_type = Bool)]
    pub is_primary: bool,
    /// Time by the server's clock.
    #[diesel(sql_type = Timestamptz)]
    pub now: OffsetDateTime,
}

/// Reads the current version, whether it is a primary that says so, and when.
pub async fn current(connection: &mut AsyncPgConnection) -> Result<Current> {
    let sql = "SELECT version, current_setting('transaction_read_only') = 'off' AS is_primary, \
        clock_timestamp() AS now FROM config_version";
    Ok(diesel::sql_query(sql).get_result(connection).await?)
}

/// Brings `before` up to date: reads the organisations that changed since its version. `tombstones` takes the keys of
/// theirs.
pub async fn load(
    connection: &mut AsyncPgConnection,
    before: &Snapshot,
    keys: &SealKeys,
    tombstones: &TombstoneKeys,
    allow_loopback: bool,
) -> Result<Snapshot> {
    connection.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let loaded = load_here(connection, before, keys, tombstones, allow_loopback).await;
    connection.batch_execute("COMMIT").await?;
    loaded
}

#[expect(clippy::too_many_lines, reason = "one view of all tables, read in one transaction")]
async fn load_here(
    connection: &mut AsyncPgConnection,
    before: &Snapshot,
    keys: &SealKeys,
    tombstones: &TombstoneKeys,
    allow_loopback: bool,
) -> Result<Snapshot> {
    let version: i64 = config_version::table.select(config_version::version).first(connection).await?;
    // A database that was restored, or an older one: nothing of the snapshot can be trusted.
    let nothing = Snapshot::default();
    let before = if version < before.version { &nothing } else { before };
    let existing: Vec<Uuid> = orgs::table.select(orgs::id).load(connection).await?;
    let changed: Vec<Uuid> =
        orgs::table.filter(orgs::config_version.gt(before.version)).select(orgs::id).load(connection).await?;

    macro_rules! of_changed {
        ($table:ident, $row:ty) => {
            $table::table
                .filter($table::org_id.eq_any(&changed))
                .select(<$row>::as_select())
                .load::<$row>(connection)
                .await?
        };
    }
    let siblings: Vec<(Option<Uuid>, Uuid)> = orgs::table
        .filter(orgs::test_of.eq_any(&changed))
        .select((orgs::test_of, orgs::id))
        .load(connection)
        .await?;
    let siblings: HashMap<Uuid, Uuid> =
        siblings.into_iter().filter_map(|(of, id)| of.map(|of| (of, id))).collect();
    let hosts: Vec<rows::CollectHost> = collect_hosts::table
        .filter(collect_hosts::org_id.eq_any(&changed))
        .order((collect_hosts::created_at, collect_hosts::id))
        .select(rows::CollectHost::as_select())
        .load(connection)
        .await?;
    let vendors = of_changed!(identity_sources, rows::IdentitySource);
    let collected = of_changed!(generated_ids, rows::GeneratedIds);
    let secrets = of_changed!(server_secrets, rows::ServerSecret);
    let pipelines = of_changed!(pipelines, rows::Pipeline);
    let source_rows = of_changed!(sources, rows::Source);
    let own_providers = providers::load(connection, &changed).await?;
    let own_profile_providers = providers::load_profiles(connection, &changed).await?;
    let delivering: HashSet<Uuid> = destinations::table
        .filter(destinations::org_id.eq_any(&changed))
        .filter(destinations::enabled)
        .select(destinations::source_id)
        .load::<Uuid>(connection)
        .await?
        .into_iter()
        .collect();
    let key_rows = of_changed!(pipeline_keys, rows::PipelineKey);

    let stored: Vec<rows::TombstoneKey> = tombstone_keys::table
        .filter(tombstone_keys::org_id.eq_any(&changed))
        .order((tombstone_keys::created_at, tombstone_keys::id))
        .select(rows::TombstoneKey::as_select())
        .load(connection)
        .await?;
    for org in &changed {
        let own = stored.iter().filter(|row| row.org_id == *org);
        tombstones.take(*org, own.filter_map(|row| open_tombstone_key(keys, row)).collect());
    }

    let org = |id: &Uuid| (*id, Org { calls: before.calls(*id), ..Org::default() });
    let mut result: HashMap<Uuid, Org> = changed.iter().map(org).collect();
    for row in source_rows {
        let Some(pipeline) = pipelines.iter().find(|p| p.source_id == row.id) else { continue };
        let collects = Collects { pipeline: pipeline.id, syncs: &vendors, rows: &collected };
        let own_hosts: Vec<CollectHost> = hosts
            .iter()
            .filter(|host| host.source_id == row.id)
            .filter_map(|host| collect_host(host, allow_loopback))
            .collect();
        let own_vendors = vendors.iter().filter(|vendor| vendor.pipeline_id == pipeline.id);
        let source = Arc::new(Source {
            test_org: siblings.get(&row.org_id).copied(),
            require_signature: row.require_signature,
            require_timestamp: row.require_timestamp,
            placeholders: row.placeholders,
            origins: origins(&row.domains, allow_loopback),
            secrets: secrets.iter().filter(|s| s.source_id == row.id).filter_map(|s| open(keys, s)).collect(),
            pipeline: pipeline.id,
            consent: Arc::new(ConsentRule {
                mode: match pipeline.consent_mode.as_str() {
                    "implicit" => ConsentMode::Implicit,
                    _ => ConsentMode::Explicit,
                },
                mapping: consent_mapping(pipeline),
            }),
            purge_on_withdrawal: pipeline.purge_on_withdrawal,
            vendors: own_vendors.filter_map(|vendor| enabled(vendor, &own_hosts, allow_loopback)).collect(),
            collect_hosts: own_hosts.into_iter().map(Arc::new).collect(),
            click_ids: vendors::click_ids().filter(|record| collects.has(record.vendor)).collect(),
            generated_ids: vendors::generated_ids().filter(|record| collects.makes(record)).collect(),
            providers: of_source(&own_providers, row.id),
            profile_providers: of_source(&own_profile_providers, row.id),
            keeps_events: delivering.contains(&row.id),
            tells_claimed: row.browser_identity == "claimed",
            refused_host: before.source(row.id).map(|source| source.refused_host.clone()).unwrap_or_default(),
            id: row.id,
            org: row.org_id,
        });
        let org = result.entry(source.org).or_default();
        for key in key_rows.iter().filter(|key| key.source_id == source.id && key.revoked_at.is_none()) {
            let Some(stored) = stored_key(key) else { continue };
            let environment = if key.environment == "test" { Environment::Test } else { Environment::Live };
            // A key keeps what it has left of its rate, whatever else was changed.
            let known = before.key_of_id(key.id);
            let rate = known
                .filter(|known| known.rate.is(pipeline.rate_limit_rps))
                .map_or_else(|| Arc::new(Rate::new(pipeline.rate_limit_rps)), |known| known.rate.clone());
            let last_use = known.map(|known| known.last_use.clone()).unwrap_or_default();
            let (id, source, calls) = (key.id, source.clone(), org.calls.clone());
            org.keys.push((stored, PipelineKey { id, source, environment, rate, last_use, calls }));
        }
        org.sources.push(source);
    }
    let known: HashSet<Uuid> = existing.iter().copied().collect();
    result.retain(|id, _| known.contains(id));
    Ok(before.next(version, result, &existing))
}

/// Reads a mapping. One that can't be read is left out: codes then say nothing.
fn consent_mapping(row: &rows::Pipeline) -> Option<ConsentMapping> {
    let read = ConsentMapping::deserialize(row.consent_mapping.as_ref()?);
    read.inspect_err(|error| tracing::error!(pipeline = %row.id, %error, "a consent mapping can't be read"))
        .ok()
}

fn stored_key(row: &rows::PipelineKey) -> Option<StoredKey> {
    let hash = row.key_hash.as_deref().and_then(|hash| hash.try_into().ok());
    row.key.as_deref().map(|text| StoredKey::Plain(text.into())).or_else(|| hash.map(StoredKey::Hashed))
}

/// The settings that decide which IDs a pipeline collects without asking their vendors.
struct Collects<'a> {
    pipeline: Uuid,
    syncs: &'a [rows::IdentitySource],
    rows: &'a [rows::GeneratedIds],
}

impl Collects<'_> {
    fn syncs(&self, vendor: &str) -> bool {
        let is_on = |row: &rows::IdentitySource| row.vendor == vendor && row.enabled;
        self.syncs.iter().any(|row| row.pipeline_id == self.pipeline && is_on(row))
    }

    fn has(&self, vendor: &str) -> bool {
        let own = self.rows.iter().find(|row| row.pipeline_id == self.pipeline && row.vendor == vendor);
        own.is_none_or(|row| row.enabled)
    }

    fn makes(&self, record: &GeneratedId) -> bool {
        self.has(record.vendor) && !(record.unless_synced && self.syncs(record.vendor))
    }
}

fn origins(domains: &[String], allow_loopback: bool) -> Vec<origin::Origin> {
    let origins = domains.iter().filter_map(|domain| origin::Origin::from_domain(domain));
    origins.filter(|origin| allow_loopback || !origin.is_inside()).collect()
}

/// Reads a collect host; one that is no URL of ours, or inside where that is not allowed, is left out.
fn collect_host(row: &rows::CollectHost, allow_loopback: bool) -> Option<CollectHost> {
    let url = Url::parse(&row.url).ok().filter(origin::is_secure_or_loopback)?;
    if origin::is_inside(&url) && !allow_loopback {
        tracing::warn!(source = %row.source_id, "a collect host is left out, as ALLOW_LOOPBACK is not set");
        return None;
    }
    Some(CollectHost {
        url: url.origin().ascii_serialization(),
        authority: Authority::of(&url)?,
        is_http: url.scheme() == "http",
        cookie_domain: row.cookie_domain.clone(),
    })
}

/// Opens a secret. One that does not open is left out: signed calls of that source are then refused, and the
/// rest works.
fn open(keys: &SealKeys, row: &rows::ServerSecret) -> Option<(SecretSlice<u8>, Option<OffsetDateTime>)> {
    let place = Place { org: row.org_id, table: "server_secrets", row: row.id, column: "sealed" };
    match keys.open(place, &row.sealed) {
        Ok(secret) if !secret.is_empty() => Some((SecretSlice::from(secret.to_vec()), row.expires_at)),
        Ok(_) => None,
        Err(error) => {
            tracing::error!(source = %row.source_id, %error, "a server secret can't be opened");
            None
        }
    }
}

/// The providers of one source.
fn of_source(all: &[(Uuid, Arc<StoredProvider>)], source: Uuid) -> Vec<Arc<StoredProvider>> {
    all.iter().filter(|(own, _)| *own == source).map(|(_, provider)| provider.clone()).collect()
}

/// Opens a key of tombstones. Without it those that were made with it recognise nobody.
fn open_tombstone_key(keys: &SealKeys, row: &rows::TombstoneKey) -> Option<OrgKey> {
    match keys.open(TOMBSTONE_KEYS.place(row.org_id, row.id), &row.sealed) {
        Ok(key) => OrgKey::from_bytes(&key),
        Err(error) => {
            tracing::error!(org = %row.org_id, %error, "a key of tombstones can't be opened");
            None
        }
    }
}

/// Reads the settings of an enabled vendor. A row of a vendor that this core does not know, or with an
/// endpoint it would not go to, is left out.
fn enabled(row: &rows::IdentitySource, own: &[CollectHost], allow_loopback: bool) -> Option<EnabledVendor> {
    let vendor = vendors::find_sync(&row.vendor)?;
    let endpoint = row.endpoint.clone().unwrap_or_else(|| vendor.endpoint.to_owned());
    if !is_elsewhere(&endpoint, own) || (origin::is_origin_inside(&endpoint) && !allow_loopback) {
        tracing::error!(pipeline = %row.pipeline_id, vendor = vendor.name, "the vendor's endpoint is not valid");
        return None;
    }
    row.enabled.then(|| EnabledVendor {
        vendor,
        partner_id: row.partner_id.clone(),
        ttl_days: row.ttl_days,
        endpoint,
        supported_browsers_only: row.supported_browsers_only,
    })
}

/// Browsers may be sent there, and no host of `own` is there, which would send them round in a circle.
fn is_elsewhere(endpoint: &str, own: &[CollectHost]) -> bool {
    origin::redirect_target(endpoint).is_some_and(|url| {
        let origin = url.origin().ascii_serialization();
        own.iter().all(|host| host.url != origin)
    })
}
