//! Forged callbacks: nothing is stored, `bad_state` is counted, and the browser still gets its GIF.

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::{Answer, Browser},
    eventually,
    round_trips::caused,
    system::now,
    vendor_sim::vendor,
    visits::granted,
    world::World,
};
use identity_service::sync::state::{StateKeys, SyncState};
use migrations::sealed::{SealKey, SealKeys};
use reqwest::Method;
use secrecy::SecretString;
use time::Duration;
use url::{Position, Url};
use uuid::Uuid;

async fn world() -> World {
    harness::world::World::with(harness::world::Options {
        vendors: &["criteo", "pinterest", "trade_desk"],
        ..harness::world::Options::default()
    })
    .await
}

/// A visitor whom the vendor has just sent back, and the callback's URL.
async fn returning(world: &World, vendor: &str) -> (Browser, Url) {
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let callback = browser.sync_to_vendor(vendor).await;
    (browser, callback)
}

/// The URL with its state replaced.
fn with_state(url: &Url, change: impl Fn(&str) -> String) -> String {
    let mut changed = url.clone();
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .map(|(key, value)| {
            let value = if key == "state" { change(&value) } else { value.into_owned() };
            (key.into_owned(), value)
        })
        .collect();
    changed.query_pairs_mut().clear().extend_pairs(pairs);
    changed.into()
}

fn state_of(url: &Url) -> String {
    let state = url.query_pairs().find(|(key, _)| key == "state");
    state.unwrap_or_else(|| panic!("no state in {url}")).1.into_owned()
}

/// ID of the customer's live key.
async fn live_key(world: &World) -> Uuid {
    let source = world.customer.source_id;
    let sql =
        format!("SELECT id::text FROM pipeline_keys WHERE source_id = '{source}' AND environment = 'live'");
    world.database.text(&sql).await.parse().unwrap()
}

/// Sends a callback that must be refused, and checks all three things about it.
async fn assert_bad(world: &World, browser: &mut Browser, vendor: &str, url: &str, what: &str) {
    let before = world.sync_failures(vendor, "bad_state").await;
    assert_gif(&browser.get(url).await);
    assert_eq!(world.sync_failures(vendor, "bad_state").await - before, 1.0, "{what}");
    assert_eq!(world.database.count("vendor_ids", "true").await, 0, "{what}");
    assert!(world.vendor_ids(browser.aid()).await.vendor_ids.is_empty(), "{what}");
}

#[tokio::test]
async fn a_state_that_is_missing_or_damaged() {
    let world = world().await;
    let (mut browser, callback) = returning(&world, "pinterest").await;
    let base = format!("{}/v1/sync/pinterest/callback", browser.collect);
    assert_bad(&world, &mut browser, "pinterest", &base, "no query").await;
    assert_bad(&world, &mut browser, "pinterest", &format!("{base}?uid=x"), "no state").await;
    let aid = browser.aid().to_owned();
    let spec = format!("{base}?aid={aid}&pipeline_key={}&uid=x", browser.key);
    assert_bad(&world, &mut browser, "pinterest", &spec, "aid and key in clear").await;
    for (what, state) in [("empty", ""), ("not base64", "%%%"), ("too long", &*"A".repeat(5000))] {
        let url = format!("{base}?state={state}&uid=x");
        assert_bad(&world, &mut browser, "pinterest", &url, what).await;
    }
    let twice = format!("{callback}&state={}", state_of(&callback));
    assert_bad(&world, &mut browser, "pinterest", &twice, "the state twice").await;

    // Every eighth bit or so, over the header, the nonce, the content and the tag.
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let sealed = URL_SAFE_NO_PAD.decode(state_of(&callback)).unwrap();
    for at in (0..sealed.len()).step_by(5) {
        let flip = |_: &str| {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << (at % 8);
            URL_SAFE_NO_PAD.encode(changed)
        };
        let url = with_state(&callback, flip);
        assert_bad(&world, &mut browser, "pinterest", &url, &format!("a bit of byte {at} flipped")).await;
    }
    assert_gif(&browser.get(callback.as_str()).await);
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some(), "the true one still counts");
}

