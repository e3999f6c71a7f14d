//! What stands before every call: measurement, panics turned into INTERNAL, service tokens, and the code of
//! messages that are too large.

use std::{any::Any, collections::HashSet, sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::HeaderValue;
use metrics::{counter, histogram};
use prost::Message;
use prost_types::FileDescriptorSet;
use proto::{Reason, v1::ErrorReason};
use tonic::{Code, Status};

use crate::auth::service_token::{Access, ServiceTokens};

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
    // What tonic itself refuses carries no reason, and a message that does not decode is no defect of ours.
    let ours = response.headers().contains_key("grpc-status-details-bin");
    let reason = match code(&response) {
        Code::OutOfRange => ErrorReason::MessageTooLarge,
        Code::Internal if !ours => ErrorReason::InvalidArgument,
        Code::Unimplemented if !ours => ErrorReason::NotImplemented,
        _ => return response,
    };
    Reason::of(reason).status(None).into_http()
}

/// The answer to a call that panicked; the panic hook has logged it.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    Reason::of(ErrorReason::Internal).status(None).into_http()
}

/// Duration of each call by method and code. Clients may send any path, so only known ones become labels.
pub async fn measure(State(methods): State<Arc<HashSet<String>>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let path = request.uri().path();
    let method = if methods.contains(path) { path.to_owned() } else { "unknown".to_owned() };
    let response = next.run(request).await;
    let code = format!("{:?}", code(&response));
    histogram!("datafly_grpc_request_duration_seconds", "method" => method, "code" => code)
        .record(began.elapsed().as_secs_f64());
    response
}

/// Paths of every method in the descriptor sets.
pub fn methods(descriptor_sets: &[&[u8]]) -> HashSet<String> {
    descriptor_sets
        .iter()
        .filter_map(|bytes| FileDescriptorSet::decode(*bytes).ok())
        .flat_map(|set| set.file)
        .flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().map(move |service| (package.clone(), service))
        })
        .flat_map(|(package, service)| {
            let service_name = service.name().to_owned();
            service
                .method
                .into_iter()
                .map(move |method| format!("/{package}.{service_name}/{}", method.name()))
        })
        .collect()
}

/// The code of an answer that is an error from the start; OK for one that streams a message.
fn code(response: &Response) -> Code {
    response.headers().get(Status::GRPC_STATUS).map(HeaderValue::as_bytes).map_or(Code::Ok, Code::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_those_of_the_contract() {
        let methods = methods(&[proto::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET]);
        assert!(methods.contains("/datafly.identity.v1.ResolveService/VendorIds"), "{methods:?}");
        assert!(methods.contains("/grpc.health.v1.Health/Check"), "{methods:?}");
    }
}
