//! Secrets that settings of an organisation name, as `secret:cdp_api_token`. Written, and never read back.

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, OptionalExtension, PgAnyJsonExpressionMethods, QueryDsl, Queryable, Selectable,
    SelectableHelper, delete,
    dsl::{exists, now, select},
    insert_into, update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{
    schema::{custom_providers, secrets},
    sealed::columns,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    api::{
        audit::Change,
        body::Body,
        caller::Caller,
        error::{ApiError, Code, Result},
        fields::Fields,
        limit::limit,
        org_lock::lock_org,
        page::{Page, Paged},
        query::{IfMatch, Named, Query},
        versioned::Versioned,
    },
    crypto::credentials,
    state::Management,
};

/// Most secrets of one organisation.
const MAX_SECRETS: i64 = 1000;

/// Input with the value of a secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretInput {
    /// Value of 1 to 8,192 bytes, without control characters.
    #[schema(value_type = String, format = Password, min_length = 1, max_length = 8192)]
    value: SecretString,
}

/// A secret, without its value.
#[derive(Debug, Serialize, ToSchema)]
pub struct SecretView {
    name: String,
    /// Always true: there is a value.
    configured: bool,
    /// Version of the record, for `If-Match`.
    version: i32,
    /// Time when its value was given.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// A secret's row, without the value.
#[derive(Queryable, Selectable)]
#[diesel(table_name = secrets, check_for_backend(diesel::pg::Pg))]
struct SecretRow {
    id: Uuid,
    name: String,
    version: i32,
    updated_at: OffsetDateTime,
}

impl From<SecretRow> for SecretView {
    fn from(SecretRow { name, version, updated_at, .. }: SecretRow) -> Self {
        Self { name, configured: true, version, updated_at }
    }
}

/// A name in a path: `[a-z0-9_-]{1,64}`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretName(String);

impl TryFrom<String> for SecretName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_name = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
        if is_name { Ok(Self(text)) } else { Err("not a name of a secret") }
    }
}

/// Lists secrets by name, without their values.
#[utoipa::path(get, path = "/v1/admin/secrets", tag = "secrets", params(Page),
    responses((status = 200, body = Paged<SecretView>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Paged<SecretView>>> {
    let mut query = secrets::table
        .filter(secrets::org_id.eq(caller.org_id))
        .order(secrets::name)
        .limit(page.rows())
        .select(SecretRow::as_select())
        .into_boxed();
    if let Some(after) = page.after::<String>()? {
        query = query.filter(secrets::name.gt(after));
    }
    let mut connection = state.connection().await?;
    let found = query.load(&mut **connection).await?;
    Ok(Json(page.of(found, |row: &SecretRow| row.name.clone()).map(Into::into)))
}

/// Shows that there is a secret.
#[utoipa::path(get, path = "/v1/admin/secrets/{name}", tag = "secrets", params(("name" = String, Path)),
    responses((status = 200, body = SecretView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Named(name): Named<SecretName>,
) -> Result<Versioned<SecretView>> {
    let mut connection = state.connection().await?;
    let found = one(&mut connection, caller.org_id, &name.0).await?.ok_or(Code::NotFound)?;
    Ok(Versioned(StatusCode::OK, found.version, found.into()))
}

/// Gives a secret a value, which is sealed, and never told again.
#[utoipa::path(put, path = "/v1/admin/secrets/{name}", tag = "secrets", request_body = SecretInput,
    params(("name" = String, Path, description = "`[a-z0-9_-]{1,64}`; 404 for another."),
        ("If-Match" = Option<String>, Header, description = "The version, quoted.")),
    responses((status = 200, body = SecretView), (status = 201, body = SecretView),
        (status = 409, description = "The version is not the newest, or there are 1,000 secrets.")))]
pub async fn set(
    State(state): State<Management>,
    caller: Caller,
    Named(SecretName(name)): Named<SecretName>,
    seen: IfMatch,
    Body(SecretInput { value }): Body<SecretInput>,
) -> Result<Versioned<SecretView>> {
    let mut wrong = Fields::default();
    credentials::check(&mut wrong, "value", &value);
    wrong.done()?;
    let org = caller.org_id;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            lock_org(connection, org).await?;
            let before = one(connection, org, &name).await?;
            seen.check(before.as_ref().map(|before| before.version))?;
            if before.is_none() {
                let own = secrets::table.filter(secrets::org_id.eq(org)).count();
                limit(own.get_result(connection).await?, MAX_SECRETS)?;
            }
            let id = before.as_ref().map_or_else(Uuid::now_v7, |before| before.id);
            let place = columns::SECRETS.place(org, id);
            let sealed = state.keys.seal_counted(connection, place, value.expose_secret().as_bytes()).await?;
            let (status, after) = if before.is_some() {
                let own = secrets::table.filter(secrets::org_id.eq(org)).filter(secrets::id.eq(id));
                let values = (secrets::sealed.eq(sealed), secrets::sealed_at.eq(now));
                (
                    StatusCode::OK,
                    update(own)
                        .set(values)
                        .returning(SecretRow::as_returning())
                        .get_result(connection)
                        .await?,
                )
            } else {
                let values = (
                    secrets::id.eq(id),
                    secrets::org_id.eq(org),
                    secrets::name.eq(&name),
                    secrets::sealed.eq(sealed),
                );
                let made = insert_into(secrets::table).values(values).returning(SecretRow::as_returning());
                (StatusCode::CREATED, made.get_result(connection).await?)
            };
            let action = if before.is_some() { "secret.updated" } else { "secret.created" };
            let change = Change { action, resource: "secret", id: &name };
            change.note(connection, &caller, json!({})).await?;
            Ok(Versioned(status, after.version, after.into()))
        })
        .await
}

/// Removes a secret that nothing refers to. What is gone, or never was, is no error.
#[utoipa::path(delete, path = "/v1/admin/secrets/{name}", tag = "secrets", params(("name" = String, Path)),
    responses((status = 204), (status = 409, description = "A custom provider refers to it.")))]
pub async fn remove(
    State(state): State<Management>,
    caller: Caller,
    Named(SecretName(name)): Named<SecretName>,
) -> Result<StatusCode> {
    let org = caller.org_id;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            lock_org(connection, org).await?;
            let reference = custom_providers::settings
                .retrieve_as_object("authentication")
                .retrieve_as_text("token_secret_ref");
            let users = custom_providers::table
                .filter(custom_providers::org_id.eq(org))
                .filter(reference.eq(format!("secret:{name}")));
            if select(exists(users)).get_result(connection).await? {
                return Err(ApiError::with_message(Code::InUse, "A custom provider refers to this secret."));
            }
            let own = secrets::table.filter(secrets::org_id.eq(org)).filter(secrets::name.eq(&name));
            if delete(own).execute(connection).await? > 0 {
                let change = Change { action: "secret.deleted", resource: "secret", id: &name };
                change.note(connection, &caller, json!({})).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

/// Tells whether the organisation has a secret of that name.
pub async fn is_there(connection: &mut AsyncPgConnection, org: Uuid, name: &str) -> Result<bool> {
    Ok(one(connection, org, name).await?.is_some())
}

async fn one(connection: &mut AsyncPgConnection, org: Uuid, name: &str) -> Result<Option<SecretRow>> {
    let own = secrets::table.filter(secrets::org_id.eq(org)).filter(secrets::name.eq(name));
    Ok(own.select(SecretRow::as_select()).first(connection).await.optional()?)
}
