//! Identity providers of the customer's own, asked with a secret of the customer's own. The core checks their
//! settings; here is checked what only the database knows.

mod input;
pub mod whole;

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper,
    define_sql_function,
    dsl::{exists, select},
    insert_into,
    sql_types::Text,
    update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::schema::custom_providers;
use proto::v1::ProviderKind;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use self::input::{CustomProvider, ProviderName};
use super::{
    dry_run::{self, DryRun, DryRunInput},
    named::{listed_rows, named_rows},
    provider_status::ProviderStatus,
    secrets, sources,
};
use crate::{
    api::{
        audit,
        body::Body,
        caller::Caller,
        error::{Code, Result},
        fields::Fields,
        limit::limit,
        org_lock::lock_org,
        page::{Page, Paged},
        query::{Id, IfMatch, Query, Under},
        versioned::Versioned,
    },
    provider,
    state::Management,
};

define_sql_function!(fn lower(text: Text) -> Text);

/// Most providers of one source: every core holds all of them in memory.
const MAX_PROVIDERS: i64 = 100;

/// A provider as it is kept.
#[derive(Debug, Serialize, Queryable, Selectable, ToSchema)]
#[diesel(table_name = custom_providers, check_for_backend(diesel::pg::Pg))]
pub struct CustomProviderView {
    name: String,
    #[schema(value_type = CustomProvider)]
    settings: Value,
    /// Version of the record, for `If-Match`.
    version: i32,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl CustomProviderView {
    /// The field of the identity that it fills.
    fn field(&self) -> Option<&str> {
        field_of(&self.settings)
    }
}

/// Lists a source's own providers, by name.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/custom-providers", tag = "custom-providers",
    params(("id" = Uuid, Path), Page), responses((status = 200, body = Paged<CustomProviderView>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
    Query(page): Query<Page>,
) -> Result<Json<Paged<CustomProviderView>>> {
    let mut connection = state.connection().await?;
    sources::exists(&mut connection, caller.org_id, source).await?;
    let found = listed(&mut connection, caller.org_id, source, &page).await?;
    Ok(Json(found))
}

/// Shows a provider of the customer's own.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/custom-providers/{name}", tag = "custom-providers",
    params(("id" = Uuid, Path), ("name" = String, Path)), responses((status = 200, body = CustomProviderView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Under(source, ProviderName(name)): Under<ProviderName>,
) -> Result<Versioned<CustomProviderView>> {
    let mut connection = state.connection().await?;
    let found = one(&mut connection, caller.org_id, source, &name).await?.ok_or(Code::NotFound)?;
    Ok(Versioned(StatusCode::OK, found.version, found))
}

/// Adds a provider of the customer's own to a source, or changes it. What is left out stays as it is.
#[utoipa::path(put, path = "/v1/admin/sources/{id}/custom-providers/{name}", tag = "custom-providers",
    request_body = CustomProvider,
    params(("id" = Uuid, Path), ("name" = String, Path, description = "`[A-Za-z0-9_-]{1,64}`; 404 for another."),
        ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = CustomProviderView), (status = 201, body = CustomProviderView),
        (status = 409, description = "The version is not the newest, or the source has 100 providers."),
        (status = 422, description = "Fields are not valid; or, as `CREDENTIAL_NOT_FOR_HOST`, the endpoint is at no \
            host of the secret, or the secret has none yet and the caller is an editor.")))]
