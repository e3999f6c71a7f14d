//! Request bodies: bounded in size, in time, and in the memory they take together.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, Bytes, HttpBody};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use proto::v1::ErrorReason;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::error::ApiError;

/// Largest body in bytes (design section 5).
pub const MAX_BODY: u64 = 512 * 1024;
/// For the whole body to arrive (threats.md T03).
const DEADLINE: Duration = Duration::from_secs(10);
/// What is read and thrown away of a body that is refused: closing on a sender that still writes would reset
/// the connection, and it might never see why.
const MAX_DISCARD: u64 = 1024 * 1024;
const DISCARD_DEADLINE: Duration = Duration::from_secs(1);
/// Bytes of all bodies being read or worked on. Slow senders take no more of it than they have sent.
const MAX_MEMORY: usize = 128 * 1024 * 1024;

/// The memory that bodies share.
#[derive(Clone)]
pub struct Bodies {
    memory: Arc<Semaphore>,
    deadline: Duration,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { memory: Arc::new(Semaphore::new(MAX_MEMORY)), deadline: DEADLINE }
    }
}

/// A body that was read; its memory is given back when it is dropped.
pub struct Held {
    /// At most [`MAX_BODY`].
    pub bytes: Vec<u8>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Reads `body`. One that announces too much is refused before anything of it is read, and so before
    /// `100 Continue` is sent.
    pub async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Held, ApiError> {
        let encoding =
            headers.get(header::CONTENT_ENCODING).map_or(&b"identity"[..], |value| value.as_bytes());
        if !encoding.eq_ignore_ascii_case(b"identity") {
            return Err(ErrorReason::UnsupportedEncoding.into());
        }
        if body.size_hint().lower() > MAX_BODY {
            // Who waits for `100 Continue` has sent nothing yet.
            if !headers.contains_key(header::EXPECT) {
                discard(body).await;
            }
            return Err(ErrorReason::PayloadTooLarge.into());
        }
        let late = |_| Err(ErrorReason::RequestTimeout.into());
        let read = timeout(self.deadline, self.collect(&mut body)).await.unwrap_or_else(late);
        if matches!(&read, Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE) {
            discard(body).await;
        }
        read
    }

    async fn collect(&self, body: &mut Body) -> Result<Held, ApiError> {
        let mut held = Held { bytes: Vec::new(), permit: None };
        while let Some(frame) = body.frame().await {
            // The sender went away or broke the framing; nobody is there to read the answer.
            let frame = frame.map_err(|_| ApiError::from(ErrorReason::InvalidJson))?;
            let Ok(data) = frame.into_data() else { continue };
            let total = held.bytes.len().saturating_add(data.len());
            if u64::try_from(total).is_ok_and(|total| total > MAX_BODY) {
                return Err(ErrorReason::PayloadTooLarge.into());
            }
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let permit = self.memory.clone().try_acquire_many_owned(length);
            let permit = permit.map_err(|_| ApiError::from(ErrorReason::Overloaded))?;
            match &mut held.permit {
                Some(all) => all.merge(permit),
                none => *none = Some(permit),
            }
            held.bytes.extend_from_slice(&data);
        }
        Ok(held)
    }
}

/// Reads on for a little, keeping nothing.
async fn discard(mut body: Body) {
    let mut left = MAX_DISCARD;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
            if left == 0 {
                return;
            }
        }
    };
    // The time is as much a bound as the size; either way the answer follows.
    let _ = timeout(DISCARD_DEADLINE, read).await;
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use super::*;

    /// A sender that has stopped.
    struct Silent;

    impl HttpBody for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    async fn read(bodies: &Bodies, encoding: &str, body: Body) -> Result<usize, StatusCode> {
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, encoding.parse().unwrap())]);
        bodies.read(&headers, body).await.map(|held| held.bytes.len()).map_err(|error| error.status())
    }

    #[tokio::test]
    async fn size_and_encoding_are_bounded() {
        let bodies = Bodies::default();
        let max = usize::try_from(MAX_BODY).unwrap();
        assert_eq!(read(&bodies, "identity", vec![b' '; max].into()).await, Ok(max));
        let too_long = read(&bodies, "identity", vec![b' '; max + 1].into()).await;
        assert_eq!(too_long, Err(StatusCode::PAYLOAD_TOO_LARGE));
        let gzip = read(&bodies, "gzip", "{}".into()).await;
        assert_eq!(gzip, Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        assert_eq!(bodies.memory.available_permits(), MAX_MEMORY);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_a_slow_sender_is_left() {
        let bodies = Bodies { memory: Arc::new(Semaphore::new(10)), deadline: Duration::from_millis(20) };
        let first = bodies.read(&HeaderMap::new(), "12345678".into()).await.unwrap();
        assert_eq!(read(&bodies, "identity", "123".into()).await, Err(StatusCode::SERVICE_UNAVAILABLE));
        drop(first);
        assert_eq!(read(&bodies, "identity", "123".into()).await, Ok(3));
        assert_eq!(read(&bodies, "identity", Body::new(Silent)).await, Err(StatusCode::REQUEST_TIMEOUT));
    }
}
