//! Refreshing: a refresh token buys one new pair, once. One UPDATE decides which of several requests with the
//! same token gets it. A token that was used before ends every session of its user, unless the two uses
//! overlap: within a second, and nobody has used what the first one got. Once its own session has ended, it
//! ends no other one any more: who has found an old token can't keep logging its user out. Whatever they do, a
//! pair is worth nothing once its session has ended.

use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName, sql_query,
    sql_types::{Binary, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use metrics::counter;
use migrations::schema::{sessions, users};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Auth,
    sessions::{Ending, Pair, Session, revoke, sign, token_hash},
    throttle,
    tokens::{REFRESH_LIFE, RefreshClaims},
};
use crate::api::{
    audit::Change,
    caller::Origin,
    error::{ApiError, Code, Result},
};

/// Finds a token. The time of its use is compared with $5, or with now where there is none.
const FIND_TOKEN: &str = "SELECT t.session_id, u.role, now() AS now, \
        s.revoked_at IS NOT NULL OR u.disabled_at IS NOT NULL OR t.expires_at <= now() AS is_over, \
        t.used_at IS NOT NULL AND t.expires_at > now() AS was_used, \
        coalesce(t.used_at >= coalesce($5, now()) - interval '1 second', false) AND next.used_at IS NULL AS overlaps \
    FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id AND s.org_id = t.org_id \
    JOIN users u ON u.id = s.user_id AND u.org_id = s.org_id \
    LEFT JOIN refresh_tokens next ON next.jti = t.successor AND next.org_id = t.org_id \
    WHERE t.jti = $1 AND t.org_id = $2 AND s.user_id = $3 AND t.token_hash = $4";

#[derive(Debug, QueryableByName)]
struct FoundToken {
    #[diesel(sql_type = SqlUuid)]
    session_id: Uuid,
    #[diesel(sql_type = Text)]
    role: String,
    #[diesel(sql_type = Timestamptz)]
    now: OffsetDateTime,
    /// True where the token has expired, or its session has ended.
    #[diesel(sql_type = Bool)]
    is_over: bool,
    /// True where someone has used the token, and it has not expired.
    #[diesel(sql_type = Bool)]
    was_used: bool,
    /// True where that was within the second before, or later, and the new token was not used yet.
    #[diesel(sql_type = Bool)]
    overlaps: bool,
}

/// Uses the token if nobody has, and stores its successor. Locks the user, then the session, then the token,
/// as whatever ends or removes them does.
const EXCHANGE_TOKEN: &str = "WITH owner AS MATERIALIZED ( \
        SELECT id FROM users WHERE id = $3 AND org_id = $2 AND disabled_at IS NULL FOR KEY SHARE), \
    live AS MATERIALIZED ( \
        SELECT s.id FROM sessions s JOIN owner ON s.user_id = owner.id \
        WHERE s.id = $5 AND s.org_id = $2 AND s.revoked_at IS NULL FOR NO KEY UPDATE OF s), \
    used AS ( \
        UPDATE refresh_tokens t SET used_at = clock_timestamp(), successor = $6 FROM live \
        WHERE t.jti = $1 AND t.org_id = $2 AND t.token_hash = $4 AND t.session_id = live.id \
            AND t.used_at IS NULL AND t.expires_at > now() \
        RETURNING t.session_id), \
    prolonged AS (UPDATE sessions s SET expires_at = $8 FROM used WHERE s.id = used.session_id) \
    INSERT INTO refresh_tokens (jti, org_id, session_id, token_hash, expires_at) \
    SELECT $6, $2, session_id, $7, $8 FROM used";

/// Gives the next pair of the session that `token` belongs to. A token that was used before ends every
/// session of its user. Refusals of tokens that are ours count for the network as failed logins do.
pub async fn refresh(auth: &Auth, token: &str, origin: &Origin) -> Result<Pair> {
    let rotated = throttled(auth, token, origin).await;
    let outcome = match rotated.as_ref().map_err(ApiError::code) {
        Ok(Some(_)) => "rotated",
        Ok(None) => "reused",
        Err(Code::ConcurrentRefresh) => "concurrent",
        Err(Code::InvalidRefreshToken) => "refused",
        Err(Code::RateLimited) => "throttled",
        Err(_) => "error",
    };
    counter!("datafly_refreshes_total", "outcome" => outcome).increment(1);
    Ok(rotated?.ok_or(Code::InvalidRefreshToken)?)
}

