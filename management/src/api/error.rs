//! The one error type of the API, and its one way out: `{"error":{"code","message","fields"?}}`.

use std::{borrow::Cow, time::Duration};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use http::{HeaderValue, StatusCode, header};
use migrations::pool::{Fault, PgPoolError};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

/// When another try makes sense where nobody knows better.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a refusal is called. Names are stable: clients decide by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The body is not JSON.
    InvalidJson,
    /// A query parameter, a header or a cursor is malformed or unknown.
    InvalidParameter,
    /// The body is JSON and breaks a rule; `fields` says which ones where.
    ValidationFailed,
    /// Over 256 KiB.
    PayloadTooLarge,
    /// Not `application/json`.
    UnsupportedMediaType,
    /// The body did not arrive in time.
    RequestTimeout,
    /// No access token, or none that counts.
    InvalidToken,
    /// It was good until it expired.
    ExpiredToken,
    /// Wrong email or password, or the user is disabled: one answer for all.
    InvalidCredentials,
    /// Unknown, expired, revoked or used already.
    InvalidRefreshToken,
    /// The same refresh token was used a moment ago; whoever did has the new pair.
    ConcurrentRefresh,
    /// The user's role does not allow it.
    Forbidden,
    /// There is no such thing, or it is another organisation's.
    NotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// Something of that name is there already.
    AlreadyExists,
    /// `If-Match` names an older version.
    VersionConflict,
    /// An organisation keeps at least one owner who can log in.
    LastOwner,
    /// Something else still needs it.
    InUse,
    /// There are as many as there may be.
    LimitReached,
    /// Too many attempts; `Retry-After` says when to try again.
    RateLimited,
    /// Busy; `Retry-After` says when to try again.
    Overloaded,
    /// PostgreSQL or the core is away.
    Unavailable,
    /// A value is sealed with a key that is not configured.
    KeyUnavailable,
    /// The key that seals has done so as often as is safe.
    KeyExhausted,
    /// A defect.
    Internal,
}

impl Code {
    /// Name, status and what people read; none of it names internals.
    const fn row(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::InvalidJson => ("INVALID_JSON", S::BAD_REQUEST, "The body is not JSON."),
            Self::InvalidParameter => {
                ("INVALID_PARAMETER", S::BAD_REQUEST, "A parameter is malformed or unknown.")
            }
            Self::ValidationFailed => {
                ("VALIDATION_FAILED", S::UNPROCESSABLE_ENTITY, "Some fields are not valid.")
            }
            Self::PayloadTooLarge => ("PAYLOAD_TOO_LARGE", S::PAYLOAD_TOO_LARGE, "The body is over 256 KiB."),
            Self::UnsupportedMediaType => {
                ("UNSUPPORTED_MEDIA_TYPE", S::UNSUPPORTED_MEDIA_TYPE, "The body must be application/json.")
            }
            Self::RequestTimeout => {
                ("REQUEST_TIMEOUT", S::REQUEST_TIMEOUT, "The body did not arrive in time.")
            }
            Self::InvalidToken => {
                ("INVALID_TOKEN", S::UNAUTHORIZED, "The access token is missing or not valid.")
            }
            Self::ExpiredToken => ("EXPIRED_TOKEN", S::UNAUTHORIZED, "The access token has expired."),
            Self::InvalidCredentials => {
                ("INVALID_CREDENTIALS", S::UNAUTHORIZED, "The email address or the password is wrong.")
            }
            Self::InvalidRefreshToken => {
                ("INVALID_REFRESH_TOKEN", S::UNAUTHORIZED, "The refresh token is not valid any more.")
            }
            Self::ConcurrentRefresh => (
                "CONCURRENT_REFRESH",
                S::CONFLICT,
                "The refresh token was used a moment ago; use the new one.",
            ),
            Self::Forbidden => ("FORBIDDEN", S::FORBIDDEN, "Your role does not allow this."),
            Self::NotFound => ("NOT_FOUND", S::NOT_FOUND, "There is no such thing."),
            Self::MethodNotAllowed => {
                ("METHOD_NOT_ALLOWED", S::METHOD_NOT_ALLOWED, "This path does not have that method.")
            }
            Self::AlreadyExists => {
                ("ALREADY_EXISTS", S::CONFLICT, "Something of that name is there already.")
            }
            Self::VersionConflict => {
                ("VERSION_CONFLICT", S::CONFLICT, "It was changed in the meantime; read it again.")
            }
            Self::LastOwner => ("LAST_OWNER", S::CONFLICT, "An organisation keeps at least one owner."),
            Self::InUse => ("IN_USE", S::CONFLICT, "Something else still needs it."),
            Self::LimitReached => ("LIMIT_REACHED", S::CONFLICT, "There are as many as there may be."),
            Self::RateLimited => {
                ("RATE_LIMITED", S::TOO_MANY_REQUESTS, "Too many attempts; try again later.")
            }
            Self::Overloaded => {
                ("OVERLOADED", S::SERVICE_UNAVAILABLE, "The service is busy; try again later.")
            }
            Self::Unavailable => {
                ("UNAVAILABLE", S::SERVICE_UNAVAILABLE, "The service can't answer now; try again.")
            }
            Self::KeyUnavailable => {
                ("KEY_UNAVAILABLE", S::SERVICE_UNAVAILABLE, "It is sealed with a key that is not configured.")
            }
            Self::KeyExhausted => (
                "KEY_EXHAUSTED",
                S::SERVICE_UNAVAILABLE,
                "The encryption key has to be rotated: it seals no more.",
            ),
            Self::Internal => {
                ("INTERNAL", S::INTERNAL_SERVER_ERROR, "The service has a defect; it was logged.")
            }
        }
    }
}

