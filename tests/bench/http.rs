//! The load's HTTP/1.1 connections.

use std::net::SocketAddr;

use anyhow::Result;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Keep-alive connection to one edge.
pub struct Client {
    addr: SocketAddr,
    sender: SendRequest<String>,
}

impl Client {
    /// Opens a connection, which sends without delay.
    pub async fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { addr, sender })
    }

    /// Sends a request; over a new connection where the server has closed this one, idle while others had their
    /// turn.
    pub async fn send(&mut self, request: Request<String>) -> Result<Response<Incoming>> {
        if self.sender.ready().await.is_err() {
            *self = Self::connect(self.addr).await?;
        }
        Ok(self.sender.send_request(request).await?)
    }
}
