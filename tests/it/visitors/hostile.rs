//! Attacks on events and syncs that belong to no other module (`docs/threats.md` lists all): visitors' IDs,
//! clocks, claims and tabs as they are, or as somebody makes them.

use harness::{
    answers::{assert_accepted, assert_gif},
    visits::{granted, make_due},
    world::{Options, World, all_vendors},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

async fn all() -> World {
    World::with(Options { vendors: all_vendors().leak(), ..Options::default() }).await
}

fn event(anonymous_id: &str) -> Value {
    json!({"type": "page", "anonymousId": anonymous_id, "context": {"consent": granted()}})
}

/// Rows of all tables about visitors, as text.
async fn stored(world: &World) -> String {
    let mut all = String::new();
    for table in ["canonicals", "links", "consent", "vendor_ids", "sync_attempts", "merge_history"] {
        let sql = format!("SELECT coalesce(string_agg(t::text, '\n' ORDER BY t::text), '') FROM {table} t");
        all += &world.database.text(&sql).await;
    }
    all
}

/// A key with the origin of another source is refused, and `org_id`, `source_id` or `canonical_id` in a body
/// is ignored: the tenant comes from the key.
#[tokio::test]
async fn whose_data_these_are_the_key_says_alone() {
    let world = World::start().await;
    let other = world.another_customer("explicit").await;
    let mut browser = world.browser();
    browser.origin = Some(other.origin.clone());
    let answer = browser.view(&granted()).await;
    assert_eq!((answer.status, answer.code()), (403, "ORIGIN_NOT_ALLOWED".to_owned()));
    assert_eq!(answer.header("access-control-allow-origin"), None);

    let mut theirs = world.browser_of(&other);
    assert_accepted(&theirs.view(&granted()).await, 1);
    let known = world.vendor_ids_in(&other.org_id.to_string(), theirs.aid()).await.canonical_id;
    let claim = json!({"org_id": other.org_id, "source_id": other.source_id, "canonical_id": known});
    let mut claiming = event("claimant");
    for (name, value) in claim.as_object().unwrap() {
        claiming[name] = value.clone();
        claiming["context"][name] = value.clone();
    }
    let mut body = claim.clone();
    body["batch"] = json!([claiming]);
    browser.origin = Some(world.customer.origin.clone());
    assert_accepted(&browser.post("/v1/batch", body.to_string()).await, 1);
    let ours = world.vendor_ids("claimant").await.canonical_id;
    assert!(!ours.is_empty() && ours != known);
    let theirs = format!("org_id = '{}'", other.org_id);
    assert_eq!(world.database.count("links", &theirs).await, 1);
}

/// Placeholders of broken pages (`null`, `undefined`, `guest`) link nobody, as user ID or as anonymous ID:
/// all visitors of such a page would be one.
#[tokio::test]
async fn placeholders_are_nobody_in_either_place() {
    let junk = [
        "null",
        "undefined",
        "anonymous",
        "guest",
        "0",
        "NaN",
        "None",
        "true",
        "id",
        "email",
        "[object Object]",
        "'null'",
        "\"null\"",
        "-1",
        "00000000-0000-0000-0000-000000000000",
        "\u{3164}",
    ];
    let world = World::start().await;
    let events: Vec<Value> = junk.iter().map(|id| json!({"anonymousId": "known", "userId": id})).collect();
    let mut browser = world.browser();
    assert_accepted(&browser.batch(&json!(events)).await, junk.len());
    assert_eq!(world.database.count("links", "true").await, 1, "a placeholder became a person");
    let mut minted = std::collections::BTreeSet::new();
    for id in junk {
        let mut stranger = world.browser();
        let answer = stranger.batch(&json!([event(id)])).await;
        assert_accepted(&answer, 1);
        let own = answer.json()["anonymous_id"].as_str().unwrap().to_owned();
        assert!(uuid::Uuid::try_parse(&own).is_ok_and(|own| !own.is_nil()), "{id:?} became {own:?}");
        minted.insert(own);
    }
    assert_eq!(minted.len(), junk.len(), "strangers were fused");
    let refused = world.metric("datafly_link_refusals_total", &[("reason", "junk")]).await;
    assert!(refused >= 2.0 * junk.len() as f64, "{refused}");
}

/// IDs that differ in case, normal form or invisible characters are different ones, only ASCII space around
/// them does not count, and each is itself on every way.
#[tokio::test]
async fn ids_that_look_alike_are_not_the_same_and_odd_ones_come_through() {
    let world = all().await;
    let ids = [
        "user",
        "User",
        "\u{e9}t\u{e9}",
        "e\u{301}te\u{301}",
        "us\u{200b}er",
        "a&b=c#d?e%41+f 🍪;\"x\"",
        "{a}:b",
    ];
    let mut seen = std::collections::BTreeSet::new();
    for id in ids {
        let mut browser = world.browser();
        browser.anonymous_id = Some(id.to_owned());
        let answer = browser.view(&granted()).await;
        assert_accepted(&answer, 1);
        assert_eq!(answer.json()["anonymous_id"], json!(id));
        for vendor in all_vendors() {
            assert_gif(browser.sync(vendor).await.last().unwrap());
        }
        let known = world.vendor_ids(id).await;
        assert_eq!(known.vendor_ids.len(), all_vendors().len(), "{id:?}: {known:?}");
        assert!(seen.insert(known.canonical_id), "{id:?} is somebody else");
        // By the cookie alone, as it was written.
        browser.anonymous_id = None;
        assert_eq!(browser.view(&Value::Null).await.json()["anonymous_id"], json!(id));
    }
    let mut spaced = world.browser();
    spaced.anonymous_id = Some(" \tuser\n ".to_owned());
    assert_eq!(spaced.view(&granted()).await.json()["anonymous_id"], json!("user"));
    assert_eq!(world.database.count("links", "true").await, i64::try_from(ids.len()).unwrap());
}

/// Events that come a thousand times change nothing, nor do timestamps of year 0 or 9999: the server's time
/// decides.
#[tokio::test]
async fn what_is_said_again_or_at_an_odd_time_changes_nothing() {
    let world = World::start().await;
    let mut browser = world.browser();
    let mut login = browser.page_view(&granted());
    login["userId"] = json!("anna");
    assert_accepted(&browser.batch(&json!([login])).await, 1);
    let before = stored(&world).await;
    for _ in 0..4 {
        assert_accepted(&browser.batch(&json!(vec![login.clone(); 250])).await, 250);
    }
    for time in [json!("0000-00-00"), json!("9999-12-31T23:59:59Z"), json!(1e18), json!("soon"), json!([-1])]
    {
        login["timestamp"] = time.clone();
        login["originalTimestamp"] = time;
        assert_accepted(&browser.batch(&json!([login])).await, 1);
    }
    assert_eq!(stored(&world).await, before);
}

/// Consent counts by the names of the categories that vendors need, and others are ignored.
#[tokio::test]
async fn a_category_that_no_vendor_names_grants_nothing() {
    let world = World::start().await;
    for consent in [
        json!({"necessary": true, "all": true, "Marketing": true, "marketing ": true}),
        json!({"categories": {"ads": true, "MARKETING": true}}),
        json!({"google": {"analytics_storage": "granted", "ad_user_data": "granted"}}),
        json!([{"marketing": true}]),
        json!("marketing"),
    ] {
        let mut browser = world.browser();
        assert_eq!(browser.view(&consent).await.offered(), [""; 0], "{consent}");
        assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 204, "{consent}");
    }
}

