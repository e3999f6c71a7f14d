use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::ConnectInfo, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::*;

const SHORT: Timing = Timing { header: Duration::from_millis(150), drain: Duration::from_millis(300) };
const LONG: Timing = Timing { header: Duration::from_mins(1), drain: Duration::from_millis(300) };
/// Far above every deadline in use, so that a miss is a failure and not a slow machine.
const BOUND: Duration = Duration::from_secs(10);

async fn start(timing: Timing) -> (SocketAddr, Lifecycle, JoinHandle<()>) {
    let listener = bind("LISTEN_ADDR", ([127, 0, 0, 1], 0).into()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()))
        .route("/slow", get(async || sleep(Duration::from_millis(150)).await));
    let life = Lifecycle::new();
    let task = tokio::spawn(serve_with(
        listener,
        "test",
        Workers::per_core(|| router.clone()).unwrap(),
        life.clone(),
        timing,
    ));
    (addr, life, task)
}

async fn send(addr: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Everything up to the peer's close; a reset counts as one.
async fn rest(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = timeout(BOUND, stream.read_to_end(&mut all)).await.expect("the connection was left open");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn a_half_sent_header_is_closed_at_the_deadline() {
    let (addr, ..) = start(SHORT).await;
    for half in [&b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "[..], b"PRI * HT", b""] {
        assert_eq!(rest(send(addr, half).await).await, "", "{half:?}");
    }
}

#[tokio::test]
async fn draining_waits_for_an_answer_and_not_for_a_half_sent_header() {
    let (addr, life, task) = start(LONG).await;
    let half = send(addr, b"GET / HTTP/1.1\r\nHost: x\r\n").await;
    let slow = send(addr, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    sleep(Duration::from_millis(50)).await;
    life.drain();
    let answer = rest(slow).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("connection: close"), "{answer}");
    timeout(BOUND, task).await.expect("the drain has no bound").unwrap();
    assert_eq!(rest(half).await, "");
    assert!(TcpStream::connect(addr).await.is_err(), "still accepting");
}

#[tokio::test]
async fn an_idle_server_drains_at_once() {
    let (addr, life, task) = start(LONG).await;
    let mut idle = send(addr, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut head = [0; 15];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let start = Instant::now();
    life.drain();
    timeout(BOUND, task).await.unwrap().unwrap();
    assert!(start.elapsed() < LONG.drain);
}

#[tokio::test]
async fn heads_over_the_bounds_are_refused() {
    let (addr, ..) = start(LONG).await;
    let request = |target: &str, headers: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").into_bytes()
    };
    let peer = rest(send(addr, &request("/", "")).await).await;
    assert!(peer.starts_with("HTTP/1.1 200") && peer.contains("127.0.0.1:"), "{peer}");
    let long = format!("/?{}", "a".repeat(8 * 1024));
    assert!(rest(send(addr, &request(&long, "")).await).await.starts_with("HTTP/1.1 414"));
    for headers in ["A: b\r\n".repeat(100), format!("A: {}\r\n", "b".repeat(16 * 1024))] {
        let answer = rest(send(addr, &request("/", &headers)).await).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[test]
fn a_fifth_of_the_descriptors_stays_free() {
    let all = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    assert!(u64::try_from(connection_limit()).unwrap() <= all / 5 * 4);
}
