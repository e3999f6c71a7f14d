//! The one exit for errors: `{"error":{"code","message"}}`, with the status of the reason table.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use proto::{Reason, reason_of, v1::ErrorReason};
use serde::{Serialize, Serializer};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use utoipa::ToSchema;

/// Refusal as it is told over HTTP.
#[derive(Debug, Clone)]
pub struct ApiError {
    reason: &'static Reason,
    /// Text that replaces the reason's own.
    message: Option<String>,
    /// Delay until another try makes sense, sent with 429 and 503.
    retry_after: Duration,
}

impl ApiError {
    /// Error of `reason` with a text of its own, which must name no internals.
    pub fn new(reason: ErrorReason, message: impl Into<Option<String>>) -> Self {
        Self { reason: Reason::of(reason), message: message.into(), retry_after: Duration::from_secs(1) }
    }

    /// Error of `reason` after which another try makes sense in `delay`.
    pub fn after(reason: ErrorReason, delay: Duration) -> Self {
        Self { retry_after: delay, ..reason.into() }
    }

    /// Reason of the refusal.
    pub fn reason(&self) -> ErrorReason {
        self.reason.reason
    }

    /// Whole seconds until another try makes sense, at least one; sent with 429 and 503.
    pub fn retry_after(&self) -> u64 {
        u64::try_from(self.retry_after.as_millis().div_ceil(1000).max(1)).unwrap_or(u64::MAX)
    }

    /// Stable name of the reason, `INVALID_EVENT`.
    pub fn code(&self) -> &'static str {
        self.reason.name()
    }

    fn message(&self) -> &str {
        self.message.as_deref().unwrap_or(self.reason.message)
    }

    /// Status of the answer.
    pub fn status(&self) -> StatusCode {
        self.reason.http
    }
}

impl From<ErrorReason> for ApiError {
    fn from(reason: ErrorReason) -> Self {
        Self::new(reason, None)
    }
}

/// Passes on what the core refused. A failure between us and the core, or inside it, is 503: neither the
/// visitor nor the customer can do anything about it but try again.
impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        let reason = reason_of(&status).map(|row| row.reason);
        let mut answer = match (reason, status.code()) {
            (Some(ErrorReason::InvalidServiceToken | ErrorReason::RoleNotAllowed), _) => {
                serve::warn_on_change!(ERROR, "the core refuses SERVICE_TOKEN");
                ErrorReason::Unavailable.into()
            }
            (Some(ErrorReason::Internal), _) => ErrorReason::Unavailable.into(),
            (Some(reason), _) => Self::new(reason, status.message().to_owned()),
            (None, Code::Unimplemented) => ErrorReason::NotImplemented.into(),
            (None, _) => Self::from(ErrorReason::Unavailable),
        };
        if let Some(delay) = status.get_details_retry_info().and_then(|info| info.retry_delay) {
            answer.retry_after = delay;
        }
        answer
    }
}

/// Refusal as it is written, in the list of a batch's errors too.
#[derive(Serialize, ToSchema)]
pub struct Refusal<'a> {
    /// Stable name of the reason, such as `INVALID_EVENT`.
    code: &'static str,
    /// Text for whoever reads it.
    message: &'a str,
}

/// Body of every answer that is an error.
#[derive(ToSchema)]
#[schema(as = Error)]
#[expect(dead_code, reason = "serve::error_body writes it")]
pub struct ErrorBody<'a> {
    error: Refusal<'a>,
}

impl Serialize for ApiError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Refusal { code: self.code(), message: self.message() }.serialize(serializer)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = serve::error_body(self.reason.http, self.code(), self.message());
        if matches!(self.reason.http, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after()));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_core_that_fails_is_503_and_a_refusal_is_passed_on() {
        for status in
            [Status::cancelled("x"), Status::unknown("x"), Reason::of(ErrorReason::Internal).status(None)]
        {
            let response = ApiError::from(status).into_response();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        }
        let refused = Reason::of(ErrorReason::InvalidPipelineKey).status(None);
        assert_eq!(ApiError::from(refused).status(), StatusCode::UNAUTHORIZED);
        // Our own token is not the customer's fault.
        let token = Reason::of(ErrorReason::InvalidServiceToken).status(None);
        assert_eq!(ApiError::from(token).status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn retry_after_is_what_the_core_says_in_whole_seconds() {
        let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(2100)));
        details.set_error_info("OVERLOADED", proto::ERROR_DOMAIN, []);
        let status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        assert_eq!(ApiError::from(status).into_response().headers()[header::RETRY_AFTER], "3");
    }
}
