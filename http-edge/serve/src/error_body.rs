//! The one shape that every error over HTTP has.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::json;

/// Answer `{"error":{"code":"UPPER_SNAKE","message":"…"}}`. Neither `code` nor `message` may name internals.
pub fn error_body(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}