#[tokio::test]
async fn a_state_of_another_vendor_source_or_visitor() {
    let world = world().await;
    let (mut browser, callback) = returning(&world, "pinterest").await;
    let crossed = callback.as_str().replace("/pinterest/", "/criteo/");
    assert_bad(&world, &mut browser, "criteo", &crossed, "Pinterest's state at Criteo's callback").await;

    let (mut stranger, _) = returning(&world, "pinterest").await;
    stranger.jar.set(&stranger.collect.clone(), "_dfid", stranger.aid().to_owned().as_str());
    assert_bad(&world, &mut stranger, "pinterest", callback.as_str(), "another visitor's state").await;

    let mut missing = browser.clone();
    let url = format!("{}/v1/sync/nobody/callback?{}", browser.collect, callback.query().unwrap());
    assert_gif(&missing.get(&url).await);
    assert_eq!(world.database.count("vendor_ids", "true").await, 0, "an unknown vendor's callback");
}

#[tokio::test]
async fn a_sealed_state_with_foreign_content() {
    let world = world().await;
    let (mut browser, callback) = returning(&world, "pinterest").await;
    let key = |hex: &str| SealKey::from_hex(&SecretString::from(hex)).unwrap();
    let ours = StateKeys::derive(&SealKeys::new(key(&world.cluster.secrets.encryption_key), None));
    let theirs = StateKeys::derive(&SealKeys::new(key(&"5a".repeat(32)), None));
    let good = SyncState {
        key: live_key(&world).await,
        vendor: "pinterest".to_owned(),
        anonymous_id: browser.aid().to_owned(),
        issued_at: now(),
    };
    let minutes = Duration::minutes;
    let forged = [
        ("of a key that is none", SyncState { key: Uuid::now_v7(), ..good.clone() }),
        ("expired", SyncState { issued_at: good.issued_at - minutes(11), ..good.clone() }),
        ("from the future", SyncState { issued_at: good.issued_at + minutes(5), ..good.clone() }),
        ("of another vendor", SyncState { vendor: "criteo".to_owned(), ..good.clone() }),
    ];
    for (what, state) in forged {
        let url = with_state(&callback, |_| ours.seal(&state).unwrap());
        assert_bad(&world, &mut browser, "pinterest", &url, what).await;
    }
    let url = with_state(&callback, |_| theirs.seal(&good).unwrap());
    assert_bad(&world, &mut browser, "pinterest", &url, "sealed with another key").await;

    let url = with_state(&callback, |_| ours.seal(&good).unwrap());
    assert_gif(&browser.get(&url).await);
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some(), "the unchanged one is good");
}

/// Eight hundred replays, of which each cost a transaction or two.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_was_used_costs_no_transaction_again() {
    let world = world().await;
    let (browser, callback) = returning(&world, "pinterest").await;
    let mut replays = tokio::task::JoinSet::new();
    world.postgres_proxy.take();
    // The first among them, all at once: one of them is it.
    for _ in 0..400 {
        let (mut browser, callback) = (browser.clone(), callback.clone());
        replays.spawn(async move { assert_gif(&browser.get(callback.as_str()).await) });
    }
    replays.join_all().await;
    let of_one = caused(world.postgres_proxy.take().0);
    let stored = world.metric("datafly_sync_succeeded_total", &[("vendor", "pinterest")]).await;
    assert_eq!(stored, 1.0, "{of_one:?}");
    let mut rest = browser.clone();
    for _ in 0..400 {
        assert_gif(&rest.get(callback.as_str()).await);
    }
    let of_replays = caused(world.postgres_proxy.take().0);
    assert!(of_replays.is_empty(), "{} for replays: {:?}", of_replays.len(), of_replays.first());
    // Reading, storing, and what a connection of its own begins with.
    assert!(of_one.len() <= 20, "{} for one that counts: {of_one:?}", of_one.len());
}

#[tokio::test]
async fn a_replayed_state_changes_nothing() {
    let world = world().await;
    let (mut browser, callback) = returning(&world, "pinterest").await;
    assert_gif(&browser.get(callback.as_str()).await);
    let stored = world.vendor_ids(browser.aid()).await;

    let evil = callback.as_str().replace("uid=", "uid=evil");
    for url in [callback.as_str(), &evil] {
        assert_gif(&browser.get(url).await);
        assert_eq!(world.vendor_ids(browser.aid()).await, stored, "{url}");
    }
    world.flush_redis().await;
    assert_gif(&browser.get(&evil).await);
    assert_eq!(world.vendor_ids(browser.aid()).await, stored, "after a flush");
    assert_eq!(world.sync_failures("pinterest", "bad_state").await, 3.0);
    assert_eq!(world.metric("datafly_sync_succeeded_total", &[]).await, 1.0);
}