/// A vendor is offered to one of twenty tabs, as its lease of 60 s is taken once.
#[tokio::test]
async fn of_twenty_tabs_one_is_offered_each_vendor() {
    let world = all().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&json!({"marketing": false})).await, 1);
    let mut tabs = JoinSet::new();
    for _ in 0..20 {
        let mut tab = browser.clone();
        tabs.spawn(async move { tab.view(&granted()).await.offered() });
    }
    let mut offered = tabs.join_all().await.concat();
    offered.sort();
    let mut vendors = all_vendors();
    vendors.sort_unstable();
    assert_eq!(offered, vendors);
}

/// Paths that name no vendor exactly are 404, and a line break in any parameter is refused before it reaches
/// a header.
#[tokio::test]
async fn paths_and_parameters_that_split_a_header_or_name_no_vendor() {
    let world = World::start().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let url = browser.sync_url("pinterest");
    for path in
        ["pinterest/", "pinterest%2f", "PINTEREST", "%70interes%74%20", "pinterest;x", "..%2fpinterest", ""]
    {
        let answer = browser.get(&url.replace("/pinterest", &format!("/{path}"))).await;
        assert_eq!(answer.status, 404, "{path:?}: {}", answer.text());
    }
    for more in
        ["aid=%0d%0aLocation:x", "x=%0d%0aSet-Cookie:a=b", "%0a=1", "partner_id=%00", "aid=again", "x=%zz"]
    {
        let answer = browser.get(&format!("{url}&{more}")).await;
        assert_eq!((answer.status, answer.code()), (400, "INVALID_ARGUMENT".to_owned()), "{more:?}");
        assert!(answer.header("location").is_none() && answer.set_cookies().is_empty(), "{more:?}");
    }
    assert_eq!(world.metric("datafly_sync_attempted_total", &[]).await, 0.0);
}

