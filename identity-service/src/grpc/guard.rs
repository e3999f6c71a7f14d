//! What stands before every call, in one place, as each layer would cost a visitor's request allocations:
//! measurement, panics turned into INTERNAL, service tokens, how many at once, the deadline, and the code of messages
//! that are too large.

use std::{
    collections::HashMap,
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{Router, response::Response};
use futures_util::FutureExt;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use metrics::{Histogram, counter, histogram};
use prost::Message;
use prost_types::FileDescriptorSet;
use proto::{Reason, v1::ErrorReason};
use serve::Serve;
use tonic::{Code, Status};
use tower::{Service, service_fn};

use super::{admission::Admission, deadline};
use crate::auth::service_token::{Access, ServiceTokens};

/// What is known of calls before they are decoded.
struct Guard {
    tokens: ServiceTokens,
    admission: Admission,
    methods: HashMap<String, Method>,
    /// Clients may send any path; only known ones become labels.
    unknown: Method,
}

/// A method of the contract.
struct Method {
    path: String,
    access: Access,
    cap: Duration,
    /// By code.
    durations: [OnceLock<Histogram>; CODES],
}

/// gRPC has the codes 0 to 16.
const CODES: usize = 17;

/// Puts `router`, whose methods `descriptor_sets` describe, behind the guard.
pub fn guarded(router: Router, tokens: ServiceTokens, descriptor_sets: &[&[u8]]) -> impl Serve + use<> {
    let methods = paths(descriptor_sets).into_iter().map(|path| (path.clone(), Method::new(&path)));
    let unknown = Method::new("unknown");
    let guard =
        Arc::new(Guard { tokens, admission: Admission::default(), methods: methods.collect(), unknown });
    service_fn(move |request| {
        let (guard, router) = (guard.clone(), router.clone());
        async move { Ok::<_, Infallible>(guard.answer(router, request).await) }
    })
}

impl Guard {
    async fn answer(&self, router: Router, request: Request<Incoming>) -> Response {
        let began = Instant::now();
        let method = self.methods.get(request.uri().path()).unwrap_or(&self.unknown);
        // What calls share is behind locks and atomics, which a panic does not leave half-written.
        let answered = AssertUnwindSafe(self.admit(method, router, request)).catch_unwind().await;
        // The panic hook has logged it.
        let response = answered.unwrap_or_else(|_| refused(ErrorReason::Internal));
        method.record(code(&response), began.elapsed());
        response
    }

    /// Lets in callers whose token's roles allow the method, as many as there is room for, before anything is
    /// decoded. Handlers find the roles among the request's extensions.
    async fn admit(&self, method: &Method, mut router: Router, mut request: Request<Incoming>) -> Response {
        let mut place = None;
        if method.access != Access::Open {
            let refusal = match self.tokens.roles(request.headers()) {
                None => Some(ErrorReason::InvalidServiceToken),
                Some(roles) if !method.access.allows(roles) => Some(ErrorReason::RoleNotAllowed),
                Some(roles) => {
                    request.extensions_mut().insert(roles);
                    None
                }
            };
            if let Some(reason) = refusal {
                let name = Reason::of(reason).name();
                counter!("datafly_service_token_refused_total", "reason" => name).increment(1);
                return refused(reason);
            }
            place = self.admission.enter();
            if place.is_none() {
                return refused(ErrorReason::Overloaded);
            }
        }
        // Ends a call at its deadline. Work that must not be left half done goes on in a task of its own.
        let limit = deadline::limit(request.headers(), method.cap);
        if limit < deadline::LEAST {
            return refused(ErrorReason::DeadlineExceeded);
        }
        let answered = tokio::time::timeout(limit, router.call(request)).await;
        drop(place);
        let Ok(Ok(response)) = answered else { return refused(ErrorReason::DeadlineExceeded) };
        // What tonic itself refuses carries no reason, and a message that does not decode is no defect of ours.
        let ours = response.headers().contains_key("grpc-status-details-bin");
        match code(&response) {
            Code::OutOfRange => refused(ErrorReason::MessageTooLarge),
            Code::Internal if !ours => refused(ErrorReason::InvalidArgument),
            Code::Unimplemented if !ours => refused(ErrorReason::NotImplemented),
            _ => response,
        }
    }
}

impl Method {
    fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            access: Access::of(path),
            cap: deadline::cap(path),
            durations: [const { OnceLock::new() }; CODES],
        }
    }

    fn record(&self, code: Code, took: Duration) {
        let make = || {
            let labels = [("method", self.path.clone()), ("code", format!("{code:?}"))];
            histogram!("datafly_grpc_request_duration_seconds", &labels)
        };
        let index = usize::try_from(i32::from(code)).unwrap_or(CODES);
        if let Some(duration) = self.durations.get(index) {
            duration.get_or_init(make).record(took);
        }
    }
}

fn refused(reason: ErrorReason) -> Response {
    Reason::of(reason).status(None).into_http()
}

/// Paths of every method in the descriptor sets.
fn paths(descriptor_sets: &[&[u8]]) -> Vec<String> {
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
        let methods = paths(&[proto::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET]);
        assert!(
            methods.iter().any(|path| path == "/datafly.identity.v1.ResolveService/VendorIds"),
            "{methods:?}"
        );
        assert!(methods.iter().any(|path| path == "/grpc.health.v1.Health/Check"), "{methods:?}");
    }
}
