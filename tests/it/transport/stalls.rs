//! Connections that hold their place and do nothing, on all kinds of listeners, from other addresses of the loopback
//! network: half-sent heads and bodies, windows that never open, answers that are never read.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use harness::{
    answers::assert_accepted,
    browser::Browser,
    eventually,
    grpc::Api,
    http2::{DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, fields, frame, setting},
    process::Service,
    visits::granted,
    world::World,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};
use uuid::Uuid;

/// Descriptors of each service, of which its main listener takes as many connections as [`PLACES`] says, and that of
/// metrics a quarter of that.
const DESCRIPTORS: u32 = 480;
/// Connections that the main listener takes with so many descriptors.
const PLACES: usize = 256;
/// Connections of one address.
const SHARE: usize = PLACES / 16;

/// Number of [`attacks`].
const ATTACKS: usize = 6;

/// One of each service, with fewer places than usual, and its listeners.
struct Narrow {
    core: Service,
    edge: Service,
    management: Service,
}

impl Narrow {
    async fn start(world: &World) -> Self {
        let secrets = &world.cluster.secrets;
        let (redis, tokens) = (world.redis.url(), secrets.service_tokens());
        let narrow = async |name: &str, main: &str, env: &[(&str, &str)]| {
            Service::start_with_descriptors(name, DESCRIPTORS, env, &[main, "metrics"]).await.unwrap()
        };
        let env = [
            ("DATABASE_URL", world.database.url.as_str()),
            ("REDIS_URL", &redis),
            ("DATAFLY_ENCRYPTION_KEY", &secrets.encryption_key),
            ("ALLOW_LOOPBACK", "true"),
            ("SERVICE_TOKENS", &tokens),
        ];
        let core = narrow("identity-service", "grpc", &env).await;
        let identity_url = format!("http://{}", core.addr("grpc"));
        let env = [("IDENTITY_URL", identity_url.as_str()), ("SERVICE_TOKEN", &secrets.edge_token)];
        let edge = narrow("http-edge", "http", &env).await;
        let jwt_secret = Uuid::new_v4().simple().to_string();
        let env = [
            ("DATABASE_URL", world.database.url.as_str()),
            ("DATAFLY_ENCRYPTION_KEY", &secrets.encryption_key),
            ("ALLOW_LOOPBACK", "true"),
            ("JWT_SECRET", &jwt_secret),
            ("SERVICE_TOKEN", &secrets.admin_token),
            ("IDENTITY_URL", &identity_url),
        ];
        let management = narrow("management", "http", &env).await;
        let mut database = world.database.connection().await.unwrap();
        let collect = format!("http://{}", edge.addr("http"));
        world.customer.add_collect_host(&mut database, &collect).await.unwrap();
        let narrow = Self { core, edge, management };
        eventually("the core to know the edge", async || {
            match narrow.visitor(world).view(&granted()).await {
                answer if answer.status == 200 => Ok(()),
                answer => Err(answer.text()),
            }
        })
        .await;
        narrow
    }

