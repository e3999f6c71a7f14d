//! Amperity as a source's profile provider: the CDP whose attributes of a visitor are read. The core judges its settings,
//! but is not shown the keys.

use axum::extract::State;
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper, delete,
    dsl::now, insert_into, update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{schema::profile_providers, sealed::columns};
use proto::v1::ProviderKind;
use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::sources;
use crate::{
    api::{
        audit,
        body::Body,
        caller::Caller,
        error::{Code, Result},
        fields::Fields,
        query::{Id, IfMatch},
        versioned::Versioned,
    },
    crypto::credentials::{self, Configured, Given, Held},
    provider,
    state::Management,
};

/// The one there is.
const PROVIDER: &str = "amperity";
/// Reads profiles.
const PROFILE_API_KEY: &str = "profile_api_key";
/// Its keys.
const KEYS: [&str; 2] = ["api_key", PROFILE_API_KEY];

/// A tenant of Amperity, and what is read of it. What is required the core says, all at once.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AmperityInput {
    /// Whether it is asked; then `profile_api_key` is needed.
    #[serde(default = "enabled")]
    enabled: bool,
    /// Streaming Ingest key (write access), 1 to 8,192 bytes. Absent: it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "nothing")]
    #[schema(value_type = Option<String>, format = Password)]
    api_key: Option<SecretString>,
    /// Profile API key (read access), 1 to 8,192 bytes. Absent: it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "nothing")]
    #[schema(value_type = Option<String>, format = Password)]
    profile_api_key: Option<SecretString>,
    /// The first part of the Amperity host, `acme` of acme.amperity.com.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    tenant_subdomain: Option<String>,
    /// For the header `Amperity-Tenant`; mostly the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    tenant_id: Option<String>,
    /// Of the realtime event stream, `esm-…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_stream_id: Option<String>,
    /// `source` of every event, as the stream's routing expression has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    source_value: Option<String>,
    /// The collection to look profiles up in, `apc-…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    profile_collection_id: Option<String>,
    /// By what a profile is found, tried in order. At most 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    linking_keys: Option<Vec<LinkingKey>>,
    /// Attributes that a browser may see: a list, or names with commas between. None: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    browser_attribute_allowlist: Option<Names>,
    /// Whether attributes are asked for the context of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    context_enabled: Option<bool>,
    /// What of the event is the context. At most 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    context_mappings: Option<Vec<ContextMapping>>,
    /// The consent category that attributes need. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    consent_category: Option<String>,
    /// In place of `https://<tenant_subdomain>.amperity.com`.
    #[serde(skip_serializing_if = "Option::is_none")]
    base_url: Option<String>,
}

fn enabled() -> bool {
    true
}

/// Keys are never among the settings.
#[expect(clippy::ref_option, reason = "serde gives it so")]
fn nothing<S: Serializer>(_: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_none()
}

/// A key that Amperity finds a profile by.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkingKey {
    /// `canonical_id`, `anonymous_id`, `user_id`, `email` or `phone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    source: Option<String>,
    /// Its name in the collection's `linking_keys`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    key: Option<String>,
    /// `sha256`, or absent: as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

/// A value of the context.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContextMapping {
    /// A path into the event, `properties.category`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    source: Option<String>,
    /// Its name for Amperity, `pageCategory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    target: Option<String>,
}

/// Names, in either form. They are kept as a list.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Names {
    /// With commas between.
    Text(String),
    /// One by one.
    List(Vec<String>),
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::List(names) => names.serialize(serializer),
            Self::Text(text) => {
                serializer.collect_seq(text.split(',').map(str::trim).filter(|name| !name.is_empty()))
            }
        }
    }
}

/// A profile provider, without its keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct AmperityView {
    /// `amperity`.
    provider: String,
    enabled: bool,
    api_key: Configured,
    profile_api_key: Configured,
    /// When any of the keys was given last. Null: none was.
    #[serde(with = "time::serde::rfc3339::option")]
    credentials_updated_at: Option<OffsetDateTime>,
    /// The other fields, as they were given; the allowlist is a list.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    config: Value,
    /// For `If-Match`.
    version: i32,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = profile_providers, check_for_backend(diesel::pg::Pg))]
