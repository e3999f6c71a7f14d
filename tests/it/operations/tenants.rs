//! Tenants beside each other: rates, what they cost once they are passed, and what a flood does to the others. How
//! fast anybody is served meanwhile is measured by `make bench`, never asserted here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use diesel_async::SimpleAsyncConnection;
use harness::{
    PATIENCE,
    answers::assert_accepted,
    browser::{Answer, Browser},
    eventually,
    people::{People, cookie, login, visit},
    process::Service,
    round_trips::caused,
    signature::sign,
    visits::granted,
    world::{Options, World},
};
use proto::{
    reason_of,
    v1::{
        AuthenticateRequest, AuthenticateResponse, Caller, CollectCaller, ConsentMode, ErrorReason,
        ResolveRequest, Subject, caller::Kind,
    },
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

/// The burst of the slow rates that are used here: the largest cost of one request.
const BURST: usize = 1000;

async fn limited(rate: i32, cores: usize) -> World {
    World::with(Options { rate_limit_rps: Some(rate), cores, ..Options::default() }).await
}

/// A batch of events of new visitors.
fn strangers(count: usize) -> Value {
    (0..count).map(|_| json!({"type": "page", "anonymousId": Uuid::new_v4()})).collect()
}

/// A batch of 500 events of one new visitor: little work for what it costs.
fn costly() -> Value {
    json!(vec![json!({"type": "page", "anonymousId": Uuid::new_v4()}); 500])
}

/// A page view that is taken. On a machine that is busy with other tests a call may pass its deadline, which is no
/// refusal; whatever else comes back is a failure.
async fn assert_served(browser: &mut Browser) {
    eventually("the core to answer in time", async || {
        let answer = browser.view(&granted()).await;
        if answer.status == 503 && ["UNAVAILABLE", "DEADLINE_EXCEEDED"].contains(&&*answer.code()) {
            return Err(answer.text());
        }
        assert_accepted(&answer, 1);
        Ok(())
    })
    .await;
}

fn retry_after(answer: &Answer) -> u64 {
    answer
        .header("retry-after")
        .unwrap_or_else(|| panic!("no Retry-After: {:?}", answer.headers))
        .parse()
        .unwrap()
}

#[track_caller]
fn assert_rate_limited(answer: &Answer) {
    assert_eq!((answer.status, answer.code().as_str()), (429, "RATE_LIMITED"), "{}", answer.text());
    assert!(retry_after(answer) >= 1);
}

#[tokio::test]
async fn a_key_over_its_rate_passes_when_it_was_told_and_not_before() {
    const RATE: usize = 250;
    let world = limited(250, 1).await;
    let mut browser = world.browser();
    let began = Instant::now();
    let mut admitted = 0;
    let (batch, sent, refused) = loop {
        let (batch, sent) = (costly(), Instant::now());
        let answer = browser.batch(&batch).await;
        if answer.status != 200 {
            break (batch, sent, answer);
        }
        admitted += 500;
    };
    let told = Instant::now();
    assert_rate_limited(&refused);
    assert_eq!(refused.header("access-control-allow-origin"), Some(world.customer.origin.as_str()));
    let wait = Duration::from_secs(retry_after(&refused));
    assert!(wait <= Duration::from_secs(2), "at most 500 events are missing: {wait:?}");
    let links = i64::from(admitted / 500);
    assert_eq!(
        world.database.count("links", "kind = 0").await,
        links,
        "nothing of the refused batch was taken"
    );

    // The same customer's other key has a rate of its own.
    let mut tester = world.browser();
    tester.key.clone_from(&world.customer.test_key);
    assert_accepted(&tester.batch(&costly()).await, 500);

    let mut refusals = 1;
    let passed = loop {
        let asked = Instant::now();
        let answer = browser.batch(&batch).await;
        if answer.status == 200 {
            break answer;
        }
        assert_rate_limited(&answer);
        assert!(asked < told + wait, "refused {:?} after the time it was told", asked - told - wait);
        refusals += 1;
    };
    assert!(sent.elapsed() >= wait, "passed {:?} early", wait - sent.elapsed());
    assert_accepted(&passed, 500);
    admitted += 500;
    assert!(admitted as f64 <= BURST as f64 + RATE as f64 * began.elapsed().as_secs_f64());
    assert!(refusals > 1);
    let asked = world.metric("datafly_key_checks_total", &[("outcome", "rate")]).await;
    assert!(asked < 3.0, "the core was asked {asked} times for {refusals} refusals");
}

fn visitor_of(world: &World, key: &str, events: usize) -> AuthenticateRequest {
    let caller = CollectCaller {
        pipeline_key: key.to_owned(),
        host: world.cluster.edge.addr("http").to_string(),
        events: events.try_into().unwrap(),
        ..CollectCaller::default()
    };
    AuthenticateRequest { caller: Some(caller) }
}

async fn authenticate(
    world: &World,
    core: usize,
    key: &str,
    events: usize,
) -> Result<AuthenticateResponse, Status> {
    let mut auth = world.cluster.api(core, &world.cluster.secrets.edge_token).unwrap().auth();
    auth.authenticate(visitor_of(world, key, events)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn each_core_grants_the_rate_and_keeps_count_through_changes_of_settings() {
    let world = limited(1, 2).await;
    let key = &world.customer.live_key;
    for core in [0, 1] {
        authenticate(&world, core, key, BURST).await.unwrap();
        let refused = authenticate(&world, core, key, BURST).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(reason_of(&refused).map(|row| row.reason), Some(ErrorReason::RateLimited));
        let delay = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
        let full = Duration::from_secs(1000);
        assert!(delay <= full && delay > full - PATIENCE, "{delay:?}");
    }
    world.database.execute("UPDATE pipelines SET consent_mode = 'implicit'").await;
    eventually("the core to know the change", async || {
        let answer =
            authenticate(&world, 0, &world.customer.test_key, 1).await.map_err(|error| error.to_string())?;
        if answer.consent_mode() == ConsentMode::Implicit { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    authenticate(&world, 0, key, BURST).await.unwrap_err();

    world.database.execute("UPDATE pipelines SET rate_limit_rps = 2").await;
    eventually("the new rate, which begins full", async || {
        authenticate(&world, 0, key, BURST).await.map_err(|error| error.to_string())
    })
    .await;
}

/// Statuses, and how many answers had each.
type Counts = BTreeMap<u16, usize>;

/// Page views of new visitors with a key, as fast as `senders` can, until `end`.
async fn flood(browser: Browser, senders: usize, end: Instant) -> Counts {
    let mut flood = JoinSet::new();
    for _ in 0..senders {
        let mut browser = browser.clone();
        flood.spawn(async move {
            let mut counts = Counts::new();
            while Instant::now() < end {
                browser.jar.clear();
                browser.anonymous_id = Some(Uuid::new_v4().to_string());
                let answer = browser.view(&Value::Null).await;
                *counts.entry(answer.status).or_default() += 1;
                if answer.status == 429 {
                    assert_rate_limited(&answer);
                }
            }
            counts
        });
    }
    let mut all = Counts::new();
    for (status, count) in flood.join_all().await.into_iter().flatten() {
        *all.entry(status).or_default() += count;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_over_its_rate_costs_the_stores_and_its_neighbour_nothing() {
    const RATE: i32 = 20;
    let world = limited(RATE, 1).await;
    let other = world.another_customer("implicit").await;
    let mut neighbour = world.browser_of(&other);
    let mut loud = world.browser();
    let began = Instant::now();
    let mut batches: i64 = 0;
    // Answers that a busy machine was too late with: what they were for may have been done, or refused.
    let mut late = 0;
    loop {
        match loud.batch(&costly()).await.status {
            200 => batches += 1,
            429 => break,
            status => {
                assert_eq!(status, 503);
                late += 1;
            }
        }
    }
    let flood = tokio::spawn(flood(loud, 8, Instant::now() + Duration::from_secs(3)));
    let mut served = 0;
    while !flood.is_finished() {
        assert_served(&mut neighbour).await;
        assert_served(&mut world.browser_of(&other)).await;
        served += 2;
    }
    let counts = flood.await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let (passed, refused) = (counts.get(&200).copied().unwrap_or(0), counts[&429]);
    late += counts.get(&503).copied().unwrap_or(0);
    assert!(counts.keys().all(|status| [200, 429, 503].contains(status)), "{counts:?}");
    assert!(refused > 10 * passed && served > 0, "no flood: {counts:?}, {served}");
    let events = 500.0 * batches as f64 + passed as f64;
    assert!(events <= BURST as f64 + f64::from(RATE) * seconds, "{passed} in {seconds} s");

    let own = format!("org_id = '{}'", world.customer.org_id);
    let stored = world.database.count("links", &own).await;
    let most = batches + i64::try_from(passed + late).unwrap();
    assert!(stored <= most, "{stored} stored of {batches}, {passed} and {late}");
    let asked = world.metric("datafly_key_checks_total", &[("outcome", "rate")]).await;
    let edge = world.cluster.edge.metrics().await.sum("datafly_throttled_total", &[("by", "key")]);
    // And the one that ended the burst.
    let told = refused as f64 + 1.0;
    assert!((told..=told + late as f64).contains(&(asked + edge)), "{asked} {edge} {counts:?}");
    // All who were under way when the key ran out, each second.
    assert!(asked <= 8.0 * (seconds + 1.0), "the core was asked {asked} times for {refused} refusals");
}

/// A second edge, behind a proxy at 127.0.0.1.
async fn behind_proxy(world: &World) -> Service {
    let core = format!("http://{}", world.cluster.cores[0].addr("grpc"));
    let env = [
        ("IDENTITY_URL", core.as_str()),
        ("SERVICE_TOKEN", &world.cluster.secrets.edge_token),
        ("TRUSTED_PROXIES", "127.0.0.1"),
    ];
    Service::start("http-edge", &env, &["http", "metrics"]).await.unwrap()
}

async fn statuses(client: &Client, url: &str, addresses: impl Iterator<Item = String>) -> Counts {
    let addresses: Vec<String> = addresses.collect();
    let mut senders = JoinSet::new();
    for part in addresses.chunks(addresses.len().div_ceil(32)) {
        let (client, url, part) = (client.clone(), url.to_owned(), part.to_vec());
        senders.spawn(async move {
            let mut counts = Counts::new();
            for address in part {
                let url = url.replace("RANDOM", &Uuid::new_v4().simple().to_string());
                let answer = client.get(url).header("x-forwarded-for", address).send().await.unwrap();
                if answer.status() == 429 {
                    assert_eq!(answer.headers()["retry-after"], "1");
                }
                *counts.entry(answer.status().as_u16()).or_default() += 1;
            }
            counts
        });
    }
    let mut all = Counts::new();
    for (status, count) in senders.join_all().await.into_iter().flatten() {
        *all.entry(status).or_default() += count;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn syncs_are_counted_by_the_visitor_s_own_address() {
    let world = World::start().await;
    let proxied = behind_proxy(&world).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let sync = |edge: &Service| {
        let key = &world.customer.live_key;
        format!("http://{}/v1/sync/pinterest?pipeline_key={key}&aid=RANDOM", edge.addr("http"))
    };
    let others = |count: u32| (0..count).map(|last| format!("198.51.{}.{}", last / 250, last % 250));
    // 500 at once and 100 a second (http-edge/src/throttle.rs); consent lacks, so 204.
    let bounded = |counts: &Counts, began: Instant| {
        assert!(counts[&204] >= 500 && counts[&429] > 0 && counts.len() == 2, "{counts:?}");
        assert!(counts[&204] as f64 <= 501.0 + 100.0 * began.elapsed().as_secs_f64(), "{counts:?}");
    };

    // What a stranger says of itself changes nothing.
    let began = Instant::now();
    bounded(&statuses(&client, &sync(&world.cluster.edge), others(2000)).await, began);
    assert_accepted(&world.browser().view(&Value::Null).await, 1);

    // What a proxy says does.
    let url = sync(&proxied);
    assert_eq!(statuses(&client, &url, others(2000)).await, Counts::from([(204, 2000)]));
    for subscriber in [|_| "203.0.113.7".to_owned(), |last: u32| format!("2001:db8:7:7::{last:x}")] {
        let began = Instant::now();
        bounded(&statuses(&client, &url, (0..2000).map(subscriber)).await, began);
    }
    for address in ["203.0.113.8", "2001:db8:7:8::1", "127.0.0.1"] {
        let passed = statuses(&client, &url, std::iter::once(address.to_owned())).await;
        assert_eq!(passed, Counts::from([(204, 1)]), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_keys_cost_no_store_and_no_memory() {
    const KEYS: u32 = 10_000;
    /// Allocators keep some of what a burst of connections needed.
    const SLACK: u64 = 24 << 20;
    let world = World::start().await;
    let proxied = behind_proxy(&world).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let target = "/v1/sync/pinterest?pipeline_key=dk_live_RANDOM&aid=a";
    let url = format!("http://{}{target}", proxied.addr("http"));
    let address = |number: u32| format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
    let late = async || proxied.metrics().await.sum("datafly_core_failures_total", &[("rpc", "begin_sync")]);
    let refuse = async |keys: u32| {
        let before = late().await;
        let counts = statuses(&client, &url, (0..keys).map(address)).await;
        let count = |status| counts.get(&status).copied().unwrap_or(0);
        assert_eq!(count(401) + count(204), keys as usize, "{counts:?}");
        // An image whose call is late, on a machine that is busy with other tests, is nothing rather than an error.
        assert!(count(204) as f64 <= late().await - before, "{counts:?}");
    };
    refuse(500).await;
    world.redis_proxy.take();
    world.postgres_proxy.take();
    let before = [world.cluster.cores[0].memory().unwrap_or(0), proxied.memory().unwrap_or(0)];

    refuse(KEYS).await;
    let sent = [caused(world.redis_proxy.take().0), caused(world.postgres_proxy.take().0)];
    assert!(sent.iter().all(Vec::is_empty), "{sent:#?}");
    let after = [world.cluster.cores[0].memory().unwrap_or(0), proxied.memory().unwrap_or(0)];
    assert!(after.iter().zip(before).all(|(after, before)| *after < before + SLACK), "{before:?} {after:?}");

    // One machine that tries keys, on any route, soon doesn't reach the core; keys in use pass all the same.
    let mut visitor = world.browser();
    assert_accepted(&visitor.view(&Value::Null).await, 1);
    let refused = eventually("the address to be refused", async || {
        let mut guesses = JoinSet::new();
        for _ in 0..100 {
            let mut guesser = visitor.clone();
            guesser.key = format!("dk_live_{}", Uuid::new_v4().simple());
            guesses.spawn(async move { guesser.view(&Value::Null).await });
        }
        let answers = guesses.join_all().await;
        assert!(answers.iter().all(|answer| [401, 429].contains(&answer.status)));
        answers.into_iter().find(|answer| answer.status == 429).ok_or_else(|| "all were judged".to_owned())
    })
    .await;
    assert_rate_limited(&refused);
    assert_eq!(refused.header("access-control-allow-origin"), None, "nobody has vouched for the origin");
    assert_accepted(&visitor.view(&Value::Null).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_visitors_of_one_user_leave_the_neighbour_alone() {
    let world = World::start().await;
    let other = world.another_customer("implicit").await;
    let mut bomb = JoinSet::new();
    for _ in 0..20 {
        let mut browser = world.browser();
        bomb.spawn(async move {
            let mut events = strangers(500);
            for event in events.as_array_mut().unwrap() {
                event["userId"] = json!("everybody");
            }
            browser.batch(&events).await
        });
    }
    let mut answers = Vec::new();
    let mut served = 0;
    while answers.len() < 20 {
        assert_served(&mut world.browser_of(&other)).await;
        served += 1;
        answers.extend(std::iter::from_fn(|| bomb.try_join_next()).map(Result::unwrap));
    }
    assert!(served > 0);
    for answer in answers {
        match answer.status {
            200 => {
                let errors = answer.json()["errors"].as_array().unwrap().clone();
                assert!(errors.iter().all(|error| error["retry"] == json!(true)), "{errors:?}");
            }
            429 | 503 => assert!(retry_after(&answer) >= 1),
            status => panic!("HTTP {status}: {}", answer.text()),
        }
    }
}

/// One new visitor.
fn stranger(world: &World, key: &str) -> ResolveRequest {
    let caller = visitor_of(world, key, 1).caller.map(Kind::Collect);
    let subject = Subject { anonymous_id: Some(Uuid::new_v4().to_string()), ..Subject::default() };
    ResolveRequest { caller: Some(Caller { kind: caller }), subjects: vec![subject] }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_hang_take_one_tenant_s_places_and_no_more() {
    /// Calls of one organisation at once (identity-service/src/auth/places.rs).
    const PLACES: usize = 1024;
    let world = World::start().await;
    let other = world.another_customer("implicit").await;
    let token = &world.cluster.secrets.edge_token;
    let known = stranger(&world, &other.live_key);
    let ask = async || world.cluster.api(0, token).unwrap().resolve().resolve(known.clone()).await;
    ask().await.unwrap();

    // Whoever is new has to be stored, and that waits now.
    let mut lock = world.database.connection().await.unwrap();
    lock.batch_execute("BEGIN; LOCK TABLE links IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut calls = JoinSet::new();
    let (mut refused, mut served, mut waves) = (0, 0, 0);
    loop {
        // All of them have to be there before the first give up, which a busy machine may not manage every time.
        if calls.is_empty() && refused == 0 && waves < 10 {
            waves += 1;
            for _ in 0..12 {
                let core = world.cluster.api(0, token).unwrap().resolve();
                for _ in 0..2 * PLACES / 12 {
                    let (mut core, request) = (core.clone(), stranger(&world, &world.customer.live_key));
                    calls.spawn(async move { core.resolve(request).await });
                }
            }
        }
        let Some(answer) = calls.join_next().await else { break };
        if let Some(status) = answer.unwrap().err().filter(|status| status.code() == Code::ResourceExhausted)
        {
            assert_eq!(reason_of(&status).map(|row| row.reason), Some(ErrorReason::Overloaded));
            let delay = status.get_details_retry_info().unwrap().retry_delay.unwrap();
            assert!(delay >= Duration::from_secs(1));
            refused += 1;
        }
        if refused == 1 && served == 0 {
            // A machine that is busy with other tests may be too late; refused the neighbour must not be.
            match ask().await {
                Ok(answer) => {
                    let error = answer.get_ref().resolutions[0].error.as_ref().map(|error| error.reason());
                    assert!(matches!(error, None | Some(ErrorReason::Unavailable)), "{error:?}");
                }
                Err(status) => assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}"),
            }
            served += 1;
        }
    }
    assert!(refused > 0 && served > 0, "{refused} refused, {served} served");
    lock.batch_execute("COMMIT").await.unwrap();
    eventually("a place again", async || {
        let mut core = world.cluster.api(0, token).unwrap().resolve();
        let answer = core.resolve(stranger(&world, &world.customer.live_key)).await;
        let answer = answer.map_err(|status| status.to_string())?.into_inner();
        answer.resolutions[0].error.clone().map_or(Ok(()), |error| Err(format!("{error:?}")))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_that_wait_for_a_lock_hold_up_their_own_tenant_alone() {
    /// Calls that wait for the lock until their deadline, while the neighbour goes on.
    const HELD_UP: usize = 32;
    /// Calls of the neighbour, of which some may be late.
    const CALLS: usize = 100;
    let world = World::start().await;
    let stuck = People::of(&world);
    let neighbour = People::in_org(&world, &world.another_customer("explicit").await.org_id.to_string());
    let victim = stuck.see(0, login("first", "victim")).await.canonical_id;
    let mut lock = world.database.connection().await.unwrap();
    let row = format!("BEGIN; SELECT FROM canonicals WHERE id = '{victim}' FOR UPDATE");
    lock.batch_execute(&row).await.unwrap();
    let held_up = Arc::new(AtomicUsize::new(0));
    let mut bombers = JoinSet::new();
    for bomber in 0..16 {
        let (stuck, held_up) = (stuck.clone(), held_up.clone());
        bombers.spawn(async move {
            // Until the neighbour has made its calls, however long that takes.
            for n in 0.. {
                let refused =
                    stuck.resolve(0, vec![login(format!("bot-{bomber}-{n}"), "victim")]).await.is_err();
                held_up.fetch_add(refused.into(), Ordering::Relaxed);
            }
        });
    }
    eventually("merges to wait for the lock", async || {
        let waiting = "datname = current_database() AND wait_event_type = 'Lock'";
        match world.database.count("pg_stat_activity", waiting).await {
            0 | 1 => Err("fewer than two".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let (mut calls, mut late) = (0, Vec::new());
    while held_up.load(Ordering::Relaxed) < HELD_UP || calls < CALLS {
        let (one, other) = (format!("one-{calls}"), format!("other-{calls}"));
        for subject in [visit(&one), visit(&other), cookie(&one, &other)] {
            late.extend(neighbour.resolve(0, vec![subject]).await.err());
            calls += 1;
        }
    }
    lock.batch_execute("COMMIT").await.unwrap();
    bombers.shutdown().await;
    // A machine that is busy with other tests may be too late at times.
    assert!(late.iter().all(|status| status.code() == Code::DeadlineExceeded), "{late:?}");
    assert!(late.len() * 10 <= calls, "{} of {calls} calls of the neighbour waited", late.len());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_of_the_largest_bodies_at_once_fit() {
    const GROWTH: u64 = 64 << 20;
    let world = World::start().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let services = [&world.cluster.edge, &world.cluster.cores[0]];
    let before = services.map(|service| service.memory().unwrap_or(0));
    let largest: u64 = 512 * 1024;
    let event =
        json!({"type": "page", "anonymousId": browser.aid(), "properties": {"x": "y".repeat(32_000)}})
            .to_string();
    let count = usize::try_from(largest).unwrap() / (event.len() + 1);
    let mut body = format!("{{\"batch\":[{}]}}", vec![event; count - 1].join(","));
    body.push_str(&" ".repeat(512 * 1024 - body.len()));

    let mut senders = JoinSet::new();
    let signature = sign(&world.customer.server_secret, &body);
    for number in 0..200 {
        let (mut browser, body, signature) = (browser.clone(), body.clone(), signature.clone());
        senders.spawn(async move {
            let mut request = browser.request(Method::POST, "/v1/batch").bearer_auth(&browser.key);
            // The bodies of signed calls go on to the core.
            if number % 2 == 0 {
                request = request.header("x-datafly-signature", signature);
            }
            browser.send(request.body(body)).await
        });
    }
    let mut peak = before;
    let mut counts = Counts::new();
    while !senders.is_empty() {
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(2), senders.join_next()).await {
            let answer = answer.unwrap().unwrap();
            *counts.entry(answer.status).or_default() += 1;
            match answer.status {
                200 => assert_accepted(&answer, count - 1),
                _ => assert_eq!((answer.status, retry_after(&answer)), (503, 1), "{}", answer.text()),
            }
        }
        peak = std::array::from_fn(|at| peak[at].max(services[at].memory().unwrap_or(0)));
    }
    assert!(counts.contains_key(&200), "{counts:?}");
    assert!(peak.iter().zip(before).all(|(peak, before)| *peak < before + GROWTH), "{before:?} {peak:?}");
    assert_accepted(&browser.view(&granted()).await, 1);
}
