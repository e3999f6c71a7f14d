//! Rates of keys and addresses: a caller over the rate is told when to return, and costs neither store nor
//! neighbour.

use std::time::{Duration, Instant};

use harness::{
    EVENTUALLY_LIMIT,
    answers::assert_accepted,
    browser::{Answer, Browser},
    eventually,
    process::Service,
    round_trips::caused,
    world::{Options, World},
};
use proto::{
    reason_of,
    v1::{AuthenticateResponse, ConsentMode, ErrorReason},
};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use super::support::{Counts, assert_served, behind_proxy, retry_after, visitor_of};

/// Events that a key may send at once at the slow rates that are used here: the largest cost of one request.
const BURST_EVENTS: usize = 1000;

async fn limited(rate: i32, cores: usize) -> World {
    World::with(Options { rate_limit_rps: Some(rate), cores, ..Options::default() }).await
}

/// A batch of 500 events of one new visitor: little work for what it costs.
fn costly() -> Value {
    json!(vec![json!({"type": "page", "anonymousId": Uuid::new_v4()}); 500])
}

#[track_caller]
fn assert_rate_limited(answer: &Answer) {
    assert_eq!((answer.status, answer.code().as_str()), (429, "RATE_LIMITED"), "{}", answer.text());
    assert!(retry_after(answer) >= 1);
}

#[tokio::test]
async fn a_key_over_its_rate_passes_when_it_was_told_and_not_before() {
    const EVENTS_PER_SECOND: usize = 250;
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
    assert!(
        admitted as f64 <= BURST_EVENTS as f64 + EVENTS_PER_SECOND as f64 * began.elapsed().as_secs_f64()
    );
    assert!(refusals > 1);
    let asked = world.metric("datafly_key_checks_total", &[("outcome", "rate")]).await;
    assert!(asked < 3.0, "the core was asked {asked} times for {refusals} refusals");
}

async fn authenticate(
    world: &World,
    core: usize,
    key: &str,
    events: usize,
) -> Result<AuthenticateResponse, Status> {
    let mut auth = world.cluster.api(core, &world.cluster.secrets.edge_token).unwrap().auth();
    auth.authenticate(visitor_of(world, &world.customer, key, events)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn each_core_grants_the_rate_and_keeps_count_through_changes_of_settings() {
    let world = limited(1, 2).await;
    let key = &world.customer.live_key;
    for core in [0, 1] {
        authenticate(&world, core, key, BURST_EVENTS).await.unwrap();
        let refused = authenticate(&world, core, key, BURST_EVENTS).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(reason_of(&refused).map(|row| row.reason), Some(ErrorReason::RateLimited));
        let delay = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
        let full = Duration::from_secs(1000);
        assert!(delay <= full && delay > full - EVENTUALLY_LIMIT, "{delay:?}");
    }
    world.database.execute("UPDATE pipelines SET consent_mode = 'implicit'").await;
    eventually("the core to know the change", async || {
        let answer =
            authenticate(&world, 0, &world.customer.test_key, 1).await.map_err(|error| error.to_string())?;
        if answer.consent_mode() == ConsentMode::Implicit { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    authenticate(&world, 0, key, BURST_EVENTS).await.unwrap_err();

    world.database.execute("UPDATE pipelines SET rate_limit_rps = 2").await;
    eventually("the new rate, which begins full", async || {
        authenticate(&world, 0, key, BURST_EVENTS).await.map_err(|error| error.to_string())
    })
    .await;
}

/// Sends page views of new visitors with a key, as fast as `senders` can, until `end`.
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
    const EVENTS_PER_SECOND: i32 = 20;
    let world = limited(EVENTS_PER_SECOND, 1).await;
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
    assert!(
        events <= BURST_EVENTS as f64 + f64::from(EVENTS_PER_SECOND) * seconds,
        "{passed} in {seconds} s"
    );

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
    let client = Client::builder().no_proxy().no_gzip().build().unwrap();
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
    // Whatever it writes in front, with the port that it has, and where it is named in a way that nobody can read.
    let subscribers: [fn(u32) -> String; 5] = [
        |_| "203.0.113.7".to_owned(),
        |last| format!("2001:db8:7:7::{last:x}"),
        |last| format!("\u{fc}{last}, 203.0.113.9"),
        |last| format!("203.0.113.10:{}", 1024 + last),
        |last| format!("unknown-{last}"),
    ];
    for subscriber in subscribers {
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
    /// Bytes by which a service may grow: allocators keep some of what a burst of connections needed.
    const MEMORY_GROWTH_BYTES: u64 = 24 << 20;
    let world = World::start().await;
    let proxied = behind_proxy(&world).await;
    let client = Client::builder().no_proxy().no_gzip().build().unwrap();
    let target = "/v1/sync/pinterest?pipeline_key=dk_live_RANDOM&aid=a";
    let url = format!("http://{}{target}", proxied.addr("http"));
    let address = |number: u32| format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
    let late = async || proxied.metrics().await.sum("datafly_core_failures_total", &[("rpc", "begin_sync")]);
    let refuse = async |keys: u32| {
        let before = late().await;
        let counts = statuses(&client, &url, (0..keys).map(address)).await;
        let count = |status| counts.get(&status).copied().unwrap_or(0);
        assert_eq!(count(401) + count(204), keys as usize, "{counts:?}");
        // An image whose call is late, on a machine that is busy with other tests, is nothing rather than an
        // error.
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
    assert!(
        after.iter().zip(before).all(|(after, before)| *after < before + MEMORY_GROWTH_BYTES),
        "{before:?} {after:?}"
    );

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
