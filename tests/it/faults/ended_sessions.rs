//! Sessions that PostgreSQL ends while they are at work, as an operator does, a failover or a pooler: nobody's event is
//! given back, and no callback is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use harness::{
    browser::Browser,
    eventually,
    recovery::{assert_healed, assert_no_open_transaction},
    visits::granted,
    world::{Options, World},
};
use serde_json::json;
use tokio::task::JoinSet;
use url::Url;
use uuid::Uuid;

/// Time of an answer from which on a machine with too much to do is its reason: the deadline is 1 s.
const SLOW: Duration = Duration::from_millis(900);

/// Visitors who log in, and are synced.
#[derive(Default)]
struct Visits {
    /// Anonymous IDs of those whose callback was called.
    called: Vec<String>,
    /// Answers that turned visitors away.
    refused: Vec<String>,
    /// True where an answer came too late to say anything.
    is_slow: bool,
}

impl Visits {
    /// Sends one new visitor through, and says how they were turned away.
    async fn visit(&mut self, browser: &mut Browser) -> Result<(), String> {
        let visitor = Uuid::new_v4().to_string();
        browser.anonymous_id = Some(visitor.clone());
        browser.jar.clear();
        let mut event = browser.page_view(&granted());
        event["userId"] = json!(format!("user-{visitor}"));
        let answer = browser.batch(&json!([event])).await;
        if answer.status != 200 || answer.json()["accepted"] != json!(1) {
            return Err(answer.text());
        }
        let redirect = browser.get(&browser.sync_url("pinterest")).await;
        let Some(location) = redirect.header("location") else { return Err(redirect.text()) };
        let vendor = browser.get(location).await;
        let callback: Url = vendor.url.join(vendor.header("location").unwrap()).unwrap();
        let answer = browser.get(callback.as_str()).await;
        self.called.push(visitor);
        if answer.is_gif() { Ok(()) } else { Err(answer.text()) }
    }
}

/// Ends the sessions that are at work, under load, until that were two dozen. Answers with what came of the visitors.
async fn end_sessions(world: &World) -> Visits {
    let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut tasks = JoinSet::new();
    for _ in 0..12 {
        let (stop, served, mut browser) = (stop.clone(), served.clone(), world.browser());
        tasks.spawn(async move {
            let mut visits = Visits::default();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let visited = visits.visit(&mut browser).await;
                visits.is_slow |= began.elapsed() >= SLOW;
                match visited {
                    Ok(()) => _ = served.fetch_add(1, Ordering::Relaxed),
                    Err(text) => visits.refused.push(text),
                }
            }
            visits
        });
    }
    let mut ended = 0;
    while ended < 24 {
        // A transaction is tried again once: those that were ended are let through before the next.
        let before = served.load(Ordering::Relaxed);
        eventually("visitors to be served", async || match served.load(Ordering::Relaxed) - before {
            24.. => Ok(()),
            served => Err(format!("{served}")),
        })
        .await;
        let at_work = "datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()";
        let sql = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {at_work}");
        ended += world.database.text(&sql).await.parse::<usize>().unwrap();
    }
    let before = served.load(Ordering::Relaxed);
    eventually("visitors to be served at last", async || match served.load(Ordering::Relaxed) - before {
        12.. => Ok(()),
        served => Err(format!("{served}")),
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Visits::default();
    for mut one in tasks.join_all().await {
        all.called.append(&mut one.called);
        all.refused.append(&mut one.refused);
        all.is_slow |= one.is_slow;
    }
    all
}

#[tokio::test]
async fn sessions_that_are_ended_at_work_cost_no_visitor_anything() {
    let world = World::with(Options { cores: 2, ..Options::default() }).await;
    world.vendors.tell_apart();
    let mut tries = 0;
    loop {
        let timeouts = world.metric("datafly_pool_timeouts_total", &[]).await;
        let visits = end_sessions(&world).await;
        let list = visits.called.join("','");
        let synced =
            format!("vendor_ids JOIN links USING (org_id, canonical_id) WHERE links.value IN ('{list}')");
        let synced = world.database.text(&format!("SELECT count(DISTINCT links.value) FROM {synced}")).await;
        let lost = visits.called.len() - synced.parse::<usize>().unwrap();
        tries += 1;
        // A machine with too much to do has visitors wait too long for a connection, or for an answer.
        let was_slow = visits.is_slow || world.metric("datafly_pool_timeouts_total", &[]).await > timeouts;
        if was_slow && tries < 5 && (lost > 0 || !visits.refused.is_empty()) {
            continue;
        }
        assert_eq!(lost, 0, "of {} callbacks", visits.called.len());
        assert_eq!(visits.refused, [""; 0]);
        break;
    }
    assert_no_open_transaction(&world).await;
    assert_healed(&world).await;
}
