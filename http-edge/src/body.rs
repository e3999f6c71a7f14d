//! Request bodies: bounded in size, in time, and in the memory they take together.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use http::HeaderMap;
use http_body_util::BodyExt;
use proto::v1::ErrorReason;
use serve::discard;
use tokio::time::{Instant, timeout_at};

use crate::{
    error::ApiError,
    gzip,
    memory::{HeldMemory, Holder, Memory, Signs},
};

/// Largest body in bytes, as it is sent and as it is unpacked; a larger one is 413 `PAYLOAD_TOO_LARGE`.
pub const MAX_BODY_BYTES: u64 = 512 * 1024;
/// Pace of a body; later it is 408, so that one sent byte by byte gives its memory back.
const PACE: Pace = Pace { grace: Duration::from_secs(2), most: Duration::from_mins(1) };
/// Bytes that have to arrive each second, once [`Pace::grace`] is over.
const BYTES_PER_SECOND: u64 = 1024;
/// Bytes that a request takes beside its body. So at most 16,384 are read at once, should all senders have
/// stopped.
const REQUEST_OVERHEAD_BYTES: u32 = 1024;
/// Copies of a signed call's body in memory: as it was read, for a second try, and twice while it is written
/// to the core.
const SIGNED_COPIES: u32 = 4;

/// Time in which a body has to arrive.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Time before the pace counts.
    grace: Duration,
    /// Time for all of it.
    most: Duration,
}

impl Pace {
    /// Time since the beginning until which more has to follow `bytes`.
    fn limit(self, bytes: usize) -> Duration {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let paced =
            self.grace.saturating_add(Duration::from_millis(bytes.saturating_mul(1000) / BYTES_PER_SECOND));
        paced.min(self.most)
    }
}

/// Reader of bodies; clones share its memory.
#[derive(Clone)]
pub struct Bodies {
    memory: Memory,
    pace: Pace,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { memory: Memory::default(), pace: PACE }
    }
}

/// Body that was read; its memory is given back when it is dropped.
pub struct BufferedBody {
    /// Bytes of the body as they were sent, at most [`MAX_BODY_BYTES`]: what a signature is over.
    pub sent: Vec<u8>,
    /// Bytes that were unpacked, where those that were sent are not the content; as many at most.
    unpacked: Option<Vec<u8>>,
    memory: HeldMemory,
}

impl BufferedBody {
    /// Content of the body, unpacked where it was packed.
    pub fn content(&self) -> &[u8] {
        self.unpacked.as_ref().unwrap_or(&self.sent)
    }

    fn unpack(mut self) -> Result<Self, ApiError> {
        let max_bytes = usize::try_from(MAX_BODY_BYTES).unwrap_or(usize::MAX);
        self.unpacked = Some(gzip::unpack(&self.sent, max_bytes, &mut self.memory)?);
        Ok(self)
    }
}