pub async fn set(
    State(state): State<Management>,
    caller: Caller,
    Under(source, ProviderName(name)): Under<ProviderName>,
    seen: IfMatch,
    Body(input): Body<CustomProvider>,
) -> Result<Versioned<CustomProviderView>> {
    let org = caller.org_id;
    // Before the core is asked, which another organisation's source is no reason for.
    let mut connection = state.connection().await?;
    sources::exists(&mut connection, org, source).await?;
    let known = one(&mut connection, org, source, &name).await?.map(|known| known.settings);
    drop(connection);
    let mut settings = provider::merged(known.as_ref(), provider::object(&input)?);
    let mut wrong = Fields::default();
    provider::check(&state.core, &mut wrong, "", org, ProviderKind::Custom, &name, &settings).await?;
    // It is the one in the path, as the core has seen.
    settings.remove("name");
    let settings = Value::Object(settings);
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, org, source).await?;
            lock_org(connection, org).await?;
            let before = one(connection, org, source, &name).await?;
            seen.check(before.as_ref().map(|before| before.version))?;
            if before.as_ref().map(|before| &before.settings) != known.as_ref() {
                // What is left out would be kept of settings that are no more.
                return Err(Code::VersionConflict.into());
            }
            forgive_kept_field(&mut wrong, "", before.as_ref(), &settings);
            check_references(connection, &mut wrong, "", org, &name, &settings).await?;
            wrong.done()?;
            let checked = Checked { source, prefix: "", name: &name, settings: &settings };
            let after = store(&state, connection, &caller, checked, before.as_ref()).await?;
            Ok(Versioned::put(before.is_some(), after.version, after))
        })
        .await
}

/// Settings of a provider in which nothing is wrong.
struct Checked<'a> {
    source: Uuid,
    /// Text before the fields where problems are told.
    prefix: &'a str,
    name: &'a str,
    settings: &'a Value,
}

/// Stores a provider in place of the one that there is, if there is any. To be called under the locks of its source and
/// organisation.
async fn store(
    state: &Management,
    connection: &mut AsyncPgConnection,
    caller: &Caller,
    Checked { source, prefix, name, settings }: Checked<'_>,
    before: Option<&CustomProviderView>,
) -> Result<CustomProviderView> {
    let org = caller.org_id;
    let endpoint = settings.get("endpoint").and_then(Value::as_str);
    if let (Some(secret), Some(endpoint)) = (secret_of(settings), endpoint) {
        secrets::use_at(&state.keys, connection, caller, secret, endpoint, prefix).await?;
    }
    let own = custom_providers::table
        .filter(custom_providers::org_id.eq(org))
        .filter(custom_providers::source_id.eq(source));
    let values = (
        custom_providers::redis_field.eq(field_of(settings).unwrap_or_default().to_owned()),
        custom_providers::settings.eq(settings),
    );
    if before.is_none() {
        limit(own.count().get_result(connection).await?, MAX_PROVIDERS)?;
        let row = (
            custom_providers::id.eq(Uuid::now_v7()),
            custom_providers::org_id.eq(org),
            custom_providers::source_id.eq(source),
            custom_providers::name.eq(name),
        );
        insert_into(custom_providers::table).values((row, values)).execute(connection).await?;
    } else {
        update(own.filter(custom_providers::name.eq(name))).set(values).execute(connection).await?;
    }
    let after = one(connection, org, source, name).await?.ok_or(Code::NotFound)?;
    let id = format!("{source}/{name}");
    audit::record(connection, caller, "custom_provider", &id, before, Some(&after)).await?;
    Ok(after)
}

/// Takes back that a field is reserved, where the provider had it before: it is of before that, and keeps running, and
/// the rest of it may change.
fn forgive_kept_field(
    wrong: &mut Fields,
    prefix: &str,
    before: Option<&CustomProviderView>,
    settings: &Value,
) {
    if before.is_some_and(|before| before.field() == field_of(settings)) {
        wrong.forgive(&format!("{prefix}response_mapping.redis_field"));
    }
}

/// Tells how a provider is, as far as this source asks it.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/custom-providers/{name}/status", tag = "custom-providers",
    params(("id" = Uuid, Path), ("name" = String, Path)), responses((status = 200, body = ProviderStatus)))]
pub async fn status(
    State(state): State<Management>,
    caller: Caller,
    Under(source, ProviderName(name)): Under<ProviderName>,
) -> Result<Json<ProviderStatus>> {
    let org = caller.org_id;
    one(&mut *state.connection().await?, org, source, &name).await?.ok_or(Code::NotFound)?;
    ProviderStatus::of(&state, org, source, ProviderKind::Custom, &name).await
}

