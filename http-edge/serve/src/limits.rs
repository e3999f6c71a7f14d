//! Bounds on a request's head that hyper does not have, or has only roughly, the same for both protocols.

use axum::response::Response;
use http::{Request, StatusCode};

use crate::envelope;

/// Header fields of a request.
pub(crate) const MAX_HEADERS: usize = 100;
/// Bytes of a request's header fields, counted as HTTP/2 does: name, value and 32 each.
pub(crate) const MAX_HEADER_LIST: u32 = 16 * 1024;
/// Bytes that one HTTP/1 connection buffers: room for the largest head that is answered, and for no more of a body
/// than that (hyper's own 400 KiB would let a thousand uploads hold 400 MB beside the bodies themselves).
pub(crate) const MAX_BUFFER: usize = 32 * 1024;
/// Bytes of a request's target.
const MAX_TARGET: usize = 8 * 1024;

/// 414 or 431 where the head of `request` is over a bound.
pub(crate) fn refuse<B>(request: &Request<B>) -> Option<Response> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers = request.headers();
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>();
    if target > MAX_TARGET {
        Some(envelope(StatusCode::URI_TOO_LONG, "URI_TOO_LONG", "The request's target is over 8 KiB."))
    } else if headers.len() > MAX_HEADERS || u32::try_from(bytes).is_ok_and(|bytes| bytes > MAX_HEADER_LIST) {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Some(envelope(
            status,
            "HEADERS_TOO_LARGE",
            "The request has over 100 header fields or 16 KiB of them.",
        ))
    } else {
        None
    }
}
