//! Identity providers of the customer's own, asked with a secret of the customer's own. What their settings may be the
//! core says; here is checked what only the database knows.

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper, delete,
    dsl::{exists, select},
    insert_into, update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::schema::custom_providers;
use proto::v1::ProviderKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{secrets, sources};
use crate::{
    api::{
        alone::alone,
        audit,
        body::Body,
        caller::Caller,
        error::{Code, Result},
        fields::Fields,
        page::{Page, Paged},
        query::{Id, IfMatch, Query, Under},
        versioned::Versioned,
    },
    provider,
    state::Management,
};

/// A provider. What is required the core says, all at once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomProvider {
    /// Where it is there, the name in the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// An https URL without credentials; `{{anonymous_id}}` and other variables may stand in its path and query.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    endpoint: Option<String>,
    /// `GET` or `POST`, which it is where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication: Option<Authentication>,
    /// What is sent: JSON with variables, of GET the parameters. Absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_template: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = ResponseMapping)]
    response_mapping: Option<ResponseMapping>,
    /// How long an ID is kept, `30d`: 1s to 400d.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    ttl: Option<String>,
    /// How long an answer may take, `2s`, which it is where it is absent: 100ms to 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
}

/// How a provider knows us.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Authentication {
    /// `bearer`, `header`, `basic` or `none`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    kind: Option<String>,
    /// `secret:` and the name of a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_secret_ref: Option<String>,
    /// Of `header`: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// Of `basic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
}

/// What becomes of an answer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseMapping {
    /// The field of the identity that it fills: no vendor's, and no other provider's of the organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    redis_field: Option<String>,
    /// Where in the answer the ID is: an RFC 9535 query that denotes one value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    json_path: Option<String>,
}

/// A provider as it is kept.
#[derive(Debug, Serialize, Queryable, Selectable, ToSchema)]
#[diesel(table_name = custom_providers, check_for_backend(diesel::pg::Pg))]
pub struct CustomProviderView {
    name: String,
    #[schema(value_type = CustomProvider)]
    settings: Value,
    /// For `If-Match`.
    version: i32,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// A name in a path: `[A-Za-z0-9_-]{1,64}`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct ProviderName(String);

impl TryFrom<String> for ProviderName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let is_name = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        if is_name { Ok(Self(text)) } else { Err("not a name of a provider") }
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
    let mut query = custom_providers::table
        .filter(custom_providers::org_id.eq(caller.org_id))
        .filter(custom_providers::source_id.eq(source))
        .order(custom_providers::name)
        .limit(page.rows())
        .select(CustomProviderView::as_select())
        .into_boxed();
    if let Some(after) = page.after::<String>()? {
        query = query.filter(custom_providers::name.gt(after));
    }
    let found = query.load(&mut **connection).await?;
    Ok(Json(page.of(found, |provider: &CustomProviderView| provider.name.clone())))
}

/// Shows a provider.
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

/// Adds a provider of the customer's own to a source, or replaces it.
#[utoipa::path(put, path = "/v1/admin/sources/{id}/custom-providers/{name}", tag = "custom-providers",
    request_body = CustomProvider,
    params(("id" = Uuid, Path), ("name" = String, Path, description = "`[A-Za-z0-9_-]{1,64}`; 404 for another."),
        ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = CustomProviderView), (status = 201, body = CustomProviderView),
        (status = 409, description = "The version is not the newest.")))]
