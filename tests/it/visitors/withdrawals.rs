//! `purge_on_withdrawal`: what a pipeline collected from a browser goes when that browser withdraws its
//! consent.

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::{Answer, Browser},
    health::health,
    people::{self, People},
    recovery::{assert_healed, repaired},
    seed::Customer,
    visits::{denied, granted, synced},
    world::{Options, World},
};
use proto::v1::ConsentSignals;
use reqwest::Method;
use serde_json::{Value, json};

async fn purging(options: Options) -> World {
    World::with(Options { purge_on_withdrawal: true, ..options }).await
}

/// Sends a page view whose URL has this query.
async fn visit(browser: &mut Browser, consent: &Value, query: &str) -> Answer {
    let mut event = browser.page_view(consent);
    event["context"]["page"]["url"] = json!(format!("https://shop.example.com/{query}"));
    let answer = browser.batch(&json!([event])).await;
    assert_accepted(&answer, 1);
    answer
}

async fn login(browser: &mut Browser, user: &str) {
    let mut event = browser.page_view(&granted());
    event["userId"] = json!(user);
    assert_accepted(&browser.batch(&json!([event])).await, 1);
}

/// The fields that delivery gets for a browser, sorted.
async fn delivered(world: &World, browser: &Browser) -> Vec<String> {
    let mut fields: Vec<String> = world.vendor_ids(browser.aid()).await.vendor_ids.into_keys().collect();
    fields.sort();
    fields
}

/// The fields of a hash in Redis that are not ours, sorted.
async fn fields(world: &World, key: &str) -> Vec<String> {
    let mut fields: Vec<String> = world.redis(&["HKEYS", key]).await;
    fields.retain(|field| !field.starts_with('_'));
    fields.sort();
    fields
}

async fn purged(world: &World, vendor: &str) -> f64 {
    world.metric("datafly_consent_purged_total", &[("vendor", vendor)]).await
}

#[tokio::test]
async fn what_a_browser_brought_goes_from_both_stores_and_is_collected_anew() {
    let (vendors, generated) = (&["criteo", "pinterest"], &["google", "meta"]);
    let world = purging(Options { vendors, generated, ..Options::default() }).await;
    let both = json!({"marketing": true, "analytics": true});
    let (mut browser, mut other) = (world.browser(), world.browser());
    for browser in [&mut browser, &mut other] {
        let first = visit(browser, &both, "?gclid=1&epik=2&fbclid=3").await;
        assert_eq!(first.offered(), ["criteo", "pinterest"]);
        assert_gif(browser.sync("pinterest").await.last().unwrap());
    }
    let all = ["client_id", "epik", "fbc", "fbclid", "fbp", "gclid", "pin_unauth"];
    assert_eq!(delivered(&world, &browser).await, all);

    // Of two categories one.
    let withdrawn = json!({"marketing": false, "analytics": true});
    assert_eq!(browser.view(&withdrawn).await.offered(), [""; 0]);
    let canonical = world.vendor_ids(browser.aid()).await.canonical_id;
    let key = |kind: &str, of: &str| format!("{kind}:{}:{of}", world.customer.org_id);
    assert_eq!(delivered(&world, &browser).await, ["client_id"]);
    assert_eq!(fields(&world, &key("cvid", &canonical)).await, ["client_id"]);
    assert_eq!(fields(&world, &key("identity", browser.aid())).await, ["client_id"]);
    assert_eq!(fields(&world, &key("syncs", &canonical)).await, [""; 0]);
    let own = format!("canonical_id = '{canonical}'");
    assert_eq!(world.database.count("vendor_ids", &own).await, 1);
    assert_eq!(world.database.count("sync_attempts", &own).await, 0);
    for (vendor, ids) in [("pinterest", 2.0), ("google", 1.0), ("meta", 3.0)] {
        assert_eq!(purged(&world, vendor).await, ids, "{vendor}");
    }
    assert_eq!(delivered(&world, &other).await, all, "another visitor's");

    // Not while it is denied, and at once when it is not: what was synced, and what was offered a moment ago.
    assert_eq!(browser.view(&Value::Null).await.offered(), [""; 0]);
    assert_eq!(browser.view(&both).await.offered(), ["criteo", "pinterest"]);
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    let anew = ["client_id", "fbc", "fbp", "pin_unauth"];
    assert_eq!(delivered(&world, &browser).await, anew, "with what the browser's own cookies hold");

    browser.view(&withdrawn).await;
    world.flush_redis().await;
    assert_eq!(delivered(&world, &browser).await, ["client_id"]);
    browser.view(&json!({"marketing": false, "analytics": false})).await;
    assert_eq!(delivered(&world, &browser).await, [""; 0]);
    world.flush_redis().await;
    assert_eq!(browser.view(&Value::Null).await.offered(), [""; 0]);
    assert_eq!(delivered(&world, &browser).await, [""; 0]);
    assert_eq!(delivered(&world, &other).await, all);
    assert_healed(&world).await;
}

