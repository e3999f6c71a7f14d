//! HTTP/2 as attackers speak it, to the edge and to the core (`docs/threats.md` lists the attacks). Each
//! attack is refused or bounded, costs no memory that stays, and meanwhile everybody else is served.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use harness::{
    answers::assert_accepted,
    browser::Browser,
    eventually,
    http2::{
        CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PING, REFUSED_STREAM,
        RST_STREAM, SETTINGS, fields, frame, setting,
    },
    process::Service,
    visits::granted,
    world::World,
};
use tokio::task::JoinSet;
use tonic::Code;

/// Bytes that an attack may add to a service's memory. The allocator keeps what a few hundred streams took at
/// once; what grew with each frame or stream of an attack would be far more.
const MEMORY_GROWTH_BYTES: u64 = 96 * 1024 * 1024;

/// A service that is attacked, and a request that it answers.
#[derive(Clone)]
struct Target {
    addr: SocketAddr,
    /// Fields of the request in HPACK.
    request: Vec<u8>,
}

impl Target {
    fn edge(world: &World) -> Self {
        let (key, origin) = (format!("Bearer {}", world.customer.live_key), world.customer.origin.as_str());
        let more = [("authorization", key.as_str()), ("origin", origin)];
        Self::new(&world.cluster.edge, "http", "/v1/batch", &more)
    }

    fn core(world: &World) -> Self {
        let token = format!("Bearer {}", world.cluster.secrets.internal_token);
        let more =
            [("authorization", token.as_str()), ("content-type", "application/grpc"), ("te", "trailers")];
        let path = "/datafly.identity.v1.ResolveService/VendorIds";
        Self::new(&world.cluster.cores[0], "grpc", path, &more)
    }

    fn new(service: &Service, listener: &str, path: &str, more: &[(&str, &str)]) -> Self {
        let first = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "127.0.0.1")];
        Self { addr: service.addr(listener), request: fields(&[&first, more].concat()) }
    }

    /// The HEADERS frame of the request that opens the stream of that number.
    fn open(&self, number: u32, flags: u8) -> Vec<u8> {
        frame(HEADERS, flags, stream(number), &self.request)
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.addr, &frame(SETTINGS, 0, 0, b"")).await
    }
}

/// The identifier of a client's stream.
fn stream(number: u32) -> u32 {
    2 * number + 1
}

