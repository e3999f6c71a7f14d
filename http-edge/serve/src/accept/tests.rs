use std::net::SocketAddr;

use axum::{Router, extract::ConnectInfo, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::*;

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_mins(1);
/// Limits that no test runs into but by its own doing; each test shortens the one it is about.
const TIMES: Timing = Timing {
    header: LONG,
    idle: LONG,
    age: LONG,
    stall: LONG,
    notice: Duration::ZERO,
    grace: Duration::from_millis(50),
    drain: Duration::from_millis(300),
};
/// Bound far above every deadline in use, so that a miss is a failure and not a slow machine.
const BOUND: Duration = Duration::from_secs(10);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
/// HTTP/2: preface, SETTINGS with an initial window of one byte, GET / that ends its stream.
const GET_AND_READ_ONE_BYTE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x01\
    \x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x84\x86\x41\x01x";

/// The same with an initial window of nothing.
const GET_AND_READ_NOTHING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\
    \x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x84\x86\x41\x01x";
const GET_AND_CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// A running listener: address, lifecycle, task, and a notice that a slow request has begun.
type Started = (SocketAddr, Lifecycle, JoinHandle<()>, Arc<Notify>);

async fn start(timing: Timing) -> Started {
    start_with(timing, 100).await
}

async fn start_with(timing: Timing, limit: usize) -> Started {
    let here: TrustedProxies = "127.0.0.1".parse().unwrap();
    start_exempt(timing, limit, Exempt::Proxies(here.into())).await
}

async fn start_exempt(timing: Timing, limit: usize, exempt: Exempt) -> Started {
    let listener = bind("LISTEN_ADDR", ([127, 0, 0, 1], 0).into()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let begun = Arc::new(Notify::new());
    let [slow, never] = [Arc::clone(&begun), Arc::clone(&begun)];
    let router = Router::new()
        .route(
            "/",
            get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string())
                .post(async |body: String| body),
        )
        .route(
            "/slow",
            get(async move || {
                slow.notify_one();
                sleep(Duration::from_millis(150)).await;
            }),
        )
        .route(
            "/never",
            get(async move || {
                never.notify_one();
                std::future::pending::<()>().await;
            }),
        );
    let life = Lifecycle::new();
    let workers = Workers::per_core(|| router.clone()).unwrap();
    let places = Places::new(limit, exempt, timing);
    let task = tokio::spawn(serve_with(listener, "test", None, workers, life.clone(), places, timing));
    (addr, life, task, begun)
}

async fn send(addr: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Sends to a peer that may have closed already.
async fn send_any(addr: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let _ = stream.write_all(bytes).await;
    stream
}

/// Reads all up to the peer's close; a reset counts as a close.
async fn rest(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = timeout(BOUND, stream.read_to_end(&mut all)).await.expect("the connection was left open");
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads an answer of a connection that stays open.
async fn one(stream: &mut TcpStream) -> String {
    let mut answer = vec![0; 1024];
    let length = timeout(BOUND, stream.read(&mut answer)).await.expect("no answer").unwrap();
    answer.truncate(length);
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_half_sent_header_is_closed_at_the_deadline() {
    let (addr, ..) = start(Timing { header: SHORT, ..TIMES }).await;
    for half in [&b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "[..], b"PRI * HT", b""] {
        assert_eq!(rest(send(addr, half).await).await, "", "{half:?}");
    }
    let mut again = send(addr, GET).await;
    one(&mut again).await;
    again.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    assert_eq!(rest(again).await, "");
}

#[tokio::test]
async fn idle_time_between_two_requests_does_not_count_for_the_header() {
    let (addr, ..) = start(Timing { header: SHORT, ..TIMES }).await;
    let mut kept = send(addr, GET).await;
    one(&mut kept).await;
    sleep(3 * SHORT).await;
    kept.write_all(GET).await.unwrap();
    assert!(one(&mut kept).await.starts_with("HTTP/1.1 200"));

    let (addr, ..) = start(Timing { idle: SHORT, ..TIMES }).await;
    assert!(
        rest(send(addr, GET).await).await.starts_with("HTTP/1.1 200"),
        "an idle connection is left at last"
    );
}

#[tokio::test]
async fn draining_waits_for_an_answer_and_not_for_a_half_sent_header() {
    let (addr, life, task, begun) = start(Timing { drain: Duration::from_secs(2), ..TIMES }).await;
    let half = send(addr, b"GET / HTTP/1.1\r\nHost: x\r\n").await;
    let slow = send(addr, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    timeout(BOUND, begun.notified()).await.expect("the request has not begun");
    life.drain();
    assert!(rest(slow).await.starts_with("HTTP/1.1 200 OK"));
    timeout(BOUND, task).await.expect("the drain has no bound").unwrap();
    assert_eq!(rest(half).await, "");
    assert!(TcpStream::connect(addr).await.is_err(), "still accepting");
}

#[tokio::test]
async fn nothing_but_a_request_holds_the_drain_and_that_only_for_its_time() {
    let (addr, life, task, _) = start(Timing { drain: LONG, ..TIMES }).await;
    let mut open = vec![send(addr, GET).await, send(addr, GET_AND_READ_ONE_BYTE).await];
    for stream in &mut open {
        stream.readable().await.unwrap();
    }
    open.extend([send(addr, b"").await, send(addr, b"PRI * HT").await, send(addr, b"GET / HT").await]);
    life.drain();
    timeout(BOUND, task).await.expect("something holds it").unwrap();

    let (addr, life, task, begun) = start(TIMES).await;
    let _never = send(addr, b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await;
    timeout(BOUND, begun.notified()).await.expect("the request has not begun");
    life.drain();
    timeout(BOUND, task).await.expect("a request holds it").unwrap();
}

#[tokio::test]
async fn clients_are_served_until_load_balancers_know_and_told_to_go() {
    let (addr, life, task, _) = start(Timing { notice: LONG, ..TIMES }).await;
    let mut kept = send(addr, GET).await;
    assert!(!one(&mut kept).await.contains("connection: close"));
    life.drain();
    for mut stream in [kept, TcpStream::connect(addr).await.unwrap()] {
        stream.write_all(GET).await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    }
    task.abort();
}

#[tokio::test]
async fn who_waited_longest_makes_room_on_a_full_listener() {
    let (addr, _life, _task, begun) = start_with(TIMES, 4).await;
    let mut busy = send(addr, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    timeout(BOUND, begun.notified()).await.expect("the request has not begun");
    let mut crowd = Vec::new();
    for half in [&b""[..], b"GET / HTTP/1.1\r\nHo", b"PRI", b"", b"", b""] {
        crowd.push(send(addr, half).await);
    }
    let mut good = send(addr, GET).await;
    assert!(one(&mut good).await.starts_with("HTTP/1.1 200"), "the good client waits");
    assert_eq!(rest(crowd.remove(0)).await, "", "the first idle one was left");
    assert!(one(&mut busy).await.starts_with("HTTP/1.1 200"), "a request was cut");
}

#[tokio::test]
async fn who_stalls_makes_room_on_a_full_listener_and_whom_we_keep_waiting_does_not() {
    let (addr, _life, _task, begun) = start_with(Timing { stall: SHORT, ..TIMES }, 3).await;
    let mut ours = send(addr, b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await;
    timeout(BOUND, begun.notified()).await.expect("the request has not begun");
    let half = send(addr, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc").await;
    let unread = send(addr, GET_AND_READ_NOTHING).await;
    sleep(2 * SHORT).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(send(addr, GET).await);
        assert!(one(kept.last_mut().unwrap()).await.starts_with("HTTP/1.1 200"), "the good client waits");
    }
    assert_eq!(rest(half).await, "", "half a body was left");
    assert!(!rest(unread).await.contains("127.0.0.1"));
    assert!(timeout(SHORT, ours.read_u8()).await.is_err(), "a request was cut");
}

#[tokio::test]
async fn an_address_has_its_share_and_nobody_else_s() {
    let (addr, _life, _task, begun) = start_exempt(TIMES, 32, Exempt::Nobody).await;
    let mut kept = send(addr, GET).await;
    one(&mut kept).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        busy.push(send(addr, b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await);
        timeout(BOUND, begun.notified()).await.expect("the request has not begun");
    }
    assert_eq!(rest(kept).await, "", "the idle one makes room for its neighbours");
    assert_eq!(rest(send_any(addr, GET).await).await, "", "a third one at once");
    let other = TcpSocket::new_v4().unwrap();
    other.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let mut other = other.connect(addr).await.unwrap();
    other.write_all(GET).await.unwrap();
    assert!(one(&mut other).await.starts_with("HTTP/1.1 200"), "another address");
    drop(busy);
    let again = async {
        while !rest(send_any(addr, GET_AND_CLOSE).await).await.starts_with("HTTP/1.1 200") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(BOUND, again).await.expect("what has ended counts still");
}

#[tokio::test]
async fn an_answer_that_is_never_read_is_not_kept_for_ever() {
    let (addr, ..) = start(Timing { age: SHORT, ..TIMES }).await;
    let answer = rest(send(addr, GET_AND_READ_ONE_BYTE).await).await;
    assert!(answer.contains('1'), "nothing was answered: {answer:?}");
}

#[tokio::test]
async fn heads_over_the_bounds_are_refused() {
    let (addr, ..) = start(TIMES).await;
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

#[tokio::test]
async fn a_request_of_two_lengths_is_refused_and_ends_its_connection() {
    let (addr, ..) = start(TIMES).await;
    for lengths in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"]
    {
        let hidden = "0\r\n\r\nGET /never HTTP/1.1\r\nHost: x\r\n\r\n";
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n{hidden}");
        let answer = rest(send(addr, request.as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("AMBIGUOUS_LENGTH"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    let mut kept = TcpStream::connect(addr).await.unwrap();
    for _ in 0..2 {
        kept.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        sleep(Duration::from_millis(20)).await;
        kept.write_all(b"3\r\nabc\r\n0\r\n\r\n").await.unwrap();
        assert!(one(&mut kept).await.ends_with("abc"));
    }
}

#[test]
fn a_fifth_of_the_descriptors_stays_free() {
    let all = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    assert!(u64::try_from(connection_limit()).unwrap() <= all / 5 * 4);
}
