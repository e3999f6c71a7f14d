//! kill -9 of a core at every point of a change: the state is that before or that after, and heals by itself.

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::Browser,
    eventually,
    proxy::{Hold, Proxy},
    recovery::takes_visitors,
    visits::{denied, end_waits, granted, synced},
    world::{Options, World},
};
use serde_json::Value;

/// Number of flights to a store that no request reaches; the sweep ends before, where one was answered.
const FLIGHT_LIMIT: usize = 80;

/// The point at which a core is killed: the store that falls silent, after how many flights, and what of the
/// next it holds.
#[derive(Debug, Clone, Copy)]
struct KillPoint {
    redis: bool,
    flights: usize,
    hold: Hold,
}

/// The state after a kill that cut a change off: `changed` where PostgreSQL has it, `answered` where the
/// request was answered before.
struct AfterKill {
    changed: bool,
    answered: bool,
}

/// Sweeps over both stores until there were kills on either side of the commit. One sweep may miss a side:
/// what the core sends on its own account counts among the flights.
async fn sweep(mut killed_at: impl AsyncFnMut(KillPoint) -> AfterKill) {
    for redis in [false, true] {
        let (mut before, mut after) = (0, 0);
        for _ in 0..10 {
            every_point(redis, &mut killed_at, &mut before, &mut after).await;
            if before > 0 && after > 0 {
                break;
            }
        }
        let store = if redis { "Redis" } else { "PostgreSQL" };
        assert!(
            before > 0 && after > 0,
            "{store}: killed {before} times before the commit, {after} times after it"
        );
    }
}

/// Tries every point of a store, until a request is answered before its point comes.
async fn every_point(
    redis: bool,
    killed_at: &mut impl AsyncFnMut(KillPoint) -> AfterKill,
    before: &mut usize,
    after: &mut usize,
) {
    for flights in 0.. {
        assert!(flights < FLIGHT_LIMIT, "a request takes ever more flights");
        let mut answered = true;
        for hold in [Hold::Flight, Hold::Answer] {
            let left = killed_at(KillPoint { redis, flights, hold }).await;
            answered &= left.answered;
            match left {
                AfterKill { answered: true, .. } => {}
                AfterKill { changed: true, .. } => *after += 1,
                AfterKill { changed: false, .. } => *before += 1,
            }
        }
        if answered {
            return;
        }
    }
}

/// Sends a request while a store falls silent at a point, kills the core there, and starts it again over
/// stores that answer. Answers whether the request was answered first; then the core is killed after it.
async fn killed_at<T>(world: &mut World, point: KillPoint, request: impl Future<Output = T>) -> bool {
    let proxy: &Proxy = if point.redis { &world.redis_proxy } else { &world.postgres_proxy };
    proxy.freeze_after(point.flights, point.hold);
    tokio::pin!(request);
    let answered = tokio::select! {
        _ = &mut request => true,
        () = proxy.frozen() => false,
    };
    world.cluster.cores[0].kill9().await;
    if !answered {
        // The edge answers in the core's place.
        request.await;
    }
    proxy.heal().await;
    world.cluster.cores[0].restart().await.unwrap();
    takes_visitors(world).await;
    answered
}

#[tokio::test]
async fn a_callback_is_stored_wholly_or_not_at_all() {
    let mut world = World::start().await;
    sweep(async |point| {
        let mut browser = world.browser();
        browser.view(&granted()).await;
        let callback = browser.sync_to_vendor("pinterest").await;
        let mut calling = browser.clone();
        let answered = killed_at(&mut world, point, calling.get(callback.as_str())).await;

        let ids = world.vendor_ids(browser.aid()).await;
        let condition = format!("canonical_id = '{}'", ids.canonical_id);
        let rows = world.database.count("vendor_ids", &condition).await;
        assert_eq!(
            i64::try_from(ids.vendor_ids.len()),
            Ok(rows),
            "{point:?}: {ids:?} is not what PostgreSQL has"
        );
        // The browser calls once more, as it might: the state is used, or it still counts. Another of the
        // edge's connections than the one that was waited for may still find out that its core is a new one.
        eventually("the callback to be stored", async || {
            assert_gif(&browser.get(callback.as_str()).await);
            match world.vendor_ids(browser.aid()).await.vendor_ids.len() {
                1 => Ok(()),
                ids => Err(format!("{point:?}: {ids} IDs even now")),
            }
        })
        .await;
        assert_eq!(world.database.count("vendor_ids", &condition).await, 1, "{point:?}");
        assert_eq!(browser.view(&granted()).await.offered(), [""; 0], "{point:?}: synced");
        AfterKill { changed: rows == 1, answered }
    })
    .await;
    let repairs = world.database.count("redis_repairs", "true").await;
    assert_eq!(repairs, 0, "repairs are for a Redis that is away, not for a killed core");
}

#[tokio::test]
async fn a_withdrawal_counts_wholly_or_not_at_all() {
    let mut world = World::with(Options { purge_on_withdrawal: true, ..Options::default() }).await;
    sweep(async |point| {
        let mut browser = synced(&world).await;
        let mut calling: Browser = browser.clone();
        let denial = denied();
        let answered = killed_at(&mut world, point, calling.view(&denial)).await;

        let sql = format!("SELECT signals FROM consent WHERE anonymous_id = '{}'", browser.aid());
        let truth: Value = serde_json::from_str(&world.database.text(&sql).await).unwrap();
        let shown = world.vendor_ids(browser.aid()).await.consent.and_then(|consent| consent.json);
        let shown: Option<Value> = shown.and_then(|json| serde_json::from_str(&json).ok());
        assert_eq!(shown.as_ref(), Some(&truth), "{point:?}: not what PostgreSQL has");
        let kept = world.vendor_id(browser.aid(), "pin_unauth").await.is_some();
        assert_eq!(kept, truth != denial, "{point:?}: PostgreSQL has {truth}");
        // Due, so that consent alone decides.
        end_waits(&world).await;
        let redirect = browser.get(&browser.sync_url("pinterest")).await;
        let expected = if truth == denial { 204 } else { 302 };
        assert_eq!(redirect.status, expected, "{point:?}: PostgreSQL has {truth}");
        assert_accepted(&browser.view(&denial).await, 1);
        assert_eq!(
            browser.get(&browser.sync_url("pinterest")).await.status,
            204,
            "{point:?}: withdrawn at last"
        );
        assert_eq!(world.vendor_id(browser.aid(), "pin_unauth").await, None, "{point:?}: removed at last");
        AfterKill { changed: truth == denial, answered }
    })
    .await;
}
