//! Destinations of a source's events. The core checks their settings; Amperity's tenant and keys are those of the profile
//! provider, and a webhook's signing secret is sealed here.

mod secret;
pub mod status;

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper,
    dsl::now as sql_now, insert_into, update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{
    schema::{destinations, profile_providers},
    sealed::columns,
};
use proto::v1::{DryRunProviderRequest, ProviderKind, Subject};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    dry_run::DryRun,
    named::{listed_rows, named_rows},
    sources,
};
use crate::{
    api::{
        audit,
        body::Body,
        caller::Caller,
        error::{Code, Result},
        fields::Fields,
        member::given,
        page::{Page, Paged},
        query::{Id, IfMatch, Query, Under},
        versioned::Versioned,
    },
    catalog::VendorName,
    crypto::credentials::Configured,
    provider,
    state::Management,
};

/// Name of the destination whose tenant is the profile provider's.
const AMPERITY: &str = "amperity";
/// Name of the destination that has a secret of its own.
const WEBHOOK: &str = "webhook";
/// Longest event of a dry run, in bytes as JSON.
const MAX_EVENT_BYTES: usize = 32 * 1024;

/// Input about a destination. What is left out stays as it is, null takes it back to what it is by default.
#[derive(Deserialize, ToSchema)]
pub struct DestinationInput {
    /// True where events are sent to it, as they are to a new one. One that is switched on again begins with what comes
    /// then.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = bool, required = false)]
    enabled: Option<bool>,
    /// Signing secret of a webhook, `whsec_` and the Base64 of 24 to 64 bytes. Of a new one without, it is made. The one
    /// before it signs as well, until `previous_secret` is null.
    #[schema(value_type = Option<String>, format = Password)]
    secret: Option<SecretString>,
    /// Null where the secret before the present one signs no more.
    #[serde(default, deserialize_with = "given_null")]
    #[schema(value_type = Option<String>, required = false)]
    previous_secret: bool,
    /// Settings, as the catalogue lists them.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
}

/// True where the member is there, and null.
fn given_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Option::<serde::de::IgnoredAny>::deserialize(deserializer)? {
        None => Ok(true),
        Some(_) => Err(serde::de::Error::custom("previous_secret can only be null")),
    }
}

/// A destination, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct DestinationView {
    vendor: String,
    enabled: bool,
    /// Signing secret of a webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    secret: Option<Configured>,
    /// Secret before it, which signs as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    previous_secret: Option<Configured>,
    /// The signing secret, in the one answer to which it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, value_type = String)]
    signing_secret: Option<String>,
    /// The settings, as they were given.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    config: Value,
    /// Version of the record, for `If-Match`.
    version: i32,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = destinations, check_for_backend(diesel::pg::Pg))]