/// Tries a provider: shows the request that it would get for a visitor, reads an answer, or has it asked. Nothing is
/// stored of the visitor or the ID.
#[utoipa::path(post, path = "/v1/admin/sources/{id}/custom-providers/{name}/dry-run", tag = "custom-providers",
    request_body = DryRunInput, params(("id" = Uuid, Path), ("name" = String, Path)),
    responses((status = 200, body = DryRun), (status = 422, description = "Fields are not valid.")))]
pub async fn dry_run(
    State(state): State<Management>,
    caller: Caller,
    Under(source, ProviderName(name)): Under<ProviderName>,
    Body(input): Body<DryRunInput>,
) -> Result<Json<DryRun>> {
    let found = one(&mut *state.connection().await?, caller.org_id, source, &name).await?;
    found.ok_or(Code::NotFound)?;
    let (kind, name) = (ProviderKind::Custom, name.as_str());
    input.run(&state, &caller, dry_run::Provider { source, kind, name, settings: None }).await
}

/// Removes a provider. What is gone, or never was, is no error.
#[utoipa::path(delete, path = "/v1/admin/sources/{id}/custom-providers/{name}", tag = "custom-providers",
    params(("id" = Uuid, Path), ("name" = String, Path)), responses((status = 204)))]
pub async fn remove(
    State(state): State<Management>,
    caller: Caller,
    Under(source, ProviderName(name)): Under<ProviderName>,
) -> Result<StatusCode> {
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, caller.org_id, source).await?;
            if let Some(removed) = take(connection, caller.org_id, source, &name).await? {
                let id = format!("{source}/{name}");
                audit::record(connection, &caller, "custom_provider", &id, Some(&removed), None).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

/// Finds the provider of a source that fills one of `fields`, which only built-in vendors may fill: it is of before
/// the field was reserved. It keeps running, and the vendor can't be enabled beside it. The text tells why.
pub async fn filler_of<'a>(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    source: Uuid,
    fields: impl Iterator<Item = &'a str>,
) -> Result<Option<String>> {
    let fields: Vec<String> = fields.map(str::to_ascii_lowercase).collect();
    let own = custom_providers::table
        .filter(custom_providers::org_id.eq(org))
        .filter(custom_providers::source_id.eq(source))
        .filter(lower(custom_providers::redis_field).eq_any(fields));
    let found: Option<(String, String)> = own
        .select((custom_providers::name, custom_providers::redis_field))
        .first(connection)
        .await
        .optional()?;
    Ok(found.map(|(provider, field)| {
        format!("can't be true while the source's own provider {provider} fills the vendor's field {field}")
    }))
}

/// Name of the secret that a provider refers to. One of another form is the core's to refuse.
fn secret_of(settings: &Value) -> Option<&str> {
    settings.get("authentication")?.get("token_secret_ref")?.as_str()?.strip_prefix("secret:")
}

/// Field of the identity that a provider fills.
fn field_of(settings: &Value) -> Option<&str> {
    settings.get("response_mapping")?.get("redis_field")?.as_str()
}

/// Checks that the secret is there, and that the field is nobody else's. A provider of the same name on
/// another source is the same one, and fills the same field.
async fn check_references(
    connection: &mut AsyncPgConnection,
    wrong: &mut Fields,
    prefix: &str,
    org: Uuid,
    name: &str,
    settings: &Value,
) -> Result<()> {
    if let Some(secret) = secret_of(settings)
        && !secret.contains('\0')
        && !secrets::is_there(connection, org, secret).await?
    {
        let field = format!("{prefix}authentication.token_secret_ref");
        wrong.add(field, "must name a secret that is there: PUT it first");
    }
    if let Some(field) = field_of(settings).filter(|field| !field.contains('\0')) {
        let others = custom_providers::table
            .filter(custom_providers::org_id.eq(org))
            .filter(custom_providers::redis_field.eq(field))
            .filter(custom_providers::name.ne(name));
        let taken: bool = select(exists(others)).get_result(connection).await?;
        let field = format!("{prefix}response_mapping.redis_field");
        wrong.check(!taken, field, "must not be another provider's");
    }
    Ok(())
}

named_rows!(custom_providers by source_id and name -> CustomProviderView);
listed_rows!(custom_providers by source_id and name -> CustomProviderView);
