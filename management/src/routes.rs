//! Paths. The API under `/v1/admin` is not there yet.

use std::any::Any;

use axum::{
    Router,
    middleware::{Next, from_fn},
    response::Response,
};
use http::StatusCode;
use serve::{Lifecycle, envelope};
use tower_http::catch_panic::CatchPanicLayer;

/// Health, and the answers for what is no route.
pub fn app(lifecycle: Lifecycle) -> Router {
    serve::metrics::health(lifecycle)
        .fallback(async || envelope(StatusCode::NOT_FOUND, "NOT_FOUND", "There is nothing at this path."))
        .method_not_allowed_fallback(async || {
            let message = "This path does not have that method.";
            envelope(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(|request, next: Next| serve::metrics::record(request, |request| next.run(request))))
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    // The panic hook has logged it.
    envelope(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "The service has a defect; it was logged.")
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn what_is_no_route_answers_in_the_envelope() {
        for (method, path, status, code) in [
            ("GET", "/v1/admin/me", StatusCode::NOT_FOUND, "NOT_FOUND"),
            ("POST", "/healthz", StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
        ] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let response = app(Lifecycle::new()).oneshot(request).await.unwrap();
            assert_eq!(response.status(), status);
            let body = to_bytes(response.into_body(), 1024).await.unwrap();
            assert!(String::from_utf8_lossy(&body).contains(&format!(r#"{{"error":{{"code":"{code}""#)));
        }
    }
}
