//! Bytes to a service as no client would send them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// Far above every deadline that a service gives its peers, so that a miss is a failure and not a slow
/// machine.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// Connects to an address and sends bytes.
pub async fn send(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    stream
}

/// Connects from another of this machine's addresses, 127.0.0.`host`, and sends bytes; the peer may close meanwhile.
pub async fn send_from(host: u8, addr: SocketAddr, bytes: impl AsRef<[u8]>) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
    let mut stream = socket.connect(addr).await.unwrap();
    let _ = stream.write_all(bytes.as_ref()).await;
    stream
}

/// Reads until the peer closes, or resets; a connection that is left open is a failure.
pub async fn rest(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = timeout(READ_LIMIT, stream.read_to_end(&mut all)).await.expect("the connection was left open");
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads up to `end`, and answers with the text, `end` included.
pub async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        match timeout(READ_LIMIT, stream.read_u8()).await {
            Ok(Ok(byte)) => all.push(byte),
            _ => panic!("{end:?} does not come after {:?}", String::from_utf8_lossy(&all)),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}
