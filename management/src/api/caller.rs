//! Callers, and where their requests come from.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::extract::{ConnectInfo, FromRef, FromRequestParts};
use http::{header, request::Parts};
use serve::TrustedProxies;
use uuid::Uuid;

use super::{
    error::{ApiError, Code, Result},
    permission::Role,
};

/// Most characters of a User-Agent that are kept.
const MAX_USER_AGENT_CHARS: usize = 256;

/// Origin of a request, for the audit log and for throttling.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address, seen through trusted proxies.
    pub ip: IpAddr,
    /// The User-Agent header, cut.
    pub user_agent: String,
}

/// A user whose token is good, as they are now: not as they were when it was issued.
#[derive(Debug, Clone)]
pub struct Caller {
    /// ID of the user, `sub` of the token.
    pub user_id: Uuid,
    /// Organisation of the user: every statement on their behalf is bound to it.
    pub org_id: Uuid,
    /// Email address, for the audit log.
    pub email: String,
    /// Role of the user, which says what they may do.
    pub role: Role,
    /// Session that the token came of.
    pub session_id: Uuid,
    /// Place where the user calls from.
    pub origin: Origin,
}

/// Refuses unless the caller's role allows it.
pub fn require(allowed: bool) -> Result<()> {
    if allowed { Ok(()) } else { Err(Code::Forbidden.into()) }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        // The middleware has put it there, or has refused.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Code::InvalidToken.into())
    }
}

impl<S: Sync> FromRequestParts<S> for Origin
where
    Arc<TrustedProxies>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        Self::of(parts, &Arc::from_ref(state))
    }
}

impl Origin {
    /// Tells where the request with these `parts` came from. Fails where the server did not note its peer.
    pub fn of(parts: &Parts, proxies: &TrustedProxies) -> Result<Self> {
        let ConnectInfo(peer) =
            parts.extensions.get::<ConnectInfo<SocketAddr>>().copied().ok_or(Code::Internal)?;
        let ip = proxies.client(peer.ip(), &parts.headers).address;
        let agent =
            parts.headers.get(header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let agent = agent.unwrap_or_default();
        let printable = agent.chars().filter(|c| !c.is_control());
        Ok(Self { ip, user_agent: printable.take(MAX_USER_AGENT_CHARS).collect() })
    }
}
