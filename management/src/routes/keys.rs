//! Pipeline keys: a page or an app names its source with one. They are public, and only told once all the
//! same: a hash is kept.

use axum::{Json, extract::State};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, Queryable, Selectable, SelectableHelper, dsl::now,
    insert_into, update,
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use http::StatusCode;
use migrations::{
    rows::{PipelineKey, hash_pipeline_key},
    schema::pipeline_keys,
};
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
        error::Result,
        fields::Fields,
        limit::limit,
        page::{Page, Paged},
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
}

/// A key, without the key itself.
#[derive(Debug, Serialize, Queryable, Selectable, ToSchema)]
#[diesel(table_name = pipeline_keys, check_for_backend(diesel::pg::Pg))]
pub struct KeyView {
    id: Uuid,
    /// World of the key, `live` or `test`.
    environment: String,
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

/// A new key, with the key itself.
#[derive(Serialize, ToSchema)]
pub struct IssuedKey {
    /// The key itself: `dk_live_…` or `dk_test_…`. It is never shown again.
    key: String,
    #[serde(flatten)]
    view: KeyView,
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

/// Issues a key, beside those that there are: a page can be moved to the new one before the old one is
/// revoked.
#[utoipa::path(post, path = "/v1/admin/sources/{id}/keys", tag = "keys", request_body = KeyInput,
    params(("id" = Uuid, Path)), responses((status = 201, body = IssuedKey),
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
    let row = PipelineKey {
        id: Uuid::now_v7(),
        org_id: caller.org_id,
        source_id: source,
        environment: input.environment,
        key_hash: hash_pipeline_key(&key).to_vec(),
        hint: key.chars().take(HINT_CHARS).collect(),
        revoked_at: None,
    };
    let mut connection = state.connection().await?;
    connection
        .transaction(async |connection| {
            sources::lock(connection, caller.org_id, source).await?;
            let good = pipeline_keys::table
                .filter(pipeline_keys::org_id.eq(caller.org_id))
                .filter(pipeline_keys::source_id.eq(source))
                .filter(pipeline_keys::revoked_at.is_null());
            let number: i64 = good.count().get_result(connection).await?;
            limit(number, MAX_ACTIVE_KEYS)?;
            let made = insert_into(pipeline_keys::table).values(row).returning(KeyView::as_returning());
            let view: KeyView = made.get_result(connection).await?;
            let change = Change { action: "key.issued", resource: "key", id: &view.id.to_string() };
            change.record(connection, &caller, None, Some(&view)).await?;
            Ok((StatusCode::CREATED, Json(IssuedKey { key, view })))
        })
        .await
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
