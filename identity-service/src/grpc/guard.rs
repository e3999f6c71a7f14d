//! The guard before all calls, in one place, as each layer would cost a visitor's request allocations:
//! measurement, panics turned into INTERNAL, service tokens, how many at once, the deadline, and the code of
//! messages that are too large.

use std::{
    collections::HashMap,
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::response::Response;
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Request};
use metrics::{Histogram, counter, histogram};
use prost::Message;
use prost_types::FileDescriptorSet;
use proto::{Reason, v1::ErrorReason};
use serve::{ReceivedBody, Serve, Voucher};
use tonic::{Code, Status};
use tower::service_fn;

use super::{deadline, methods};
use crate::{
    auth::service_token::{Access, ServiceTokens},
    limits::calls::Calls,
};

/// The guard: the methods it knows before a call is decoded, and the service that answers.
struct Guard<C> {
    service: C,
    tokens: ServiceTokens,
    calls: Calls,
    methods: HashMap<String, Method>,
    /// The method that all unknown paths count as: clients may send any path, and only known ones become
    /// labels.
    unknown: Method,
}

/// A method of the contract, with what decides before a call of it is decoded.
struct Method {
    path: String,
    access: Access,
    cap: Duration,
    /// Histograms of durations by code.
    durations: [OnceLock<Histogram>; CODES],
}

/// Number of gRPC's codes, which are 0 to 16.
const CODES: usize = 17;

/// Puts `service`, whose methods `descriptor_sets` describe, behind the guard.
pub fn guarded<C, F>(service: C, tokens: ServiceTokens, descriptor_sets: &[&[u8]]) -> impl Serve + use<C, F>
where
    C: Fn(Request<ReceivedBody>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response, Infallible>> + Send,
{
    let methods = paths(descriptor_sets).into_iter().map(|path| (path.clone(), Method::new(&path)));
    let (methods, unknown) = (methods.collect(), Method::new("unknown"));
    let guard = Arc::new(Guard { service, tokens, calls: Calls::default(), methods, unknown });
    service_fn(move |request| {
        let guard = guard.clone();
        async move { Ok::<_, Infallible>(guard.answer(request).await) }
    })
}

impl<C, F> Guard<C>
where
    C: Fn(Request<ReceivedBody>) -> F,
    F: Future<Output = Result<Response, Infallible>>,
{
    async fn answer(&self, request: Request<ReceivedBody>) -> Response {
        let began = Instant::now();
        let method = self.methods.get(request.uri().path()).unwrap_or(&self.unknown);
        // What calls share is behind locks and atomics, which a panic does not leave half-written.
        let answered = AssertUnwindSafe(self.admit(method, request)).catch_unwind().await;
        // The panic hook has logged it.
        let response = answered.unwrap_or_else(|_| refused(ErrorReason::Internal));
        method.record(code(&response), began.elapsed());
        response
    }

    /// Lets in callers whose token's roles allow the method, as many as there is room for, before anything is
    /// decoded. Handlers find the roles among the request's extensions.
    async fn admit(&self, method: &Method, mut request: Request<ReceivedBody>) -> Response {
        let mut place = None;
        if method.access != Access::Open {
            let refusal = match self.tokens.roles(request.headers()) {
                None => Some(ErrorReason::InvalidServiceToken),
                Some(roles) if !method.access.allows(roles) => Some(ErrorReason::RoleNotAllowed),
                Some(roles) => {
                    if let Some(voucher) = request.extensions().get::<Voucher>() {
                        voucher.vouch();
                    }
                    request.extensions_mut().insert(roles);
                    None
                }
            };
            if let Some(reason) = refusal {
                let name = Reason::of(reason).name();
                counter!("datafly_service_token_refused_total", "reason" => name).increment(1);
                return refused(reason);
            }
            place = self.calls.enter();
            if place.is_none() {
                return refused(ErrorReason::Overloaded);
            }
        }
        if !request.headers().iter().all(|(name, value)| is_metadata(name, value)) {
            return refused(ErrorReason::InvalidArgument);
        }
        // Ends a call at its deadline. Work that must not be left half done goes on in a task of its own.
        let limit = deadline::limit(request.headers(), method.cap);
        if limit < deadline::LEAST {
            return refused(ErrorReason::DeadlineExceeded);
        }
        let answered = tokio::time::timeout(limit, (self.service)(request)).await;
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
        let (access, cap) = methods::rule(path);
        Self { path: path.to_owned(), access, cap, durations: [const { OnceLock::new() }; CODES] }
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

/// True where a header is as the protocol wants metadata: base64, of which there may be several, where the
/// name says that it is binary. tonic looks at it only where a handler does.
fn is_metadata(name: &HeaderName, value: &HeaderValue) -> bool {
    let is_base64 = |part: &[u8]| BINARY.decode(part.trim_ascii()).is_ok();
    !name.as_str().ends_with("-bin") || value.as_bytes().split(|byte| *byte == b',').all(is_base64)
}

/// Base64 as metadata has it: senders may pad and need not.
const BINARY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn refused(reason: ErrorReason) -> Response {
    Reason::of(reason).status(None).into_http()
}

/// Lists the paths of all methods in the descriptor sets.
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

/// Reads the code of an answer that is an error from the start; OK for one that streams a message.
fn code(response: &Response) -> Code {
    response.headers().get(Status::GRPC_STATUS).map(HeaderValue::as_bytes).map_or(Code::Ok, Code::from_bytes)
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::post};
    use serve::{Exempt, Lifecycle, Workers};
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::TcpStream,
        sync::Notify,
    };
    use tower::ServiceExt;

    use super::*;

    async fn panics() {
        panic!("as asked for");
    }

    /// Calls over HTTP/1.1, which the guard takes as well, and so by a client of one line.
    #[tokio::test]
    async fn a_panic_is_internal_and_other_calls_live() {
        let panicked = Arc::new(Notify::new());
        let wait = panicked.clone();
        let router = Router::new()
            .route("/lives", post(async move || wait.notified().await))
            .route("/panics", post(panics));
        let listener = serve::bind("LISTEN_ADDR", ([127, 0, 0, 1], 0).into()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let workers = Workers::here(guarded(
            move |request| router.clone().oneshot(request),
            ServiceTokens::open(),
            &[],
        ));
        tokio::spawn(serve::serve(listener, "test", Exempt::Nobody, workers, Lifecycle::new()));
        let call = async |path: &str| {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut lines = BufReader::new(stream).lines();
            let mut head = Vec::new();
            while let Some(line) = lines.next_line().await.unwrap().filter(|line| !line.is_empty()) {
                head.push(line);
            }
            head
        };
        let panics = async {
            let head = call("/panics").await;
            panicked.notify_one();
            head
        };
        let (lives, panics) = tokio::join!(call("/lives"), panics);
        assert!(panics.contains(&"grpc-status: 13".to_owned()), "{panics:?}");
        assert_eq!(lives[0], "HTTP/1.1 200 OK");
        assert!(!lives.iter().any(|line| line.starts_with("grpc-status")), "{lives:?}");
    }

    #[test]
    fn binary_metadata_is_base64() {
        let ok = |name: &'static str, value: &'static str| {
            is_metadata(&HeaderName::from_static(name), &HeaderValue::from_static(value))
        };
        assert!(ok("x-bin", "") && ok("x-bin", "YQ") && ok("x-bin", "YQ==") && ok("x-bin", "YWI, YQ=="));
        assert!(!ok("x-bin", "!") && !ok("x-bin", "a") && !ok("grpc-trace-bin", "YQ,_"));
        assert!(ok("x-binary", "!"));
    }

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