pub async fn set(
    State(state): State<Management>,
    caller: Caller,
    Under(source, ProviderName(name)): Under<ProviderName>,
    seen: IfMatch,
    Body(input): Body<CustomProvider>,
) -> Result<Versioned<CustomProviderView>> {
    let org = caller.org_id;
    // Before the core is asked, which another organisation's source is no reason for.
    sources::exists(&mut *state.connection().await?, org, source).await?;
    let mut settings = provider::object(&input)?;
    let mut wrong = Fields::default();
    state.check_provider(&mut wrong, "", org, ProviderKind::Custom, &name, &settings).await?;
    // It is the one in the path, as the core has seen.
    settings.remove("name");
    let settings = Value::Object(settings);
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::hold(connection, org, source).await?;
            alone(connection, org).await?;
            let before = one(connection, org, source, &name).await?;
            seen.check(before.as_ref().map(|before| before.version))?;
            check_references(connection, &mut wrong, org, &name, &input).await?;
            wrong.done()?;
            let field = input.response_mapping.and_then(|mapping| mapping.redis_field);
            let values = (
                custom_providers::redis_field.eq(field.unwrap_or_default()),
                custom_providers::settings.eq(&settings),
            );
            if before.is_none() {
                let row = (
                    custom_providers::id.eq(Uuid::now_v7()),
                    custom_providers::org_id.eq(org),
                    custom_providers::source_id.eq(source),
                    custom_providers::name.eq(&name),
                );
                insert_into(custom_providers::table).values((row, values)).execute(connection).await?;
            } else {
                let own = custom_providers::table
                    .filter(custom_providers::org_id.eq(org))
                    .filter(custom_providers::source_id.eq(source))
                    .filter(custom_providers::name.eq(&name));
                update(own).set(values).execute(connection).await?;
            }
            let after = one(connection, org, source, &name).await?.ok_or(Code::NotFound)?;
            note(connection, &caller, source, before.as_ref(), Some(&after)).await?;
            let status = if before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
            Ok(Versioned(status, after.version, after))
        })
        .await
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
            sources::hold(connection, caller.org_id, source).await?;
            let own = custom_providers::table
                .filter(custom_providers::org_id.eq(caller.org_id))
                .filter(custom_providers::source_id.eq(source))
                .filter(custom_providers::name.eq(&name));
            let removed = delete(own).returning(CustomProviderView::as_returning()).get_result(connection);
            if let Some(removed) = removed.await.optional()? {
                note(connection, &caller, source, Some(&removed), None).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

/// The secret is there, and the field is nobody else's. A provider of the same name on another source is the same one,
/// and fills the same field.
async fn check_references(
    connection: &mut AsyncPgConnection,
    wrong: &mut Fields,
    org: Uuid,
    name: &str,
    input: &CustomProvider,
) -> Result<()> {
    let reference =
        input.authentication.as_ref().and_then(|authentication| authentication.token_secret_ref.as_deref());
    // One of another form is the core's to refuse.
    if let Some(secret) = reference.and_then(|reference| reference.strip_prefix("secret:"))
        && !secret.contains('\0')
        && !secrets::is_there(connection, org, secret).await?
    {
        wrong.add("authentication.token_secret_ref", "must name a secret that is there: PUT it first");
    }
    let field = input.response_mapping.as_ref().and_then(|mapping| mapping.redis_field.as_deref());
    if let Some(field) = field.filter(|field| !field.contains('\0')) {
        let others = custom_providers::table
            .filter(custom_providers::org_id.eq(org))
            .filter(custom_providers::redis_field.eq(field))
            .filter(custom_providers::name.ne(name));
        let taken: bool = select(exists(others)).get_result(connection).await?;
        wrong.check(!taken, "response_mapping.redis_field", "must not be another provider's");
    }
    Ok(())
}

async fn one(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    source: Uuid,
    name: &str,
) -> Result<Option<CustomProviderView>> {
    let own = custom_providers::table
        .filter(custom_providers::org_id.eq(org))
        .filter(custom_providers::source_id.eq(source))
        .filter(custom_providers::name.eq(name));
    Ok(own.select(CustomProviderView::as_select()).first(connection).await.optional()?)
}

async fn note(
    connection: &mut AsyncPgConnection,
    caller: &Caller,
    source: Uuid,
    before: Option<&CustomProviderView>,
    after: Option<&CustomProviderView>,
) -> Result<()> {
    let name = after.or(before).map(|view| view.name.as_str()).unwrap_or_default();
    audit::record(connection, caller, "custom_provider", &format!("{source}/{name}"), before, after).await
}
