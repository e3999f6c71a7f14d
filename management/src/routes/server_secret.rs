//! A source's server secret, which the customer's own servers sign with. Sealed at rest, and told to owners and admins;
//! while it is rotated the earlier one passes as well.

use axum::{Json, extract::State};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, IntoSql, QueryDsl, delete,
    dsl::{max, now, select},
    insert_into,
    sql_types::Timestamptz,
    update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{rows::ServerSecret, schema::server_secrets, sealed::columns};
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;
use uuid::Uuid;

use super::sources;
use crate::{
    api::{
        audit::Change,
        body::Body,
        caller::Caller,
        error::{ApiError, Code, Result},
        fields::Fields,
        query::Id,
    },
    crypto::credentials::open_value,
    state::Management,
};

/// Seconds for which the earlier secret passes where the caller doesn't say: a day.
const DEFAULT_OVERLAP_SECONDS: i64 = 24 * 60 * 60;
/// Most seconds for which it passes: 30 days.
const MAX_OVERLAP_SECONDS: i64 = 30 * DEFAULT_OVERLAP_SECONDS;
/// Most secrets in force at once: each costs a signed call that fails an HMAC.
const MAX_SECRETS_IN_FORCE: usize = 10;

/// Input about how to rotate a secret.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Seconds for which an earlier secret still passes: 0 to 2,592,000 (30 days), 86,400 where it is absent.
    /// With 0 it is refused within a second.
    #[schema(minimum = 0, maximum = 2_592_000)]
    overlap_seconds: Option<i64>,
}

/// A server secret, with the secret itself.
#[derive(Serialize, ToSchema)]
pub struct RevealedSecret {
    /// Secret of 64 characters; as they are they are the key of the HMAC.
    secret: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Time until which an earlier secret passes as well. Null: none does.
    #[serde(with = "time::serde::rfc3339::option")]
    previous_expires_at: Option<OffsetDateTime>,
}

/// A server secret, without the secret itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerSecretView {
    /// True where there is a secret. Without one signed calls are refused.
    configured: bool,
    #[serde(with = "time::serde::rfc3339::option")]
    created_at: Option<OffsetDateTime>,
    /// Time until which an earlier secret passes as well. Null: none does.
    #[serde(with = "time::serde::rfc3339::option")]
    previous_expires_at: Option<OffsetDateTime>,
}

/// Shows whether there is a server secret.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/server-secret", tag = "server-secret",
    params(("id" = Uuid, Path)), responses((status = 200, body = ServerSecretView)))]
pub async fn read(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
) -> Result<Json<ServerSecretView>> {
    let mut connection = state.connection().await?;
    sources::exists(&mut connection, caller.org_id, source).await?;
    let in_force: Vec<(OffsetDateTime, Option<OffsetDateTime>)> = server_secrets::table
        .filter(server_secrets::org_id.eq(caller.org_id))
        .filter(server_secrets::source_id.eq(source))
        .filter(server_secrets::expires_at.is_null().or(server_secrets::expires_at.gt(now)))
        .select((server_secrets::created_at, server_secrets::expires_at))
        .load(&mut **connection)
        .await?;
    let current = in_force.iter().find(|(_, ends)| ends.is_none());
    Ok(Json(ServerSecretView {
        configured: current.is_some(),
        created_at: current.map(|(created_at, _)| *created_at),
        previous_expires_at: in_force.iter().filter_map(|(_, ends)| *ends).max(),
    }))
}

/// Reveals the server secret in force, and notes who asked.
#[utoipa::path(post, path = "/v1/admin/sources/{id}/server-secret/reveal", tag = "server-secret",
    params(("id" = Uuid, Path)), responses((status = 200, body = RevealedSecret),
        (status = 404, description = "There is no secret, or no such source."),
        (status = 503, description = "The secret is sealed with a key that is not configured.")))]
pub async fn reveal(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
) -> Result<Json<RevealedSecret>> {
    let org = caller.org_id;
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, org, source).await?;
            let own = server_secrets::table
                .filter(server_secrets::org_id.eq(org))
                .filter(server_secrets::source_id.eq(source));
            let ends = own.filter(server_secrets::expires_at.gt(now)).select(max(server_secrets::expires_at));
            let previous_expires_at = ends.get_result(connection).await?;
            let in_force = own.filter(server_secrets::expires_at.is_null());
            let (id, sealed, created_at): (Uuid, Vec<u8>, OffsetDateTime) = in_force
                .select((server_secrets::id, server_secrets::sealed, server_secrets::created_at))
                .first(connection)
                .await?;
            let plain = open_value(&state.keys, columns::SERVER_SECRETS.place(org, id), &sealed)?;
            let secret = String::from_utf8_lossy(&plain).into_owned();
            note(connection, &caller, source, "server_secret.revealed", json!({})).await?;
            Ok(Json(RevealedSecret { secret, created_at, previous_expires_at }))
        })
        .await
}