#[tokio::test]
async fn a_registered_vendor_s_state_is_the_cookie() {
    let world = world().await;
    let (mut browser, callback) = returning(&world, "trade_desk").await;
    assert!(!callback.as_str().contains("state="), "{callback}");
    let collect = browser.collect.clone();
    let state = browser.jar.value(&collect, "_dfs_trade_desk").unwrap().to_owned();

    let mut without = browser.clone();
    without.jar.clear();
    assert_bad(&world, &mut without, "trade_desk", callback.as_str(), "no cookie").await;
    let (mut crossed, _) = returning(&world, "pinterest").await;
    crossed.jar.set(&collect, "_dfs_pinterest", &state);
    let url = callback.as_str().replace("trade_desk", "pinterest").replace("ttd_id", "uid");
    assert_bad(&world, &mut crossed, "pinterest", &url, "its state at another vendor's callback").await;

    assert_gif(&browser.get(callback.as_str()).await);
    let stored = world.vendor_id(browser.aid(), "ttd_uid").await;
    assert_eq!(stored.as_deref(), Some(vendor("trade_desk").id));
    browser.jar.set(&collect, "_dfs_trade_desk", &state);
    let evil = callback.as_str().replace(vendor("trade_desk").id, "11111111-1111-4111-8111-111111111111");
    assert_gif(&browser.get(&evil).await);
    assert_eq!(world.vendor_id(browser.aid(), "ttd_uid").await, stored, "replayed with the cookie put back");
}

#[tokio::test]
async fn a_callback_for_a_visitor_nobody_knows_creates_nobody() {
    let world = world().await;
    let mut browser = world.browser();
    let (_, callback) = returning(&world, "pinterest").await;
    let key = SealKey::from_hex(&SecretString::from(world.cluster.secrets.encryption_key.as_str())).unwrap();
    let keys = StateKeys::derive(&SealKeys::new(key, None));
    let state = SyncState {
        key: live_key(&world).await,
        vendor: "pinterest".to_owned(),
        anonymous_id: browser.aid().to_owned(),
        issued_at: now(),
    };
    // Consent is there, the canonical identity is not.
    let sql = format!(
        "INSERT INTO consent VALUES ('{}', '{}', '{{\"marketing\": true}}', false, now())",
        world.customer.org_id,
        browser.aid()
    );
    world.database.execute(&sql).await;
    let before = world.database.count("canonicals", "true").await;
    assert_gif(&browser.get(&with_state(&callback, |_| keys.seal(&state).unwrap())).await);
    assert_eq!(world.sync_failures("pinterest", "no_canonical").await, 1.0);
    assert_eq!(world.database.count("canonicals", "true").await, before);
    // Another thread writes the log.
    let line = "sync callback: no canonical for anonymous_id";
    eventually(line, async || {
        let log = world.cluster.cores[0].log();
        if log.iter().any(|entry| entry.contains(line)) { Ok(()) } else { Err("not logged".to_owned()) }
    })
    .await;
    let offered = browser.view(&granted()).await.offered();
    assert!(offered.contains(&"pinterest".to_owned()), "not with the next batch: {offered:?}");
}

#[tokio::test]
async fn a_state_of_a_key_that_was_revoked_on_the_way() {
    let world = world().await;
    let key = live_key(&world).await;
    let (mut browser, callback) = returning(&world, "pinterest").await;
    world.database.execute(&format!("UPDATE pipeline_keys SET revoked_at = now() WHERE id = '{key}'")).await;
    let mut page = world.browser();
    eventually("the key to be revoked", async || {
        let answer = page.view(&granted()).await;
        if answer.status == 401 { Ok(()) } else { Err(format!("HTTP {}", answer.status)) }
    })
    .await;
    assert_bad(&world, &mut browser, "pinterest", callback.as_str(), "its key is revoked").await;
}

/// Sends a callback as the image of a page would, with this Referer.
async fn from_page(browser: &mut Browser, callback: &Url, referer: &str) -> Answer {
    browser.origin = None;
    let request = browser.request(Method::GET, &callback[Position::BeforePath..]);
    browser.send(request.header("referer", referer)).await
}

