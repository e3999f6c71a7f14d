//! The load's HTTP/1.1 connections.

use std::net::SocketAddr;

use anyhow::Result;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// One keep-alive connection.
pub type Client = SendRequest<String>;

/// Opens one.
pub async fn connect(addr: SocketAddr) -> Result<Client> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(client)
}
