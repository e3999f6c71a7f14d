//! Sessions: a login, and the tokens that came of it. PostgreSQL is asked each time whether one is good, so
//! that what is revoked is dead everywhere at once.

use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl,
    dsl::{now as sql_now, sql},
    insert_into,
    sql_types::Timestamptz,
    update,
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use migrations::schema::{refresh_tokens, sessions, users};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Auth,
    tokens::{ACCESS_LIFE, AccessClaims, REFRESH_LIFE, RefreshClaims, RefreshKind},
};
use crate::api::{
    audit::Change,
    caller::Origin,
    error::{Code, Result},
};

/// A pair of tokens, and how the API answers with it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pair {
    access_token: String,
    pub(super) refresh_token: String,
    /// Type of the access token, always `Bearer`.
    token_type: &'static str,
    /// Seconds for which the access token is good.
    expires_in: i64,
}

/// Begins a session for someone who has given the password with that hash, unless they have another one by
/// now, or were disabled.
pub async fn begin(
    auth: &Auth,
    (org, user): (Uuid, Uuid),
    password_hash: &str,
    origin: &Origin,
) -> Result<Pair> {
    let mut connection = auth.connection().await?;
    connection
        .transaction(async |connection| {
            let own = users::table.filter(users::id.eq(user)).filter(users::org_id.eq(org));
            let unchanged =
                own.filter(users::password_hash.eq(password_hash)).filter(users::disabled_at.is_null());
            // Whoever changes one of these waits for this, and ends the session then.
            let found: Option<(String, String, OffsetDateTime)> = unchanged
                .select((users::email, users::role, sql::<Timestamptz>("now()")))
                .for_no_key_update()
                .first(connection)
                .await
                .optional()?;
            let (email, role, now) = found.ok_or(Code::InvalidCredentials)?;
            update(own).set(users::last_login_at.eq(now)).execute(connection).await?;
            let session = Session { id: Uuid::now_v7(), org, user };
            insert_into(sessions::table)
                .values((
                    sessions::id.eq(session.id),
                    sessions::org_id.eq(org),
                    sessions::user_id.eq(user),
                    sessions::expires_at.eq(now + REFRESH_LIFE),
                ))
                .execute(connection)
                .await?;
            let id = user.to_string();
            Change { action: "auth.login", resource: "user", id: &id }
                .insert(connection, org, Some((user, &email)), origin, json!({}))
                .await?;
            let jti = Uuid::now_v7();
            let pair = sign(auth, session, &role, jti, now)?;
            insert_into(refresh_tokens::table)
                .values((
                    refresh_tokens::jti.eq(jti),
                    refresh_tokens::org_id.eq(org),
                    refresh_tokens::session_id.eq(session.id),
                    refresh_tokens::token_hash.eq(token_hash(&pair.refresh_token)),
                    refresh_tokens::expires_at.eq(now + REFRESH_LIFE),
                ))
                .execute(connection)
                .await?;
            Ok(pair)
        })
        .await
}

/// Session of a user, from login to logout.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    pub(super) id: Uuid,
    pub(super) org: Uuid,
    pub(super) user: Uuid,
}

/// Signs a pair of a session, of which the refresh token has the ID `jti`.
pub(super) fn sign(
    auth: &Auth,
    session: Session,
    role: &str,
    jti: Uuid,
    now: OffsetDateTime,
) -> Result<Pair> {
    let (sub, org_id, iat) = (session.user, session.org, now.unix_timestamp());
    let exp = iat + ACCESS_LIFE.whole_seconds();
    let access = AccessClaims { sub, org_id, role: role.to_owned(), exp, iat, sid: session.id };
    let exp = iat + REFRESH_LIFE.whole_seconds();
    let refresh = RefreshClaims { sub, org_id, kind: RefreshKind::Refresh, exp, iat, jti };
    Ok(Pair {
        access_token: auth.tokens.sign(&access)?,
        refresh_token: auth.tokens.sign(&refresh)?,
        token_type: "Bearer",
        expires_in: ACCESS_LIFE.whole_seconds(),
    })
}

/// Hash of a refresh token, which is all that is stored of it.
pub(super) fn token_hash(token: &str) -> Vec<u8> {
    Sha256::digest(token).to_vec()
}

/// Sessions of a user that are to end.
#[derive(Debug, Clone, Copy)]
pub enum Ending {
    /// Ends all sessions of the user.
    All,
    /// Ends that session alone.
    Only(Uuid),
    /// Ends all sessions but that one.
    AllBut(Uuid),
}

/// Ends sessions of a user, for good. More than one only under the lock of the user's row, so that nobody
/// waits for anybody in turn.
pub async fn revoke(connection: &mut AsyncPgConnection, org: Uuid, user: Uuid, which: Ending) -> Result<()> {
    let all = update(sessions::table)
        .filter(sessions::org_id.eq(org))
        .filter(sessions::user_id.eq(user))
        .filter(sessions::revoked_at.is_null())
        .set(sessions::revoked_at.eq(sql_now));
    match which {
        Ending::All => all.execute(connection).await?,
        Ending::Only(session) => all.filter(sessions::id.eq(session)).execute(connection).await?,
        Ending::AllBut(session) => all.filter(sessions::id.ne(session)).execute(connection).await?,
    };
    Ok(())
}