struct DestinationRow {
    id: Uuid,
    vendor: String,
    enabled: bool,
    config: Value,
    sealed: Option<Vec<u8>>,
    credentials: Vec<String>,
    version: i32,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<DestinationRow> for DestinationView {
    fn from(row: DestinationRow) -> Self {
        let is_there = |name: &str| Configured { configured: row.credentials.iter().any(|own| own == name) };
        let has_secret = row.vendor == WEBHOOK;
        Self {
            secret: has_secret.then(|| is_there("secret")),
            previous_secret: has_secret.then(|| is_there("previous_secret")),
            signing_secret: None,
            vendor: row.vendor,
            enabled: row.enabled,
            config: row.config,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Lists the destinations of a source.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/destinations", tag = "destinations", params(("id" = Uuid, Path), Page),
    responses((status = 200, body = Paged<DestinationView>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
    Query(page): Query<Page>,
) -> Result<Json<Paged<DestinationView>>> {
    let mut connection = state.connection().await?;
    sources::exists(&mut connection, caller.org_id, source).await?;
    Ok(Json(listed(&mut connection, caller.org_id, source, &page).await?.map(Into::into)))
}

/// Shows a destination of a source.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/destinations/{vendor}", tag = "destinations",
    params(("id" = Uuid, Path), ("vendor" = String, Path)), responses((status = 200, body = DestinationView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
) -> Result<Versioned<DestinationView>> {
    let mut connection = state.connection().await?;
    let found = one(&mut connection, caller.org_id, source, &vendor).await?.ok_or(Code::NotFound)?;
    Ok(Versioned(StatusCode::OK, found.version, found.into()))
}

/// Has a source's events sent to a destination, or changes how.
#[utoipa::path(put, path = "/v1/admin/sources/{id}/destinations/{vendor}", tag = "destinations",
    request_body = DestinationInput,
    params(("id" = Uuid, Path), ("vendor" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = DestinationView), (status = 201, body = DestinationView),
        (status = 409, description = "The version is not the newest."),
        (status = 422, description = "Fields are not valid; or, as `CREDENTIAL_NOT_FOR_HOST`, a webhook is at another \
            origin than its secret was given for, and the secret is not given again.")))]
pub async fn set(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
    seen: IfMatch,
    Body(input): Body<DestinationInput>,
) -> Result<Versioned<DestinationView>> {
    let org = caller.org_id;
    let DestinationInput { enabled, secret, previous_secret, settings } = input;
    let known = state.catalog.vendors().await?;
    if !known.destinations.iter().any(|destination| destination.name == vendor) {
        return Err(Code::NotFound.into());
    }
    let mut connection = state.connection().await?;
    sources::exists(&mut connection, org, source).await?;
    let known = one(&mut connection, org, source, &vendor).await?.map(|known| known.config);
    drop(connection);
    let config = provider::merged(known.as_ref(), settings);
    let mut wrong = Fields::default();
    provider::check(&state.core, &mut wrong, "", org, ProviderKind::Destination, &vendor, &config).await?;
    let is_webhook = vendor == WEBHOOK;
    wrong.check(is_webhook || secret.is_none(), "secret", "is unknown");
    wrong.check(is_webhook || !previous_secret, "previous_secret", "is unknown");
    let config = Value::Object(config);
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, org, source).await?;
            let before = one(connection, org, source, &vendor).await?;
            seen.check(before.as_ref().map(|before| before.version))?;
            if before.as_ref().map(|before| &before.config) != known.as_ref() {
                // What is left out would be kept of settings that are no more.
                return Err(Code::VersionConflict.into());
            }
            if vendor == AMPERITY && tenant(connection, org, source).await?.is_none() {
                wrong.add(
                    "profile_provider",
                    "is required: set up the source's profile provider amperity first",
                );
            }
            let id = before.as_ref().map_or_else(Uuid::now_v7, |before| before.id);
            let place = columns::DESTINATIONS.place(org, id);
            let enabled = enabled.or(before.as_ref().map(|before| before.enabled)).unwrap_or(true);
            let mut made = None;
            let mut sealed = None;
            if is_webhook {
                let change = secret::Change { given: secret, ends_previous: previous_secret };
                let stored = before.as_ref().and_then(|before| before.sealed.as_deref());
                let url = config.get("url").and_then(Value::as_str);
                let changed = change.apply(&state.keys, connection, place, stored, url, wrong).await?;
                (sealed, made) = changed.map_or((None, None), |changed| (Some(changed.sealed), changed.made));
            } else {
                wrong.done()?;
            }
            let at = sealed.is_some().then(|| destinations::sealed_at.eq(sql_now));
            let (names, sealed) = sealed.unzip();
            let sealed = (
                names.map(|names: Vec<String>| destinations::credentials.eq(names)),
                sealed.map(|sealed: Vec<u8>| destinations::sealed.eq(sealed)),
                at,
            );
            let values = (destinations::enabled.eq(enabled), destinations::config.eq(&config));
            if before.is_none() {
                let row = (
                    destinations::id.eq(id),
                    destinations::org_id.eq(org),
                    destinations::source_id.eq(source),
                    destinations::vendor.eq(&vendor),
                );
                insert_into(destinations::table).values((row, values, sealed)).execute(connection).await?;
            } else {
                let own =
                    destinations::table.filter(destinations::org_id.eq(org)).filter(destinations::id.eq(id));
                update(own).set((values, sealed)).execute(connection).await?;
            }
            let after = one(connection, org, source, &vendor).await?.ok_or(Code::NotFound)?;
            let (before, mut after) = (before.map(DestinationView::from), DestinationView::from(after));
            let name = format!("{source}/{vendor}");
            audit::record(connection, &caller, "destination", &name, before.as_ref(), Some(&after)).await?;
            after.signing_secret = made.map(|made: SecretString| made.expose_secret().to_owned());
            Ok(Versioned::put(before.is_some(), after.version, after))
        })
        .await
}

/// Has a source's events sent to a destination no more; what waits for it is gone.
#[utoipa::path(delete, path = "/v1/admin/sources/{id}/destinations/{vendor}", tag = "destinations",
    params(("id" = Uuid, Path), ("vendor" = String, Path)), responses((status = 204)))]
