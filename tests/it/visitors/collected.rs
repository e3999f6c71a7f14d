//! IDs that are collected without asking a vendor: click IDs of page URLs, and IDs made in the vendors' own format.

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::{Answer, Browser},
    recovery::repaired,
    round_trips::caused,
    signature::sign,
    visits::{delivered, denied, granted},
    world::{Options, World},
};
use proto::v1::{DeleteRequest, IdentityRef, LookupRequest, Person, UnmergeRequest, identity_ref::Id};
use serde_json::{Value, json};

const PAGE: &str = "https://shop.example.com/";

/// Everything that is generated, whatever is synced.
const ALL: &[&str] = &["google", "meta", "tiktok", "snapchat", "reddit"];
const COOKIES: [&str; 5] = ["_fbp", "_ttp", "_ga", "_scid", "_rdt_uuid"];

async fn collecting(vendors: &'static [&'static str], generated: &'static [&'static str]) -> World {
    World::with(Options { vendors, generated, ..Options::default() }).await
}

fn both() -> Value {
    json!({"marketing": true, "analytics": true})
}

/// A page view of `PAGE` with this query.
async fn visit(browser: &mut Browser, consent: &Value, query: &str) -> Answer {
    let mut event = browser.page_view(consent);
    event["context"]["page"]["url"] = json!(format!("{PAGE}{query}"));
    let answer = browser.batch(&json!([event])).await;
    assert_accepted(&answer, 1);
    answer
}

/// Names of the vendors' cookies in an answer, sorted.
fn set(answer: &Answer) -> Vec<String> {
    let names =
        answer.set_cookies().into_iter().filter_map(|cookie| Some(cookie.split_once('=')?.0.to_owned()));
    let mut names: Vec<String> = names.filter(|name| name != "_dfid").collect();
    names.sort();
    names
}

fn cookie<'a>(browser: &'a Browser, name: &str) -> &'a str {
    browser.jar.value(&browser.collect, name).unwrap_or_else(|| panic!("no {name} in {:?}", browser.jar))
}

/// `Max-Age` of a cookie in an answer.
fn max_age(answer: &Answer, name: &str) -> i64 {
    let cookies = answer.set_cookies();
    let own = cookies.iter().find(|cookie| cookie.starts_with(&format!("{name}=")));
    let own = own.unwrap_or_else(|| panic!("no {name} in {cookies:?}"));
    own.split("; ").find_map(|part| part.strip_prefix("Max-Age=")?.parse().ok()).unwrap()
}

async fn lookup(world: &World, browser: &Browser) -> Person {
    let identity = Some(IdentityRef { id: Some(Id::AnonymousId(browser.aid().to_owned())) });
    let request = LookupRequest { org_id: world.customer.org_id.to_string(), identity };
    world.admin().people().lookup(request).await.unwrap().into_inner().person.unwrap()
}

