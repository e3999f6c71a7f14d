//! Providers of enrichment as they are stored: settings in clear, credentials sealed until a call needs them.

use std::sync::Arc;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::{
    schema::{custom_providers, enrichment_settings, profile_providers, secrets},
    sealed::columns::{self, Column},
};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Result;

/// The table that a provider's settings are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// A vendor of the built-in records.
    Vendor,
    /// A provider of the customer's own.
    Custom,
    /// A provider of profiles.
    Profile,
}

/// A provider of one source.
#[derive(Debug)]
pub struct StoredProvider {
    /// ID of its row.
    pub id: Uuid,
    /// Name of the vendor, or of the customer's own provider.
    pub name: String,
    /// The kind of provider.
    pub kind: ProviderKind,
    /// Settings, as they were checked when they were saved.
    pub settings: Value,
    /// Credentials; none where none were given.
    pub credentials: Option<SealedCredentials>,
    /// Time of the last change of its settings or credentials, which tells one version from another.
    pub version: OffsetDateTime,
}

/// Credentials as they are stored.
#[derive(Debug, Clone)]
pub struct SealedCredentials {
    /// Column that holds them.
    pub column: Column,
    /// The organisation that owns the row.
    pub org: Uuid,
    /// ID of the row.
    pub row: Uuid,
    /// The sealed bytes.
    pub bytes: Vec<u8>,
}

type VendorRow = (Uuid, Uuid, Uuid, String, Value, Option<Vec<u8>>, OffsetDateTime);
type CustomRow = (Uuid, Uuid, Uuid, String, Value, OffsetDateTime);
type ProfileRow = (Uuid, Uuid, Uuid, String, Value, Option<Vec<u8>>, OffsetDateTime);
type SecretRow = (Uuid, Uuid, String, Vec<u8>, OffsetDateTime);

/// Reads the enabled providers of these organisations, each with its source.
pub async fn load(
    connection: &mut AsyncPgConnection,
    orgs: &[Uuid],
) -> Result<Vec<(Uuid, Arc<StoredProvider>)>> {
    let vendors: Vec<VendorRow> = enrichment_settings::table
        .filter(enrichment_settings::org_id.eq_any(orgs))
        .filter(enrichment_settings::enabled)
        .order(enrichment_settings::vendor)
        .select((
            enrichment_settings::id,
            enrichment_settings::org_id,
            enrichment_settings::source_id,
            enrichment_settings::vendor,
            enrichment_settings::config,
            enrichment_settings::sealed,
            enrichment_settings::updated_at,
        ))
        .load(connection)
        .await?;
    let customs: Vec<CustomRow> = custom_providers::table
        .filter(custom_providers::org_id.eq_any(orgs))
        .order(custom_providers::name)
        .select((
            custom_providers::id,
            custom_providers::org_id,
            custom_providers::source_id,
            custom_providers::name,
            custom_providers::settings,
            custom_providers::updated_at,
        ))
        .load(connection)
        .await?;
    let secrets: Vec<SecretRow> = secrets::table
        .filter(secrets::org_id.eq_any(orgs))
        .select((secrets::id, secrets::org_id, secrets::name, secrets::sealed, secrets::sealed_at))
        .load(connection)
        .await?;
    let vendors = vendors.into_iter().map(|(id, org, source, name, settings, sealed, version)| {
        let column = columns::ENRICHMENT_SETTINGS;
        let credentials = sealed.map(|bytes| SealedCredentials { column, org, row: id, bytes });
        (source, StoredProvider { id, name, kind: ProviderKind::Vendor, settings, credentials, version })
    });
    let customs = customs.into_iter().map(|(id, org, source, name, settings, changed_at)| {
        let is_named =
            |(_, owner, own, ..): &&SecretRow| *owner == org && secret_name(&settings) == Some(own);
        let secret = secrets.iter().find(is_named).cloned();
        let version = secret.as_ref().map_or(changed_at, |(.., given_at)| changed_at.max(*given_at));
        let credentials =
            secret.map(|(row, .., bytes, _)| SealedCredentials { column: columns::SECRETS, org, row, bytes });
        (source, StoredProvider { id, name, kind: ProviderKind::Custom, settings, credentials, version })
    });
    Ok(vendors.chain(customs).map(|(source, provider)| (source, Arc::new(provider))).collect())
}

/// Name of the key that reads profiles.
const PROFILE_API_KEY: &str = "profile_api_key";

/// Reads the enabled providers of profiles that have a key to read them with, each with its source.
pub async fn load_profiles(
    connection: &mut AsyncPgConnection,
    orgs: &[Uuid],
) -> Result<Vec<(Uuid, Arc<StoredProvider>)>> {
    let rows: Vec<ProfileRow> = profile_providers::table
        .filter(profile_providers::org_id.eq_any(orgs))
        .filter(profile_providers::enabled)
        .filter(profile_providers::credentials.contains(vec![PROFILE_API_KEY]))
        .order(profile_providers::provider)
        .select((
            profile_providers::id,
            profile_providers::org_id,
            profile_providers::source_id,
            profile_providers::provider,
            profile_providers::config,
            profile_providers::sealed,
            profile_providers::updated_at,
        ))
        .load(connection)
        .await?;
    let stored = rows.into_iter().map(|(id, org, source, name, settings, sealed, version)| {
        let column = columns::PROFILE_PROVIDERS;
        let credentials = sealed.map(|bytes| SealedCredentials { column, org, row: id, bytes });
        let kind = ProviderKind::Profile;
        (source, Arc::new(StoredProvider { id, name, kind, settings, credentials, version }))
    });
    Ok(stored.collect())
}

/// The name of the secret that settings refer to.
fn secret_name(settings: &Value) -> Option<&str> {
    settings.get("authentication")?.get("token_secret_ref")?.as_str()?.strip_prefix("secret:")
}