#[tokio::test]
async fn only_a_stored_denial_that_is_new_removes() {
    let world = purging(Options { consent_mode: "implicit", ..Options::default() }).await;
    let mut browser = world.browser();
    browser.view(&Value::Null).await;
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    let has = async |browser: &Browser| world.vendor_id(browser.aid(), "pin_unauth").await.is_some();

    browser.view(&json!({"analytics": false})).await;
    assert!(has(&browser).await, "another category");
    let url = browser.sync_url("pinterest").replace(&browser.collect, "");
    let image = browser.request(Method::GET, &url).header("sec-gpc", "1");
    assert_eq!(browser.send(image).await.status, 204);
    assert!(has(&browser).await, "what comes with an image is not stored");
    world.database.execute("UPDATE pipelines SET consent_mode = 'explicit'").await;
    harness::eventually("the core to know the mode", async || {
        match world.browser().view(&Value::Null).await.offered().len() {
            0 => Ok(()),
            offers => Err(format!("{offers} offers")),
        }
    })
    .await;
    browser.view(&Value::Null).await;
    browser.view(&json!({"analytics": true})).await;
    assert!(has(&browser).await, "the mode changed, the visitor took nothing back");

    browser.view(&granted()).await;
    let body = json!({"batch": [browser.page_view(&granted())]}).to_string();
    let event = browser.request(Method::POST, "/v1/batch").bearer_auth(&browser.key);
    assert_accepted(&browser.send(event.header("sec-gpc", "1").body(body)).await, 1);
    assert!(!has(&browser).await, "Global Privacy Control with an event");
    assert_eq!(purged(&world, "pinterest").await, 1.0);
}

#[tokio::test]
async fn the_setting_counts_from_the_next_withdrawal_on() {
    let world = World::with(Options { generated: &["google"], ..Options::default() }).await;
    let mut early = synced(&world).await;
    early.view(&denied()).await;
    assert!(world.vendor_id(early.aid(), "pin_unauth").await.is_some(), "it is off");
    assert_eq!(purged(&world, "pinterest").await, 0.0);

    world.database.execute("UPDATE pipelines SET purge_on_withdrawal = true").await;
    harness::eventually("the core to know of it", async || {
        let mut browser = world.browser();
        visit(&mut browser, &granted(), "?gclid=1").await;
        assert!(world.vendor_id(browser.aid(), "gclid").await.is_some());
        assert_accepted(&browser.view(&denied()).await, 1);
        match world.vendor_id(browser.aid(), "gclid").await {
            None => Ok(()),
            Some(_) => Err("it is there".to_owned()),
        }
    })
    .await;
    early.view(&json!({"marketing": false, "analytics": true})).await;
    assert!(world.vendor_id(early.aid(), "pin_unauth").await.is_some(), "withdrawn before");
    early.view(&granted()).await;
    early.view(&denied()).await;
    assert_eq!(world.vendor_id(early.aid(), "pin_unauth").await, None, "withdrawn again");
}