/// Makes a server secret, or a new one, to sign calls with: `X-Datafly-Signature: sha256=` and the hex digits
/// of HMAC-SHA256(secret, body).
#[utoipa::path(post, path = "/v1/admin/sources/{id}/server-secret", tag = "server-secret",
    request_body = Rotation, params(("id" = Uuid, Path)), responses((status = 201, body = RevealedSecret),
        (status = 409, description = "Ten secrets are in force; with `overlap_seconds` 0 there is one.")))]
pub async fn rotate(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
    Body(input): Body<Rotation>,
) -> Result<(StatusCode, Json<RevealedSecret>)> {
    let overlap = input.overlap_seconds.unwrap_or(DEFAULT_OVERLAP_SECONDS);
    let mut wrong = Fields::default();
    wrong.check((0..=MAX_OVERLAP_SECONDS).contains(&overlap), "overlap_seconds", "must be 0 to 2592000");
    wrong.done()?;
    let (id, org) = (Uuid::now_v7(), caller.org_id);
    let secret = SecretString::from(hex::encode(rand::rng().random::<[u8; 32]>()));
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, org, source).await?;
            let place = columns::SERVER_SECRETS.place(org, id);
            let sealed =
                state.keys.seal_counted(connection, place, secret.expose_secret().as_bytes()).await?;
            let row = ServerSecret { id, org_id: org, source_id: source, sealed, expires_at: None };
            let previous_expires_at = retire(connection, org, source, Duration::seconds(overlap)).await?;
            let made = insert_into(server_secrets::table).values(row);
            let created_at: OffsetDateTime =
                made.returning(server_secrets::created_at).get_result(connection).await?;
            let overlap = json!({"overlap_seconds": {"old": null, "new": overlap}});
            note(connection, &caller, source, "server_secret.rotated", overlap).await?;
            let secret = secret.expose_secret().to_owned();
            Ok((StatusCode::CREATED, Json(RevealedSecret { secret, created_at, previous_expires_at })))
        })
        .await
}

/// Removes all of a source's server secrets: signed calls are refused within a second. Doing it twice is no
/// error.
#[utoipa::path(delete, path = "/v1/admin/sources/{id}/server-secret", tag = "server-secret",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub async fn remove(State(state): State<Management>, caller: Caller, Id(source): Id) -> Result<StatusCode> {
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, caller.org_id, source).await?;
            let all = server_secrets::table
                .filter(server_secrets::org_id.eq(caller.org_id))
                .filter(server_secrets::source_id.eq(source));
            if delete(all).execute(connection).await? > 0 {
                note(connection, &caller, source, "server_secret.deleted", json!({})).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

async fn note(
    connection: &mut AsyncPgConnection,
    caller: &Caller,
    source: Uuid,
    action: &str,
    changes: Value,
) -> Result<()> {
    let change = Change { action, resource: "server_secret", id: &source.to_string() };
    change.note(connection, caller, changes).await
}

/// Has the current secret end after `overlap`, and those that were to end later as well; removes what has
/// ended. Gives the time when the last of them will end.
async fn retire(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    source: Uuid,
    overlap: Duration,
) -> Result<Option<OffsetDateTime>> {
    let own = || {
        server_secrets::table
            .filter(server_secrets::org_id.eq(org))
            .filter(server_secrets::source_id.eq(source))
    };
    let begin: OffsetDateTime = select(now.into_sql::<Timestamptz>()).get_result(connection).await?;
    let end = begin + overlap;
    let outlives = server_secrets::expires_at.is_null().or(server_secrets::expires_at.gt(end));
    update(own().filter(outlives)).set(server_secrets::expires_at.eq(end)).execute(connection).await?;
    delete(own().filter(server_secrets::expires_at.le(now))).execute(connection).await?;
    let ends: Vec<Option<OffsetDateTime>> = own().select(server_secrets::expires_at).load(connection).await?;
    if ends.len() >= MAX_SECRETS_IN_FORCE {
        let message =
            "Ten secrets are in force; rotate with overlap_seconds 0, or when one of them has ended.";
        return Err(ApiError::with_message(Code::LimitReached, message));
    }
    Ok(ends.into_iter().flatten().max())
}