struct Stored {
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

impl From<Stored> for AmperityView {
    fn from(stored: Stored) -> Self {
        let is_there =
            |name: &str| Configured { configured: stored.credentials.iter().any(|given| given == name) };
        let [api_key, profile_api_key] = KEYS.map(is_there);
        Self {
            provider: stored.provider,
            enabled: stored.enabled,
            api_key,
            profile_api_key,
            credentials_updated_at: stored.sealed_at,
            config: stored.config,
            version: stored.version,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
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
    let found = one(&mut connection, caller.org_id, source).await?.ok_or(Code::NotFound)?;
    Ok(Versioned(StatusCode::OK, found.version, found.into()))
}

/// Has a source read profiles of Amperity, or replaces how it does. The keys are sealed, and never told again.
#[utoipa::path(put, path = "/v1/admin/sources/{id}/profile-providers/amperity", tag = "profile-providers",
    request_body = AmperityInput,
    params(("id" = Uuid, Path), ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = AmperityView), (status = 201, body = AmperityView),
        (status = 409, description = "The version is not the newest.")))]
pub async fn set(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
    seen: IfMatch,
    Body(mut input): Body<AmperityInput>,
) -> Result<Versioned<AmperityView>> {
    let org = caller.org_id;
    // Before the core is asked, which another organisation's source is no reason for.
    sources::exists(&mut *state.connection().await?, org, source).await?;
    let keys = KEYS.into_iter().zip([input.api_key.take(), input.profile_api_key.take()]);
    let keys: Given = keys.filter_map(|(name, key)| Some((name.to_owned(), key?))).collect();
    let (enabled, mut config) = (input.enabled, provider::object(&input)?);
    config.remove("enabled");
    let mut wrong = Fields::default();
    state.check_provider(&mut wrong, "", org, ProviderKind::Profile, PROVIDER, &config).await?;
    let config = Value::Object(config);
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::hold(connection, org, source).await?;
            let before = one(connection, org, source).await?;
            seen.check(before.as_ref().map(|before| before.version))?;
            let held = before.as_ref().map(|before| before.credentials.as_slice()).unwrap_or_default();
            let needed: &[&str] = if enabled { &[PROFILE_API_KEY] } else { &[] };
            credentials::check_all(&mut wrong, "", &keys, &KEYS, needed, held);
            wrong.done()?;
            let id = before.as_ref().map_or_else(Uuid::now_v7, |before| before.id);
            let sealed = if keys.is_empty() {
                None
            } else {
                let sealed = before.as_ref().and_then(|before| before.sealed.as_deref());
                let place = columns::PROFILE_PROVIDERS.place(org, id);
                let held = Held { names: held, sealed };
                Some(credentials::merge(&state, connection, place, held, &keys, &KEYS).await?)
            };
            let at = sealed.is_some().then(|| profile_providers::sealed_at.eq(now));
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
            let after = one(connection, org, source).await?.ok_or(Code::NotFound)?;
            let (before, after) = (before.map(Into::into), after.into());
            note(connection, &caller, source, before.as_ref(), Some(&after)).await?;
            let status = if before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
            Ok(Versioned(status, after.version, after))
        })
        .await
}

/// Has a source read profiles no more, and removes the keys. What is gone, or never was, is no error.
#[utoipa::path(delete, path = "/v1/admin/sources/{id}/profile-providers/amperity", tag = "profile-providers",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub async fn remove(State(state): State<Management>, caller: Caller, Id(source): Id) -> Result<StatusCode> {
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::hold(connection, caller.org_id, source).await?;
            let own = profile_providers::table
                .filter(profile_providers::org_id.eq(caller.org_id))
                .filter(profile_providers::source_id.eq(source))
                .filter(profile_providers::provider.eq(PROVIDER));
            let removed = delete(own).returning(Stored::as_returning()).get_result(connection);
            if let Some(removed) = removed.await.optional()? {
                note(connection, &caller, source, Some(&removed.into()), None).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

async fn one(connection: &mut AsyncPgConnection, org: Uuid, source: Uuid) -> Result<Option<Stored>> {
    let own = profile_providers::table
        .filter(profile_providers::org_id.eq(org))
        .filter(profile_providers::source_id.eq(source))
        .filter(profile_providers::provider.eq(PROVIDER));
    Ok(own.select(Stored::as_select()).first(connection).await.optional()?)
}

async fn note(
    connection: &mut AsyncPgConnection,
    caller: &Caller,
    source: Uuid,
    before: Option<&AmperityView>,
    after: Option<&AmperityView>,
) -> Result<()> {
    audit::record(connection, caller, "profile_provider", &format!("{source}/{PROVIDER}"), before, after)
        .await
}