/// A field that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Its path, `collect_hosts[1].url`.
    pub field: String,
    /// What is expected of it.
    pub message: String,
}

/// Why a request was not done. Nothing was changed.
#[derive(Debug)]
pub struct ApiError {
    code: Code,
    message: Option<Cow<'static, str>>,
    fields: Vec<Problem>,
    retry_after: Option<Duration>,
}

/// What handlers return.
pub type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    /// With a message of its own, which may not name internals.
    pub fn with_message(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: Some(message.into()), ..Self::from(code) }
    }

    /// `VALIDATION_FAILED` with what is wrong where.
    pub fn invalid(fields: Vec<Problem>) -> Self {
        Self { fields, ..Self::from(Code::ValidationFailed) }
    }

    /// `VALIDATION_FAILED` for one field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![Problem { field: field.into(), message: message.into() }])
    }

    /// `RATE_LIMITED` until then.
    pub fn rate_limited(retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::from(Code::RateLimited) }
    }

    /// What it is called.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self { code, message: None, fields: Vec::new(), retry_after: None }
    }
}

/// What the database says is logged here, once, and never returned.
impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        use DatabaseErrorKind as Kind;
        let code = match &error {
            // The second: what it belongs to was removed in the meantime.
            QueryError::NotFound | QueryError::DatabaseError(Kind::ForeignKeyViolation, _) => {
                return Code::NotFound.into();
            }
            QueryError::DatabaseError(Kind::UniqueViolation, _) => return Code::AlreadyExists.into(),
            _ if Fault::of(&error) != Fault::Other => Code::Unavailable,
            // The connection broke, or the server ends it.
            QueryError::DatabaseError(Kind::Unknown, information)
                if information.message().contains("terminating connection") =>
            {
                Code::Unavailable
            }
            QueryError::BrokenTransactionManager | QueryError::RollbackErrorOnCommit { .. } => {
                Code::Unavailable
            }
            _ => Code::Internal,
        };
        if code == Code::Internal {
            tracing::error!(%error, "postgres");
        } else {
            tracing::warn!(%error, "postgres");
        }
        code.into()
    }
}

impl From<PgPoolError> for ApiError {
    fn from(error: PgPoolError) -> Self {
        tracing::warn!(%error, "postgres pool");
        Code::Unavailable.into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (name, status, usual) = self.code.row();
        let message = self.message.as_deref().unwrap_or(usual);
        let error = match &self.fields {
            none if none.is_empty() => json!({ "code": name, "message": message }),
            fields => json!({ "code": name, "message": message, "fields": fields }),
        };
        let mut response = (status, Json(json!({ "error": error }))).into_response();
        let headers = response.headers_mut();
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            let seconds = self.retry_after.unwrap_or(RETRY_AFTER).as_millis().div_ceil(1000);
            headers
                .insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// For the API's document.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Serialize, ToSchema)]
struct ErrorDetail {
    /// Stable, `UPPER_SNAKE`.
    code: String,
    /// For people.
    message: String,
    /// Of `VALIDATION_FAILED`.
    fields: Option<Vec<Problem>>,
}
