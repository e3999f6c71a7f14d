//! The one shape that every error over HTTP has.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde_json::json;

/// Answer `{"error":{"code":"UPPER_SNAKE","message":"…"}}`. Neither `code` nor `message` may name internals. No cache
/// keeps it, and no browser takes it for anything else than it says it is.
pub fn error_body(status: StatusCode, code: &str, message: &str) -> Response {
    let headers = [(header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}