#[tokio::test]
async fn of_a_person_with_two_browsers_each_takes_back_its_own() {
    let world = purging(Options { generated: &["google", "meta"], ..Options::default() }).await;
    let (mut laptop, mut phone) = (world.browser(), world.browser());
    login(&mut laptop, "anna").await;
    login(&mut phone, "anna").await;
    visit(&mut laptop, &granted(), "?gclid=laptop").await;
    visit(&mut phone, &granted(), "?epik=phone").await;
    assert_gif(laptop.sync("pinterest").await.last().unwrap());
    assert_eq!(delivered(&world, &laptop).await, ["epik", "fbp", "gclid", "pin_unauth"]);
    assert_eq!(delivered(&world, &phone).await, ["epik", "fbp", "gclid", "pin_unauth"]);

    phone.view(&denied()).await;
    for browser in [&laptop, &phone] {
        assert_eq!(delivered(&world, browser).await, ["fbp", "gclid", "pin_unauth"], "the laptop's");
        let identity = format!("identity:{}:{}", world.customer.org_id, browser.aid());
        assert_eq!(fields(&world, &identity).await, ["fbp", "gclid", "pin_unauth"]);
    }
    assert_eq!(laptop.view(&Value::Null).await.offered(), [""; 0], "it is synced");
    laptop.view(&denied()).await;
    assert_eq!(delivered(&world, &phone).await, [""; 0]);
    let again = phone.view(&granted()).await;
    assert_eq!(again.offered(), ["pinterest"], "and now it is not, for neither of them");
    assert_healed(&world).await;
}

#[tokio::test]
async fn taking_a_merge_apart_brings_nothing_back() {
    let world = purging(Options { generated: &["google"], ..Options::default() }).await;
    let people = People::of(&world);
    let (mut anna, mut bert) = (world.browser(), world.browser());
    let mut first = None;
    for round in 0..2 {
        (anna, bert) = (world.browser(), world.browser());
        visit(&mut anna, &granted(), "?gclid=of-anna").await;
        assert_gif(anna.sync("pinterest").await.last().unwrap());
        visit(&mut bert, &granted(), "?gclid=of-bert").await;
        for browser in [&mut anna, &mut bert] {
            login(browser, &format!("user-{round}")).await;
        }
        let person = people.lookup(people::browser(anna.aid())).await.unwrap();
        assert_eq!(person.vendor_ids["gclid"].value, "of-bert", "the newer one");
        if round == 0 {
            anna.view(&denied()).await;
            assert_eq!(delivered(&world, &anna).await, ["gclid"], "the other browser's");
            assert_eq!(world.database.text("SELECT string_agg(value, ' ') FROM vendor_ids").await, "of-bert");
            assert_eq!(world.database.count("sync_attempts", "true").await, 0);
            first = Some(anna.clone());
        }
        people.unmerge(0, &person.merges[0].merge_id).await.unwrap();
        assert_eq!(world.vendor_id(bert.aid(), "gclid").await.as_deref(), Some("of-bert"));
    }
    let mut first = first.unwrap();
    assert_eq!(delivered(&world, &first).await, [""; 0]);
    assert_eq!(first.view(&granted()).await.offered(), ["pinterest"]);

    // Taken apart before the withdrawal: each has its own, and takes back that.
    assert_eq!(delivered(&world, &anna).await, ["gclid", "pin_unauth"]);
    anna.view(&denied()).await;
    assert_eq!(delivered(&world, &anna).await, [""; 0]);
    assert_eq!(delivered(&world, &bert).await, ["gclid"]);
    assert_healed(&world).await;
}