    /// A listener of each kind.
    fn listeners(&self) -> [(&Service, &'static str); 4] {
        [(&self.edge, "http"), (&self.core, "grpc"), (&self.management, "http"), (&self.edge, "metrics")]
    }

    /// A visitor who has not connected yet.
    fn visitor(&self, world: &World) -> Browser {
        let collect = format!("http://{}", self.edge.addr("http"));
        Browser::new(&collect, &world.customer.live_key, &world.customer.origin)
    }

    /// Uses each listener once, over connections of its own.
    async fn use_all(&self, world: &World, known: &Browser) {
        let mut visitor = self.visitor(world);
        visitor.anonymous_id.clone_from(&known.anonymous_id);
        // On a machine that is busy with other tests a call may be late, which is no refusal.
        eventually("the core to answer in time", async || {
            let answer = visitor.view(&granted()).await;
            if answer.status == 503 && ["UNAVAILABLE", "DEADLINE_EXCEEDED"].contains(&&*answer.code()) {
                return Err(answer.text());
            }
            assert_accepted(&answer, 1);
            Ok(())
        })
        .await;
        let core = Api::new(self.core.addr("grpc"), Some(&world.cluster.secrets.admin_token)).unwrap();
        core.catalog().list_sync_vendors(proto::v1::ListSyncVendorsRequest::default()).await.unwrap();
        let url = format!("http://{}/healthz", self.management.addr("http"));
        assert_eq!(reqwest::get(url).await.unwrap().status(), 200);
        self.edge.metrics().await;
    }
}

/// Bytes with which a connection begins to stall.
fn attacks(key: &str, host: SocketAddr) -> [Vec<u8>; ATTACKS] {
    let open = |method: &str, path: &str, flags: u8| {
        let fields = fields(&[
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", "127.0.0.1"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]);
        [PREFACE, &setting(4, 0), &frame(HEADERS, END_HEADERS | flags, 1, &fields)].concat()
    };
    let body = format!(
        "POST /v1/batch HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Length: 500000\r\n\r\n{}",
        " ".repeat(100_000)
    );
    [
        b"GET /healthz HTTP/1.1\r\nHo".to_vec(),
        body.into_bytes(),
        open("GET", "/healthz", END_STREAM),
        // What the core answers without a token: a message that never comes, and an answer that nobody reads.
        open("POST", "/grpc.health.v1.Health/Check", 0),
        [open("POST", "/grpc.health.v1.Health/Watch", 0), frame(DATA, END_STREAM, 1, &[0; 5])].concat(),
        "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000).into_bytes(),
    ]
}

/// Connects from 127.0.0.`host`, sends bytes for as long as they are taken, and reads nothing.
async fn stall(host: u8, addr: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1024).unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
    // On a full listener it waits in the backlog, and there for as long as it likes.
    let mut stream = timeout(Duration::from_secs(10), socket.connect(addr)).await.ok()?.ok()?;
    let _ = timeout(Duration::from_millis(100), stream.write_all(bytes)).await;
    Some(stream)
}

/// Stalls on every listener from each of `hosts` at once, in every way, with `each` connections.
async fn attack(narrow: &Narrow, key: &str, hosts: std::ops::Range<u8>, each: usize) -> Vec<TcpStream> {
    let mut stalling = JoinSet::new();
    for host in hosts {
        for (service, listener) in narrow.listeners() {
            for bytes in attacks(key, narrow.edge.addr("http")) {
                let addr = service.addr(listener);
                for _ in 0..each {
                    let bytes = bytes.clone();
                    stalling.spawn(async move { stall(host, addr, &bytes).await });
                }
            }
        }
    }
    stalling.join_all().await.into_iter().flatten().collect()
}

/// All of them at once: a known visitor of another address is answered within the deadline of their batch, over a
/// connection of their own each time.
#[tokio::test(flavor = "multi_thread")]
async fn stalls_of_one_address_keep_nobody_else_out_of_any_listener() {
    let world = World::start().await;
    let narrow = Narrow::start(&world).await;
    let mut known = narrow.visitor(&world);
    assert_accepted(&known.view(&granted()).await, 1);
    let open = attack(&narrow, &world.customer.live_key, 2..3, PLACES / ATTACKS).await;
    for _ in 0..20 {
        narrow.use_all(&world, &known).await;
    }
    for (service, listener) in narrow.listeners() {
        let metrics = service.metrics().await;
        let held = metrics.sum("datafly_connections", &[("listener", listener)]);
        // The attackers', as many of our own, and those that are just being closed.
        assert!(held <= 5.0 * SHARE as f64, "{listener}: {held} connections");
        let reason = [("listener", listener), ("reason", "address")];
        assert!(metrics.sum("datafly_connections_ended_total", &reason) > 0.0, "{listener}");
    }
    drop(open);
}

/// As many addresses as fill a listener: who stalls for five seconds makes room.
#[tokio::test(flavor = "multi_thread")]
async fn stalls_of_many_addresses_are_thinned_on_every_listener() {
    let world = World::start().await;
    let narrow = Narrow::start(&world).await;
    let mut known = narrow.visitor(&world);
    assert_accepted(&known.view(&granted()).await, 1);
    let open = attack(&narrow, &world.customer.live_key, 2..22, 4).await;
    for _ in 0..5 {
        narrow.use_all(&world, &known).await;
    }
    for (service, listener) in narrow.listeners() {
        let reason = [("listener", listener), ("reason", "full")];
        let ended = service.metrics().await.sum("datafly_connections_ended_total", &reason);
        assert!(ended > 0.0, "{listener} was never full");
    }
    drop(open);
}
