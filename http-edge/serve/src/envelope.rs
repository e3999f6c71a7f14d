//! The shape of every error over HTTP.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::json;

/// `{"error":{"code":"UPPER_SNAKE","message":"…"}}`. Neither may name internals.
pub fn envelope(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}