/// Checks that a page view is taken, if not at once: under an attack the edge may say that it is overloaded,
/// or be late. A call that is cut is answered sooner, and that is what must not happen.
async fn assert_served(browser: &mut Browser) {
    for _ in 0..20 {
        let asked = Instant::now();
        let answer = browser.view(&granted()).await;
        let late = asked.elapsed() >= Duration::from_millis(900);
        if answer.status != 503 || !(late || answer.code() == "OVERLOADED") {
            assert_accepted(&answer, 1);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the visitor is kept out");
}

/// Waits until a page view is taken, once the attack is digested.
async fn assert_recovered(browser: &mut Browser) {
    let answer = eventually("the visitor to be served", async || match browser.view(&granted()).await {
        answer if answer.status == 503 => Err(answer.text()),
        answer => Ok(answer),
    })
    .await;
    assert_accepted(&answer, 1);
}

/// Runs `attack` on the edge and on the core at once, while a browser and an event processor work on, and
/// answers with both outcomes.
async fn under_attack<F>(attack: impl Fn(Target) -> F) -> Vec<Outcome>
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let world = World::start().await;
    let mut browser: Browser = world.browser();
    // What the first requests make grow is no attack's doing.
    for _ in 0..50 {
        assert_accepted(&browser.view(&granted()).await, 1);
    }
    let services = [&world.cluster.edge, &world.cluster.cores[0]];
    let before = services.map(Service::memory);
    let mut attacks = JoinSet::new();
    attacks.spawn(attack(Target::edge(&world)));
    attacks.spawn(attack(Target::core(&world)));
    let mut outcomes = Vec::new();
    let org = world.customer.org_id.to_string();
    while !attacks.is_empty() {
        assert_served(&mut browser).await;
        match world.ask_vendor_ids(&org, browser.aid()).await {
            Ok(found) => assert_eq!(found.vendor_ids.len(), 0),
            // A machine that is busy with an attack may be too late.
            Err(status) => assert_eq!(status.code(), Code::DeadlineExceeded, "{status}"),
        }
        while let Some(ended) = attacks.try_join_next() {
            outcomes.push(ended.unwrap());
        }
    }
    for (service, before) in services.iter().zip(before) {
        if let (Some(before), Some(after)) = (before, service.memory()) {
            assert!(
                after < before + MEMORY_GROWTH_BYTES,
                "{} grew from {before} to {after} bytes",
                service.addr("metrics")
            );
        }
    }
    assert_recovered(&mut browser).await;
    outcomes
}

/// Rapid reset (CVE-2023-44487), from eight connections.
#[tokio::test]
async fn rapid_resets() {
    let outcomes = under_attack(|target| async move {
        let mut connections = JoinSet::new();
        for _ in 0..8 {
            let target = target.clone();
            connections.spawn(async move {
                let cancel = 8_u32.to_be_bytes();
                let pair = |number| {
                    let flags = END_HEADERS | END_STREAM;
                    [target.open(number, flags), frame(RST_STREAM, 0, stream(number), &cancel)].concat()
                };
                target
                    .connect()
                    .await
                    .flood(200, |burst| (0..100).flat_map(|n| pair(burst * 100 + n)).collect())
                    .await
            });
        }
        let mut all = connections.join_all().await;
        assert!(all.iter().all(|outcome| outcome.closed), "{all:?}");
        all.pop().unwrap()
    })
    .await;
    // ENHANCE_YOUR_CALM, where the peer's own writes did not keep us from reading it.
    assert!(outcomes.iter().all(|outcome| outcome.goaway.is_none_or(|code| code == 11)), "{outcomes:?}");
}

#[tokio::test]
async fn header_blocks_without_an_end() {
    let outcomes = under_attack(|target| async move {
        let mut connection = target.connect().await;
        connection.send(&target.open(0, 0)).await;
        let filler = fields(&[("x-filler", &"x".repeat(8 * 1024))]);
        connection.flood(10_000, |_| frame(CONTINUATION, 0, stream(0), &filler)).await
    })
    .await;
    assert!(outcomes.iter().all(|outcome| outcome.closed), "{outcomes:?}");

    // The same in frames of nothing.
    let outcomes = under_attack(|target| async move {
        let mut connection = target.connect().await;
        connection.send(&target.open(0, 0)).await;
        connection.flood(1_000, |_| frame(CONTINUATION, 0, stream(0), b"").repeat(100)).await
    })
    .await;
    assert!(outcomes.iter().all(|outcome| outcome.closed), "{outcomes:?}");
}

#[tokio::test]
async fn bodies_in_frames_of_one_byte_and_of_none() {
    for payload in [&b" "[..], b""] {
        let outcomes = under_attack(move |target| async move {
            let mut connection = target.connect().await;
            connection.send(&target.open(0, END_HEADERS)).await;
            connection.flood(3_000, |_| frame(DATA, 0, stream(0), payload).repeat(100)).await
        })
        .await;
        assert!(outcomes.iter().all(|outcome| outcome.closed), "{payload:?}: {outcomes:?}");
    }
}

#[tokio::test]
async fn settings_and_pings_that_want_an_answer() {
    // Each is answered before the next one is read, so there is nothing to refuse.
    for asked in [frame(SETTINGS, 0, 0, b""), frame(PING, 0, 0, b"12345678")] {
        under_attack(move |target| {
            let asked = asked.clone();
            async move { target.connect().await.flood(2_000, |_| asked.repeat(50)).await }
        })
        .await;
    }
}

/// A large field in the table, then one byte for each time it is repeated.
#[tokio::test]
async fn header_lists_that_grow_when_unpacked() {
    let outcomes = under_attack(|target| async move {
        let value = "x".repeat(4000);
        // With incremental indexing (RFC 7541, 6.2.1): from now on it is number 62.
        let mut block = target.request.clone();
        let mut literal = fields(&[("x-bomb", &value)]);
        literal[0] = 0x40;
        block.extend(literal);
        block.extend([0x80 | 62; 8_000]);
        let bomb = |number| frame(HEADERS, END_HEADERS | END_STREAM, stream(number), &block);
        target.connect().await.flood(200, bomb).await
    })
    .await;
    assert!(outcomes.iter().all(|outcome| outcome.closed), "{outcomes:?}");
}

#[tokio::test]
async fn a_thousand_streams_too_many() {
    let outcomes = under_attack(|target| async move {
        // They stay open: their bodies never end.
        let mut connection = target.connect().await;
        connection.flood(1_256, |number| target.open(number, END_HEADERS)).await
    })
    .await;
    for outcome in outcomes {
        let refused = outcome.resets.iter().filter(|code| **code == REFUSED_STREAM).count();
        assert!(outcome.closed || refused == 1_000, "{outcome:?}");
    }
}

/// Answers that their peer has no room for: they take the room of the streams that wait with them, once. How
/// long that may be is tested beside the accept loop.
#[tokio::test]
async fn windows_that_never_open() {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    under_attack(|target| async move {
        let mut last = Outcome::default();
        for window in (0..100).map(|number| number % 2) {
            let mut connection = Connection::open(target.addr, &setting(INITIAL_WINDOW_SIZE, window)).await;
            last = connection.flood(256, |number| target.open(number, END_HEADERS | END_STREAM)).await;
        }
        last
    })
    .await;
}

/// The edge carries everybody's calls over a few connections, on which the core takes only so many resets. A
/// client that leaves may not end the others' calls with its own.
#[tokio::test]
async fn clients_that_leave_while_the_core_stands_still() {
    let world = World::start().await;
    let mut browser = world.browser();
    let edge = Target::edge(&world);
    let calls: Vec<u8> = (0..256).flat_map(|number| edge.open(number, END_HEADERS | END_STREAM)).collect();
    for attempt in 0..15 {
        assert_recovered(&mut browser).await;
        world.cluster.cores[0].signal("STOP");
        let began = Instant::now();
        // On a slow machine fewer, which are still more than the core takes.
        for _ in 0..if attempt < 3 { 3 } else { 2 } {
            // One for each of two threads there. PINGs answered: the requests have been taken, and begun.
            let leave = async || {
                let mut connection = edge.connect().await;
                connection.send(&calls).await;
                for _ in 0..3 {
                    connection.flood(0, |_| Vec::new()).await;
                }
            };
            tokio::join!(leave(), leave());
        }
        let consent = granted();
        let answer = browser.view(&consent);
        tokio::pin!(answer);
        // Sent, and not answered.
        let waiting = tokio::time::timeout(Duration::from_millis(50), &mut answer).await;
        world.cluster.cores[0].signal("CONT");
        let answer = match waiting {
            Ok(answer) => answer,
            Err(_) => answer.await,
        };
        // Later the edge has given up on its own.
        if began.elapsed() < Duration::from_millis(900) {
            assert_accepted(&answer, 1);
            return;
        }
    }
    panic!("this machine is too slow to tell");
}
