//! Clients that go away and deadlines that pass: no transaction is left open, no connection is lost, and what
//! was being done is done whole or not at all.

use std::time::{Duration, Instant};

use diesel_async::SimpleAsyncConnection;
use harness::{
    answers::assert_accepted,
    eventually,
    recovery::{assert_healed, assert_no_open_transaction},
    visits::granted,
    world::World,
};
use prost::Message;
use proto::v1::{
    Caller, ConsentSignals, IdentityRef, ResolveRequest, Subject, VendorIdsRequest, caller::Kind,
    identity_ref::Id,
};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Request, Status};

/// Clients in all; half of them over HTTP, half over gRPC. Leaks of a permit or a session show after
/// thousands of disconnects, at points of a call that nobody chose.
const CLIENTS: u32 = 10_000;
/// Clients that are there at once.
const CLIENTS_AT_ONCE: u32 = 16;
/// Connections of a core's pool.
const POOL_CONNECTIONS: usize = 16;

/// Time that clients wait at most. It follows the machine's pace, so that about half of them see their
/// answer.
struct ClientTimeout(Duration);

impl ClientTimeout {
    fn new() -> Self {
        Self(Duration::from_millis(20))
    }

    /// A part of the time, spread well: `number` times the golden ratio.
    fn of(&self, number: u32) -> Duration {
        self.0 * (number.wrapping_mul(2_654_435_769) >> 16) / 65_536
    }

    /// Learns whether a client saw its answer.
    fn learn(&mut self, seen: bool) {
        let (more, less) = (self.0 * 21 / 20, self.0 * 20 / 21);
        self.0 = if seen { less } else { more }.clamp(Duration::from_millis(1), Duration::from_secs(2));
    }
}

/// Visitor for whom the client of that number asks: half of the clients share two visitors, half bring new
/// ones.
fn visitor(number: u32) -> String {
    if number % 4 < 2 { format!("visitor-{number}") } else { format!("visitor-{}", number % 4) }
}

/// The consent that the client of that number brings; over HTTP it grants, so that a sync can follow.
fn consent(number: u32) -> Value {
    json!({"marketing": number % 2 == 1 || number.is_multiple_of(3)})
}

fn resolve_request(world: &World, number: u32) -> ResolveRequest {
    let consent = consent(number).to_string();
    let subject = Subject {
        anonymous_id: Some(visitor(number)),
        user_id: Some(format!("user-of-{}", visitor(number))),
        consent: Some(ConsentSignals { json: Some(consent), sec_gpc: false }),
        ..Subject::default()
    };
    let caller = Caller { kind: Some(Kind::OrgId(world.customer.org_id.to_string())) };
    ResolveRequest { caller: Some(caller), subjects: vec![subject], ..ResolveRequest::default() }
}

fn vendor_ids_request(world: &World, anonymous_id: &str) -> VendorIdsRequest {
    VendorIdsRequest {
        org_id: world.customer.org_id.to_string(),
        identities: vec![IdentityRef { id: Some(Id::AnonymousId(anonymous_id.to_owned())), browser: None }],
        fields: Vec::new(),
        ..VendorIdsRequest::default()
    }
}

/// Number of statements that wait for a lock.
async fn waiting(world: &World) -> i64 {
    let held = "datname = current_database() AND state = 'active' AND wait_event_type = 'Lock'";
    world.database.count("pg_stat_activity", held).await
}

#[tokio::test]
async fn ten_thousand_clients_that_go_away() {
    let world = World::start().await;
    world.vendors.tell_apart();
    let mut clients = JoinSet::new();
    for first in 0..CLIENTS_AT_ONCE {
        let core = world.internal().resolve();
        let requests: Vec<(u32, ResolveRequest)> = (first..CLIENTS)
            .step_by(CLIENTS_AT_ONCE as usize)
            .map(|number| (number, resolve_request(&world, number)))
            .collect();
        let mut browser = world.browser();
        clients.spawn(async move {
            let (mut acknowledged, mut patience) = (Vec::new(), ClientTimeout::new());
            for (number, request) in requests {
                let taken = if number % 2 == 0 {
                    // Its stream is reset.
                    let answer = timeout(patience.of(number), core.clone().resolve(request)).await;
                    answer.is_ok_and(|answer| {
                        answer.is_ok_and(|answer| answer.get_ref().resolutions[0].error.is_none())
                    })
                } else {
                    // Its connection is closed.
                    browser.anonymous_id = Some(visitor(number));
                    browser.jar.clear();
                    // Those who go to the vendor wait for their own site, and leave somewhere on the way.
                    let goes = number % 32 == 1;
                    let patient = if goes { Duration::from_secs(5) } else { patience.of(number) };
                    let answer = timeout(patient, browser.view(&consent(number))).await;
                    let taken = answer
                        .is_ok_and(|answer| answer.status == 200 && answer.json()["accepted"] == json!(1));
                    if taken && goes {
                        drop(timeout(10 * patience.of(number / 32), browser.sync("pinterest")).await);
                    }
                    taken
                };
                patience.learn(taken);
                if taken {
                    acknowledged.push(number);
                }
            }
            acknowledged
        });
    }
    let acknowledged = clients.join_all().await.concat();
    // Neither all were patient enough, nor none.
    assert!((100..9_900).contains(&acknowledged.len()), "{} were acknowledged", acknowledged.len());

    assert_no_open_transaction(&world).await;
    assert_stored(&world, &acknowledged).await;
    assert_whole(&world).await;
    // As autovacuum would some time: PostgreSQL goes other ways through tables that it knows.
    world.database.execute("VACUUM ANALYZE").await;
    assert_healed(&world).await;
    eventually("every connection to be had", async || match connections_to_be_had(&world).await {
        POOL_CONNECTIONS => Ok(()),
        connections => Err(format!("{connections} of {POOL_CONNECTIONS}")),
    })
    .await;
}

