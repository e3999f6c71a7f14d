//! HTTP/2 frames by hand (RFC 9113), for what no client would send, and what the peer answers.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// Bytes that a client's connection begins with (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Type of a frame of body bytes; this type and those below are of RFC 9113, section 6.
pub const DATA: u8 = 0;
/// Type of a frame that begins a block of header fields.
pub const HEADERS: u8 = 1;
/// Type of a frame that resets one stream.
pub const RST_STREAM: u8 = 3;
/// Type of a frame of settings.
pub const SETTINGS: u8 = 4;
/// Type of a frame that asks for an echo.
pub const PING: u8 = 6;
/// Type of a frame that ends a connection.
pub const GOAWAY: u8 = 7;
/// Type of a frame that goes on with a block of header fields.
pub const CONTINUATION: u8 = 9;
/// Flag of DATA and HEADERS; of SETTINGS and PING it means ACK.
pub const END_STREAM: u8 = 1;
/// Flag of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;
/// Error code of RST_STREAM for a stream of which nothing was processed (RFC 9113, 7).
pub const REFUSED_STREAM: u32 = 7;

/// Time that a flood may take until the peer closes or has taken all of it.
const FLOOD_LIMIT: Duration = Duration::from_secs(30);

/// Bytes of one frame, its head included.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A SETTINGS frame of one setting.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// Fields in HPACK, each a literal that is not indexed and not compressed (RFC 7541, 6.2.2).
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Appends an integer with a prefix of seven bits (RFC 7541, 5.1).
fn integer(value: usize, block: &mut Vec<u8>) {
    let Some(mut rest) = value.checked_sub(127) else { return block.push(u8::try_from(value).unwrap()) };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// A connection after its preface and the client's settings.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// Answers of the peer to a flood.
#[derive(Debug, Default)]
pub struct Outcome {
    /// True where the peer closed the connection.
    pub closed: bool,
    /// Error code of the peer's GOAWAY.
    pub goaway: Option<u32>,
    /// Error codes of RST_STREAM, one a stream.
    pub resets: Vec<u32>,
    /// Streams that were answered.
    pub answers: usize,
}

impl Connection {
    /// Connects and sends the preface with `settings`, one or more SETTINGS frames.
    pub async fn open(addr: SocketAddr, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let (reader, writer) = stream.into_split();
        let mut connection = Self { reader: BufReader::new(reader), writer };
        connection.send(&[PREFACE, settings].concat()).await;
        connection
    }

    /// Sends; whether the peer still listens does not matter.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes).await;
    }

    /// Sends `bytes` over and over, `times` in all, while reading what comes, then waits until the peer
    /// closes or has answered a PING, and so has taken all.
    pub async fn flood(&mut self, times: u32, mut bytes: impl FnMut(u32) -> Vec<u8>) -> Outcome {
        const LAST: &[u8; 8] = b"the last";
        let mut outcome = Outcome::default();
        let write = async {
            for number in 0..times {
                if self.writer.write_all(&bytes(number)).await.is_err() {
                    return;
                }
            }
            let _ = self.writer.write_all(&frame(PING, 0, 0, LAST)).await;
        };
        let read = async {
            let reader = &mut self.reader;
            loop {
                let mut head = [0; 9];
                if reader.read_exact(&mut head).await.is_err() {
                    outcome.closed = true;
                    return;
                }
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; usize::try_from(length).unwrap()];
                if reader.read_exact(&mut payload).await.is_err() {
                    outcome.closed = true;
                    return;
                }
                let code = |from: usize| u32::from_be_bytes(payload[from..from + 4].try_into().unwrap());
                match head[3] {
                    HEADERS => outcome.answers += 1,
                    RST_STREAM => outcome.resets.push(code(0)),
                    GOAWAY => outcome.goaway = Some(code(4)),
                    PING if payload == LAST => return,
                    _ => {}
                }
            }
        };
        let both = async {
            tokio::pin!(write, read);
            tokio::select! {
                () = &mut read => {}
                () = &mut write => read.await,
            }
        };
        timeout(FLOOD_LIMIT, both).await.expect("the peer neither closes nor reads");
        outcome
    }
}