#[tokio::test]
async fn a_callback_that_a_foreign_page_asks_for() {
    let world = world().await;
    let (mut browser, callback) = returning(&world, "pinterest").await;
    let foreign = [
        "https://evil.example/",
        "https://shop.example.com.evil.example/",
        "https://evil.example/https://shop.example.com/",
        "http://shop.example.com/",
        "nonsense",
    ];
    for (before, referer) in foreign.into_iter().enumerate() {
        assert_gif(&from_page(&mut browser, &callback, referer).await);
        let refused = world.sync_failures("pinterest", "bad_state").await.to_string();
        assert_eq!(refused, (before + 1).to_string(), "{referer}");
        assert_eq!(world.database.count("vendor_ids", "true").await, 0, "{referer}");
    }
    // It is not used up; its own page is none, and nor is what has no Referer, as after our own redirect.
    assert_gif(&from_page(&mut browser, &callback, "https://shop.example.com/a/page").await);
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some());
    for referer in [format!("{}/", browser.collect), String::new()] {
        let (mut browser, callback) = returning(&world, "pinterest").await;
        assert_gif(&from_page(&mut browser, &callback, &referer).await);
        assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some(), "{referer}");
    }
}

/// What stands in clear beside the state says nothing: the state alone says whose ID it is.
#[tokio::test]
async fn names_in_clear_beside_the_state_do_not_count() {
    let world = world().await;
    let customer = world.another_customer("explicit").await;
    let mut other = world.browser_of(&customer);
    assert_accepted(&other.view(&granted()).await, 1);
    let (mut browser, callback) = returning(&world, "pinterest").await;
    let clear = format!(
        "{callback}&aid={}&pipeline_key={}&org_id={}&vendor=criteo",
        other.aid(),
        customer.live_key,
        customer.org_id
    );
    assert_gif(&browser.get(&clear).await);
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some());
    let of_other = world.vendor_ids_in(&customer.org_id.to_string(), other.aid()).await;
    assert!(of_other.vendor_ids.is_empty(), "{of_other:?}");
    assert_eq!(world.database.count("vendor_ids", "true").await, 1);
}

#[tokio::test]
async fn a_visitor_who_was_merged_on_the_way_has_the_id_as_the_survivor() {
    let world = world().await;
    let mut older = world.browser();
    let logged_in = |browser: &Browser| {
        let mut event = browser.page_view(&granted());
        event["userId"] = serde_json::json!("customer-7");
        serde_json::json!([event])
    };
    let event = logged_in(&older);
    assert_accepted(&older.batch(&event).await, 1);
    let survivor = world.vendor_ids(older.aid()).await.canonical_id;
    let (mut browser, callback) = returning(&world, "pinterest").await;
    let before = world.vendor_ids(browser.aid()).await.canonical_id;
    let event = logged_in(&browser);
    assert_accepted(&browser.batch(&event).await, 1);
    assert_gif(&browser.get(callback.as_str()).await);
    let known = world.vendor_ids(browser.aid()).await;
    assert!(before != survivor && known.canonical_id == survivor, "{known:?}");
    assert!(known.vendor_ids.contains_key("pin_unauth"), "{known:?}");
    let stored = format!("canonical_id = '{survivor}' AND field = 'pin_unauth'");
    assert_eq!(world.database.count("vendor_ids", &stored).await, 1);
}

/// Bytes that are no text are no ID; and nobody is sent to a vendor by a name that stands for nobody.
#[tokio::test]
async fn bytes_that_are_no_text_and_placeholders_are_nobody_s() {
    let world = world().await;
    let (mut browser, callback) = returning(&world, "pinterest").await;
    let (sealed, _) = callback.as_str().split_once("uid=").unwrap();
    for (before, uid) in ["%ff%fe", "a%C3", "%ED%A0%80", "a%01b", "a%E2%80%AEb"].into_iter().enumerate() {
        assert_gif(&browser.get(&format!("{sealed}uid={uid}")).await);
        let invalid = world.sync_failures("pinterest", "invalid_id").await.to_string();
        assert_eq!(invalid, (before + 1).to_string(), "{uid}");
    }
    assert_eq!(world.database.count("vendor_ids", "true").await, 0);
    let mut nobody = world.browser();
    for aid in ["null", "undefined", "0", "00000000-0000-0000-0000-000000000000"] {
        nobody.anonymous_id = Some(aid.to_owned());
        let answer = nobody.get(&nobody.sync_url("pinterest")).await;
        assert_eq!((answer.status, answer.code()), (400, "INVALID_IDENTIFIER".to_owned()), "{aid}");
    }
}
