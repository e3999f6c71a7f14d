//! The cost of a known visitor, counted on the wire between the core and its stores.

use harness::{
    EVENTUALLY_LIMIT,
    answers::{assert_accepted, assert_gif},
    browser::Browser,
    people::{self, People, beside, canonical, named},
    round_trips::caused,
    visits::{denied, granted},
    within,
    world::{Options, World},
};
use proto::v1::VendorIdsRequest;
use serde_json::{Value, json};

/// Sends a batch and answers with its round trips to Redis and its statements to PostgreSQL.
async fn cost(world: &World, browser: &mut Browser, consent: &Value) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
    let errors = async || world.metric("datafly_redis_errors_total", &[]).await;
    let (mut tries, mut before) = (0, errors().await);
    loop {
        world.redis_proxy.take();
        world.postgres_proxy.take();
        let answer = browser.view(consent).await;
        assert_accepted(&answer, 1);
        assert_eq!(answer.offered(), [""; 0], "nothing is due for this visitor");
        let sent = (caused(world.redis_proxy.take().0), caused(world.postgres_proxy.take().0));
        // Redis that was late, on a machine that is busy with other tests, is not believed for a moment.
        let after = errors().await;
        tries += 1;
        if after <= before || tries == 5 {
            return sent;
        }
        before = after;
        ready(world).await;
    }
}

/// Checks the cost: one round trip warm, at most two cold, none to PostgreSQL; whatever consent the page
/// repeats.
async fn assert_cheap(world: &mut World, browser: &mut Browser, consent: &Value, who: &str) {
    ready(world).await;
    for consent in [consent, &Value::Null] {
        let (redis, postgres) = cost(world, browser, consent).await;
        assert_eq!(redis.len(), 1, "{who}, warm, consent {consent}: {redis:#?}");
        assert!(postgres.is_empty(), "{who}, warm, consent {consent}: {postgres:#?}");
    }
    world.cluster.cores[0].kill9().await;
    world.cluster.cores[0].restart().await.unwrap();
    ready(world).await;
    let (redis, postgres) = cost(world, browser, consent).await;
    assert!((1..=2).contains(&redis.len()), "{who}, cold: {redis:#?}");
    assert!(postgres.is_empty(), "{who}, cold: {postgres:#?}");
}

/// Waits until the edge's connections to the core stand, and the core believes Redis: a stranger is looked
/// for there.
async fn ready(world: &World) {
    harness::eventually("the core to serve from Redis", async || {
        world.redis_proxy.take();
        let answer = world.browser().view(&Value::Null).await;
        let sent = caused(world.redis_proxy.take().0);
        let looked = sent.iter().flatten().any(|command| command.contains("GET canonical:"));
        if answer.status == 200 && looked { Ok(()) } else { Err(format!("{} {sent:?}", answer.text())) }
    })
    .await;
}

#[tokio::test]
async fn what_a_core_does_by_itself_is_counted_for_no_visitor() {
    let world = World::start().await;
    let (mut rounds, mut caused_by_nobody) = (0, Vec::new());
    // The reaper has the longest pause of all that goes on by itself, ten seconds.
    within(3 * EVENTUALLY_LIMIT, "a second round of the reaper", async || {
        let (redis, postgres) = (world.redis_proxy.take().0, world.postgres_proxy.take().0);
        // What was sent until the first has ended is how the process starts.
        let has_begun = rounds > 0;
        let commands = postgres.iter().flat_map(|exchange| &exchange.commands);
        rounds += commands.filter(|command| command.contains("keep_used_proofs")).count();
        if has_begun {
            caused_by_nobody.extend(caused(redis).into_iter().chain(caused(postgres)));
        }
        if rounds >= 2 { Ok(()) } else { Err(format!("{rounds} rounds")) }
    })
    .await;
    assert_eq!(caused_by_nobody, [[""; 0]; 0]);
}

#[tokio::test]
async fn a_synced_visitor_costs_one_redis_round_trip() {
    let mut world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    assert_cheap(&mut world, &mut browser, &granted(), "synced").await;
}

#[tokio::test]
async fn a_visitor_of_whom_nothing_is_stored_costs_one_too() {
    let mut world = World::start().await;
    let mut browser = world.browser();
    browser.view(&Value::Null).await;
    assert_cheap(&mut world, &mut browser, &Value::Null, "known, without consent or IDs").await;
    let mut browser = world.browser();
    browser.view(&denied()).await;
    assert_cheap(&mut world, &mut browser, &denied(), "known, denied").await;
}

#[tokio::test]
async fn a_visitor_with_a_user_id_costs_one_too() {
    let mut world = World::start().await;
    let mut browser = world.browser();
    let mut event = browser.page_view(&granted());
    event["userId"] = json!("customer-7");
    browser.batch(&json!([event])).await;
    browser.sync("pinterest").await;
    browser.batch(&json!([event])).await;

    ready(&world).await;
    world.redis_proxy.take();
    world.postgres_proxy.take();
    assert_accepted(&browser.batch(&json!([event, event])).await, 2);
    let (redis, postgres) = (caused(world.redis_proxy.take().0), caused(world.postgres_proxy.take().0));
    assert_eq!(redis.len(), 1, "{redis:#?}");
    assert!(postgres.is_empty(), "{postgres:#?}");
    // The same browser, then without its user_id.
    assert_cheap(&mut world, &mut browser, &granted(), "with a user_id").await;
}

