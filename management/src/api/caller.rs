//! Who is calling: every request is checked for its token, its session and its role before a handler sees it.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, header, request::Parts};
use uuid::Uuid;

use super::{
    error::{ApiError, Code, Result},
    permission::{self, Permission, Role},
};
use crate::{auth::sessions, state::Management};

/// Bytes of a User-Agent that are kept.
const MAX_USER_AGENT: usize = 256;

/// Where a request came from, for the audit log and for throttling.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address, seen through trusted proxies.
    pub ip: IpAddr,
    /// The User-Agent header, cut.
    pub user_agent: String,
}

/// A user whose token is good, as he is now: not as he was when it was issued.
#[derive(Debug, Clone)]
pub struct Caller {
    /// `sub`.
    pub user_id: Uuid,
    /// Every statement on his behalf is bound to it.
    pub org_id: Uuid,
    /// For the audit log.
    pub email: String,
    /// What he is.
    pub role: Role,
    /// The login that the token came of.
    pub session_id: Uuid,
    /// Where he calls from.
    pub origin: Origin,
}

/// Refuses unless the caller's role allows it.
pub fn require(allowed: bool) -> Result<()> {
    if allowed { Ok(()) } else { Err(Code::Forbidden.into()) }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        // `check` has put it there, or has refused.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Code::InvalidToken.into())
    }
}

impl FromRequestParts<Management> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Management) -> Result<Self> {
        let ConnectInfo(peer) =
            parts.extensions.get::<ConnectInfo<SocketAddr>>().copied().ok_or(Code::Internal)?;
        let ip = state.proxies.client(peer.ip(), &parts.headers);
        let agent =
            parts.headers.get(header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let agent = agent.unwrap_or_default();
        let printable = agent.chars().filter(|c| !c.is_control());
        Ok(Self { ip, user_agent: printable.take(MAX_USER_AGENT).collect() })
    }
}

/// Middleware of every route under `/v1/admin`: 401 without a good token, 403 without the permission.
pub async fn check(State(state): State<Management>, request: Request, next: Next) -> Response {
    match admit(&state, request).await {
        // What is begun is finished even when the client goes away: a handler is never dropped half-way.
        Ok(request) => match tokio::spawn(next.run(request)).await {
            Ok(response) => response,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => ApiError::from(Code::Unavailable).into_response(),
            },
        },
        Err(error) => error.into_response(),
    }
}

async fn admit(state: &Management, request: Request) -> Result<Request> {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    // HEAD is what GET would answer, without its body.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let needed = permission::needed(method.as_str(), path).ok_or(Code::Forbidden)?;
    if needed == Permission::Public {
        return Ok(request);
    }
    let (mut parts, body) = request.into_parts();
    let origin = Origin::from_request_parts(&mut parts, state).await?;
    let token = bearer(&parts.headers).ok_or(Code::InvalidToken)?;
    let claims = state.tokens.access(token)?;
    let caller = sessions::caller(state, &claims, origin).await?;
    require(caller.role.may(needed))?;
    parts.extensions.insert(caller);
    Ok(Request::from_parts(parts, body))
}

/// The one bearer token; none where there are two, or another scheme.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
