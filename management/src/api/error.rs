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
use utoipa::ToSchema;

pub use super::code::Code;

/// Time after which another try makes sense, where nobody knows better.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A field that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Path of the field, `collect_hosts[1].url`.
    pub field: String,
    /// Text that says what is expected of the field.
    pub message: String,
}

/// A refusal: why a request was not done. Nothing was changed.
#[derive(Debug)]
pub struct ApiError {
    code: Code,
    message: Option<Cow<'static, str>>,
    fields: Vec<Problem>,
    retry_after: Option<Duration>,
}

/// The result that handlers return.
pub type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    /// Makes a refusal with a message of its own, which may not name internals.
    pub fn with_message(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: Some(message.into()), ..Self::from(code) }
    }

    /// Makes `VALIDATION_FAILED`, with what is wrong where.
    pub fn invalid(fields: Vec<Problem>) -> Self {
        Self { fields, ..Self::from(Code::ValidationFailed) }
    }

    /// Makes `CREDENTIAL_NOT_FOR_HOST`, with what has to be given again.
    pub fn not_for_host(fields: Vec<Problem>) -> Self {
        Self { fields, ..Self::from(Code::CredentialNotForHost) }
    }

    /// Makes `VALIDATION_FAILED` for one field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![Problem { field: field.into(), message: message.into() }])
    }

    /// Makes `RATE_LIMITED`, which tells the caller to come again after `retry_after`.
    pub fn rate_limited(retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::from(Code::RateLimited) }
    }

    /// Name of the refusal.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Fields that are not as they should be.
    #[cfg(test)]
    pub fn fields(&self) -> &[Problem] {
        &self.fields
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self { code, message: None, fields: Vec::new(), retry_after: None }
    }
}

/// Logs what the database says, once, and returns none of it.
impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        use DatabaseErrorKind as Kind;
        let code = match &error {
            // The second: what it belongs to was removed in the meantime.
            QueryError::NotFound | QueryError::DatabaseError(Kind::ForeignKeyViolation, _) => {
                return Code::NotFound.into();
            }
            QueryError::DatabaseError(Kind::UniqueViolation, information)
                if information.constraint_name() == Some("collect_hosts_of_one_org") =>
            {
                let host = information.details().unwrap_or_default();
                let message = format!("The collect host {host} belongs to another organisation.");
                return Self::with_message(Code::HostTaken, message);
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
        let (status, usual) = self.code.row();
        let error = ErrorDetail {
            code: self.code,
            message: self.message.unwrap_or(Cow::Borrowed(usual)),
            fields: self.fields,
        };
        let mut response = (status, Json(ErrorBody { error })).into_response();
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

/// Body of a refusal.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Serialize, ToSchema)]
struct ErrorDetail {
    /// Name of the refusal, to decide by.
    code: Code,
    /// Text that people read.
    #[schema(value_type = String)]
    message: Cow<'static, str>,
    /// Fields that are not valid, where `code` is `VALIDATION_FAILED`, or have to be given again, where it is
    /// `CREDENTIAL_NOT_FOR_HOST`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Problem>,
}
