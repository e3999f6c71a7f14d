//! Error reasons as data: one row says which gRPC code, HTTP status and public message a reason has.

use std::{collections::HashMap, time::Duration};

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::v1::ErrorReason;

/// `google.rpc.ErrorInfo.domain` of every refusal.
pub const ERROR_DOMAIN: &str = "identity.dataflysignal.com";

/// Delay after which another try makes sense where a refusal says OVERLOADED.
const OVERLOADED_DELAY: Duration = Duration::from_secs(1);

/// A row of the table: what a reason means to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// The reason that the row is about.
    pub reason: ErrorReason,
    /// The status code over gRPC.
    pub grpc: Code,
    /// The status code over HTTP.
    pub http: StatusCode,
    /// Text for the caller; names no internals.
    pub message: &'static str,
}

impl Reason {
    /// The row of `reason`; that of INTERNAL for UNSPECIFIED.
    pub fn of(reason: ErrorReason) -> &'static Self {
        TABLE.iter().find(|row| row.reason == reason).unwrap_or(&INTERNAL)
    }

    /// The stable name without its prefix, `INVALID_PIPELINE_KEY`: `ErrorInfo.reason` and HTTP `error.code`.
    pub fn name(&self) -> &'static str {
        let name = self.reason.as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }

    /// The refusal as a gRPC status with `google.rpc.ErrorInfo`; `field` names the part at fault.
    pub fn status(&self, field: Option<&str>) -> Status {
        self.with_details(field, (self.reason == R::Overloaded).then_some(OVERLOADED_DELAY))
    }

    /// The refusal as [`Reason::status`] makes it, with `google.rpc.RetryInfo`: the call passes after
    /// `delay`.
    pub fn status_after(&self, delay: Duration) -> Status {
        self.with_details(None, Some(delay))
    }

    fn with_details(&self, field: Option<&str>, delay: Option<Duration>) -> Status {
        let metadata: HashMap<String, String> =
            field.map(|f| ("field".to_owned(), f.to_owned())).into_iter().collect();
        let message = match field {
            Some(field) => format!("{} Field: {field}.", self.message),
            None => self.message.to_owned(),
        };
        let mut details = ErrorDetails::new();
        details.set_error_info(self.name(), ERROR_DOMAIN, metadata);
        if let Some(delay) = delay {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(self.grpc, message, details)
    }
}

/// The row that a status of the core names, if it carries one of ours.
pub fn reason_of(status: &Status) -> Option<&'static Reason> {
    let info = status.get_details_error_info().filter(|info| info.domain == ERROR_DOMAIN)?;
    TABLE.iter().find(|row| row.name() == info.reason)
}

const fn row(reason: ErrorReason, grpc: Code, http: StatusCode, message: &'static str) -> Reason {
    Reason { reason, grpc, http, message }
}

const INTERNAL: Reason = row(
    ErrorReason::Internal,
    Code::Internal,
    StatusCode::INTERNAL_SERVER_ERROR,
    "The service has a defect; it was logged.",
);

use ErrorReason as R;
use StatusCode as H;