impl Bodies {
    /// Reads the `body` of a call by `holder`. A body that announces too much is refused before any of it is read, and
    /// so before `100 Continue` is sent.
    pub async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        holder: Holder,
        signs: Signs,
    ) -> Result<BufferedBody, ApiError> {
        let is_packed = gzip::is_packed(headers)?;
        if body.size_hint().lower() > MAX_BODY_BYTES {
            discard(headers, body).await;
            return Err(ErrorReason::PayloadTooLarge.into());
        }
        let read = self.collect(&mut body, holder, signs).await;
        // A sender that is late is not waited for once more.
        if matches!(&read, Err(error) if error.reason() != ErrorReason::RequestTimeout) {
            discard(headers, body).await;
        }
        if is_packed { read?.unpack() } else { read }
    }

    async fn collect(&self, body: &mut Body, holder: Holder, signs: Signs) -> Result<BufferedBody, ApiError> {
        let began = Instant::now();
        let copies = if signs == Signs::Well { SIGNED_COPIES } else { 1 };
        let mut memory = self.memory.hold(holder);
        memory.grow(REQUEST_OVERHEAD_BYTES)?;
        // Room for what is announced; pages that nothing is written to take no memory.
        let announced = usize::try_from(body.size_hint().lower().min(MAX_BODY_BYTES)).unwrap_or_default();
        let mut bytes = Vec::with_capacity(announced);
        while !body.is_end_stream() {
            let frame = timeout_at(began + self.pace.limit(bytes.len()), body.frame()).await;
            let Some(frame) = frame.map_err(|_| ErrorReason::RequestTimeout)? else { break };
            // The sender went away or broke the framing; nobody is there to read the answer.
            let frame = frame.map_err(|_| ApiError::from(ErrorReason::InvalidJson))?;
            let Ok(data) = frame.into_data() else { continue };
            let total = bytes.len().saturating_add(data.len());
            if u64::try_from(total).is_ok_and(|total| total > MAX_BODY_BYTES) {
                return Err(ErrorReason::PayloadTooLarge.into());
            }
            memory.grow(copies.saturating_mul(length(&data)))?;
            bytes.extend_from_slice(&data);
        }
        if signs == Signs::Perhaps {
            memory.grow((SIGNED_COPIES - copies).saturating_mul(length(&bytes)))?;
        }
        Ok(BufferedBody { sent: bytes, unpacked: None, memory })
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use axum::body::Bytes;
    use http::{StatusCode, header};

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

    const HOLDER: Holder = Holder { subscriber: None, key: 0 };

    async fn read(bodies: &Bodies, encoding: &str, body: Body) -> Result<usize, StatusCode> {
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, encoding.parse().unwrap())]);
        bodies
            .read(&headers, body, HOLDER, Signs::No)
            .await
            .map(|buffered| buffered.content().len())
            .map_err(|error| error.status())
    }

    #[tokio::test]
    async fn size_and_encoding_are_bounded() {
        let bodies = Bodies::default();
        let max = usize::try_from(MAX_BODY_BYTES).unwrap();
        assert_eq!(read(&bodies, "identity", vec![b' '; max].into()).await, Ok(max));
        let too_long = read(&bodies, "identity", vec![b' '; max + 1].into()).await;
        assert_eq!(too_long, Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(read(&bodies, "gzip", "{}".into()).await, Err(StatusCode::BAD_REQUEST));
        assert_eq!(read(&bodies, "br", "{}".into()).await, Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        assert_eq!(bodies.memory.held(), 0);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_a_slow_sender_is_left() {
        // A key has half of it.
        let room = 2 * REQUEST_OVERHEAD_BYTES + 7 * SIGNED_COPIES + 3;
        let pace = Pace { grace: Duration::from_millis(20), ..PACE };
        let bodies = Bodies { memory: Memory::of(2 * room), pace };
        for signs in [Signs::Well, Signs::Perhaps] {
            let first = bodies.read(&HeaderMap::new(), "1234567".into(), HOLDER, signs).await.unwrap();
            assert_eq!(read(&bodies, "identity", "1234".into()).await, Err(StatusCode::SERVICE_UNAVAILABLE));
            assert_eq!(read(&bodies, "identity", "123".into()).await, Ok(3));
            drop(first);
            assert_eq!(read(&bodies, "identity", "1234".into()).await, Ok(4));
        }
        assert_eq!(read(&bodies, "identity", Body::new(Silent)).await, Err(StatusCode::REQUEST_TIMEOUT));
        assert_eq!(bodies.memory.held(), 0);
    }

    #[test]
    fn a_body_has_as_long_as_its_bytes_are_worth() {
        assert_eq!(PACE.limit(0), Duration::from_secs(2));
        assert_eq!(PACE.limit(1024), Duration::from_secs(3));
        assert_eq!(PACE.limit(512 * 1024), Duration::from_mins(1));
    }

    #[test]
    fn the_largest_signed_body_fits() {
        let (memory, holder) = (Memory::default(), Holder { subscriber: Some(0), key: 0 });
        // And once more what is unpacked of it.
        let largest = REQUEST_OVERHEAD_BYTES + (SIGNED_COPIES + 1) * u32::try_from(MAX_BODY_BYTES).unwrap();
        memory.hold(holder).grow(largest).unwrap();
    }
}
