//! SIGTERM: calls under way are answered, nothing acknowledged is lost, nobody who looks at readiness sees an
//! error, and the process goes in time, whatever half-sent things are open.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use harness::{
    browser::Browser,
    http2::{Connection, END_HEADERS, HEADERS, PREFACE, SETTINGS, fields, frame},
    process::Service,
    raw::{rest, send},
    visits::granted,
    world::{Options, World},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    task::{AbortHandle, JoinSet},
};

/// Time within which a process has to end after the signal.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// Time from which on a request has met its deadline of 1 s.
const DEADLINE_MET: Duration = Duration::from_millis(900);

/// Time for which a machine has to stand still to be taken for the cause of that.
const STALL_LEAST: Duration = Duration::from_millis(300);

/// A load balancer's view of an edge: it asks for readiness, and keeps clients from an edge that is not
/// ready.
#[derive(Clone)]
struct Member {
    collect: String,
    ready: Arc<AtomicBool>,
    _checks: Arc<Checks>,
}

struct Checks(AbortHandle);

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Member {
    fn new(edge: &Service) -> Self {
        let ready = Arc::new(AtomicBool::new(true));
        let (url, checked) = (format!("http://{}/readyz", edge.addr("metrics")), ready.clone());
        let checks = tokio::spawn(async move {
            loop {
                let ok = reqwest::get(&url).await.is_ok_and(|answer| answer.status() == 200);
                checked.store(ok, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let checks = Arc::new(Checks(checks.abort_handle()));
        Self { collect: format!("http://{}", edge.addr("http")), ready, _checks: checks }
    }
}

/// Sends one visitor after the other, each with one page view, over whichever member is ready, until `stop`
/// or until none is. Answers with those that were acknowledged and with what else was seen.
async fn visitors(
    template: Browser,
    members: Vec<Member>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> VisitorResults {
    let client = reqwest::Client::builder().no_proxy().no_gzip().build().unwrap();
    let mut seen = VisitorResults::default();
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let ready: Vec<&Member> =
            members.iter().filter(|member| member.ready.load(Ordering::Relaxed)).collect();
        let Some(member) = ready.get(turn % ready.len().max(1)) else { break };
        let mut browser = template.clone();
        browser.anonymous_id = Some(uuid::Uuid::new_v4().to_string());
        let body = json!({"batch": [browser.page_view(&granted())]}).to_string();
        let request = client.post(format!("{}/v1/batch", member.collect)).bearer_auth(&browser.key);
        // As a balancer in front of them would.
        let request = request.header("host", browser.collect.trim_start_matches("http://"));
        let request = request.header("origin", browser.origin.as_deref().unwrap_or_default()).body(body);
        let began = Instant::now();
        let error = match answer(request).await {
            Ok(answer) if answer["accepted"] == 1 => {
                seen.acknowledged.push(browser.aid().to_owned());
                None
            }
            Ok(answer) => Some(answer.to_string()),
            Err(error) => Some(error),
        };
        match error {
            Some(error) if began.elapsed() >= DEADLINE_MET => seen.late.push((began, Instant::now(), error)),
            error => seen.errors.extend(error),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    seen
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Value, String> {
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
    if status == 200 {
        serde_json::from_str(&text).map_err(|_| text)
    } else {
        Err(format!("{status}: {text}"))
    }
}

#[derive(Debug, Default)]
struct VisitorResults {
    acknowledged: Vec<String>,
    errors: Vec<String>,
    /// Requests that took all the time there is, with when they began and ended.
    late: Vec<(Instant, Instant, String)>,
}

/// Times for which the machine stood still, as a task sees it that only sleeps.
type Stalls = Arc<Mutex<Vec<(Instant, Instant)>>>;

fn watch(stalls: Stalls) -> Checks {
    let watching = tokio::spawn(async move {
        loop {
            let slept = Instant::now();
            tokio::time::sleep(Duration::from_millis(10)).await;
            if slept.elapsed() >= STALL_LEAST {
                stalls.lock().unwrap().push((slept, Instant::now()));
            }
        }
    });
    Checks(watching.abort_handle())
}

/// Visitors that come as fast as they are served.
struct Load {
    tasks: JoinSet<VisitorResults>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    stalls: Stalls,
    _watch: Checks,
}

impl Load {
    fn start(world: &World, edges: &[&Service], count: usize) -> Self {
        let members: Vec<Member> = edges.iter().map(|edge| Member::new(edge)).collect();
        let (mut tasks, stop, done) = (JoinSet::new(), Arc::default(), Arc::default());
        for _ in 0..count {
            tasks.spawn(visitors(world.browser(), members.clone(), Arc::clone(&stop), Arc::clone(&done)));
        }
        let stalls = Stalls::default();
        Self { tasks, stop, done, _watch: watch(Arc::clone(&stalls)), stalls }
    }

    /// Waits until so many more visitors are served.
    async fn more(&self, count: usize) {
        let from = self.done.load(Ordering::Relaxed);
        harness::eventually("visitors to be served", async || {
            let now = self.done.load(Ordering::Relaxed) - from;
            if now >= count { Ok(()) } else { Err(format!("{now} of {count}")) }
        })
        .await;
    }

    /// Ends the load, and answers with what all visitors have seen. An error of a restart is quick: reset, or
    /// refused. One that took the whole deadline while the machine stood still is the machine's.
    async fn end(self) -> VisitorResults {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = VisitorResults::default();
        for seen in self.tasks.join_all().await {
            all.acknowledged.extend(seen.acknowledged);
            all.errors.extend(seen.errors);
            all.late.extend(seen.late);
        }
        let stalls = self.stalls.lock().unwrap();
        for (began, ended, error) in all.late.drain(..) {
            if !stalls.iter().any(|(from, until)| *from < ended && began < *until) {
                all.errors.push(error);
            }
        }
        all
    }
}

/// Opens 200 connections that have begun something and don't go on.
async fn half_sent(addr: SocketAddr) -> Vec<TcpStream> {
    let request = fields(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "x")]);
    let halves = [
        b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nAuthor".to_vec(),
        PREFACE[..10].to_vec(),
        [PREFACE, &frame(SETTINGS, 0, 0, b""), &frame(HEADERS, 0, 1, &request)].concat(),
        Vec::new(),
    ];
    let mut open = Vec::new();
    for half in halves.iter().cycle().take(200) {
        open.push(send(addr, half).await);
    }
    open
}

/// Opens a connection of streams whose bodies never end.
async fn open_streams(addr: SocketAddr, path: &str, authorization: &str) -> Connection {
    let mut connection = Connection::open(addr, &frame(SETTINGS, 0, 0, b"")).await;
    let request = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("authorization", authorization),
    ]);
    for number in 0..20 {
        connection.send(&frame(HEADERS, END_HEADERS, 2 * number + 1, &request)).await;
    }
    connection
}

async fn assert_all_known(world: &World, acknowledged: &[String]) {
    assert!(acknowledged.len() > 100, "{} were acknowledged", acknowledged.len());
    let known = world.database.text("SELECT string_agg(value, ' ') FROM links").await;
    let known: std::collections::HashSet<&str> = known.split(' ').collect();
    for anonymous_id in acknowledged {
        assert!(known.contains(anonymous_id.as_str()), "{anonymous_id} was acknowledged and is lost");
    }
}

#[tokio::test]
async fn an_edge_under_load_goes_unnoticed_and_in_time() {
    let mut world = World::start().await;
    let edge = world.cluster.edge.addr("http");
    let half = half_sent(edge).await;
    let load = Load::start(&world, &[&world.cluster.edge], 16);
    load.more(200).await;
    let (status, took) = world.cluster.edge.terminate().await;
    assert!(status.success(), "{status}");
    assert!(took < EXIT_LIMIT, "gone after {took:?}");
    for stream in half {
        rest(stream).await;
    }
    let seen = load.end().await;
    assert_eq!(seen.errors, Vec::<String>::new(), "after {} good ones", seen.acknowledged.len());
    assert_all_known(&world, &seen.acknowledged).await;
}

#[tokio::test]
async fn a_core_under_load_loses_nothing_and_goes_in_time() {
    let mut world = World::start().await;
    let core = world.cluster.cores[0].addr("grpc");
    let half = half_sent(core).await;
    let token = format!("Bearer {}", world.cluster.secrets.internal_token);
    let _streams = open_streams(core, "/datafly.identity.v1.ResolveService/Resolve", &token).await;
    let load = Load::start(&world, &[&world.cluster.edge], 16);
    load.more(200).await;
    let (status, took) = world.cluster.cores[0].terminate().await;
    assert!(status.success(), "{status}");
    assert!(took < EXIT_LIMIT, "gone after {took:?}");
    for stream in half {
        rest(stream).await;
    }
    let seen = load.end().await;
    // It was the only one.
    let retry = |error: &str| {
        let again = error.contains(r#""accepted":0"#) && error.contains(r#""retry":true"#);
        again || error.starts_with("503") || error.starts_with("504")
    };
    let wrong: Vec<&String> = seen.errors.iter().filter(|error| !retry(error)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    world.cluster.cores[0].restart().await.unwrap();
    assert_all_known(&world, &seen.acknowledged).await;
}

/// Two edges and two cores, each restarted in turn.
#[tokio::test]
async fn a_rolling_restart_is_seen_by_nobody() {
    let mut world = World::with(Options { cores: 2, ..Options::default() }).await;
    let mut second = world.cluster.another_edge().await.unwrap();
    // Not as many as the machine can take: an error here is to be the restart's, not the load's.
    let load = Load::start(&world, &[&world.cluster.edge, &second], 4);
    load.more(500).await;
    for core in &mut world.cluster.cores {
        let (status, took) = core.terminate().await;
        assert!(status.success() && took < EXIT_LIMIT, "{status} after {took:?}");
        load.more(200).await;
        core.restart().await.unwrap();
        load.more(500).await;
    }
    for edge in [&mut world.cluster.edge, &mut second] {
        let (status, took) = edge.terminate().await;
        assert!(status.success() && took < EXIT_LIMIT, "{status} after {took:?}");
        load.more(200).await;
        edge.restart().await.unwrap();
        load.more(500).await;
    }
    let seen = load.end().await;
    assert_eq!(seen.errors, Vec::<String>::new(), "among {} good ones", seen.acknowledged.len());
    assert_all_known(&world, &seen.acknowledged).await;
}
