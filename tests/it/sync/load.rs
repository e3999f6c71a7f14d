//! A thousand visitors, each with the fifteen vendors at once.

use std::sync::Arc;

use harness::{
    answers::assert_accepted,
    browser::{Answer, Browser},
    visits::{end_waits, granted},
    world::{Options, World, all_vendors},
};
use tokio::{sync::Semaphore, task::JoinSet};
use uuid::Uuid;

/// Visitors in all.
const VISITORS: usize = 1_000;
/// Visitors who are on the way at once, each with fifteen requests.
const AT_ONCE: usize = 3;

/// Opens a page and fires the images of all vendors at once. The images that did not come to their end, as where the
/// machine was too busy for the core to answer in time, are to be fired again.
async fn visit(mut page: Browser) -> Vec<(Browser, &'static str)> {
    assert_accepted(&page.view(&granted()).await, 1);
    let mut images = JoinSet::new();
    for name in all_vendors() {
        let mut image = page.clone();
        images.spawn(async move {
            let has_ended = image.sync(name).await.last().is_some_and(Answer::is_gif);
            (!has_ended).then_some((image, name))
        });
    }
    images.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_visitors_store_fifteen_thousand_ids() {
    let world = World::with(Options {
        vendors: all_vendors().leak(),
        trusted_proxies: "127.0.0.1/32",
        ..Options::default()
    })
    .await;
    world.vendors.tell_apart();
    let first = world.browser();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut visitors = JoinSet::new();
    for number in 0..VISITORS {
        let (place, mut page) = (places.clone().acquire_owned().await.unwrap(), first.clone());
        page.anonymous_id = Some(Uuid::new_v4().to_string());
        page.address = Some(format!("203.0.{}.{}", 1 + number / 200, 1 + number % 200));
        visitors.spawn(async move {
            let cut_off = visit(page).await;
            drop(place);
            cut_off
        });
    }
    let cut_off = visitors.join_all().await.concat();
    assert!(cut_off.len() < VISITORS, "{} images came to no end", cut_off.len());
    if !cut_off.is_empty() {
        end_waits(&world).await;
    }
    for (mut browser, name) in cut_off {
        browser.sync(name).await;
    }
    assert_eq!(world.database.count("canonicals", "true").await, 1_000);
    assert_eq!(world.database.count("vendor_ids", "source = 'sync'").await, 15_000);
    let each = "SELECT count(DISTINCT (canonical_id, field))::text FROM vendor_ids";
    assert_eq!(world.database.text(each).await, "15000");
    let own = "SELECT count(DISTINCT (value, field))::text FROM vendor_ids";
    assert_eq!(world.database.text(own).await, "15000", "each browser's own");
}
