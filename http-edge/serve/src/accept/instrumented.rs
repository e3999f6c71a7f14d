//! The socket, and the bodies of requests and answers, which tell a [`ConnectionState`] of bytes, of answers, and of
//! what waits for the peer.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use tokio_rustls::server::TlsStream;

use super::connection_state::{ConnectionState, Flight};

/// A socket whose bytes are seen by a [`ConnectionState`].
pub(super) struct InstrumentedSocket {
    pub(super) stream: Stream,
    pub(super) state: Arc<ConnectionState>,
    /// True while the peer reads nothing.
    pub(super) is_unread: bool,
}

impl InstrumentedSocket {
    fn written(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_pending() != self.is_unread {
            self.is_unread = result.is_pending();
            self.state.set_unread(self.is_unread);
        }
        result
    }
}

/// Stream that a connection's bytes come through.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Does the same with whichever stream the socket has.
macro_rules! either {
    ($socket:expr, $stream:ident => $done:expr) => {
        match &mut $socket.stream {
            Stream::Plain($stream) => {
                let $stream = Pin::new($stream);
                $done
            }
            Stream::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $done
            }
        }
    };
}

impl AsyncRead for InstrumentedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(either!(self, stream => stream.poll_read(context, buffer)))?;
        #[expect(
            clippy::expect_used,
            reason = "a socket adds to the buffer; bytes missed here would hide a head"
        )]
        let read = buffer.filled().get(before..).expect("a read takes nothing out of the buffer");
        self.state.read(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for InstrumentedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = either!(self, stream => stream.poll_write(context, bytes));
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = either!(self, stream => stream.poll_write_vectored(context, slices));
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(context))
    }
}

/// Body of a request, as the peer sends it.
#[derive(Debug)]
pub struct ReceivedBody {
    pub(super) body: Incoming,
    pub(super) state: Arc<ConnectionState>,
    /// True while somebody waits for the peer to send more of it.
    pub(super) is_awaited: bool,
}

impl HttpBody for ReceivedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending() != self.is_awaited {
            self.is_awaited = frame.is_pending();
            if self.is_awaited { self.state.hold_up() } else { self.state.go_on() }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ReceivedBody {
    fn drop(&mut self) {
        if self.is_awaited {
            self.state.go_on();
        }
    }
}

/// Body of an answer; its request is in flight for as long as the body lives, and waits for the peer to read it. An
/// answer without an end, as a watch of health, waits likewise.
pub(super) struct InstrumentedBody {
    body: Body,
    flight: Flight,
}

impl InstrumentedBody {
    pub(super) fn new(body: Body, mut flight: Flight) -> Self {
        flight.hold_up();
        Self { body, flight }
    }
}

impl HttpBody for InstrumentedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let last = frame.is_none() || self.body.is_end_stream();
        self.flight.progress(last);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