/// Checks that what was acknowledged is stored: each visitor, and the consent of those who came once.
async fn assert_stored(world: &World, acknowledged: &[u32]) {
    let rows: Vec<String> = acknowledged
        .iter()
        .map(|number| format!("('{}', '{}')", visitor(*number), consent(*number)))
        .collect();
    let visitors = format!("(VALUES {}) AS asked (visitor, signals)", rows.join(","));
    let missing = "NOT EXISTS (SELECT FROM links WHERE value = visitor)";
    assert_eq!(world.database.count(&visitors, missing).await, 0, "links that were acknowledged");
    let missing = "length(visitor) > 9 \
        AND NOT EXISTS (SELECT FROM consent WHERE anonymous_id = visitor AND consent.signals = asked.signals)";
    assert_eq!(world.database.count(&visitors, missing).await, 0, "consent that was acknowledged");
}

/// Checks that what belongs together is stored together, whether a client saw its answer or not.
async fn assert_whole(world: &World) {
    let browser = "links WHERE canonical_id = canonicals.id AND kind = 0";
    // A visitor who goes to the vendor again has been there.
    let stored = "sync_attempts WHERE canonical_id = canonicals.id AND last_synced IS NOT NULL";
    let begun = "sync_attempts WHERE canonical_id = canonicals.id AND outcome = 'attempted'";
    let used = "links JOIN used_states ON anonymous_id = value WHERE canonical_id = canonicals.id";
    let id = "vendor_ids WHERE canonical_id = canonicals.id";
    let count = async |condition: String| world.database.count("canonicals", &condition).await;
    assert_eq!(count(format!("NOT EXISTS (SELECT FROM {browser})")).await, 0, "identities without a browser");
    for (what, with) in [("a schedule", stored), ("a used state", used)] {
        let differ = format!("EXISTS (SELECT FROM {id}) <> EXISTS (SELECT FROM {with})");
        assert_eq!(count(differ).await, 0, "an ID without {what}, or {what} without an ID");
    }
    // Some came back from the vendor, and some did not.
    for (what, with) in [("answered", stored), ("unanswered", begun)] {
        assert!(count(format!("EXISTS (SELECT FROM {with})")).await > 10, "no sync was {what}");
    }
    assert_eq!(
        world.database.count("consent", "signals::json->>'marketing' IS NULL").await,
        0,
        "half a consent"
    );
}

/// Number of calls that hold a connection at the same time, of as many as the pool has connections.
async fn connections_to_be_had(world: &World) -> usize {
    world.flush_redis().await;
    let mut blocker = world.database.connection().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE links IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut calls = JoinSet::new();
    for number in 0..POOL_CONNECTIONS {
        let mut core = world.internal().resolve();
        let request = vendor_ids_request(world, &format!("stranger-{number}"));
        calls.spawn(async move { core.vendor_ids(request).await.map(drop) });
    }
    let mut most = 0;
    while most < POOL_CONNECTIONS && calls.try_join_next().is_none() {
        most = most.max(usize::try_from(waiting(world).await).unwrap());
    }
    blocker.batch_execute("ROLLBACK").await.unwrap();
    calls.shutdown().await;
    most
}

#[tokio::test]
async fn a_passed_deadline_takes_its_statement_with_it() {
    let world = World::start().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    world.flush_redis().await;
    let mut blocker = world.database.connection().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE links IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // A machine that is busy with other tests may be too late to see one of these moments, but not each time.
    eventually("a statement to begin before the deadline and to end with it", async || {
        let mut core = world.internal().resolve();
        let mut request = Request::new(vendor_ids_request(&world, browser.aid()));
        request.metadata_mut().insert("grpc-timeout", "200m".parse().unwrap());
        let call = tokio::spawn(async move { core.vendor_ids(request).await });
        let mut began = false;
        while !began && !call.is_finished() {
            began = waiting(&world).await == 1;
        }
        let code = call.await.unwrap().unwrap_err().code();
        // The client's own stub watches the deadline as well, and calls it CANCELLED.
        assert!([Code::DeadlineExceeded, Code::Cancelled, Code::Unavailable].contains(&code), "{code:?}");
        // 100 ms are promised, and lock_timeout would end it 300 ms from now.
        let ended = Instant::now();
        while waiting(&world).await > 0 && ended.elapsed() < Duration::from_millis(200) {}
        match (began, waiting(&world).await) {
            (true, 0) if ended.elapsed() < Duration::from_millis(250) => Ok(()),
            (_, left) => Err(format!("begun: {began}; {left} were left after {:?}", ended.elapsed())),
        }
    })
    .await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    eventually("the visitor to be found", async || {
        match world.vendor_ids(browser.aid()).await.canonical_id {
            none if none.is_empty() => Err("no answer".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert_no_open_transaction(&world).await;
}

#[tokio::test]
async fn nothing_is_begun_with_too_little_time_left() {
    let world = World::start().await;
    for (number, deadline) in (0..).zip(["0n", "1m", "4999u"]) {
        let message = resolve_request(&world, number).encode_to_vec();
        let answer = harness::grpc::raw(&world, "Resolve", 0, &message, deadline).await;
        let status = Status::from_header_map(answer.headers()).map(|status| status.code());
        assert_eq!(status, Some(Code::DeadlineExceeded), "{deadline}: {:?}", answer.headers());
    }
    let requests = world.metric("datafly_resolves_total", &[]).await;
    assert_eq!(requests, 0.0, "subjects that were worked on");
    assert_eq!(world.database.count("canonicals", "true").await, 0);
}
