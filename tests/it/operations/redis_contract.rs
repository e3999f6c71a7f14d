//! What other systems read: the keys of Redis, the JSON in them, and how long they live.

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::Browser,
    system::now,
    world::{Options, World},
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

const DAY: i64 = 24 * 60 * 60;

async fn world() -> World {
    World::with(Options { vendors: &["pinterest"], generated: &["google", "meta"], ..Options::default() })
        .await
}

/// A visitor with a click, generated IDs and a sync.
async fn visitor(world: &World) -> Browser {
    let mut browser = world.browser();
    let mut event = browser.page_view(&json!({"marketing": true, "analytics": true}));
    event["context"]["page"]["url"] = json!("https://shop.example.com/?gclid=Click1");
    assert_accepted(&browser.batch(&json!([event])).await, 1);
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    browser
}

async fn field(world: &World, key: &str, field: &str) -> Value {
    let text: Option<String> = world.redis(&["HGET", key, field]).await;
    let text = text.unwrap_or_else(|| panic!("no {field} in {key}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{key} {field}: {error}: {text}"))
}

fn names(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

fn at(value: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(value.as_str().unwrap_or_default(), &Rfc3339)
        .unwrap_or_else(|error| panic!("{error}: {value}"))
}

async fn ttl(world: &World, key: &str) -> i64 {
    world.redis(&["TTL", key]).await
}

fn assert_about(seconds: i64, expected: i64) {
    assert!((expected - 300..=expected).contains(&seconds), "{seconds} s instead of {expected}");
}

#[tokio::test]
async fn every_key_holds_what_other_systems_read() {
    let world = world().await;
    let browser = visitor(&world).await;
    let (org, aid) = (world.customer.org_id, browser.aid());
    let canonical: String = world.redis(&["GET", &format!("canonical:{org}:anonymous_id:{aid}")]).await;
    assert_eq!(canonical, world.vendor_ids(aid).await.canonical_id);

    let cvid = format!("cvid:{org}:{canonical}");
    for (name, source, days) in [
        ("pin_unauth", "sync", 90),
        ("gclid", "click", 90),
        ("fbp", "generated", 90),
        ("client_id", "generated", 400),
    ] {
        let own = field(&world, &cvid, name).await;
        let mut members = names(&own);
        members.retain(|member| *member != "by");
        assert_eq!(members, ["collected_at", "expires_at", "source", "value"], "{name}");
        assert_eq!(own["source"], json!(source), "{name}");
        assert_eq!(at(&own["expires_at"]) - at(&own["collected_at"]), Duration::days(days), "{name}");
    }
    assert_eq!(field(&world, &cvid, "gclid").await["value"], json!("Click1"));
    let mark: Option<String> = world.redis(&["HGET", &cvid, "_v"]).await;
    assert!(mark.is_some(), "a field of ours says that the hash is whole");

    let syncs = format!("syncs:{org}:{canonical}");
    let own = field(&world, &syncs, "pinterest").await;
    for member in ["last_synced", "ttl_days", "outcome", "attempts", "next_at"] {
        assert!(own.get(member).is_some(), "{member} in {own}");
    }
    assert_eq!(
        (&own["ttl_days"], &own["outcome"], &own["attempts"]),
        (&json!(90), &json!("stored"), &json!(0))
    );
    let wait = at(&own["next_at"]) - at(&own["last_synced"]);
    assert!((Duration::days(90) * 0.95..=Duration::days(90)).contains(&wait), "up to 5 % early: {wait}");

    // The projection has plain values, and lives no longer than the shortest of them.
    let identity = format!("identity:{org}:{aid}");
    let value: String = world.redis(&["HGET", &identity, "gclid"]).await;
    assert_eq!(value, "Click1");
    let kept = ttl(&world, &identity).await;
    assert!((1..=90 * DAY).contains(&kept), "{kept}");

    let consent: String = world.redis(&["GET", &format!("consent:{org}:{aid}")]).await;
    let consent: Value = serde_json::from_str(&consent).unwrap();
    assert_eq!(consent["signals"], json!({"marketing": true, "analytics": true}));
    assert_eq!(consent["sec_gpc"], json!(false));
    assert!((now() - at(&consent["updated_at"])).abs() < Duration::minutes(5));
    // As long as its longest field.
    assert_about(ttl(&world, &cvid).await, 400 * DAY);
    for key in [format!("canonical:{org}:anonymous_id:{aid}"), syncs, format!("consent:{org}:{aid}")] {
        assert_about(ttl(&world, &key).await, 30 * DAY);
    }
}

#[tokio::test]
async fn a_field_that_has_ended_is_answered_by_nobody() {
    let world = world().await;
    let browser = visitor(&world).await;
    let ended = "UPDATE vendor_ids SET expires_at = now() - interval '1 second' WHERE field = 'gclid'";
    world.database.execute(ended).await;
    let canonical = world.vendor_ids(browser.aid()).await.canonical_id;
    let key = format!("cvid:{}:{canonical}", world.customer.org_id);
    let mut own = field(&world, &key, "gclid").await;
    own["expires_at"] = json!((now() - Duration::seconds(1)).format(&Rfc3339).unwrap());
    let _: i64 = world.redis(&["HSET", &key, "gclid", &own.to_string()]).await;
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    assert!(!ids.contains_key("gclid") && ids.contains_key("pin_unauth"), "{ids:?}");
}

#[tokio::test]
async fn every_click_id_goes_from_the_page_to_delivery() {
    let vendors = &[
        "google",
        "meta",
        "tiktok",
        "snapchat",
        "reddit",
        "pinterest",
        "microsoft",
        "linkedin",
        "x",
        "nextdoor",
        "taboola",
        "outbrain",
    ];
    let world = World::with(Options { vendors: &[], generated: vendors, ..Options::default() }).await;
    let mut browser = world.browser();
    let clicks = [
        ("gclid", "Cj0KCQ-a_1"),
        ("wbraid", "ClEKCQ-w_1"),
        ("gbraid", "0AAAAA-g_1"),
        ("dclid", "CPeUwc-d_1"),
        ("fbclid", "IwAR2F4-f_1"),
        ("ttclid", "E.C.P.v3f-t_1"),
        ("epik", "dj0yJnU9e_1"),
        ("msclkid", "0123456789abcdef0123456789abcdef"),
        ("ScCid", "5c1d-s_1"),
        ("rdt_cid", "3087-r_1"),
        ("li_fat_id", "9c1d8b6e-1111-4a1b-8c1d-aaaabbbbcccc"),
        ("twclid", "2-4sybnqx-t1"),
        ("ndclid", "nd-1_a"),
        ("tblci", "GiC6x-b_1"),
        ("dicbo", "v1-abc-o_1"),
    ];
    let query: Vec<String> = clicks.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut event = browser.page_view(&json!({"marketing": true}));
    event["context"]["page"]["url"] = json!(format!("https://shop.example.com/?{}", query.join("&")));
    assert_accepted(&browser.batch(&json!([event])).await, 1);
    let ids = world.vendor_ids(browser.aid()).await.vendor_ids;
    for (name, value) in clicks {
        let own = ids.get(&name.to_lowercase()).unwrap_or_else(|| panic!("no {name} in {ids:?}"));
        assert_eq!(
            (own.value.as_str(), own.source().as_str_name()),
            (value, "VENDOR_ID_SOURCE_CLICK"),
            "{name}"
        );
    }
}
