//! Request bodies: bounded in size, in time, and in the memory they take together.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, Bytes, HttpBody};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use proto::v1::ErrorReason;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::error::ApiError;

/// Largest body in bytes; a larger one is 413 `PAYLOAD_TOO_LARGE`.
pub const MAX_BODY_BYTES: u64 = 512 * 1024;
/// Time for the whole body to arrive; later it is 408, so that a body sent byte by byte gives its memory
/// back.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that are read and thrown away of a body that is refused: closing on a sender that still writes would
/// reset the connection, and the sender might never see why.
const MAX_DISCARD_BYTES: u64 = 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of all bodies being read or worked on. Two hundred of the largest at once then grow the process by
/// less than 64 MiB, of which half are their connections' buffers. Slow senders take no more of it than they
/// have sent.
const MAX_MEMORY_BYTES: usize = 8 * 1024 * 1024;
/// Bytes that a request takes beside its body. So at most 8,192 are read at once, should all senders have
/// stopped.
const REQUEST_OVERHEAD_BYTES: u32 = 1024;
/// Copies of a signed call's body in memory: as it was read, for a second try, and twice while it is written
/// to the core.
const SIGNED_COPIES: u32 = 4;

/// Memory that bodies share.
#[derive(Clone)]
pub struct Bodies {
    memory: Arc<Semaphore>,
    deadline: Duration,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { memory: Arc::new(Semaphore::new(MAX_MEMORY_BYTES)), deadline: READ_TIMEOUT }
    }
}

/// Body that was read; its memory is given back when it is dropped.
pub struct BufferedBody {
    /// Bytes of the body, at most [`MAX_BODY_BYTES`].
    pub bytes: Vec<u8>,
    permit: OwnedSemaphorePermit,
}

impl Bodies {
    /// Reads the `body` of a call that is `signed` or not. A body that announces too much is refused before
    /// any of it is read, and so before `100 Continue` is sent.
    pub async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        signed: bool,
    ) -> Result<BufferedBody, ApiError> {
        let encoding =
            headers.get(header::CONTENT_ENCODING).map_or(&b"identity"[..], |value| value.as_bytes());
        if !encoding.eq_ignore_ascii_case(b"identity") {
            return Err(ErrorReason::UnsupportedEncoding.into());
        }
        if body.size_hint().lower() > MAX_BODY_BYTES {
            discard(headers, body).await;
            return Err(ErrorReason::PayloadTooLarge.into());
        }
        let read = timeout(self.deadline, self.collect(&mut body, signed)).await;
        let read = read.unwrap_or_else(|_| Err(ErrorReason::RequestTimeout.into()));
        // A sender that is late is not waited for once more.
        if matches!(&read, Err(error) if error.reason() != ErrorReason::RequestTimeout) {
            discard(headers, body).await;
        }
        read
    }

    async fn collect(&self, body: &mut Body, signed: bool) -> Result<BufferedBody, ApiError> {
        let copies = if signed { SIGNED_COPIES } else { 1 };
        // Room for what is announced; pages that nothing is written to take no memory.
        let announced = usize::try_from(body.size_hint().lower().min(MAX_BODY_BYTES)).unwrap_or_default();
        let mut buffered =
            BufferedBody { bytes: Vec::with_capacity(announced), permit: self.take(REQUEST_OVERHEAD_BYTES)? };
        while let Some(frame) = body.frame().await {
            // The sender went away or broke the framing; nobody is there to read the answer.
            let frame = frame.map_err(|_| ApiError::from(ErrorReason::InvalidJson))?;
            let Ok(data) = frame.into_data() else { continue };
            let total = buffered.bytes.len().saturating_add(data.len());
            if u64::try_from(total).is_ok_and(|total| total > MAX_BODY_BYTES) {
                return Err(ErrorReason::PayloadTooLarge.into());
            }
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            buffered.permit.merge(self.take(length.saturating_mul(copies))?);
            buffered.bytes.extend_from_slice(&data);
        }
        Ok(buffered)
    }

    fn take(&self, bytes: u32) -> Result<OwnedSemaphorePermit, ApiError> {
        self.memory.clone().try_acquire_many_owned(bytes).map_err(|_| ErrorReason::Overloaded.into())
    }
}

/// Reads on for 1 s or 1 MiB, whichever comes first, and keeps nothing.
pub async fn discard(headers: &HeaderMap, mut body: Body) {
    // Who waits for `100 Continue` has sent nothing yet.
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let mut left = MAX_DISCARD_BYTES;
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
    let _ = timeout(DISCARD_TIMEOUT, read).await;
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use http::StatusCode;

    use super::*;

    /// Sender that has stopped.
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
        bodies
            .read(&headers, body, false)
            .await
            .map(|buffered| buffered.bytes.len())
            .map_err(|error| error.status())
    }

    #[tokio::test]
    async fn size_and_encoding_are_bounded() {
        let bodies = Bodies::default();
        let max = usize::try_from(MAX_BODY_BYTES).unwrap();
        assert_eq!(read(&bodies, "identity", vec![b' '; max].into()).await, Ok(max));
        let too_long = read(&bodies, "identity", vec![b' '; max + 1].into()).await;
        assert_eq!(too_long, Err(StatusCode::PAYLOAD_TOO_LARGE));
        let gzip = read(&bodies, "gzip", "{}".into()).await;
        assert_eq!(gzip, Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        assert_eq!(bodies.memory.available_permits(), MAX_MEMORY_BYTES);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_a_slow_sender_is_left() {
        let room = usize::try_from(2 * REQUEST_OVERHEAD_BYTES + 7 * SIGNED_COPIES + 3).unwrap();
        let memory = Arc::new(Semaphore::new(room));
        let bodies = Bodies { memory, deadline: Duration::from_millis(20) };
        let first = bodies.read(&HeaderMap::new(), "1234567".into(), true).await.unwrap();
        assert_eq!(read(&bodies, "identity", "1234".into()).await, Err(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(read(&bodies, "identity", "123".into()).await, Ok(3));
        drop(first);
        assert_eq!(read(&bodies, "identity", "1234".into()).await, Ok(4));
        assert_eq!(read(&bodies, "identity", Body::new(Silent)).await, Err(StatusCode::REQUEST_TIMEOUT));
    }
}
