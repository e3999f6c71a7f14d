//! kill -9 of a core at every point of a change: the state is that before or that after, and heals by itself.

use harness::{
    browser::Browser,
    eventually,
    proxy::{Hold, Proxy},
    world::World,
};
use serde_json::Value;

use crate::{assert_accepted, assert_gif, denied, granted};

/// More flights than any change takes to either store, with some for what the core sends on its own account.
const FLIGHTS: usize = 12;

#[derive(Debug, Clone, Copy)]
enum Store {
    Redis,
    Postgres,
}

/// Every point at which a store can fall silent, and what of it is held.
fn points() -> impl Iterator<Item = (Store, usize, Hold)> {
    [Store::Redis, Store::Postgres].into_iter().flat_map(|store| {
        (0..FLIGHTS).flat_map(move |flights| [Hold::Flight, Hold::Answer].map(|hold| (store, flights, hold)))
    })
}

/// Sends a request while the store falls silent at that point, kills the core there, and starts it again over
/// stores that answer. Where the request took fewer flights, it was answered and the core is killed after it.
async fn killed_at<T>(
    world: &mut World,
    (store, flights, hold): (Store, usize, Hold),
    request: impl Future<Output = T>,
) {
    let proxy: &Proxy = match store {
        Store::Redis => &world.redis_proxy,
        Store::Postgres => &world.postgres_proxy,
    };
    proxy.freeze_after(flights, hold);
    tokio::pin!(request);
    let answered = tokio::select! {
        _ = &mut request => true,
        () = proxy.frozen() => false,
    };
    world.cluster.cores[0].kill9().await;
    if !answered {
        // The edge has its answer: the core is gone.
        request.await;
    }
    world.redis_proxy.heal().await;
    world.postgres_proxy.heal().await;
    world.cluster.cores[0].restart().await.unwrap();
    eventually("the edge to reach the core", async || match world.browser().view(&Value::Null).await {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.text()),
    })
    .await;
}

#[tokio::test]
async fn a_callback_is_stored_wholly_or_not_at_all() {
    let mut world = World::start().await;
    let mut stored = 0;
    for point in points() {
        let mut browser = world.browser();
        browser.view(&granted()).await;
        let callback = browser.sync_to_vendor("pinterest").await;
        let mut calling = browser.clone();
        killed_at(&mut world, point, calling.get(callback.as_str())).await;

        let ids = world.vendor_ids(browser.aid()).await;
        let condition = format!("canonical_id = '{}'", ids.canonical_id);
        let rows = world.database.count("vendor_ids", &condition).await;
        assert_eq!(
            i64::try_from(ids.vendor_ids.len()),
            Ok(rows),
            "{point:?}: {ids:?} is not what PostgreSQL has"
        );
        stored += rows;
        // The browser calls once more, as it might: the state is used, or it still counts.
        assert_gif(&browser.get(callback.as_str()).await);
        assert_eq!(
            world.vendor_ids(browser.aid()).await.vendor_ids.len(),
            1,
            "{point:?}: not stored even now"
        );
        assert_eq!(world.database.count("vendor_ids", &condition).await, 1, "{point:?}");
        assert_eq!(browser.view(&granted()).await.offered(), [""; 0], "{point:?}: synced");
    }
    let points = i64::try_from(points().count()).unwrap();
    assert!(
        stored > 0 && stored < points,
        "{stored} of {points}: the points cover only one side of the commit"
    );
    let repairs = world.database.count("redis_repairs", "true").await;
    assert_eq!(repairs, 0, "repairs are for a Redis that is away, not for a killed core");
}

#[tokio::test]
async fn a_withdrawal_counts_wholly_or_not_at_all() {
    let mut world = World::start().await;
    let mut withdrawn = 0;
    for point in points() {
        let mut browser = world.browser();
        browser.view(&granted()).await;
        let mut calling: Browser = browser.clone();
        let denial = denied();
        killed_at(&mut world, point, calling.view(&denial)).await;

        let condition = format!("anonymous_id = '{}'", browser.aid());
        let sql = format!("SELECT signals FROM consent WHERE {condition}");
        let truth: Value = serde_json::from_str(&world.database.text(&sql).await).unwrap();
        let shown = world
            .vendor_ids(browser.aid())
            .await
            .consent
            .and_then(|consent| consent.json)
            .unwrap_or_default();
        assert_eq!(
            serde_json::from_str::<Value>(&shown).ok(),
            Some(truth.clone()),
            "{point:?}: not what PostgreSQL has"
        );
        let redirect = browser.get(&browser.sync_url("pinterest")).await;
        let expected = if truth == denial { 204 } else { 302 };
        assert_eq!(redirect.status, expected, "{point:?}: PostgreSQL has {truth}");
        withdrawn += usize::from(truth == denial);
        assert_accepted(&browser.view(&denial).await, 1);
        assert_eq!(
            browser.get(&browser.sync_url("pinterest")).await.status,
            204,
            "{point:?}: withdrawn at last"
        );
    }
    let points = points().count();
    assert!(withdrawn > 0 && withdrawn < points, "{withdrawn} of {points}: only one side of the commit");
}