/// Does the work of [`refresh`]; none where the token was used before, and every session has ended.
async fn throttled(auth: &Auth, token: &str, origin: &Origin) -> Result<Option<Pair>> {
    // A token that we have not signed asks nothing of PostgreSQL, and so is not counted there.
    let claims = auth.tokens.refresh(token)?;
    let mut connection = auth.connection().await?;
    throttle::check_network(&mut connection, origin.ip).await?;
    let rotated = rotate(auth, &mut connection, &claims, token, origin).await;
    if matches!(rotated.as_ref().map_err(ApiError::code), Ok(None) | Err(Code::InvalidRefreshToken)) {
        throttle::count_network(&mut connection, origin.ip).await?;
    }
    rotated
}

async fn rotate(
    auth: &Auth,
    connection: &mut AsyncPgConnection,
    claims: &RefreshClaims,
    token: &str,
    origin: &Origin,
) -> Result<Option<Pair>> {
    let hash = token_hash(token);
    let mut found = look(connection, claims, &hash, None).await?;
    if !found.was_used && !found.is_over {
        if let Some(pair) = exchange(auth, connection, claims, &hash, &found).await? {
            return Ok(Some(pair));
        }
        // Someone else has it, or the session has ended. However long it took to wait for them: this request
        // overlaps with theirs if it began before, or within a second.
        found = look(connection, claims, &hash, Some(found.now)).await?;
    }
    match (found.was_used && !found.is_over, found.overlaps) {
        (true, true) => Err(Code::ConcurrentRefresh.into()),
        (true, false) if end_all(connection, claims, found.session_id, origin).await? => Ok(None),
        _ => Err(Code::InvalidRefreshToken.into()),
    }
}

async fn look(
    connection: &mut AsyncPgConnection,
    claims: &RefreshClaims,
    hash: &[u8],
    began: Option<OffsetDateTime>,
) -> Result<FoundToken> {
    let found: Option<FoundToken> = sql_query(FIND_TOKEN)
        .bind::<SqlUuid, _>(claims.jti)
        .bind::<SqlUuid, _>(claims.org_id)
        .bind::<SqlUuid, _>(claims.sub)
        .bind::<Binary, _>(hash)
        .bind::<Nullable<Timestamptz>, _>(began)
        .get_result(connection)
        .await
        .optional()?;
    Ok(found.ok_or(Code::InvalidRefreshToken)?)
}

/// Gives the next pair, unless someone was faster.
async fn exchange(
    auth: &Auth,
    connection: &mut AsyncPgConnection,
    claims: &RefreshClaims,
    hash: &[u8],
    found: &FoundToken,
) -> Result<Option<Pair>> {
    let session = Session { id: found.session_id, org: claims.org_id, user: claims.sub };
    let successor = Uuid::now_v7();
    let pair = sign(auth, session, &found.role, successor, found.now)?;
    let stored = sql_query(EXCHANGE_TOKEN)
        .bind::<SqlUuid, _>(claims.jti)
        .bind::<SqlUuid, _>(claims.org_id)
        .bind::<SqlUuid, _>(claims.sub)
        .bind::<Binary, _>(hash)
        .bind::<SqlUuid, _>(session.id)
        .bind::<SqlUuid, _>(successor)
        .bind::<Binary, _>(token_hash(&pair.refresh_token))
        .bind::<Timestamptz, _>(found.now + REFRESH_LIFE)
        .execute(connection)
        .await?;
    Ok((stored == 1).then_some(pair))
}

/// Ends every session of the user, as two have had one token. False where the token's own session, `session`, has
/// ended meanwhile: then nothing more ends.
async fn end_all(
    connection: &mut AsyncPgConnection,
    claims: &RefreshClaims,
    session: Uuid,
    origin: &Origin,
) -> Result<bool> {
    let (org, user) = (claims.org_id, claims.sub);
    connection
        .transaction(async |connection| {
            let own = users::table.filter(users::id.eq(user)).filter(users::org_id.eq(org));
            own.select(users::id).for_no_key_update().first::<Uuid>(connection).await?;
            let live = sessions::table
                .filter(sessions::id.eq(session))
                .filter(sessions::org_id.eq(org))
                .filter(sessions::revoked_at.is_null());
            if live.select(sessions::id).first::<Uuid>(connection).await.optional()?.is_none() {
                return Ok(false);
            }
            tracing::warn!(%user, "a refresh token was used again; every session of its user ends");
            revoke(connection, org, user, Ending::All).await?;
            let id = user.to_string();
            let change = Change { action: "auth.refresh_reused", resource: "user", id: &id };
            change.insert(connection, org, None, origin, json!({})).await?;
            Ok(true)
        })
        .await
}