fn sorted<const N: usize>(mut names: [&str; N]) -> [&str; N] {
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_click_id_is_delivered_as_it_came_and_the_newest_wins() {
    let world = collecting(&["pinterest"], &["google"]).await;
    let mut browser = world.browser();
    visit(&mut browser, &granted(), "?utm=x&gclid=CaSe%2DKept_1&epik=dj0&fbclid=IwAR1#gclid=no").await;
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    let gclid = &ids["gclid"];
    assert_eq!(
        (gclid.value.as_str(), gclid.source().as_str_name()),
        ("CaSe-Kept_1", "VENDOR_ID_SOURCE_CLICK")
    );
    let days = |field: &str| {
        let (from, until) = (ids[field].collected_at.unwrap(), ids[field].expires_at.unwrap());
        (until.seconds - from.seconds) / 86_400
    };
    assert_eq!((days("gclid"), days("epik")), (90, 365), "with Pinterest's sync come its click IDs");
    assert!(!ids.contains_key("fbclid"), "nothing of Meta's is enabled");
    let identity = format!("identity:{}:{}", world.customer.org_id, browser.aid());
    let plain: Option<String> = world.redis(&["HGET", &identity, "gclid"]).await;
    assert_eq!(plain.as_deref(), Some("CaSe-Kept_1"), "and the projection has it");

    visit(&mut browser, &granted(), "?gclid=second&gclsrc=aw.ds").await;
    assert_eq!(world.vendor_id(browser.aid(), "gclid").await.as_deref(), Some("second"));
    visit(&mut browser, &granted(), "?gclid=third&gclsrc=3p.ds").await;
    visit(&mut browser, &granted(), "").await;
    assert_eq!(world.vendor_id(browser.aid(), "gclid").await.as_deref(), Some("second"));
    world.flush_redis().await;
    assert_eq!(world.vendor_id(browser.aid(), "gclid").await.as_deref(), Some("second"));
    let person = lookup(&world, &browser).await;
    assert_eq!(person.vendor_ids["gclid"].anonymous_id.as_deref(), Some(browser.aid()));

    // Two pages of one batch: the later one counts.
    let mut events = [browser.page_view(&Value::Null), browser.page_view(&Value::Null)];
    for (event, click) in events.iter_mut().zip(["fourth", "fifth"]) {
        event["context"]["page"]["url"] = json!(format!("{PAGE}?gclid={click}"));
    }
    assert_accepted(&browser.batch(&json!(events)).await, 2);
    assert_eq!(world.vendor_id(browser.aid(), "gclid").await.as_deref(), Some("fifth"));
}

#[tokio::test]
async fn a_server_s_call_brings_click_ids_and_gets_no_cookies() {
    let world = collecting(&[], ALL).await;
    let mut browser = world.browser();
    let mut event = browser.page_view(&both());
    event["context"]["page"]["url"] = json!(format!("{PAGE}?fbclid=IwAR1"));
    let body = json!({"batch": [event]}).to_string();
    let request = browser.request(reqwest::Method::POST, "/v1/batch").bearer_auth(&browser.key);
    let signature = sign(&world.customer.server_secret, &body);
    let request = request.header("x-datafly-signature", signature).body(body);
    let answer = browser.send(request).await;
    assert_accepted(&answer, 1);
    assert_eq!(answer.set_cookies(), [""; 0]);
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    assert_eq!(ids.keys().collect::<Vec<_>>(), ["fbclid"]);
}

#[tokio::test]
async fn without_consent_nothing_is_made_stored_or_set() {
    let world = collecting(&[], ALL).await;
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
    harness::eventually("the core to know of it", async || {
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
async fn a_browser_gets_its_ids_once_and_a_lost_cookie_comes_back() {
    let world = collecting(&[], ALL).await;
    let mut browser = world.browser();
    let first = visit(&mut browser, &both(), "?gclid=1").await;
    assert_eq!(set(&first), sorted(COOKIES));
    for (name, days) in [("_fbp", 90), ("_ttp", 395), ("_ga", 400), ("_scid", 395), ("_rdt_uuid", 90)] {
        assert_eq!(max_age(&first, name), days * 86_400, "{name}");
    }
    let fbp = first.set_cookies().into_iter().find(|cookie| cookie.starts_with("_fbp=")).unwrap();
    assert!(fbp.starts_with("_fbp=fb.0.") && fbp.ends_with("; Path=/; SameSite=Lax"), "{fbp}");
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    for (field, name) in
        [("fbp", "_fbp"), ("ttp", "_ttp"), ("sc_cookie1", "_scid"), ("rdt_uuid", "_rdt_uuid")]
    {
        assert_eq!(ids[field].value, cookie(&browser, name));
        assert_eq!(ids[field].source().as_str_name(), "VENDOR_ID_SOURCE_GENERATED");
    }
    assert_eq!(format!("GA1.1.{}", ids["client_id"].value), cookie(&browser, "_ga"));

    // They come back with each event, and the page's URL stays: nothing is written, and one round trip is all.
    world.redis_proxy.take();
    world.postgres_proxy.take();
    for _ in 0..2 {
        assert_eq!(set(&visit(&mut browser, &both(), "?gclid=1").await), [""; 0]);
    }
    let (redis, postgres) = (caused(world.redis_proxy.take().0), caused(world.postgres_proxy.take().0));
    assert_eq!(redis.len(), 2, "{redis:#?}");
    assert!(postgres.is_empty(), "{postgres:#?}");

    // Lost: the same values come back, for the rest of their life.
    let before = browser.jar.clone();
    browser.jar.clear();
    world.age("10 days").await;
    let again = visit(&mut browser, &both(), "").await;
    assert_eq!(set(&again), sorted(COOKIES));
    for name in COOKIES {
        assert_eq!(Some(cookie(&browser, name)), before.value(&browser.collect, name), "{name}");
    }
    assert!((79 * 86_400..80 * 86_400).contains(&max_age(&again, "_fbp")), "{}", max_age(&again, "_fbp"));
    // Forgotten: what the cookies have is stored again, and they live anew.
    world.age("81 days").await;
    let renewed = visit(&mut browser, &both(), "").await;
    assert_eq!(set(&renewed), ["_fbp", "_rdt_uuid"]);
    assert_eq!(max_age(&renewed, "_fbp"), 90 * 86_400);
    assert_eq!(
        world.vendor_id(browser.aid(), "fbp").await.as_deref(),
        before.value(&browser.collect, "_fbp")
    );
}

#[tokio::test]
async fn a_cookie_that_is_there_wins_and_a_malformed_one_does_not() {
    let world = collecting(&[], ALL).await;
    let mut browser = world.browser();
    let collect = browser.collect.clone();
    let (fbp, ga) = ("fb.1.1596403881668.1116446470", "GA1.2.1234567890.1596403881");
    browser.jar.set(&collect, "_fbp", fbp);
    browser.jar.set(&collect, "_ga", ga);
    browser.jar.set(&collect, "_scid", "<script>");
    let answer = visit(&mut browser, &both(), "").await;
    assert_eq!(set(&answer), sorted(COOKIES), "those that came are set to live their full life");
    assert_eq!((cookie(&browser, "_fbp"), cookie(&browser, "_ga")), (fbp, ga));
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    assert_eq!((ids["fbp"].value.as_str(), ids["client_id"].value.as_str()), (fbp, "1234567890.1596403881"));
    assert_eq!(ids["sc_cookie1"].value, cookie(&browser, "_scid"));
    assert_eq!(cookie(&browser, "_scid").len(), 36);
}

#[tokio::test]
async fn a_click_makes_an_fbc_that_keeps_its_time() {
    let world = collecting(&[], &["meta"]).await;
    let mut browser = world.browser();
    assert_eq!(set(&visit(&mut browser, &granted(), "").await), ["_fbp"], "no click, no fbc");
    assert_eq!(set(&visit(&mut browser, &granted(), "?fbclid=IwAR_one").await), ["_fbc"]);
    let first = cookie(&browser, "_fbc").to_owned();
    assert!(first.starts_with("fb.0.") && first.ends_with(".IwAR_one"), "{first}");
    assert_eq!(world.vendor_id(browser.aid(), "fbc").await.as_ref(), Some(&first));
    assert_eq!(set(&visit(&mut browser, &granted(), "?fbclid=IwAR_one").await), [""; 0], "the same click");
    assert_eq!(set(&visit(&mut browser, &granted(), "").await), [""; 0]);
    assert_eq!(set(&visit(&mut browser, &granted(), "?fbclid=IwAR_two").await), ["_fbc"]);
    assert!(cookie(&browser, "_fbc").ends_with(".IwAR_two"));

    // An older cookie brings its own time, and no more life than that leaves.
    let mut browser = world.browser();
    let day = 86_400_000;
    let now = i64::try_from(harness::system::now().unix_timestamp_nanos() / 1_000_000).unwrap();
    let old = format!("fb.1.{}.IwAR_old", now - 60 * day);
    let collect = browser.collect.clone();
    browser.jar.set(&collect, "_fbc", &old);
    let answer = visit(&mut browser, &granted(), "").await;
    assert_eq!(
        (set(&answer), cookie(&browser, "_fbc")),
        (vec!["_fbc".to_owned(), "_fbp".to_owned()], old.as_str())
    );
    assert!((29 * 86_400..=30 * 86_400).contains(&max_age(&answer, "_fbc")), "{}", max_age(&answer, "_fbc"));
    browser.jar.set(&collect, "_fbc", &format!("fb.1.{}.IwAR_gone", now - 91 * day));
    assert_eq!(set(&visit(&mut browser, &granted(), "").await), ["_fbc"]);
    assert_eq!(cookie(&browser, "_fbc"), old, "one that is over counts as none");
}

#[tokio::test]
async fn another_browser_of_the_person_gets_its_own_and_sees_nothing_of_the_first_s() {
    let world = collecting(&[], ALL).await;
    let (mut owner, mut stranger) = (world.browser(), world.browser());
    let login = |browser: &Browser, query: &str| {
        let mut event = browser.page_view(&both());
        event["userId"] = json!("customer-7");
        event["context"]["page"]["url"] = json!(format!("{PAGE}{query}"));
        json!([event])
    };
    let event = login(&owner, "?fbclid=IwAR_owner");
    owner.batch(&event).await;
    let event = login(&stranger, "");
    let answer = stranger.batch(&event).await;
    assert_accepted(&answer, 1);
    let (one, other) = (world.vendor_ids(owner.aid()).await, world.vendor_ids(stranger.aid()).await);
    assert_eq!((&one.canonical_id, one.vendor_ids.len()), (&other.canonical_id, 7));
    assert_eq!(set(&answer), sorted(COOKIES), "no fbc: that was another browser's click");
    let seen = format!("{} {:?}", answer.text(), answer.headers);
    for (field, id) in &one.vendor_ids {
        assert!(!seen.contains(&id.value), "{field} is shown to somebody who only claims to be the person");
    }
    // Both go on: neither takes the other's place, and nothing is written.
    world.postgres_proxy.take();
    for _ in 0..2 {
        for browser in [&mut owner, &mut stranger] {
            assert_eq!(set(&visit(browser, &both(), "").await), [""; 0]);
        }
    }
    let postgres = caused(world.postgres_proxy.take().0);
    assert!(postgres.is_empty(), "{postgres:#?}");
    assert_eq!(world.vendor_id(owner.aid(), "fbp").await.as_deref(), Some(cookie(&owner, "_fbp")));
    // The stranger's cookies lost, it gets others, and still not the owner's.
    stranger.jar.clear();
    assert_eq!(set(&visit(&mut stranger, &both(), "").await), sorted(COOKIES));
    assert_ne!(cookie(&stranger, "_fbp"), cookie(&owner, "_fbp"));
    // A day later the browser in use takes its turn.
    world.age("25 hours").await;
    visit(&mut stranger, &both(), "").await;
    assert_eq!(world.vendor_id(owner.aid(), "fbp").await.as_deref(), Some(cookie(&stranger, "_fbp")));
}

#[tokio::test]
async fn one_request_makes_one_of_each() {
    let world = collecting(&[], ALL).await;
    let mut browser = world.browser();
    let mut later = browser.page_view(&both());
    later["traits"] = json!({"email": "a@example.com"});
    let event = browser.page_view(&both());
    let mut other = event.clone();
    other["context"]["reset"] = json!(true);
    // Three subjects of one browser.
    let answer = browser.batch(&json!([event, other, later])).await;
    assert_accepted(&answer, 3);
    assert_eq!(set(&answer), sorted(COOKIES));
    assert_eq!(world.database.count("vendor_ids", "true").await, 5);
    assert_eq!(world.vendor_id(browser.aid(), "ttp").await.as_deref(), Some(cookie(&browser, "_ttp")));
    // A single event's route sets them as well.
    let mut single = world.browser();
    let event = single.page_view(&both()).to_string();
    assert_eq!(set(&single.post("/v1/t", event).await), sorted(COOKIES));
    // And of two requests at once the first one's count.
    let racing = world.browser();
    let mut visits = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut browser = racing.clone();
        visits.spawn(async move {
            let events = json!([browser.page_view(&both())]);
            browser.batch(&events).await;
            browser
        });
    }
    let own = |browser: &Browser| browser.jar.value(&browser.collect, "_fbp").map(str::to_owned);
    let raced = visits.join_all().await;
    assert!(raced.iter().any(|browser| own(browser).is_some()), "a cookie for none of them");
    let stored = world.vendor_id(racing.aid(), "fbp").await;
    for mut browser in raced {
        // Whom a busy machine sent away visits again.
        for _ in 0..5 {
            if own(&browser).is_none() {
                visit(&mut browser, &both(), "").await;
            }
        }
        assert_eq!(own(&browser), stored);
    }
}

#[tokio::test]
async fn where_the_vendor_syncs_its_id_is_not_made() {
    let world = collecting(&[], &["snapchat", "reddit"]).await;
    let mut database = world.database.connection().await.unwrap();
    world.customer.add_sync(&mut database, "snapchat", 90, "https://tr.snapchat.com/cm/i").await.unwrap();
    let mut browser = world.browser();
    harness::eventually("the core to know of the sync", async || {
        let mut browser = world.browser();
        match set(&visit(&mut browser, &both(), "?ScCid=Click").await) {
            cookies if cookies == ["_rdt_uuid"] => Ok(()),
            cookies => Err(cookies.join(" ")),
        }
    })
    .await;
    visit(&mut browser, &both(), "?ScCid=Click").await;
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    assert_eq!(ids.keys().collect::<Vec<_>>(), ["rdt_uuid", "sccid"]);
}

#[tokio::test]
async fn what_is_collected_counts_as_no_sync() {
    let world = collecting(&["pinterest"], ALL).await;
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

#[tokio::test]
async fn without_postgres_a_known_visitor_s_events_count_and_what_they_bring_comes_later() {
    let world = collecting(&[], &["google"]).await;
    let mut browser = world.browser();
    visit(&mut browser, &granted(), "?gclid=first").await;
    let mut event = browser.page_view(&granted());
    event["context"]["page"]["url"] = json!(format!("{PAGE}?gclid=late"));
    event["traits"] = json!({"email": "late@example.com"});
    world.postgres_proxy.blackhole().await;
    // A busy machine may read too late from Redis, and has nothing else to ask.
    let answer = harness::eventually("the event to be taken", async || {
        let answer = browser.batch(&json!([event])).await;
        let taken = answer.status == 200 && answer.json()["accepted"] == json!(1);
        if taken { Ok(answer) } else { Err(answer.text()) }
    })
    .await;
    assert_accepted(&answer, 1);
    assert_eq!(delivered(&world, browser.aid()).await.vendor_ids["gclid"].value, "first");
    world.postgres_proxy.heal().await;
    harness::eventually("the click and the digest to be stored", async || {
        assert_accepted(&browser.batch(&json!([event])).await, 1);
        let (click, digests) = (
            world.vendor_id(browser.aid(), "gclid").await,
            world.database.count("pii_digests", "true").await,
        );
        if (click.as_deref(), digests) == (Some("late"), 1) {
            Ok(())
        } else {
            Err(format!("{click:?} {digests}"))
        }
    })
    .await;
}

#[tokio::test]
async fn of_several_ids_in_a_request_the_last_one_has_the_cookies() {
    let world = collecting(&[], ALL).await;
    let (mut browser, before) = (world.browser(), world.browser());
    let mut click = before.page_view(&both());
    click["context"]["page"]["url"] = json!(format!("{PAGE}?gclid=1"));
    let last = browser.page_view(&both());
    let answer = browser.batch(&json!([click, last])).await;
    assert_accepted(&answer, 2);
    assert_eq!(set(&answer), sorted(COOKIES));
    let ids = world.vendor_ids(before.aid()).await.vendor_ids;
    assert_eq!(ids.keys().collect::<Vec<_>>(), ["gclid"], "clicks are the event's own");
    assert_eq!(world.vendor_id(browser.aid(), "fbp").await.as_deref(), Some(cookie(&browser, "_fbp")));
}

/// Nothing in either store names the browser.
async fn assert_forgotten(world: &World, anonymous_id: &str) {
    // What Redis was told too late on a busy machine is repaired first.
    repaired(world).await;
    let mark = identity_service::storage::entries::mark(anonymous_id);
    let tables = "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public'";
    for table in world.database.text(tables).await.split(' ') {
        let rows = world.database.text(&format!("SELECT string_agg(own::text, ' ') FROM {table} own")).await;
        assert!(!rows.contains(anonymous_id), "{table}: {rows}");
    }
    for key in world.redis::<Vec<String>>(&["KEYS", "cvid:*"]).await {
        let fields = world.redis::<Vec<String>>(&["HGETALL", &key]).await.join(" ");
        assert!(!fields.contains(&mark), "{key}: {fields}");
    }
}

async fn erase(world: &World, id: Id) {
    let (org_id, identity) = (world.customer.org_id.to_string(), Some(IdentityRef { id: Some(id) }));
    world.admin().people().delete(DeleteRequest { org_id, identity }).await.unwrap();
}

async fn login(browser: &mut Browser, user: &str, query: &str) {
    let mut event = browser.page_view(&both());
    event["userId"] = json!(user);
    event["traits"] = json!({"email": format!("{user}@example.com")});
    event["context"]["page"]["url"] = json!(format!("{PAGE}{query}"));
    assert_accepted(&browser.batch(&json!([event])).await, 1);
}

#[tokio::test]
async fn a_browser_that_is_erased_leaves_no_trace_with_those_it_belonged_to_before() {
    let world = collecting(&[], ALL).await;
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
        "what Anna has stays hers"
    );
    assert_forgotten(&world, tablet.aid()).await;
}

#[tokio::test]
async fn a_merge_that_is_taken_apart_gives_a_browser_its_ids_back_and_leaves_no_trace_of_it() {
    let world = collecting(&[], ALL).await;
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
    erase(&world, Id::AnonymousId(tablet.aid().to_owned())).await;
    assert_eq!(world.vendor_id(annas.aid(), "gclid").await.as_deref(), Some("Later"));
    assert_forgotten(&world, tablet.aid()).await;
}
