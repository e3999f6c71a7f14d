//! Amperity as a source's profile provider: the CDP whose attributes of a visitor are read. The core checks
//! its settings, but is not shown the keys.

mod input;

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper,
    dsl::now as sql_now, insert_into, update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{schema::profile_providers, sealed::columns};
use proto::v1::ProviderKind;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use self::input::AmperityInput;
use super::{
    dry_run::{self, DryRun, DryRunInput},
    named::named_rows,
    provider_status::ProviderStatus,
    sources,
};
use crate::{
    api::{
        audit,
        body::Body,
        caller::Caller,
        error::{Code, Problem, Result},
        fields::Fields,
        query::{Id, IfMatch},
        versioned::Versioned,
    },
    crypto::{
        audience::amperity_origin,
        credentials::{self, Configured, CredentialRules, GivenCredentials, Origins, StoredCredentials},
    },
    provider,
    state::Management,
};

/// Name of the one provider that there is.
const PROVIDER: &str = "amperity";
/// Name of the key that sends events.
const API_KEY: &str = "api_key";
/// Name of the key that reads profiles.
const PROFILE_API_KEY: &str = "profile_api_key";
/// Names of all its keys.
const KEYS: [&str; 2] = [API_KEY, PROFILE_API_KEY];

/// A profile provider, without its keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct AmperityView {
    /// Name of the provider, `amperity`.
    provider: String,
    enabled: bool,
    api_key: Configured,
    profile_api_key: Configured,
    /// Time when any of the keys was given last. Null: none was.
    #[serde(with = "time::serde::rfc3339::option")]
    credentials_updated_at: Option<OffsetDateTime>,
    /// The other fields, as they were given; the allowlist is a list.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    config: Value,
    /// What is as it was given, and of no use so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<Problem>,
    /// Version of the record, for `If-Match`.
    version: i32,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = profile_providers, check_for_backend(diesel::pg::Pg))]
struct ProfileProviderRow {
    id: Uuid,
    provider: String,
    enabled: bool,
    config: Value,
    sealed: Option<Vec<u8>>,
    sealed_at: Option<OffsetDateTime>,
    credentials: Vec<String>,
    version: i32,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl ProfileProviderRow {
    fn stored(&self) -> StoredCredentials<'_> {
        StoredCredentials { names: &self.credentials, sealed: self.sealed.as_deref() }
    }
}

