//! What stands before every call: measurement, panics turned into INTERNAL, service tokens, and the code of
//! messages that are too large.

use std::{any::Any, sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::HeaderValue;
use metrics::{counter, histogram};
use proto::{Reason, v1::ErrorReason};
use tonic::{Code, Status};

use crate::auth::service_token::{Access, ServiceTokens};

/// Longest method path that becomes a label; a client may send any.
const MAX_METHOD: usize = 80;

/// Lets in callers whose token's roles allow the method, before anything is decoded. Handlers find the roles
/// among the request's extensions.
pub async fn admit(State(tokens): State<Arc<ServiceTokens>>, mut request: Request, next: Next) -> Response {
    let access = Access::of(request.uri().path());
    if access != Access::Open {
        let refused = match tokens.roles(request.headers()) {
            None => Some(ErrorReason::InvalidServiceToken),
            Some(roles) if !access.allows(roles) => Some(ErrorReason::RoleNotAllowed),
            Some(roles) => {
                request.extensions_mut().insert(roles);
                None
            }
        };
        if let Some(reason) = refused {
            counter!("datafly_service_token_refused_total", "reason" => Reason::of(reason).name())
                .increment(1);
            return Reason::of(reason).status(None).into_http();
        }
    }
    let response = next.run(request).await;
    // tonic says OUT_OF_RANGE for a message over the limit; we never do.
    if code(&response) == Code::OutOfRange {
        return Reason::of(ErrorReason::MessageTooLarge).status(None).into_http();
    }
    response
}

/// The answer to a call that panicked; the panic hook has logged it.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    Reason::of(ErrorReason::Internal).status(None).into_http()
}

/// Duration of each call by method and code.
pub async fn measure(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let path = request.uri().path();
    let known = path.starts_with("/datafly.identity.v1.") || path.starts_with("/grpc.");
    let method = if known && path.len() <= MAX_METHOD { path.to_owned() } else { "unknown".to_owned() };
    let response = next.run(request).await;
    let code = code(&response);
    // Unknown methods of known packages are still free text.
    let method = if code == Code::Unimplemented { "unknown".to_owned() } else { method };
    histogram!("datafly_grpc_request_duration_seconds", "method" => method, "code" => format!("{code:?}"))
        .record(began.elapsed().as_secs_f64());
    response
}

/// The code of an answer that is an error from the start; OK for one that streams a message.
fn code(response: &Response) -> Code {
    response.headers().get(Status::GRPC_STATUS).map(HeaderValue::as_bytes).map_or(Code::Ok, Code::from_bytes)
}
