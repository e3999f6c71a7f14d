use std::{convert::Infallible, future::pending, io::Write, net::SocketAddr};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use flate2::{Compression, write::GzEncoder};
use tokio::{net::TcpListener, time::Instant};

use super::*;

const LIMITS: Limits = Limits { timeout: Duration::from_millis(500), max_bytes: 1024 };

fn egress(networks: &str) -> Egress {
    let networks = networks.parse().unwrap();
    Egress::new(Openings { networks, ..Openings::default() }, None).unwrap()
}

fn gzip(bytes: &[u8]) -> Response {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).unwrap();
    ([("content-encoding", "gzip")], packed.finish().unwrap()).into_response()
}

/// Bytes one by one, for ever.
fn drip() -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, Infallible>>(1);
    tokio::spawn(async move {
        while sender.send(Ok(Bytes::from_static(b"x"))).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|bytes| (bytes, receiver))
    });
    Body::from_stream(stream)
}

async fn vendor() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/fits", get(async || gzip(&[b'x'; 1024])))
        .route("/bomb", get(async || gzip(&vec![b'x'; 10 * 1024 * 1024])))
        .route("/large", get(async || vec![b'x'; 1025]))
        .route("/redirect", get(async || Redirect::temporary("/fits")))
        .route("/drip", get(async || drip()))
        .route("/hang", get(async || pending::<()>().await));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn call(egress: &Egress, url: &str) -> Result<(u16, usize), CallError> {
    let url = Url::parse(url).unwrap();
    let request = Request { method: Method::GET, url, headers: HeaderMap::new(), body: None };
    let answer = egress.call(request, LIMITS).await?;
    Ok((answer.status.as_u16(), answer.body.len()))
}

#[tokio::test]
async fn an_answer_is_bounded_in_size_and_time_and_leads_nowhere() {
    let (address, egress) = (vendor().await, egress("127.0.0.0/8"));
    let call = async |path: &str| call(&egress, &format!("http://{address}{path}")).await;
    assert_eq!(call("/fits").await, Ok((200, 1024)), "unpacked");
    for large in ["/bomb", "/large"] {
        assert_eq!(call(large).await, Err(CallError::TooLarge), "{large}");
    }
    assert_eq!(call("/redirect").await, Ok((307, 0)));
    let began = Instant::now();
    for slow in ["/hang", "/drip"] {
        assert_eq!(call(slow).await, Err(CallError::Timeout), "{slow}");
    }
    assert!(began.elapsed() < 4 * LIMITS.timeout);
}

#[tokio::test]
async fn nobody_is_called_who_may_not_be() {
    let port = vendor().await.port();
    let (closed, opened) = (egress(""), egress("127.0.0.0/8,::1"));
    for host in ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433", "[::ffff:127.0.0.1]"] {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:{port}/fits");
            assert_eq!(call(&closed, &url).await, Err(CallError::NotAllowed), "{url}");
        }
    }
    assert_eq!(call(&opened, &format!("http://localhost:{port}/fits")).await, Ok((200, 1024)));
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(call(&opened, &format!("http://{free}/")).await, Err(CallError::Network));
    assert_eq!(call(&opened, &format!("https://127.0.0.1:{port}/fits")).await, Err(CallError::Network));
}

#[test]
fn authorities_are_certificates() {
    for bad in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(Egress::new(Openings::default(), Some(bad)).is_err(), "{bad}");
    }
}