impl From<ProfileProviderRow> for AmperityView {
    fn from(row: ProfileProviderRow) -> Self {
        let warnings = warnings(&row);
        let is_there =
            |name: &str| Configured { configured: row.credentials.iter().any(|given| given == name) };
        let [api_key, profile_api_key] = KEYS.map(is_there);
        Self {
            provider: row.provider,
            enabled: row.enabled,
            api_key,
            profile_api_key,
            credentials_updated_at: row.sealed_at,
            warnings,
            config: row.config,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Tells that no profile can be found, where somebody means to find some.
fn warnings(row: &ProfileProviderRow) -> Vec<Problem> {
    let keys = row.config.get("linking_keys");
    let is_empty = keys.and_then(Value::as_array).is_none_or(Vec::is_empty);
    let is_meant = keys.is_some() || row.credentials.iter().any(|name| name == PROFILE_API_KEY);
    let message = "There are none, so no visitor's profile is found.";
    let warning = Problem { field: "linking_keys".to_owned(), message: message.to_owned() };
    Some(warning).filter(|_| is_empty && is_meant).into_iter().collect()
}

/// Shows a source's profile provider.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/profile-providers/amperity", tag = "profile-providers",
    params(("id" = Uuid, Path)), responses((status = 200, body = AmperityView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
) -> Result<Versioned<AmperityView>> {
    let mut connection = state.connection().await?;
    let found = one(&mut connection, caller.org_id, source, PROVIDER).await?.ok_or(Code::NotFound)?;
    Ok(Versioned(StatusCode::OK, found.version, found.into()))
}

/// Has a source read profiles of Amperity, or changes how it does. What is left out stays as it is. The keys are sealed, and never told
/// again.
#[utoipa::path(put, path = "/v1/admin/sources/{id}/profile-providers/amperity", tag = "profile-providers",
    request_body = AmperityInput,
    params(("id" = Uuid, Path), ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = AmperityView), (status = 201, body = AmperityView),
        (status = 409, description = "The version is not the newest."),
        (status = 422, description = "Fields are not valid; or, as `CREDENTIAL_NOT_FOR_HOST`, the tenant is at \
            another origin than the keys were given for, and they are not given again.")))]
pub async fn set(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
    seen: IfMatch,
    Body(mut input): Body<AmperityInput>,
) -> Result<Versioned<AmperityView>> {
    let org = caller.org_id;
    // Before the core is asked, which another organisation's source is no reason for.
    let mut connection = state.connection().await?;
    sources::exists(&mut connection, org, source).await?;
    let known = one(&mut connection, org, source, PROVIDER).await?;
    drop(connection);
    let known = known.map(|known| known.config);
    let keys = KEYS.into_iter().zip([input.api_key.take(), input.profile_api_key.take()]);
    let keys: GivenCredentials = keys.filter_map(|(name, key)| Some((name.to_owned(), key?))).collect();
    let config = provider::merged(known.as_ref(), provider::object(&input)?);
    let mut wrong = Fields::default();
    provider::check(&state.core, &mut wrong, "", org, ProviderKind::Profile, PROVIDER, &config).await?;
    let config = Value::Object(config);
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, org, source).await?;
            let before = one(connection, org, source, PROVIDER).await?;
            seen.check(before.as_ref().map(|before| before.version))?;
            if before.as_ref().map(|before| &before.config) != known.as_ref() {
                // What is left out would be kept of settings that are no more.
                return Err(Code::VersionConflict.into());
            }
            let enabled = input.enabled.or(before.as_ref().map(|before| before.enabled)).unwrap_or(true);
            let id = before.as_ref().map_or_else(Uuid::now_v7, |before| before.id);
            let place = columns::PROFILE_PROVIDERS.place(org, id);
            let stored = before.as_ref().map(ProfileProviderRow::stored).unwrap_or_default();
            let old = before.as_ref().and_then(|before| amperity_origin(&before.config));
            // The core has checked it, unless it is wrong.
            let now = amperity_origin(&config).unwrap_or_default();
            let origins = Origins { before: old.as_deref(), now: &now };
            let rules = CredentialRules { prefix: "", known: &KEYS, needed: &[API_KEY], distinct: true };
            let reads =
                keys.contains_key(PROFILE_API_KEY) || stored.names.iter().any(|name| name == PROFILE_API_KEY);
            wrong.check(
                !reads || config.get("profile_collection_id").is_some(),
                "profile_collection_id",
                "is required with profile_api_key",
            );
            let sealed =
                credentials::replace(&state.keys, connection, place, stored, &keys, origins, rules, wrong);
            let sealed = sealed.await?;
            let at = (!keys.is_empty()).then(|| profile_providers::sealed_at.eq(sql_now));
            let (names, sealed) = sealed.unzip();
            let sealed = (
                names.map(|names| profile_providers::credentials.eq(names)),
                sealed.map(|sealed| profile_providers::sealed.eq(sealed)),
                at,
            );
            let values = (profile_providers::enabled.eq(enabled), profile_providers::config.eq(&config));
            if before.is_none() {
                let row = (
                    profile_providers::id.eq(id),
                    profile_providers::org_id.eq(org),
                    profile_providers::source_id.eq(source),
                    profile_providers::provider.eq(PROVIDER),
                );
                insert_into(profile_providers::table)
                    .values((row, values, sealed))
                    .execute(connection)
                    .await?;
            } else {
                let own = profile_providers::table
                    .filter(profile_providers::org_id.eq(org))
                    .filter(profile_providers::id.eq(id));
                update(own).set((values, sealed)).execute(connection).await?;
            }
            let after = one(connection, org, source, PROVIDER).await?.ok_or(Code::NotFound)?;
            let (before, after) = (before.map(AmperityView::from), after.into());
            let id = format!("{source}/{PROVIDER}");
            audit::record(connection, &caller, "profile_provider", &id, before.as_ref(), Some(&after))
                .await?;
            Ok(Versioned::put(before.is_some(), after.version, after))
        })
        .await
}

/// Tells how a source's profile provider is. One that has found nobody's profile yet has the last error `no_match`.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/profile-providers/amperity/status", tag = "profile-providers",
    params(("id" = Uuid, Path)), responses((status = 200, body = ProviderStatus)))]
pub async fn status(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
) -> Result<Json<ProviderStatus>> {
    let org = caller.org_id;
    one(&mut *state.connection().await?, org, source, PROVIDER).await?.ok_or(Code::NotFound)?;
    ProviderStatus::of(&state, org, source, ProviderKind::Profile, PROVIDER).await
}

/// Tries the provider: shows the first look-up that is made for a visitor, reads an answer, or has it asked. Nothing is
/// stored of the visitor.
#[utoipa::path(post, path = "/v1/admin/sources/{id}/profile-providers/amperity/dry-run", tag = "profile-providers",
    request_body = DryRunInput, params(("id" = Uuid, Path)),
    responses((status = 200, body = DryRun),
        (status = 422, description = "Fields are not valid, or `send` is true of a provider that reads no profiles.")))]
pub async fn dry_run(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
    Body(input): Body<DryRunInput>,
) -> Result<Json<DryRun>> {
    let found = one(&mut *state.connection().await?, caller.org_id, source, PROVIDER).await?;
    let found = found.ok_or(Code::NotFound)?;
    let reads = found.enabled && found.credentials.iter().any(|name| name == PROFILE_API_KEY);
    let (kind, name, settings) = (ProviderKind::Profile, PROVIDER, Some(found.config).filter(|_| !reads));
    input.run(&state, &caller, dry_run::Provider { source, kind, name, settings }).await
}

/// Has a source read profiles no more, and removes the keys. What is gone, or never was, is no error.
#[utoipa::path(delete, path = "/v1/admin/sources/{id}/profile-providers/amperity", tag = "profile-providers",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub async fn remove(State(state): State<Management>, caller: Caller, Id(source): Id) -> Result<StatusCode> {
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, caller.org_id, source).await?;
            if let Some(removed) = take(connection, caller.org_id, source, PROVIDER).await? {
                let (id, removed) = (format!("{source}/{PROVIDER}"), AmperityView::from(removed));
                audit::record(connection, &caller, "profile_provider", &id, Some(&removed), None).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

named_rows!(profile_providers by source_id and provider -> ProfileProviderRow);
