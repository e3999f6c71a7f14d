//! Collected IDs of either kind, from what lets them be collected to what removes them.

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::Browser,
    eventually,
    recovery::repaired,
    visits::{denied, granted},
    world::World,
};
use proto::v1::{DeleteRequest, IdentityRef, UnmergeRequest, identity_ref::Id};
use serde_json::{Value, json};

use super::support::{GENERATING_VENDORS, PAGE_URL, both, collecting, cookie, lookup, set, sorted, visit};

#[tokio::test]
async fn without_consent_nothing_is_made_stored_or_set() {
    let world = collecting(&[], GENERATING_VENDORS).await;
    let mut browser = world.browser();
    let clicks = "?gclid=1&fbclid=2";
    for consent in [Value::Null, denied(), json!({"marketing": true, "us_privacy": "1YYN"})] {
        assert_eq!(set(&visit(&mut browser, &consent, clicks).await), [""; 0], "{consent}");
    }
    assert_eq!(world.database.count("vendor_ids", "true").await, 0);
    assert!(world.vendor_ids(browser.aid()).await.vendor_ids.is_empty());
    // Each category by itself.
    let analytics = visit(&mut browser, &json!({"marketing": false, "analytics": true}), clicks).await;
    assert_eq!(set(&analytics), ["_ga"]);
    let fields = world.database.text("SELECT string_agg(field, ' ') FROM vendor_ids").await;
    assert_eq!(fields, "client_id");
    let marketing = visit(&mut browser, &granted(), clicks).await;
    assert_eq!(set(&marketing), sorted(["_fbp", "_fbc", "_ttp", "_scid", "_rdt_uuid"]));
    assert_eq!(world.database.count("vendor_ids", "source = 'click'").await, 2);
}

#[tokio::test]
async fn what_is_not_enabled_is_not_collected() {
    let world = collecting(&[], &[]).await;
    let mut browser = world.browser();
    let answer = visit(&mut browser, &both(), "?gclid=1&fbclid=2&msclkid=3").await;
    assert_eq!(set(&answer), [""; 0]);
    assert_eq!(world.database.count("vendor_ids", "true").await, 0);
    // A row counts more than a sync, either way.
    let world = collecting(&["pinterest"], &["meta"]).await;
    let mut database = world.database.connection().await.unwrap();
    world.customer.add_generated(&mut database, "pinterest", false).await.unwrap();
    let mut browser = world.browser();
    eventually("the core to know of it", async || {
        let mut other = world.browser();
        visit(&mut other, &both(), "?epik=1").await;
        let stored = world.vendor_id(other.aid(), "epik").await;
        if stored.is_none() { Ok(()) } else { Err(format!("{stored:?}")) }
    })
    .await;
    assert_eq!(set(&visit(&mut browser, &both(), "?epik=1&fbclid=2").await), ["_fbc", "_fbp"]);
    assert_eq!(world.vendor_ids(browser.aid()).await.vendor_ids.len(), 3);
}

#[tokio::test]
async fn what_is_collected_counts_as_no_sync() {
    let world = collecting(&["pinterest"], GENERATING_VENDORS).await;
    let mut browser = world.browser();
    assert_eq!(visit(&mut browser, &both(), "?epik=1").await.offered(), ["pinterest"]);
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    // Synced and collected stand side by side.
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    assert!(ids.contains_key("pin_unauth") && ids.contains_key("epik") && ids.contains_key("fbp"), "{ids:?}");
    // Without Redis, and after it has lost all, they are the same.
    world.flush_redis().await;
    assert_eq!(set(&visit(&mut browser, &both(), "?epik=1").await), [""; 0]);
    world.redis_proxy.refuse().await;
    assert_eq!(set(&visit(&mut browser, &both(), "?epik=1").await), [""; 0]);
    assert_eq!(world.vendor_ids(browser.aid()).await.vendor_ids, ids);
}

/// Checks that nothing in either store names the browser.
async fn assert_forgotten(world: &World, anonymous_id: &str) {
    // What Redis was told too late on a busy machine is repaired first.
    repaired(world).await;
    let mark = identity_service::storage::mark::Mark::of(anonymous_id);
    let tables = "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public'";
    for table in world.database.text(tables).await.split(' ') {
        let rows = world.database.text(&format!("SELECT string_agg(own::text, ' ') FROM {table} own")).await;
        assert!(!rows.contains(anonymous_id), "{table}: {rows}");
    }
    for key in world.redis::<Vec<String>>(&["KEYS", "cvid:*"]).await {
        let fields = world.redis::<Vec<String>>(&["HGETALL", &key]).await.join(" ");
        assert!(!fields.contains(mark.as_str()), "{key}: {fields}");
    }
}

async fn erase(world: &World, id: Id) {
    let (org_id, identity) =
        (world.customer.org_id.to_string(), Some(IdentityRef { id: Some(id), browser: None }));
    world.admin().people().delete(DeleteRequest { org_id, identity }).await.unwrap();
}

async fn login(browser: &mut Browser, user: &str, query: &str) {
    let mut event = browser.page_view(&both());
    event["userId"] = json!(user);
    event["traits"] = json!({"email": format!("{user}@example.com")});
    event["context"]["page"]["url"] = json!(format!("{PAGE_URL}{query}"));
    assert_accepted(&browser.batch(&json!([event])).await, 1);
}

#[tokio::test]
async fn a_browser_that_is_erased_leaves_no_trace_with_those_it_belonged_to_before() {
    let world = collecting(&[], GENERATING_VENDORS).await;
    let (mut tablet, mut annas) = (world.browser(), world.browser());
    login(&mut annas, "anna", "").await;
    // The tablet is somebody before it is Anna's, so there is a merge; then it is Bert's.
    visit(&mut tablet, &both(), "?gclid=Click").await;
    login(&mut tablet, "anna", "").await;
    login(&mut tablet, "bert", "").await;
    assert_eq!(world.database.count("merge_history", "true").await, 1);
    erase(&world, Id::UserId("bert".to_owned())).await;
    assert_eq!(
        world.vendor_id(annas.aid(), "gclid").await.as_deref(),
        Some("Click"),
        "what Anna has stays Anna's"
    );
    assert_forgotten(&world, tablet.aid()).await;
}

#[tokio::test]
async fn a_merge_that_is_taken_apart_gives_a_browser_its_ids_back_and_leaves_no_trace_of_it() {
    let world = collecting(&[], GENERATING_VENDORS).await;
    let (mut tablet, mut annas) = (world.browser(), world.browser());
    login(&mut annas, "anna", "").await;
    visit(&mut tablet, &both(), "").await;
    login(&mut tablet, "anna", "?gclid=Later").await;
    let person = lookup(&world, &tablet).await;
    assert_eq!(person.vendor_ids["gclid"].anonymous_id.as_deref(), Some(tablet.aid()));
    let (org_id, merge_id) = (world.customer.org_id.to_string(), person.merges[0].merge_id.clone());
    world.admin().people().unmerge(UnmergeRequest { org_id, merge_id }).await.unwrap();

    let own = cookie(&tablet, "_fbp").to_owned();
    tablet.jar.clear();
    visit(&mut tablet, &both(), "").await;
    assert_eq!(cookie(&tablet, "_fbp"), own, "it is the tablet's own again");
    assert_eq!(
        world.vendor_id(tablet.aid(), "gclid").await.as_deref(),
        Some("Later"),
        "it brought it itself"
    );
    assert_eq!(world.vendor_id(annas.aid(), "gclid").await, None);
    erase(&world, Id::AnonymousId(tablet.aid().to_owned())).await;
    assert_forgotten(&world, tablet.aid()).await;
}