#[tokio::test]
async fn a_visitor_for_whom_ids_are_made_costs_one_too() {
    let generated = &["google", "meta", "tiktok", "snapchat", "reddit"];
    let mut world = World::with(Options { generated, ..Options::default() }).await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    browser.sync("pinterest").await;
    assert_eq!(world.database.count("vendor_ids", "source = 'generated'").await, 4);
    assert_cheap(&mut world, &mut browser, &granted(), "with generated IDs").await;
    let mut browser = world.browser();
    browser.view(&denied()).await;
    assert_cheap(&mut world, &mut browser, &denied(), "denied, where IDs are made").await;
}

#[tokio::test]
async fn a_visitor_whose_ids_went_with_consent_costs_one_too() {
    let mut world = World::with(Options { purge_on_withdrawal: true, ..Options::default() }).await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    browser.sync("pinterest").await;
    assert_cheap(&mut world, &mut browser, &granted(), "where IDs would go").await;
    browser.view(&denied()).await;
    assert_eq!(world.database.count("vendor_ids", "true").await, 0);
    assert_cheap(&mut world, &mut browser, &denied(), "where they went").await;
}

#[tokio::test]
async fn after_a_flush_the_next_request_rebuilds_and_the_one_after_is_cheap() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    browser.sync("pinterest").await;
    world.flush_redis().await;
    assert_eq!(browser.view(&granted()).await.offered(), [""; 0], "rebuilt from PostgreSQL");
    ready(&world).await;
    let (redis, postgres) = cost(&world, &mut browser, &granted()).await;
    assert_eq!(redis.len(), 1, "{redis:#?}");
    assert!(postgres.is_empty(), "{postgres:#?}");
}

#[tokio::test]
async fn delivery_reads_a_thousand_identities_in_one_pipeline() {
    let world = World::start().await;
    let mut browser = world.browser();
    let event = |number: usize| json!({"type": "page", "anonymousId": format!("visitor-{number}")});
    for chunk in 0..10 {
        let events: Vec<Value> = (chunk * 100..(chunk + 1) * 100).map(event).collect();
        assert_accepted(&browser.batch(&json!(events)).await, 100);
    }
    let request = VendorIdsRequest {
        org_id: world.customer.org_id.to_string(),
        identities: (0..1000).map(|n| named(people::browser(format!("visitor-{n}")))).collect(),
        ..VendorIdsRequest::default()
    };
    let redis = harness::eventually("a delivery that Redis alone answers", async || {
        world.redis_proxy.take();
        world.postgres_proxy.take();
        let answer = world.internal().resolve().vendor_ids(request.clone()).await;
        let answer = answer.map_err(|status| status.to_string())?.into_inner();
        assert!(answer.identities.iter().all(|identity| !identity.canonical_id.is_empty()), "one is missing");
        let (redis, postgres) = (caused(world.redis_proxy.take().0), caused(world.postgres_proxy.take().0));
        // The first one fills what is missing.
        if postgres.is_empty() { Ok(redis) } else { Err(format!("{postgres:#?}")) }
    })
    .await;
    // A pipeline of this size fills several packets, so Redis may begin to answer before it has all of it.
    let reads: usize = redis.iter().map(Vec::len).sum();
    assert!((1000..=3000).contains(&reads), "{reads} commands");
}

#[tokio::test]
async fn delivery_for_a_browser_beside_a_canonical_id_is_one_round_trip() {
    let world = World::start().await;
    let (people, page) = (People::of(&world), People::on_page(&world));
    let mut person = String::new();
    // One of them only claims, so that each is told something else; both have consent, which is told as well.
    for (browser, caller) in [("phone", &people), ("laptop", &page)] {
        person = caller.see(0, people::login(browser, "anna")).await.canonical_id;
        people::give(&world, people::browser(browser), "pin_unauth", browser).await;
    }
    for browser in ["phone", "laptop"] {
        let mut visitor = world.browser();
        visitor.anonymous_id = Some(browser.to_owned());
        assert_accepted(&visitor.view(&granted()).await, 1);
    }
    for fields in [Vec::new(), vec!["pin_unauth".to_owned(), "ttd_id".to_owned()]] {
        let identities = [
            beside(canonical(&person), "phone"),
            beside(canonical(&person), "laptop"),
            named(canonical(&person)),
        ];
        let org_id = world.customer.org_id.to_string();
        let request =
            VendorIdsRequest { org_id, identities: identities.into(), fields, ..VendorIdsRequest::default() };
        let redis = harness::eventually("a delivery that Redis alone answers", async || {
            world.redis_proxy.take();
            world.postgres_proxy.take();
            let answer = world.internal().resolve().vendor_ids(request.clone()).await;
            let answer = answer.map_err(|status| status.to_string())?.into_inner();
            let pins = answer.identities.iter().map(|one| one.vendor_ids["pin_unauth"].value.as_str());
            assert_eq!(pins.collect::<Vec<_>>(), ["phone", "laptop", "phone"]);
            assert!(answer.identities.iter().all(|one| one.consent.is_some()), "{answer:?}");
            let (redis, postgres) =
                (caused(world.redis_proxy.take().0), caused(world.postgres_proxy.take().0));
            // The first one fills what is missing.
            if postgres.is_empty() { Ok(redis) } else { Err(format!("{postgres:#?}")) }
        })
        .await;
        assert_eq!(redis.len(), 1, "{redis:#?}");
    }
}