#[tokio::test]
async fn the_pipeline_that_collected_an_id_decides() {
    let world = purging(Options { generated: &["google"], ..Options::default() }).await;
    let mut database = world.database.connection().await.unwrap();
    let (org, test) = (world.customer.org_id, world.customer.test_org_id);
    let key = &world.cluster.secrets.encryption_key;
    let outlet =
        Customer::seed_in(&mut database, org, test, key, "explicit", "outlet.example.com").await.unwrap();
    outlet.add_generated(&mut database, "microsoft", true).await.unwrap();
    world.cluster.open(&mut database, &outlet, &world.vendors, &[]).await.unwrap();

    // One visitor of both, who withdraws where nothing is to be removed.
    let (mut shop, mut outlet) = (world.browser(), world.browser_of(&outlet));
    outlet.anonymous_id.clone_from(&shop.anonymous_id);
    visit(&mut shop, &granted(), "?gclid=1").await;
    visit(&mut outlet, &granted(), "?msclkid=2").await;
    assert_eq!(delivered(&world, &shop).await, ["gclid", "msclkid"]);
    outlet.view(&denied()).await;
    assert_eq!(delivered(&world, &shop).await, ["msclkid"]);

    // Of IDs that don't know their pipeline any one of the organisation's may be it.
    world.database.execute("UPDATE vendor_ids SET pipeline_id = NULL").await;
    outlet.view(&granted()).await;
    outlet.view(&denied()).await;
    assert_eq!(delivered(&world, &shop).await, [""; 0]);

    // A service that names the organisation alone.
    visit(&mut shop, &granted(), "?gclid=3").await;
    let consent = Some(ConsentSignals { json: Some(denied().to_string()), sec_gpc: false });
    let subject = proto::v1::Subject { consent, ..people::visit(shop.aid()) };
    People::of(&world).see(0, subject).await;
    assert_eq!(delivered(&world, &shop).await, [""; 0]);

    // And the world of test keys.
    let mut tester = world.browser();
    tester.key.clone_from(&world.customer.test_key);
    visit(&mut tester, &granted(), "?gclid=4").await;
    assert_eq!(world.vendor_ids_in(&test.to_string(), tester.aid()).await.vendor_ids.len(), 1);
    tester.view(&denied()).await;
    assert_eq!(world.vendor_ids_in(&test.to_string(), tester.aid()).await.vendor_ids.len(), 0);
    assert_eq!(world.database.count("vendor_ids", "true").await, 0);
}

#[tokio::test]
async fn withdrawn_while_redis_is_away_it_is_gone_when_redis_is_back() {
    let world = purging(Options::default()).await;
    let mut browser = synced(&world).await;
    world.redis_proxy.refuse().await;
    assert_accepted(&browser.view(&denied()).await, 1);
    assert_eq!(world.database.count("vendor_ids", "true").await, 0);
    assert!(world.database.count("redis_repairs", "redis_key LIKE 'identity:%'").await > 0);
    assert_eq!(delivered(&world, &browser).await, [""; 0]);
    world.redis_proxy.heal().await;
    harness::eventually("Redis to serve again", async || {
        assert_eq!(delivered(&world, &browser).await, [""; 0], "stale IDs were delivered");
        match health(&world, "dependency.redis").await.as_str() {
            "SERVING" => Ok(()),
            state => Err(state.to_owned()),
        }
    })
    .await;
    repaired(&world).await;
    assert_eq!(delivered(&world, &browser).await, [""; 0]);
    let identity = format!("identity:{}:{}", world.customer.org_id, browser.aid());
    assert_eq!(fields(&world, &identity).await, [""; 0]);
    browser.view(&granted()).await;
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    assert_eq!(delivered(&world, &browser).await, ["pin_unauth"], "anew");
    assert_healed(&world).await;
}

#[tokio::test]
async fn a_callback_that_races_a_withdrawal_on_two_cores_leaves_nothing() {
    let world = purging(Options { cores: 2, ..Options::default() }).await;
    let people = People::of(&world);
    let rounds = 40;
    for round in 0..rounds {
        let mut browser = world.browser();
        browser.view(&granted()).await;
        let callback = browser.sync_to_vendor("pinterest").await;
        let (mut returning, denial) = (browser.clone(), denied());
        let (image, answer) = tokio::join!(returning.get(callback.as_str()), browser.view(&denial));
        assert_gif(&image);
        assert_accepted(&answer, 1);
        let left = people.delivered(people::browser(browser.aid())).await.vendor_ids;
        assert!(left.is_empty(), "round {round}: {left:?}");

        // Whether it was used or not, its state is from before.
        assert_accepted(&browser.view(&granted()).await, 1);
        assert_gif(&browser.get(callback.as_str()).await);
        let left = people.delivered(people::browser(browser.aid())).await.vendor_ids;
        assert!(left.is_empty(), "round {round}, granted again: {left:?}");
    }
    assert_eq!(world.database.count("vendor_ids", "true").await, 0);
    // What Redis was told of too late, on a busy machine, is stored all the same.
    let stored = world.metric("datafly_sync_succeeded_total", &[]).await
        + world.sync_failures("pinterest", "store_failed").await;
    let refused = world.sync_failures("pinterest", "consent").await;
    assert_eq!((stored + refused, purged(&world, "pinterest").await), (f64::from(rounds), stored));
    assert_eq!(world.sync_failures("pinterest", "bad_state").await, f64::from(rounds));
    assert_healed(&world).await;
}