pub async fn remove(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
) -> Result<StatusCode> {
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, caller.org_id, source).await?;
            if let Some(removed) = take(connection, caller.org_id, source, &vendor).await? {
                let (id, removed) = (format!("{source}/{vendor}"), DestinationView::from(removed));
                audit::record(connection, &caller, "destination", &id, Some(&removed), None).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

/// Input for a dry run of a destination.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationDryRun {
    /// The event, as a page or a server would send it; at most 32 KiB.
    event: Map<String, Value>,
    /// Anonymous ID of a browser that is known, whose IDs and consent are then sent along.
    anonymous_id: Option<String>,
    /// User ID of the visitor.
    user_id: Option<String>,
}

/// Shows what an event would be sent as. Nothing is sent.
#[utoipa::path(post, path = "/v1/admin/sources/{id}/destinations/{vendor}/dry-run", tag = "destinations",
    request_body = DestinationDryRun, params(("id" = Uuid, Path), ("vendor" = String, Path)),
    responses((status = 200, body = DryRun)))]
pub async fn dry_run(
    State(state): State<Management>,
    caller: Caller,
    Under(source, VendorName(vendor)): Under<VendorName>,
    Body(input): Body<DestinationDryRun>,
) -> Result<Json<DryRun>> {
    let org = caller.org_id;
    let mut connection = state.connection().await?;
    let found = one(&mut connection, org, source, &vendor).await?.ok_or(Code::NotFound)?;
    let tenant = tenant(&mut connection, org, source).await?;
    let event = Value::Object(input.event).to_string();
    let mut wrong = Fields::default();
    wrong.check(event.len() <= MAX_EVENT_BYTES, "event", "must have at most 32 KiB");
    for (field, id) in [("anonymous_id", &input.anonymous_id), ("user_id", &input.user_id)] {
        let fits = |id: &String| id.len() <= 1024 && !id.contains(char::is_control);
        wrong.check(id.as_ref().is_none_or(fits), field, "must have at most 1024 bytes, none of control");
    }
    wrong.done()?;
    if input.anonymous_id.is_some() || input.user_id.is_some() {
        // What is known of that person is shown.
        let change = audit::Change {
            action: "destination.tried",
            resource: "destination",
            id: &format!("{source}/{vendor}"),
        };
        let who = json!({"anonymous_id": input.anonymous_id, "user_id": input.user_id});
        change.note(&mut connection, &caller, who).await?;
    }
    drop(connection);
    let mut settings = json!({"destination": found.config});
    if let (Some(tenant), Some(settings)) = (tenant, settings.as_object_mut()) {
        settings.insert("tenant".to_owned(), tenant);
    }
    let request = DryRunProviderRequest {
        org_id: org.to_string(),
        name: vendor,
        settings: Some(proto::json::document(provider::object(&settings)?)),
        subject: Some(Subject {
            anonymous_id: input.anonymous_id,
            user_id: input.user_id,
            ..Subject::default()
        }),
        kind: ProviderKind::Destination.into(),
        source_id: Some(source.to_string()),
        event: Some(event),
        ..DryRunProviderRequest::default()
    };
    Ok(Json(state.core.dry_run_provider(request).await?.into()))
}

/// Settings of the tenant that a source has; none where it has none.
async fn tenant(connection: &mut AsyncPgConnection, org: Uuid, source: Uuid) -> Result<Option<Value>> {
    let own = profile_providers::table
        .filter(profile_providers::org_id.eq(org))
        .filter(profile_providers::source_id.eq(source))
        .filter(profile_providers::provider.eq(AMPERITY));
    Ok(own.select(profile_providers::config).first(connection).await.optional()?)
}

/// Finds the ID of a destination, which has to be the caller's own.
pub(super) async fn id_of(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    source: Uuid,
    vendor: &str,
) -> Result<Uuid> {
    Ok(one(connection, org, source, vendor).await?.ok_or(Code::NotFound)?.id)
}

named_rows!(destinations by source_id and vendor -> DestinationRow);
listed_rows!(destinations by source_id and vendor -> DestinationRow);
