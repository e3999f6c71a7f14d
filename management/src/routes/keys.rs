//! Pipeline keys: a page or an app names its source with one. They are public, so they are kept and shown as they
//! are.

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper, dsl::now,
    insert_into, update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{rows::PipelineKey, schema::pipeline_keys};
use rand::distr::{Alphanumeric, SampleString};
use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};
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
        limit::limit,
        page::{Page, Paged},
        permission::Permission,
        query::{Id, Query, Under},
    },
    state::Management,
};

/// Most keys of one source that are not revoked. Every core holds them all in memory.
const MAX_ACTIVE_KEYS: i64 = 20;
/// Characters of `[A-Za-z0-9]` behind the prefix: 190 bits.
const RANDOM_CHARS: usize = 32;
/// Characters of a key that it is recognised by; all but four of them are the prefix.
const HINT_CHARS: usize = 12;
/// Worlds that the data of a key may go to.
const ENVIRONMENTS: [&str; 2] = ["live", "test"];

time::serde::format_description!(day, Date, "[year]-[month]-[day]");

/// Input about what a key is to be for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyInput {
    /// World of the key: `live`, or `test`, whose data is kept apart.
    #[schema(pattern = "^(live|test)$")]
    environment: String,
    /// True where the environment's older keys are to stay good, until they are revoked. Otherwise they are refused
    /// within a second, which owners and admins may do.
    #[serde(default)]
    keep_existing: bool,
}

/// A key of a source.
#[derive(Debug, Serialize, Queryable, Selectable, ToSchema)]
#[diesel(table_name = pipeline_keys, check_for_backend(diesel::pg::Pg))]
pub struct KeyView {
    id: Uuid,
    /// World of the key, `live` or `test`.
    environment: String,
    /// The key itself, `dk_live_…` or `dk_test_…`. Null of one that was issued when only a hash was kept.
    key: Option<String>,
    /// First characters of the key, to recognise it by.
    hint: String,
    /// The day (UTC) when it was last seen in use. Null: never.
    #[serde(with = "day::option")]
    last_used_on: Option<Date>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Time since when the key is refused. Null: it is good.
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
}

/// A new key, and the keys that it took the place of.
#[derive(Serialize, ToSchema)]
pub struct IssuedKey {
    #[serde(flatten)]
    view: KeyView,
    /// Keys that ended with it, oldest first.
    ended: Vec<EndedKey>,
}

/// A key that ended as another was issued.
#[derive(Debug, Serialize, Queryable, Selectable, ToSchema)]
#[diesel(table_name = pipeline_keys, check_for_backend(diesel::pg::Pg))]
pub struct EndedKey {
    id: Uuid,
    /// First characters of the key, to recognise it by.
    hint: String,
    /// The day (UTC) when it was last seen in use. Null: never.
    #[serde(with = "day::option")]
    last_used_on: Option<Date>,
}

/// Lists a source's keys, also the revoked ones, oldest first.
#[utoipa::path(get, path = "/v1/admin/sources/{id}/keys", tag = "keys", params(("id" = Uuid, Path), Page),
    responses((status = 200, body = Paged<KeyView>)))]
pub async fn list(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
    Query(page): Query<Page>,
) -> Result<Json<Paged<KeyView>>> {
    let mut connection = state.connection().await?;
    sources::exists(&mut connection, caller.org_id, source).await?;
    let mut query = pipeline_keys::table
        .filter(pipeline_keys::org_id.eq(caller.org_id))
        .filter(pipeline_keys::source_id.eq(source))
        .order(pipeline_keys::id)
        .limit(page.rows())
        .select(KeyView::as_select())
        .into_boxed();
    if let Some(after) = page.after::<Uuid>()? {
        query = query.filter(pipeline_keys::id.gt(after));
    }
    let keys = query.load(&mut **connection).await?;
    Ok(Json(page.of(keys, |key: &KeyView| key.id.to_string())))
}

/// Issues a key, and ends the older ones of its environment at once; with `keep_existing` they stay, so that pages can
/// be moved to the new one before the old ones are revoked.
#[utoipa::path(post, path = "/v1/admin/sources/{id}/keys", tag = "keys", request_body = KeyInput,
    params(("id" = Uuid, Path)), responses((status = 201, body = IssuedKey),
        (status = 403, description = "It would end others, which is for owners and admins."),
        (status = 409, description = "The source has 20 keys that are not revoked.")))]
