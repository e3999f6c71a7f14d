//! Answers that carry their version.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// A record with its version as `ETag`, for `If-Match` of a later PUT.
#[derive(Debug)]
pub struct Versioned<T>(pub StatusCode, pub i32, pub T);

impl<T> Versioned<T> {
    /// Answers a PUT: 201 where there was no record before, else 200.
    pub fn put(was_there: bool, version: i32, record: T) -> Self {
        Self(if was_there { StatusCode::OK } else { StatusCode::CREATED }, version, record)
    }
}

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let Self(status, version, record) = self;
        let mut response = (status, Json(record)).into_response();
        #[expect(clippy::expect_used, reason = "digits and quotes may stand in a header")]
        let tag = HeaderValue::from_str(&format!("\"{version}\"")).expect("a number is a header");
        response.headers_mut().insert(header::ETAG, tag);
        response
    }
}
