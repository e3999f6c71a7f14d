//! Refreshing: each refresh token buys one new pair (D1 of threats.md). One UPDATE decides which of several requests
//! with the same token gets it.

use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName, sql_query,
    sql_types::{Binary, Bool, Timestamptz, Uuid as SqlUuid},
    update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use metrics::counter;
use migrations::schema::{sessions, users};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    sessions::{Ending, Pair, Session, issue, revoke, token_hash},
    tokens::{REFRESH_LIFE, Refresh},
};
use crate::{
    api::{
        audit::Change,
        caller::Origin,
        error::{ApiError, Code, Result},
    },
    state::Management,
};

/// Uses the token if nobody has, and says how it was before. `now()` is when this request began at the database: before
/// it waited for anyone, so that whoever waits for the winner overlaps with him however long that takes.
const USE: &str = "WITH used AS ( \
        UPDATE refresh_tokens t SET used_at = clock_timestamp(), successor = $5 FROM sessions s \
        WHERE t.jti = $1 AND t.org_id = $2 AND t.token_hash = $4 AND t.used_at IS NULL AND t.expires_at > now() \
            AND s.id = t.session_id AND s.user_id = $3 AND s.revoked_at IS NULL \
        RETURNING t.jti) \
    SELECT t.session_id, now() AS now, EXISTS (SELECT FROM used) AS is_ours, \
        s.revoked_at IS NOT NULL OR t.expires_at <= now() AS is_over, \
        t.used_at IS NOT NULL AND t.expires_at > now() AS was_used, \
        coalesce(t.used_at >= now() - interval '1 second', false) AND next.used_at IS NULL AS overlaps \
    FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id \
    LEFT JOIN refresh_tokens next ON next.jti = t.successor AND next.org_id = t.org_id \
    WHERE t.jti = $1 AND t.org_id = $2 AND s.user_id = $3 AND t.token_hash = $4";

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = SqlUuid)]
    session_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    now: OffsetDateTime,
    /// This request has used it.
    #[diesel(sql_type = Bool)]
    is_ours: bool,
    /// It has expired, or its session has ended.
    #[diesel(sql_type = Bool)]
    is_over: bool,
    /// Someone had used it, and it has not expired.
    #[diesel(sql_type = Bool)]
    was_used: bool,
    /// He did when this request had begun, or a second before, and has not used what he got.
    #[diesel(sql_type = Bool)]
    overlaps: bool,
}

/// The next pair of the session that `token` belongs to. A token that was used before ends every session of its user.
pub async fn refresh(state: &Management, token: &str, origin: &Origin) -> Result<Pair> {
    let rotated = rotate(state, token, origin).await;
    let outcome = match rotated.as_ref().map_err(ApiError::code) {
        Ok(Some(_)) => "rotated",
        Ok(None) => "reused",
        Err(Code::ConcurrentRefresh) => "concurrent",
        Err(Code::InvalidRefreshToken) => "refused",
        Err(_) => "error",
    };
    counter!("datafly_refreshes_total", "outcome" => outcome).increment(1);
    Ok(rotated?.ok_or(Code::InvalidRefreshToken)?)
}

/// The same; none where the token was used before, and every session has ended.
async fn rotate(state: &Management, token: &str, origin: &Origin) -> Result<Option<Pair>> {
    let claims = state.tokens.refresh(token)?;
    let hash = token_hash(token);
    let mut connection = state.connection().await?;
    connection.transaction(async |connection| decide(state, connection, &claims, &hash, origin).await).await
}

async fn decide(
    state: &Management,
    connection: &mut AsyncPgConnection,
    claims: &Refresh,
    hash: &[u8],
    origin: &Origin,
) -> Result<Option<Pair>> {
    let (org, user, successor) = (claims.org_id, claims.sub, Uuid::now_v7());
    // All that is done to someone's sessions is done under the lock of his row.
    let own = users::table.filter(users::id.eq(user)).filter(users::org_id.eq(org));
    let enabled = own.filter(users::disabled_at.is_null()).select(users::role).for_no_key_update();
    let role: Option<String> = enabled.first(connection).await.optional()?;
    let role = role.ok_or(Code::InvalidRefreshToken)?;
    let found: Option<Found> = sql_query(USE)
        .bind::<SqlUuid, _>(claims.jti)
        .bind::<SqlUuid, _>(org)
        .bind::<SqlUuid, _>(user)
        .bind::<Binary, _>(hash)
        .bind::<SqlUuid, _>(successor)
        .get_result(connection)
        .await
        .optional()?;
    let found = found.ok_or(Code::InvalidRefreshToken)?;
    if found.is_ours {
        let live = sessions::table
            .filter(sessions::id.eq(found.session_id))
            .filter(sessions::org_id.eq(org))
            .filter(sessions::revoked_at.is_null());
        let prolonged = update(live).set(sessions::expires_at.eq(found.now + REFRESH_LIFE));
        if prolonged.execute(connection).await? == 0 {
            // He has logged out meanwhile.
            return Err(Code::InvalidRefreshToken.into());
        }
        let session = Session { id: found.session_id, org, user };
        return issue(state, connection, session, &role, successor, found.now).await.map(Some);
    }
    if found.was_used && found.overlaps && !found.is_over {
        return Err(Code::ConcurrentRefresh.into());
    }
    if !found.was_used || found.overlaps {
        return Err(Code::InvalidRefreshToken.into());
    }
    revoke(connection, org, user, Ending::All).await?;
    let id = user.to_string();
    let change = Change { action: "auth.refresh_reused", resource: "user", id: &id };
    change.insert(connection, org, None, origin, json!({})).await?;
    tracing::warn!(%user, "a refresh token was used again; every session of its user has ended");
    Ok(None)
}
