//! The socket and the body of an answer, which tell a [`ConnectionState`] of bytes and of answers.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
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
        either!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(context, slices))
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

/// Body of an answer; its request is in flight for as long as the body lives.
pub(super) struct InstrumentedBody {
    pub(super) body: Body,
    pub(super) _flight: Flight,
}

impl HttpBody for InstrumentedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