#[rustfmt::skip]
const TABLE: &[Reason] = &[
    row(R::InvalidServiceToken, Code::Unauthenticated, H::UNAUTHORIZED, "The service token is missing or unknown."),
    row(R::RoleNotAllowed, Code::PermissionDenied, H::FORBIDDEN, "The service token's role does not allow this call."),
    row(R::InvalidPipelineKey, Code::Unauthenticated, H::UNAUTHORIZED, "The pipeline key is missing, unknown or revoked."),
    row(R::InvalidSignature, Code::Unauthenticated, H::UNAUTHORIZED, "The signature or its timestamp is missing or does not verify."),
    row(R::SignatureExpired, Code::Unauthenticated, H::UNAUTHORIZED, "The timestamp is over 300 s off, or not in seconds."),
    row(R::OriginNotAllowed, Code::PermissionDenied, H::FORBIDDEN, "The origin is not one of the source's domains."),
    row(R::HostNotAllowed, Code::PermissionDenied, H::MISDIRECTED_REQUEST, "The host is not one of the source's collect hosts."),
    row(R::NavigationRefused, Code::PermissionDenied, H::FORBIDDEN, "Events are sent by scripts and servers, not by a form."),
    row(R::RateLimited, Code::ResourceExhausted, H::TOO_MANY_REQUESTS, "Too many events or requests; try again later."),
    row(R::InvalidArgument, Code::InvalidArgument, H::BAD_REQUEST, "A field is missing, malformed or out of bounds."),
    row(R::InvalidJson, Code::InvalidArgument, H::BAD_REQUEST, "The body is not the expected JSON."),
    row(R::EmptyBatch, Code::InvalidArgument, H::BAD_REQUEST, "The batch has no events."),
    row(R::PayloadTooLarge, Code::ResourceExhausted, H::PAYLOAD_TOO_LARGE, "The request is over 512 KiB or 500 events."),
    row(R::MessageTooLarge, Code::ResourceExhausted, H::PAYLOAD_TOO_LARGE, "The message is over 4 MiB."),
    row(R::UnsupportedEncoding, Code::InvalidArgument, H::UNSUPPORTED_MEDIA_TYPE, "Only gzip is accepted as a content coding, and only once."),
    row(R::RequestTimeout, Code::DeadlineExceeded, H::REQUEST_TIMEOUT, "The body did not arrive in time."),
    row(R::NotFound, Code::NotFound, H::NOT_FOUND, "There is nothing at this path."),
    row(R::MethodNotAllowed, Code::Unimplemented, H::METHOD_NOT_ALLOWED, "This path does not have that method."),
    row(R::InvalidEvent, Code::InvalidArgument, H::BAD_REQUEST, "The event is not valid."),
    row(R::EventTooLarge, Code::InvalidArgument, H::PAYLOAD_TOO_LARGE, "The event is over 32 KiB."),
    row(R::InvalidIdentifier, Code::InvalidArgument, H::BAD_REQUEST, "An identifier is too long or has control characters."),
    row(R::MissingIdentifier, Code::InvalidArgument, H::BAD_REQUEST, "The event has neither anonymousId nor userId."),
    row(R::VendorNotFound, Code::NotFound, H::NOT_FOUND, "There is no such vendor, or it is not enabled."),
    row(R::IdentityNotFound, Code::NotFound, H::NOT_FOUND, "Nobody is known by that identifier."),
    row(R::PipelineNotFound, Code::NotFound, H::NOT_FOUND, "There is no such pipeline."),
    row(R::OrgNotFound, Code::NotFound, H::NOT_FOUND, "There is no such organisation."),
    row(R::MergeNotFound, Code::NotFound, H::NOT_FOUND, "There is no such merge."),
    row(R::Erased, Code::FailedPrecondition, H::GONE, "The person was erased after this was sent."),
    row(R::Unavailable, Code::Unavailable, H::SERVICE_UNAVAILABLE, "The service can't answer now; try again."),
    row(R::Overloaded, Code::ResourceExhausted, H::SERVICE_UNAVAILABLE, "The service is busy; try again later."),
    row(R::DeadlineExceeded, Code::DeadlineExceeded, H::SERVICE_UNAVAILABLE, "The deadline passed."),
    row(R::NotImplemented, Code::Unimplemented, H::NOT_IMPLEMENTED, "This is not available yet."),
    INTERNAL,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_exactly_one_row() {
        for number in 1..100 {
            let Ok(reason) = ErrorReason::try_from(number) else { continue };
            assert_eq!(TABLE.iter().filter(|row| row.reason == reason).count(), 1, "{reason:?}");
        }
        assert_eq!(Reason::of(ErrorReason::Unspecified).reason, ErrorReason::Internal);
    }

    #[test]
    fn a_status_names_its_reason_and_field() {
        let status = Reason::of(ErrorReason::InvalidArgument).status(Some("subjects[3].user_id"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().ends_with("Field: subjects[3].user_id."));
        assert_eq!(reason_of(&status).map(Reason::name), Some("INVALID_ARGUMENT"));
        assert!(reason_of(&Status::internal("x")).is_none());
    }

    #[test]
    fn what_is_refused_for_now_says_for_how_long() {
        let delay = |status: &Status| status.get_details_retry_info().and_then(|info| info.retry_delay);
        let wait = Duration::from_millis(2500);
        assert_eq!(delay(&Reason::of(ErrorReason::RateLimited).status_after(wait)), Some(wait));
        assert_eq!(delay(&Reason::of(ErrorReason::Overloaded).status(None)), Some(OVERLOADED_DELAY));
        assert_eq!(delay(&Reason::of(ErrorReason::InvalidArgument).status(None)), None);
    }
}
