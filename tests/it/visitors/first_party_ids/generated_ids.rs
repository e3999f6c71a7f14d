//! IDs made in the vendors' own format, and the cookies that keep them.

use harness::{
    answers::assert_accepted,
    browser::{Answer, Browser},
    eventually,
    round_trips::caused,
    system::now,
    visits::granted,
};
use serde_json::json;

use super::support::{
    GENERATED_COOKIES, GENERATING_VENDORS, PAGE_URL, both, collecting, cookie, set, sorted, visit,
};

/// `Max-Age` of a cookie in an answer.
fn max_age(answer: &Answer, name: &str) -> i64 {
    let cookies = answer.set_cookies();
    let own = cookies.iter().find(|cookie| cookie.starts_with(&format!("{name}=")));
    let own = own.unwrap_or_else(|| panic!("no {name} in {cookies:?}"));
    own.split("; ").find_map(|part| part.strip_prefix("Max-Age=")?.parse().ok()).unwrap()
}

#[tokio::test]
async fn a_browser_gets_its_ids_once_and_a_lost_cookie_comes_back() {
    let world = collecting(&[], GENERATING_VENDORS).await;
    let mut browser = world.browser();
    let first = visit(&mut browser, &both(), "?gclid=1").await;
    assert_eq!(set(&first), sorted(GENERATED_COOKIES));
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

    // They come back with each event, and the page's URL stays: nothing is written, and one round trip is
    // all.
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
    assert_eq!(set(&again), sorted(GENERATED_COOKIES));
    for name in GENERATED_COOKIES {
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
    let world = collecting(&[], GENERATING_VENDORS).await;
    let mut browser = world.browser();
    let collect = browser.collect.clone();
    let (fbp, ga) = ("fb.1.1596403881668.1116446470", "GA1.2.1234567890.1596403881");
    browser.jar.set(&collect, "_fbp", fbp);
    browser.jar.set(&collect, "_ga", ga);
    browser.jar.set(&collect, "_scid", "<script>");
    let answer = visit(&mut browser, &both(), "").await;
    assert_eq!(set(&answer), sorted(GENERATED_COOKIES), "those that came are set to live their full life");
    assert_eq!((cookie(&browser, "_fbp"), cookie(&browser, "_ga")), (fbp, ga));
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    assert_eq!((ids["fbp"].value.as_str(), ids["client_id"].value.as_str()), (fbp, "1234567890.1596403881"));
    assert_eq!(ids["sc_cookie1"].value, cookie(&browser, "_scid"));
    assert_eq!(cookie(&browser, "_scid").len(), 36);
}

/// A host's own cookie and its domain's come side by side, in an order that says nothing.
#[tokio::test]
async fn of_two_cookies_of_a_vendor_the_one_that_holds_an_id_counts() {
    let world = collecting(&[], GENERATING_VENDORS).await;
    let fbp = "fb.1.1596403881668.1116446470";
    for cookies in
        [format!("_fbp=deleted; _fbp={fbp}"), format!("_fbp={fbp}; _fbp="), format!("_fbp=; _fbp={fbp}")]
    {
        let mut browser = world.browser();
        let body = json!({"batch": [browser.page_view(&both())]}).to_string();
        let request = browser.request(reqwest::Method::POST, "/v1/batch").bearer_auth(&browser.key);
        assert_accepted(&browser.send(request.header("cookie", &cookies).body(body)).await, 1);
        assert_eq!(cookie(&browser, "_fbp"), fbp, "{cookies}");
        assert_eq!(world.vendor_id(browser.aid(), "fbp").await.as_deref(), Some(fbp), "{cookies}");
    }
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
    let now = i64::try_from(now().unix_timestamp_nanos() / 1_000_000).unwrap();
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
    let world = collecting(&[], GENERATING_VENDORS).await;
    let (mut owner, mut stranger) = (world.browser(), world.browser());
    let login = |browser: &Browser, query: &str| {
        let mut event = browser.page_view(&both());
        event["userId"] = json!("customer-7");
        event["context"]["page"]["url"] = json!(format!("{PAGE_URL}{query}"));
        json!([event])
    };
    let event = login(&owner, "?fbclid=IwAR_owner");
    owner.batch(&event).await;
    let event = login(&stranger, "");
    let answer = stranger.batch(&event).await;
    assert_accepted(&answer, 1);
    let (one, other) = (world.vendor_ids(owner.aid()).await, world.vendor_ids(stranger.aid()).await);
    assert_eq!((&one.canonical_id, one.vendor_ids.len()), (&other.canonical_id, 7));
    assert_eq!(set(&answer), sorted(GENERATED_COOKIES), "no fbc: that was another browser's click");
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
    assert_eq!(set(&visit(&mut stranger, &both(), "").await), sorted(GENERATED_COOKIES));
    assert_ne!(cookie(&stranger, "_fbp"), cookie(&owner, "_fbp"));
    // However much time passes, each is delivered with its own.
    world.age("25 hours").await;
    visit(&mut stranger, &both(), "").await;
    for browser in [&owner, &stranger] {
        assert_eq!(world.vendor_id(browser.aid(), "fbp").await.as_deref(), Some(cookie(browser, "_fbp")));
    }
}

#[tokio::test]
async fn one_request_makes_one_of_each() {
    let world = collecting(&[], GENERATING_VENDORS).await;
    let mut browser = world.browser();
    let mut later = browser.page_view(&both());
    later["traits"] = json!({"email": "a@example.com"});
    let event = browser.page_view(&both());
    let mut other = event.clone();
    other["context"]["reset"] = json!(true);
    // Three subjects of one browser.
    let answer = browser.batch(&json!([event, other, later])).await;
    assert_accepted(&answer, 3);
    assert_eq!(set(&answer), sorted(GENERATED_COOKIES));
    assert_eq!(world.database.count("vendor_ids", "true").await, 5);
    assert_eq!(world.vendor_id(browser.aid(), "ttp").await.as_deref(), Some(cookie(&browser, "_ttp")));
    // A single event's route sets them as well.
    let mut single = world.browser();
    let event = single.page_view(&both()).to_string();
    assert_eq!(set(&single.post("/v1/t", event).await), sorted(GENERATED_COOKIES));
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
    eventually("the core to know of the sync", async || {
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
async fn of_several_ids_in_a_request_the_last_one_has_the_cookies() {
    let world = collecting(&[], GENERATING_VENDORS).await;
    let (mut browser, before) = (world.browser(), world.browser());
    let mut click = before.page_view(&both());
    click["context"]["page"]["url"] = json!(format!("{PAGE_URL}?gclid=1"));
    let last = browser.page_view(&both());
    let answer = browser.batch(&json!([click, last])).await;
    assert_accepted(&answer, 2);
    assert_eq!(set(&answer), sorted(GENERATED_COOKIES));
    let ids = world.vendor_ids(before.aid()).await.vendor_ids;
    assert_eq!(ids.keys().collect::<Vec<_>>(), ["gclid"], "clicks are the event's own");
    assert_eq!(world.vendor_id(browser.aid(), "fbp").await.as_deref(), Some(cookie(&browser, "_fbp")));
}
