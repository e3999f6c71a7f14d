//! gRPC as attackers speak it, over real sockets (`docs/threats.md` lists the attacks). Health, reflection,
//! roles and bounds have their tests in `grpc.rs`, floods of frames in `http2.rs`.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Request, Response},
};
use harness::world::World;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use proto::{
    reason_of,
    v1::{Caller, ResolveRequest, Subject, caller::Kind},
};
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Status, codegen::tokio_stream};

const RESOLVE: &str = "/datafly.identity.v1.ResolveService/Resolve";

/// A connection to the core, with the token of an operator.
struct Client {
    sender: SendRequest<Body>,
    origin: String,
    token: String,
}

impl Client {
    async fn connect(world: &World) -> Self {
        let core = world.cluster.cores[0].addr("grpc");
        let stream = TokioIo::new(tokio::net::TcpStream::connect(core).await.unwrap());
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let token = format!("Bearer {}", world.cluster.secrets.operator_token);
        Self { sender, origin: format!("http://{core}"), token }
    }

    /// Sends a body with these headers besides the usual ones; a header that is given replaces the usual one.
    async fn send(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Response<hyper::body::Incoming>, hyper::Error> {
        let mut request = Request::post(format!("{}{path}", self.origin)).body(body).unwrap();
        let all = request.headers_mut();
        let token = self.token.clone();
        let usual =
            [("content-type", "application/grpc"), ("te", "trailers"), ("authorization", token.as_str())];
        for (name, value) in usual.iter().chain(headers) {
            all.insert(axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// The code of the answer, in its head or its trailers, and our reason for it.
    async fn code(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> (Code, Option<&'static str>) {
        let answer = self.send(path, headers, body).await.unwrap();
        let mut found: HeaderMap = answer.headers().clone();
        if !found.contains_key("grpc-status") {
            let mut body = Body::new(answer.into_body());
            while let Some(frame) = std::future::poll_fn(|context| {
                axum::body::HttpBody::poll_frame(std::pin::Pin::new(&mut body), context)
            })
            .await
            {
                if let Ok(trailers) = frame.unwrap().into_trailers() {
                    found = trailers;
                }
            }
        }
        let status = Status::from_header_map(&found).unwrap_or_else(|| panic!("no status in {found:?}"));
        (status.code(), reason_of(&status).map(proto::Reason::name))
    }

    /// Sends one message to `Resolve`, and answers with the code and our reason for it.
    async fn call(
        &mut self,
        headers: &[(&str, &str)],
        flag: u8,
        message: &[u8],
    ) -> (Code, Option<&'static str>) {
        self.code(RESOLVE, headers, framed(flag, message)).await
    }
}

fn framed(flag: u8, message: &[u8]) -> Body {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    Body::from([&[flag][..], &length, message].concat())
}

/// A body that never ends.
fn endless() -> Body {
    Body::from_stream(tokio_stream::pending::<Result<Bytes, std::io::Error>>())
}

fn good(world: &World, anonymous_id: &str) -> ResolveRequest {
    let caller = Some(Caller { kind: Some(Kind::OrgId(world.customer.org_id.to_string())) });
    let subject = Subject { anonymous_id: Some(anonymous_id.to_owned()), ..Subject::default() };
    ResolveRequest { caller, subjects: vec![subject], ..ResolveRequest::default() }
}

/// Tokens are looked at before anything of the body is read, let alone decoded.
#[tokio::test]
async fn who_has_no_token_is_refused_before_their_message_is_read() {
    let world = World::start().await;
    let mut client = Client::connect(&world).await;
    for token in ["", "Bearer", "Bearer ", "Bearer wrong", "Basic b3BlcmF0b3I6eA=="] {
        for body in [framed(0, b"\x07\xff garbage"), endless()] {
            let headers = [("authorization", token)];
            let answer = client.code(RESOLVE, &headers, body);
            let answer = timeout(Duration::from_secs(5), answer).await.expect("the body was waited for");
            assert_eq!(answer, (Code::Unauthenticated, Some("INVALID_SERVICE_TOKEN")), "{token:?}");
        }
    }
}

/// Compressed bombs, methods that no service has, metadata of 64 KiB or with a bad `-bin` value, and lengths
/// that are not what follows.
#[tokio::test]
async fn frames_and_metadata_that_are_none() {
    let world = World::start().await;
    let mut client = Client::connect(&world).await;
    let message = good(&world, "a").encode_to_vec();
    assert_eq!(client.call(&[], 0, &message).await.0, Code::Ok);

    let bomb = [0x1f, 0x8b, 8, 0].repeat(2560);
    for encoding in ["gzip", "deflate", "zstd", "br", "nothing"] {
        let answer = client.call(&[("grpc-encoding", encoding)], 1, &bomb).await;
        assert_eq!(answer, (Code::Unimplemented, Some("NOT_IMPLEMENTED")), "{encoding}");
    }
    for (what, flag, sent) in [("compressed with nothing", 1, &message[..]), ("a flag of 7", 7, &message)] {
        assert_eq!(
            client.call(&[], flag, sent).await,
            (Code::InvalidArgument, Some("INVALID_ARGUMENT")),
            "{what}"
        );
    }
    for (what, body, expected) in [
        (
            "4 GiB announced",
            Body::from(&b"\0\xff\xff\xff\xffx"[..]),
            (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        ),
        (
            "more announced than sent",
            Body::from(&b"\0\0\0\0\x10x"[..]),
            (Code::InvalidArgument, "INVALID_ARGUMENT"),
        ),
        ("half a prefix", Body::from(&b"\0\0"[..]), (Code::InvalidArgument, "INVALID_ARGUMENT")),
        ("nothing", Body::empty(), (Code::InvalidArgument, "INVALID_ARGUMENT")),
        (
            "over 4 MiB",
            framed(0, &vec![0; 4 * 1024 * 1024 + 1]),
            (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        ),
    ] {
        assert_eq!(client.code(RESOLVE, &[], body).await, (expected.0, Some(expected.1)), "{what}");
    }
    for path in [
        "/datafly.identity.v1.ResolveService/Nothing",
        "/datafly.identity.v1.NoService/Resolve",
        "/datafly.identity.v1.ResolveService/resolve",
        "/datafly.identity.v1.ResolveService",
        "/",
        "/%00",
        "//datafly.identity.v1.ResolveService//Resolve",
    ] {
        let answer = client.code(path, &[], framed(0, &message)).await;
        assert_eq!(answer, (Code::Unimplemented, Some("NOT_IMPLEMENTED")), "{path}");
    }
    for value in ["!!!", "a", "YQ=a", "%00"] {
        let answer = client.call(&[("x-some-bin", value)], 0, &message).await;
        assert_eq!(answer, (Code::InvalidArgument, Some("INVALID_ARGUMENT")), "{value:?}");
    }
    for value in ["", "YQ", "YQ==", "YWI,YQ=="] {
        assert_eq!(client.call(&[("x-some-bin", value)], 0, &message).await.0, Code::Ok, "{value:?}");
    }
    let large = "m".repeat(64 * 1024);
    let answer = client.send(RESOLVE, &[("x-large", &large)], framed(0, &message)).await;
    assert!(answer.as_ref().map_or(true, |answer| answer.status() == 431), "64 KiB of metadata: {answer:?}");
    let mut client = Client::connect(&world).await;
    assert_eq!(client.call(&[], 0, &message).await.0, Code::Ok, "the core is well");
}

/// Deadlines of a millisecond or of the past, and timeouts beyond any clock: nothing begins that can't end in
/// time, and odd timeouts ask for nothing.
#[tokio::test]
async fn deadlines_that_are_short_or_odd() {
    let world = World::start().await;
    let mut client = Client::connect(&world).await;
    for (number, timeout) in ["1m", "0m", "0S", "4999u", "1n", "00000000H"].iter().enumerate() {
        let message = good(&world, &format!("late-{number}")).encode_to_vec();
        let answer = client.call(&[("grpc-timeout", timeout)], 0, &message).await;
        assert_eq!(answer, (Code::DeadlineExceeded, Some("DEADLINE_EXCEEDED")), "{timeout}");
    }
    assert_eq!(world.database.count("links", "value LIKE 'late-%'").await, 0, "something was begun");
    for timeout in ["99999999H", "999999999S", "soon", "", "-1S", "1", "m", "1.5S", "\u{31}s"] {
        let answer = client.call(&[("grpc-timeout", timeout)], 0, &good(&world, "b").encode_to_vec()).await;
        assert_eq!(answer.0, Code::Ok, "{timeout:?}");
    }
    // The cap is ours, whatever is asked for.
    let began = std::time::Instant::now();
    let answer = client.code(RESOLVE, &[("grpc-timeout", "99999999H")], endless()).await;
    assert_eq!(answer, (Code::DeadlineExceeded, Some("DEADLINE_EXCEEDED")), "a body that never ends");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// Random numbers by SplitMix64: the same in each run.
struct Bytes64(u64);

impl Bytes64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }
}

async fn fuzz(mut client: Client, valid: Vec<u8>, seed: u64) {
    let mut random = Bytes64(seed);
    for round in 0..200 {
        let mut message = valid.clone();
        match round % 3 {
            0 => message = (0..random.below(200)).map(|_| random.next().to_le_bytes()[0]).collect(),
            1 => {
                for _ in 0..=random.below(4) {
                    let at = random.below(message.len());
                    message[at] = random.next().to_le_bytes()[0];
                }
            }
            _ => message.truncate(random.below(valid.len())),
        }
        let (code, reason) = client.call(&[], 0, &message).await;
        // The last one of a machine that is busy with other tests.
        let expected = [
            Code::Ok,
            Code::InvalidArgument,
            Code::NotFound,
            Code::PermissionDenied,
            Code::Unauthenticated,
            Code::DeadlineExceeded,
        ];
        assert!(expected.contains(&code), "{seed}, {round}: {code:?} {reason:?} for {message:x?}");
        assert!(code == Code::Ok || reason.is_some(), "{seed}, {round}: {code:?} without a reason");
    }
}

/// Random bytes, wrong wire types and unknown fields: whatever comes as a message is answered as what it is,
/// and never a defect of ours.
#[tokio::test]
async fn messages_of_random_bytes() {
    let world = World::start().await;
    let valid = good(&world, "fuzz").encode_to_vec();
    let mut fuzzers = JoinSet::new();
    for seed in 0..16 {
        fuzzers.spawn(fuzz(Client::connect(&world).await, valid.clone(), seed));
    }
    fuzzers.join_all().await;
    let mut client = Client::connect(&world).await;
    // A field nobody knows, of each wire type, changes nothing.
    for unknown in [&b"\xf8\x7f\x01"[..], b"\xf9\x7f12345678", b"\xfa\x7f\x03abc", b"\xfd\x7f1234"] {
        let answer = client.call(&[], 0, &[&valid[..], unknown].concat()).await;
        assert_eq!(answer.0, Code::Ok, "{unknown:x?}");
    }
    // The field of the subjects as a number.
    assert_eq!(client.call(&[], 0, b"\x10\x01").await, (Code::InvalidArgument, Some("INVALID_ARGUMENT")));
}

/// Cancellation as far as the transport goes: others on the same connection don't notice it.
#[tokio::test]
async fn calls_that_are_cancelled_at_random_points() {
    let world = World::start().await;
    let mut client = Client::connect(&world).await;
    let mut random = Bytes64(12);
    for round in 0..500 {
        let message = good(&world, &format!("cancelled-{round}")).encode_to_vec();
        let patience = Duration::from_micros(random.next() % 3_000);
        let _ = timeout(patience, client.call(&[], 0, &message)).await;
        if round % 50 == 0 {
            assert_eq!(client.call(&[], 0, &good(&world, "stays").encode_to_vec()).await.0, Code::Ok);
        }
    }
    for round in 0..500 {
        let message = good(&world, &format!("cancelled-{round}")).encode_to_vec();
        assert_eq!(client.call(&[], 0, &message).await.0, Code::Ok, "{round}");
    }
    assert_eq!(world.database.count("links", "value LIKE 'cancelled-%'").await, 500);
}
