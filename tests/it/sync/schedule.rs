//! When a vendor is tried: who waits longest comes first, an ID is refreshed before it ends, and what a page fires by
//! itself changes nothing.

use harness::{
    answers::assert_gif,
    browser::{Answer, Browser},
    vendor_sim::Fault,
    visits::{explained, granted, synced},
    world::{Options, World, all_vendors},
};
use proto::v1::SyncOutcome;
use serde_json::Value;

/// Names of the vendors in `pending_syncs`, in the answer's order.
fn in_order(answer: &Answer) -> Vec<String> {
    let offers = answer.json()["pending_syncs"].as_array().cloned().unwrap_or_default();
    offers.iter().map(|offer| offer["vendor"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn attempts(world: &World, browser: &Browser) -> String {
    let sql = format!("SELECT attempts::text FROM sync_attempts WHERE anonymous_id = '{}'", browser.aid());
    world.database.text(&sql).await
}

#[tokio::test]
async fn three_batches_offer_all_fifteen_longest_waiting_first() {
    let world = World::with(Options { vendors: all_vendors().leak(), ..Options::default() }).await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    // Sent out one by one, and never answered: in an order that is neither the table's nor the alphabet's.
    let mut order = all_vendors();
    order.sort_by_key(|name| name.chars().rev().collect::<String>());
    for name in &order {
        world.vendors.misbehave(name, Some(Fault::NoRedirect));
        browser.sync(name).await;
        world.age("10 seconds").await;
    }
    world.age("10 minutes").await;
    let mut offered = Vec::new();
    for batch in 0..3 {
        let five = in_order(&browser.view(&granted()).await);
        assert_eq!(five.len(), 5, "batch {batch}: {five:?}");
        offered.extend(five);
    }
    assert_eq!(offered, order);
    assert_eq!(browser.view(&granted()).await.offered(), [""; 0]);
}

#[tokio::test]
async fn an_id_is_refreshed_before_it_expires() {
    let world = World::start().await;
    let mut browser = synced(&world).await;
    let left = "SELECT extract(epoch FROM next_at - now())::integer::text FROM sync_attempts";
    let left: i64 = world.database.text(left).await.parse().unwrap();
    let (day, early) = (86_400, 86_400 * 90 / 20);
    assert!((90 * day - early - 60..=90 * day).contains(&left), "up to 5 % early: {left} s");
    // Where chance has left less than a minute between the two, there is nothing to see.
    world.database.execute("UPDATE sync_attempts SET next_at = next_at - interval '1 hour'").await;
    world.age(&format!("{} seconds", left - 3600 + 5)).await;
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some(), "it has not ended");
    assert_eq!(browser.view(&granted()).await.offered(), ["pinterest"]);
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    world.age("2 days").await;
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some(), "without a gap");
}

/// A page that has its images written into it fires each of them with every view, whatever is offered.
#[tokio::test]
async fn images_that_a_page_has_by_itself_lock_no_vendor_out() {
    let world = World::start().await;
    world.vendors.misbehave("pinterest", Some(Fault::NoRedirect));
    let mut browser = world.browser();
    for expected in ["1", "2"] {
        for _ in 0..20 {
            browser.view(&granted()).await;
            browser.sync("pinterest").await;
        }
        assert_eq!(attempts(&world, &browser).await, expected, "twenty views are one try");
        world.age("61 minutes").await;
    }
    let seen = world.vendors.seen().len();
    assert_eq!(seen, 2, "the vendor saw the browser twice");
    world.vendors.misbehave("pinterest", None);
    assert_eq!(browser.view(&granted()).await.offered(), ["pinterest"]);
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some());
    // A live ID is not asked for anew, and nothing is put off.
    for _ in 0..20 {
        assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 204);
    }
    world.age("91 days").await;
    assert_eq!(browser.view(&granted()).await.offered(), ["pinterest"]);
}

#[tokio::test]
async fn two_tabs_fire_a_sync_once() {
    let world = World::start().await;
    let mut one = world.browser();
    let mut two = one.clone();
    let views = [one.view(&granted()).await.offered(), two.view(&granted()).await.offered()];
    assert_eq!(views.concat(), ["pinterest"]);
    // Both fire it all the same, at once: one is sent out, and what it brings is good for both.
    let (url, again) = (one.sync_url("pinterest"), two.sync_url("pinterest"));
    let (first, second) = tokio::join!(one.follow(&url), two.follow(&again));
    let mut chains = [first, second].map(|hops| hops.iter().map(|hop| hop.status).collect::<Vec<_>>());
    chains.sort();
    assert_eq!(chains, [vec![204], vec![302, 302, 200]]);
    assert_eq!(world.metric("datafly_sync_attempted_total", &[]).await, 1.0);
    assert!(world.vendor_id(one.aid(), "pin_unauth").await.is_some());
}

/// Without an identity there is no schedule: the vendor is tried once, then again from the next batch on, once.
#[tokio::test]
async fn a_sync_before_the_first_batch_is_fired_once_more() {
    let world = World::with(Options { consent_mode: "implicit", ..Options::default() }).await;
    let mut browser = world.browser();
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    for _ in 0..5 {
        assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 204);
    }
    assert_eq!(world.sync_failures("pinterest", "no_canonical").await, 1.0);
    let offers: Vec<_> = [browser.view(&Value::Null).await, browser.view(&Value::Null).await]
        .iter()
        .flat_map(Answer::offered)
        .collect();
    assert_eq!(offers, ["pinterest"]);
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 204);
    assert_eq!(world.sync_failures("pinterest", "no_canonical").await, 1.0);
    assert_eq!(world.metric("datafly_sync_attempted_total", &[]).await, 2.0);
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some());
}

/// Of a browser an engineer is told what became of the last try, and how often nothing did.
#[tokio::test]
async fn what_became_of_the_last_try_is_explained() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    let told = async |browser: &Browser| {
        let told = explained(&world, browser, "pinterest").await;
        (told.last_outcome(), told.unanswered)
    };
    assert_eq!(told(&browser).await, (SyncOutcome::Unspecified, 0), "never tried");
    for unanswered in 1..=2 {
        browser.get(&browser.sync_url("pinterest")).await;
        assert_eq!(told(&browser).await, (SyncOutcome::Unspecified, unanswered));
        world.age("2 hours").await;
    }
    for (fault, outcome) in [(Some(Fault::NoId), SyncOutcome::NoId), (None, SyncOutcome::Stored)] {
        world.vendors.misbehave("pinterest", fault);
        assert_gif(browser.sync("pinterest").await.last().unwrap());
        assert_eq!(told(&browser).await, (outcome, 0));
        world.age("25 hours").await;
    }
}
