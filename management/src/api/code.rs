//! Names of refusals, as data.

use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// Name of a refusal. Names are stable: clients decide by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = ErrorCode)]
pub enum Code {
    /// The body is not JSON.
    InvalidJson,
    /// A query parameter, a header or a cursor is malformed or unknown.
    InvalidParameter,
    /// The body is JSON and breaks a rule; `fields` says which ones where.
    ValidationFailed,
    /// Credentials would be sent to another host than they were given for; `fields` says which are to be given
    /// again.
    CredentialNotForHost,
    /// The body is over 256 KiB.
    PayloadTooLarge,
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The access token is missing, or does not count.
    InvalidToken,
    /// The access token was good until it expired.
    ExpiredToken,
    /// Wrong email or password, or the user is disabled: one answer for all.
    InvalidCredentials,
    /// The password is right, and users of several organisations have that address: `org` says which is meant.
    OrgNeeded,
    /// The refresh token is unknown, expired, revoked or used already.
    InvalidRefreshToken,
    /// The same refresh token was used a moment ago; the request that used it has the new pair.
    ConcurrentRefresh,
    /// The user's role does not allow it.
    Forbidden,
    /// No such thing is there, or it is another organisation's.
    NotFound,
    /// The path has other methods, but not this one.
    MethodNotAllowed,
    /// A thing of that name is there already.
    AlreadyExists,
    /// The collect host belongs to another organisation.
    HostTaken,
    /// `If-Match` names an older version.
    VersionConflict,
    /// An organisation keeps at least one owner who can log in.
    LastOwner,
    /// The thing is still needed by something else.
    InUse,
    /// The organisation has as many as it may have.
    LimitReached,
    /// Too many attempts; `Retry-After` says when to try again.
    RateLimited,
    /// The service is busy; `Retry-After` says when to try again.
    Overloaded,
    /// PostgreSQL or the core is away.
    Unavailable,
    /// A value is sealed with a key that is not configured.
    KeyUnavailable,
    /// The key that seals has done so as often as is safe.
    KeyExhausted,
    /// The service has a defect; it was logged.
    Internal,
}

impl Code {
    /// Status, and the text that people read, which names no internals.
    pub(super) const fn row(self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::InvalidJson => (S::BAD_REQUEST, "The body is not JSON."),
            Self::InvalidParameter => (S::BAD_REQUEST, "A parameter is malformed or unknown."),
            Self::ValidationFailed => (S::UNPROCESSABLE_ENTITY, "Some fields are not valid."),
            Self::CredentialNotForHost => {
                (S::UNPROCESSABLE_ENTITY, "Credentials were given for another host: give them again.")
            }
            Self::PayloadTooLarge => (S::PAYLOAD_TOO_LARGE, "The body is over 256 KiB."),
            Self::UnsupportedMediaType => (S::UNSUPPORTED_MEDIA_TYPE, "The body must be application/json."),
            Self::RequestTimeout => (S::REQUEST_TIMEOUT, "The body did not arrive in time."),
            Self::InvalidToken => (S::UNAUTHORIZED, "The access token is missing or not valid."),
            Self::ExpiredToken => (S::UNAUTHORIZED, "The access token has expired."),
            Self::InvalidCredentials => (S::UNAUTHORIZED, "The email address or the password is wrong."),
            Self::OrgNeeded => {
                (S::CONFLICT, "Several organisations have users of that address: name one in `org`.")
            }
            Self::InvalidRefreshToken => (S::UNAUTHORIZED, "The refresh token is not valid any more."),
            Self::ConcurrentRefresh => {
                (S::CONFLICT, "The refresh token was used a moment ago; use the new one.")
            }
            Self::Forbidden => (S::FORBIDDEN, "Your role does not allow this."),
            Self::NotFound => (S::NOT_FOUND, "There is no such thing."),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "This path does not have that method."),
            Self::AlreadyExists => (S::CONFLICT, "Something of that name is there already."),
            Self::HostTaken => (S::CONFLICT, "The collect host belongs to another organisation."),
            Self::VersionConflict => (S::CONFLICT, "It was changed in the meantime; read it again."),
            Self::LastOwner => (S::CONFLICT, "An organisation keeps at least one owner."),
            Self::InUse => (S::CONFLICT, "Something else still needs it."),
            Self::LimitReached => (S::CONFLICT, "There are as many as there may be."),
            Self::RateLimited => (S::TOO_MANY_REQUESTS, "Too many attempts; try again later."),
            Self::Overloaded => (S::SERVICE_UNAVAILABLE, "The service is busy; try again later."),
            Self::Unavailable => (S::SERVICE_UNAVAILABLE, "The service can't answer now; try again."),
            Self::KeyUnavailable => {
                (S::SERVICE_UNAVAILABLE, "It is sealed with a key that is not configured.")
            }
            Self::KeyExhausted => {
                (S::SERVICE_UNAVAILABLE, "The encryption key has to be rotated: it seals no more.")
            }
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "The service has a defect; it was logged."),
        }
    }
}