/// Callbacks in another order than they were begun in: what was begun last counts, once.
#[tokio::test]
async fn of_two_tabs_at_the_vendor_the_later_one_counts_whenever_it_returns() {
    let world = World::start().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let id = |text: &str| Some(harness::vendor_sim::Fault::Id(text.to_owned()));
    world.vendors.misbehave("pinterest", id("earlier"));
    let earlier = browser.sync_to_vendor("pinterest").await;
    world.vendors.misbehave("pinterest", id("later"));
    make_due(&world, &browser).await;
    let later = browser.sync_to_vendor("pinterest").await;
    for (callback, bad) in [(&later, 0.0), (&earlier, 1.0), (&later, 2.0), (&earlier, 3.0)] {
        assert_gif(&browser.get(callback.as_str()).await);
        assert_eq!(world.vendor_id(browser.aid(), "pin_unauth").await.as_deref(), Some("later"));
        assert_eq!(world.sync_failures("pinterest", "bad_state").await, bad);
    }
    // In the order in which they were begun both count, and the later one stays.
    let mut other = world.browser();
    assert_accepted(&other.view(&granted()).await, 1);
    world.vendors.misbehave("pinterest", id("one"));
    let one = other.sync_to_vendor("pinterest").await;
    world.vendors.misbehave("pinterest", id("two"));
    make_due(&world, &other).await;
    let two = other.sync_to_vendor("pinterest").await;
    for (callback, value) in [(&one, "one"), (&two, "two"), (&one, "two")] {
        assert_gif(&other.get(callback.as_str()).await);
        assert_eq!(world.vendor_id(other.aid(), "pin_unauth").await.as_deref(), Some(value));
    }
}

/// Consent that no message could hold as such is stored as it came, and handed out as it is stored.
#[tokio::test]
async fn consent_is_kept_to_the_letter_however_odd() {
    let world = World::start().await;
    let (open, close) = ("[{\"y\":".repeat(40), "}]".repeat(40));
    let nested = format!("{{\"marketing\":true,\"x\":{open}1{close}}}");
    for consent in
        [nested.as_str(), r#"{ "marketing":true , "n":12345678901234567890123 }"#, r#"{"a":1,"a":2}"#]
    {
        let mut browser = world.browser();
        let event = format!(r#"{{"anonymousId":"{}","context":{{"consent":{consent}}}}}"#, browser.aid());
        let answer = browser.post("/v1/t", event).await;
        assert_accepted(&answer, 1);
        let known = world.vendor_ids(browser.aid()).await.consent.unwrap();
        assert_eq!(known.json.as_deref(), Some(consent));
        let identity = proto::v1::identity_ref::Id::AnonymousId(browser.aid().to_owned());
        let request = proto::v1::ExportRequest {
            org_id: world.customer.org_id.to_string(),
            identity: Some(proto::v1::IdentityRef { id: Some(identity), browser: None }),
        };
        let document = world.admin().people().export(request).await.unwrap().into_inner().document.unwrap();
        let document = format!("{document:?}");
        assert!(document.contains(&format!("StringValue({consent:?})")), "{document}");
    }
}

/// A logout that comes with everything else that could tie the next person to the last one.
#[tokio::test]
async fn a_reset_is_stronger_than_all_that_comes_with_it() {
    let world = World::start().await;
    let mut browser = world.browser();
    let mut login = browser.page_view(&granted());
    login["userId"] = json!("anna");
    assert_accepted(&browser.batch(&json!([login])).await, 1);
    browser.sync("pinterest").await;
    let anna = world.vendor_ids(browser.aid()).await;
    assert_eq!(anna.vendor_ids.len(), 1);

    // The cookie still names Anna, and so does the page's own storage.
    let mut logout = browser.page_view(&granted());
    logout["context"]["reset"] = json!(true);
    let again = browser.page_view(&granted());
    let answer = browser.batch(&json!([logout, again])).await;
    assert_accepted(&answer, 2);
    assert_eq!(answer.offered(), ["pinterest"], "nothing is known of the next person");
    let next = world.vendor_ids(browser.aid()).await;
    assert_ne!(next.canonical_id, anna.canonical_id);
    assert!(next.vendor_ids.is_empty(), "{next:?}");
    let mut bert = browser.page_view(&granted());
    bert["userId"] = json!("bert");
    assert_accepted(&browser.batch(&json!([bert])).await, 1);
    let request = proto::v1::VendorIdsRequest {
        org_id: world.customer.org_id.to_string(),
        identities: ["anna", "bert"]
            .map(|user| proto::v1::IdentityRef {
                id: Some(proto::v1::identity_ref::Id::UserId(user.to_owned())),
                browser: None,
            })
            .to_vec(),
        fields: Vec::new(),
        ..proto::v1::VendorIdsRequest::default()
    };
    let known = world.internal().resolve().vendor_ids(request).await.unwrap().into_inner().identities;
    assert_eq!(known[0].canonical_id, anna.canonical_id);
    assert_eq!(known[0].vendor_ids, anna.vendor_ids, "what was Anna's stays Anna's");
    assert_eq!(known[1].canonical_id, next.canonical_id);
}