pub async fn issue(
    State(state): State<Management>,
    caller: Caller,
    Id(source): Id,
    Body(input): Body<KeyInput>,
) -> Result<(StatusCode, Json<IssuedKey>)> {
    let mut wrong = Fields::default();
    wrong.one_of("environment", &input.environment, &ENVIRONMENTS);
    wrong.done()?;
    let key =
        format!("dk_{}_{}", input.environment, Alphanumeric.sample_string(&mut rand::rng(), RANDOM_CHARS));
    let (id, org) = (Uuid::now_v7(), caller.org_id);
    let row = PipelineKey {
        id,
        org_id: org,
        source_id: source,
        environment: input.environment,
        hint: key.chars().take(HINT_CHARS).collect(),
        key: Some(key),
        key_hash: None,
        revoked_at: None,
    };
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, org, source).await?;
            let ended = if input.keep_existing { Vec::new() } else { end(connection, &caller, &row).await? };
            let good = pipeline_keys::table
                .filter(pipeline_keys::org_id.eq(org))
                .filter(pipeline_keys::source_id.eq(source))
                .filter(pipeline_keys::revoked_at.is_null());
            limit(good.count().get_result(connection).await?, MAX_ACTIVE_KEYS)?;
            let made = insert_into(pipeline_keys::table).values(row).returning(KeyView::as_returning());
            let issued = IssuedKey { view: made.get_result(connection).await?, ended };
            let change = Change { action: "key.issued", resource: "key", id: &id.to_string() };
            change.record(connection, &caller, None, Some(&issued)).await?;
            Ok((StatusCode::CREATED, Json(issued)))
        })
        .await
}

/// Revokes the good keys of the environment that `new` is for.
async fn end(
    connection: &mut AsyncPgConnection,
    caller: &Caller,
    new: &PipelineKey,
) -> Result<Vec<EndedKey>> {
    let older = pipeline_keys::table
        .filter(pipeline_keys::org_id.eq(new.org_id))
        .filter(pipeline_keys::source_id.eq(new.source_id))
        .filter(pipeline_keys::environment.eq(&new.environment))
        .filter(pipeline_keys::revoked_at.is_null());
    let revoked = update(older).set(pipeline_keys::revoked_at.eq(now)).returning(EndedKey::as_returning());
    let mut ended: Vec<EndedKey> = revoked.get_results(connection).await?;
    if !ended.is_empty() && !caller.role.may(Permission::DeleteSettings) {
        let whose = "To end keys is for owners and admins; with keep_existing the older ones stay.";
        return Err(ApiError::with_message(Code::Forbidden, whose));
    }
    ended.sort_unstable_by_key(|key| key.id);
    Ok(ended)
}

/// Revokes a key: calls with it are refused within a second. Revoking one twice is no error.
#[utoipa::path(delete, path = "/v1/admin/sources/{id}/keys/{key_id}", tag = "keys",
    params(("id" = Uuid, Path), ("key_id" = Uuid, Path)), responses((status = 204)))]
pub async fn revoke(
    State(state): State<Management>,
    caller: Caller,
    Under(source, key): Under<Uuid>,
) -> Result<StatusCode> {
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            let own = pipeline_keys::table
                .filter(pipeline_keys::org_id.eq(caller.org_id))
                .filter(pipeline_keys::source_id.eq(source))
                .filter(pipeline_keys::id.eq(key));
            let before: KeyView = own.select(KeyView::as_select()).for_update().first(connection).await?;
            let revoked = update(own.filter(pipeline_keys::revoked_at.is_null()))
                .set(pipeline_keys::revoked_at.eq(now))
                .returning(KeyView::as_returning())
                .get_result(connection);
            let after: Option<KeyView> = revoked.await.optional()?;
            if let Some(after) = after {
                let change = Change { action: "key.revoked", resource: "key", id: &key.to_string() };
                change.record(connection, &caller, Some(&before), Some(&after)).await?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}
