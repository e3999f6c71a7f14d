//! Discarding the body of a request that is refused: closing on a sender that still writes would reset the connection,
//! and the sender might never see why.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use tokio::time::timeout;

/// Most bytes that are read and thrown away.
const MAX_BYTES: usize = 1024 * 1024;
/// Longest time for which they are.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Reads on for 1 s or 1 MiB, whichever comes first, and keeps nothing. `headers` are the request's.
pub async fn discard(headers: &HeaderMap, mut body: Body) {
    // Who waits for `100 Continue` has sent nothing yet.
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let mut left = MAX_BYTES;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // The time is as much a bound as the size; either way the answer follows.
    let _ = timeout(TIMEOUT, read).await;
}
