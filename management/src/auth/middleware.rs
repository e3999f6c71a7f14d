//! Middleware of the API: every request is checked for its token, its session and its role before a handler
//! sees it.

use std::time::{Duration, Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{BigInt, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use http::{HeaderMap, Method, header, request::Parts};
use serve::discard;
use tokio::time::timeout;

use super::{
    Auth,
    tokens::{ACCESS_LIFE, AccessClaims, LEEWAY_SECONDS},
};
use crate::api::{
    body,
    caller::{Caller, Origin, require},
    error::{ApiError, Code, Result},
    permission::{self, Permission, Role},
};

/// Longest time that a request may take beside the arrival of its body: PostgreSQL may take a statement, and never
/// answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// The same of a dry run, which may wait for a provider: its own timeout is at most 10 s.
const DRY_RUN_DEADLINE: Duration = Duration::from_secs(12);

/// Checks every request under `/v1/admin`: 401 without a good token, 403 without the permission, 503 at the deadline.
pub async fn check(State(auth): State<Auth>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let (mut parts, body) = request.into_parts();
    let deadline = if path(&parts).ends_with("/dry-run") { DRY_RUN_DEADLINE } else { DEADLINE };
    let admitted = timeout(DEADLINE, admit(&auth, &parts)).await.unwrap_or_else(|_| Err(late()));
    let left = deadline.saturating_sub(began.elapsed());
    let request = match admitted {
        Ok(caller) => {
            caller.map(|caller| parts.extensions.insert(caller));
            body::buffered(Request::from_parts(parts, body)).await
        }
        Err(error) => {
            discard(&parts.headers, body).await;
            Err(error)
        }
    };
    match request {
        // What is begun is finished even when the client goes away. At the deadline it is dropped, which closes the
        // connection of a transaction that is open, and so rolls it back.
        Ok(request) => match tokio::spawn(timeout(left, next.run(request))).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => late().into_response(),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => ApiError::from(Code::Unavailable).into_response(),
            },
        },
        Err(error) => error.into_response(),
    }
}

/// Refuses what has taken too long.
fn late() -> ApiError {
    tracing::warn!("a request was not done in time, and is given up");
    Code::Unavailable.into()
}

/// The pattern of a request's path, `/v1/admin/sources/{id}`.
fn path(parts: &Parts) -> &str {
    parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default()
}

/// Finds who calls, where the call is not for everybody, and checks that they may.
async fn admit(auth: &Auth, parts: &Parts) -> Result<Option<Caller>> {
    // HEAD is what GET would answer, without its body.
    let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
    let needed = permission::needed(method.as_str(), path(parts)).ok_or(Code::Forbidden)?;
    if needed == Permission::Public {
        return Ok(None);
    }
    let caller = identify(auth, parts).await?;
    require(caller.role.may(needed))?;
    Ok(Some(caller))
}

/// Finds who calls, by the token of the request with these `parts`.
pub async fn identify(auth: &Auth, parts: &Parts) -> Result<Caller> {
    let origin = Origin::of(parts, &auth.proxies)?;
    let token = bearer(&parts.headers).ok_or(Code::InvalidToken)?;
    let claims = auth.tokens.access(token)?;
    caller(auth, &claims, origin).await
}

/// Finds the one bearer token; none where there are two, or another scheme.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

#[derive(QueryableByName)]
struct LiveSession {
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Text)]
    role: String,
    #[diesel(sql_type = BigInt)]
    now: i64,
}

/// Finds the user, as they are now, whose session is not revoked.
const FIND_CALLER: &str = "SELECT u.email, u.role, \
        floor(extract(epoch FROM clock_timestamp()))::bigint AS now \
    FROM sessions s JOIN users u ON u.id = s.user_id AND u.org_id = s.org_id \
    WHERE s.id = $1 AND s.user_id = $2 AND s.org_id = $3 AND s.revoked_at IS NULL AND u.disabled_at IS NULL";

/// Finds the caller with these claims, who comes from `origin`.
async fn caller(auth: &Auth, claims: &AccessClaims, origin: Origin) -> Result<Caller> {
    let mut connection = auth.connection().await?;
    let session: Option<LiveSession> = sql_query(FIND_CALLER)
        .bind::<SqlUuid, _>(claims.sid)
        .bind::<SqlUuid, _>(claims.sub)
        .bind::<SqlUuid, _>(claims.org_id)
        .get_result(&mut **connection)
        .await
        .optional()?;
    let session = session.ok_or(Code::InvalidToken)?;
    check_times(claims.iat, claims.exp, session.now)?;
    let role = Role::of(&session.role).ok_or(Code::InvalidToken)?;
    Ok(Caller {
        user_id: claims.sub,
        org_id: claims.org_id,
        email: session.email,
        role,
        session_id: claims.sid,
        origin,
    })
}

/// Refuses an access token that has expired, lives longer than one may, or comes from the future.
fn check_times(iat: i64, exp: i64, now: i64) -> Result<()> {
    if iat > now.saturating_add(LEEWAY_SECONDS) || exp.saturating_sub(iat) > ACCESS_LIFE.whole_seconds() {
        return Err(Code::InvalidToken.into());
    }
    if exp.saturating_add(LEEWAY_SECONDS) <= now { Err(Code::ExpiredToken.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_leeway_of_five_seconds() {
        let code = |iat, exp| check_times(iat, exp, 1000).err().map(|error| error.code());
        assert_eq!(code(1000, 1900), None);
        assert_eq!(code(1005, 1905), None);
        assert_eq!(code(1006, 1906), Some(Code::InvalidToken), "from the future");
        assert_eq!(code(100, 996), None);
        assert_eq!(code(95, 995), Some(Code::ExpiredToken));
        assert_eq!(code(1000, 1901), Some(Code::InvalidToken), "longer than any of ours");
        assert_eq!(code(i64::MIN, i64::MAX), Some(Code::InvalidToken));
        assert_eq!(code(i64::MIN, i64::MIN), Some(Code::ExpiredToken));
    }
}
