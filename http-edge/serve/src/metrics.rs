//! Prometheus metrics, health, and the histogram of HTTP requests.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, sync::OnceLock, time::Duration};

use axum::{
    Router,
    extract::{MatchedPath, Request},
    response::Response,
    routing::get,
};
use http::{HeaderName, Method, StatusCode, header};
use metrics::{Histogram, counter, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::{task::JoinHandle, time::Instant};

pub use metrics_exporter_prometheus::PrometheusHandle;

use crate::{EnvError, Lifecycle, Workers, accept, catalogue, error_body, telemetry};

/// Buckets of every `*_seconds` histogram: from a warm Redis round trip to the longest deadline.
const BUCKETS_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1., 2.5, 5., 10.];
/// Headers of what is true for a moment only.
const UNCACHED: [(HeaderName, &str); 2] =
    [(header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
/// Interval at which drained samples are folded into the histograms; between scrapes they only grow.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Makes the process's recorder; calls after the first return the same one.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(make_recorder).clone()
}

#[expect(clippy::expect_used, reason = "the library refuses only an empty list of buckets, and this is none")]
fn make_recorder() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS_SECONDS)
        .expect("the list of buckets is not empty")
        .build_recorder();
    let handle = recorder.handle();
    // An error means that some other recorder was installed first; then ours renders nothing.
    let _ = metrics::set_global_recorder(recorder);
    catalogue::describe();
    handle
}

/// Router of health. `/healthz` is 200 while the process lives; `/readyz` is 200 when it is ready, else 503.
pub fn health(lifecycle: Lifecycle) -> Router {
    let ready = move || {
        let answer = if lifecycle.is_ready() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        };
        std::future::ready((UNCACHED, answer))
    };
    Router::new()
        .route("/healthz", get(async || (UNCACHED, "ok\n")))
        .route("/readyz", get(ready))
        .method_not_allowed_fallback(async || {
            error_body(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "This path is read with GET.")
        })
}

/// Router of `/metrics` and [`health`].
pub fn router(handle: PrometheusHandle, lifecycle: Lifecycle) -> Router {
    let render = move || {
        counter!("datafly_log_lines_dropped_total").absolute(telemetry::dropped_lines());
        std::future::ready(handle.render())
    };
    health(lifecycle).route("/metrics", get(render))
}

/// Serves [`router`] at `addr` (the value of `METRICS_ADDR`) until the process ends: it must answer while
/// everything else drains. Keeps the recorder's memory bounded. Must be called within a Tokio runtime.
pub async fn listen(addr: SocketAddr, lifecycle: &Lifecycle) -> Result<JoinHandle<()>, EnvError> {
    let listener = accept::bind("METRICS_ADDR", addr).await?;
    let handle = install();
    let router = router(handle.clone(), lifecycle.clone());
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            tick.tick().await;
            handle.run_upkeep();
        }
    });
    Ok(tokio::spawn(accept::serve_beside(listener, "metrics", Workers::here(router), Lifecycle::new())))
}

/// Records the duration of each request until its answer's head, by route pattern (never the path, which is
/// unbounded), method and status. Made for a middleware of a `Router`; `answer` answers the request.
pub async fn record<F>(request: Request, answer: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = method_label(request.method());
    let response = answer(request).await;
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let status = response.status().as_u16();
    DURATIONS.with_borrow_mut(|routes| {
        let durations = match routes.get_mut(route) {
            Some(durations) => durations,
            None => routes.entry(route.to_owned()).or_default(),
        };
        let duration = durations.entry((method, status)).or_insert_with(|| duration(route, method, status));
        duration.record(start.elapsed());
    });
    response
}

/// Histograms of one route, by method and status.
type Durations = HashMap<(&'static str, u16), Histogram>;

thread_local! {
    /// Histograms of each route, kept here because looking one up in the recorder takes its labels as text.
    static DURATIONS: RefCell<HashMap<String, Durations>> = RefCell::default();
}

fn duration(route: &str, method: &'static str, status: u16) -> Histogram {
    let (route, status) = (route.to_owned(), status.to_string());
    histogram!("datafly_http_request_duration_seconds", "route" => route, "method" => method, "status" => status)
}

/// Label of a method, bounded because a client may send any token as its method.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        middleware::{Next, from_fn},
    };
    use tower::ServiceExt;

    use super::*;

    async fn status(router: &Router, path: &str, method: &str) -> StatusCode {
        let request = Request::builder().uri(path).method(method).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn readiness_follows_the_lifecycle_and_requests_are_counted_by_pattern() {
        let life = Lifecycle::new();
        let router = router(install(), life.clone())
            .route("/v1/{id}", get(async || "x"))
            .layer(from_fn(|request, next: Next| record(request, |request| next.run(request))));
        assert_eq!(status(&router, "/healthz", "GET").await, StatusCode::OK);
        assert_eq!(status(&router, "/readyz", "GET").await, StatusCode::SERVICE_UNAVAILABLE);
        life.set_started();
        assert_eq!(status(&router, "/readyz", "GET").await, StatusCode::OK);
        status(&router, "/v1/secret-id", "GET").await;
        status(&router, "/nowhere", "BREW").await;
        let text = install().render();
        assert!(text.contains(r#"route="/v1/{id}",method="GET",status="200",le="0.0005""#), "{text}");
        assert!(text.contains(r#"route="unmatched",method="other",status="404""#), "{text}");
        assert!(!text.contains("secret-id"));
    }
}
