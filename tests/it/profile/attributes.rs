//! Attributes for whoever delivers events: which look-ups are made, how few, and what is told.

use harness::{
    answers::assert_accepted,
    eventually,
    people::{self, People},
    profile_sim::{COLLECTION, TENANT, profile_key},
    providers::{Enriching, subject},
    round_trips::caused,
    world::Options,
};
use proto::v1::{ProfileResponse, Subject};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

const EMAIL: &str = "Jane.Doe@Example.com";

fn hashed(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

fn attributes(profile: &ProfileResponse) -> Value {
    Value::Object(profile.attributes.clone().map(proto::json::object).unwrap_or_default())
}

/// The keys that the store was asked for, in their order.
fn asked(own: &Enriching) -> Vec<(String, String)> {
    let pair = |keys: Map<String, Value>| {
        let (key, value) = keys.into_iter().next().unwrap();
        (key, value.as_str().unwrap().to_owned())
    };
    let calls = own.sim.seen("profiles").into_iter();
    calls.filter_map(|call| call.json()["keys"].as_object().cloned()).map(pair).collect()
}

#[tokio::test]
async fn linking_keys_are_tried_in_their_order_until_one_matches() {
    let own = Enriching::with(Options::default(), &[]).await;
    own.set_profiles(&json!({})).await;
    let tier = json!({"LifetimeTier": "gold", "Age": 35, "Nested": {"a": [1]}});
    own.sim.profiles().add("amp-1", "customer_id", "jane", &tier);
    let mut browser = own.visitor().await;
    let event = json!({"type": "identify", "anonymousId": browser.aid(), "userId": "jane"});
    assert_accepted(&browser.batch(&json!([event])).await, 1);
    let person = own.world.vendor_ids(browser.aid()).await.canonical_id;
    let told = own.profile(browser.aid(), None).await;
    // There is no email, and the device is known by neither of its names.
    let expected =
        [("device_cookie", browser.aid()), ("device_cookie", person.as_str()), ("customer_id", "jane")];
    assert_eq!(asked(&own), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert_eq!((attributes(&told), told.id.as_str(), told.reason.as_str()), (tier, "amp-1", ""));
    let call = own.sim.seen("profiles").remove(0);
    assert_eq!(call.target, format!("/prof/lookup/{COLLECTION}/keychain"));
    assert_eq!(call.header("authorization"), format!("Bearer {}", profile_key()));
    assert_eq!(call.header("amperity-tenant"), TENANT);

    // The first match ends it.
    let mut other = own.visitor_with(EMAIL).await;
    own.sim.profiles().add(
        "amp-2",
        "email_sha256",
        &hashed("jane.doe@example.com"),
        &json!({"LifetimeTier": "new"}),
    );
    let before = asked(&own).len();
    assert_eq!(own.profile(other.aid(), None).await.id, "amp-2");
    let email = ("email_sha256".to_owned(), hashed("jane.doe@example.com"));
    assert_eq!(asked(&own)[before..], [email]);

    // Who logs in is somebody else at once.
    let event = json!({"type": "identify", "anonymousId": other.aid(), "userId": "jane", "traits": {"email": "x@example.com"}});
    assert_accepted(&other.batch(&json!([event])).await, 1);
    assert_eq!(own.profile(other.aid(), None).await.id, "amp-1");
}

#[tokio::test]
async fn what_is_in_clear_is_sent_while_a_call_carries_it() {
    let own = Enriching::with(Options::default(), &[]).await;
    let keys = json!([{"source": "email", "key": "email"}, {"source": "phone", "key": "phone_sha256", "hash": "sha256"}]);
    own.set_profiles(&json!({ "linking_keys": keys })).await;
    own.sim.profiles().add("amp-1", "email", EMAIL, &json!({"a": 1}));
    let mut browser = own.visitor_with(EMAIL).await;
    let told = own.profile(browser.aid(), None).await;
    assert_eq!((told.reason.as_str(), asked(&own).len()), ("no_input", 0), "nothing in clear is stored");
    let carrying = Subject { email: Some(EMAIL.to_owned()), ..subject(browser.aid()) };
    assert_eq!(own.profiles(0, vec![(carrying, None)]).await[0].id, "amp-1");
    // A phone is hashed as it is written, which is what the specification says.
    own.sim.profiles().add("amp-2", "phone_sha256", &hashed("+44 7700 900123"), &json!({"a": 2}));
    let event =
        json!({"type": "identify", "anonymousId": browser.aid(), "traits": {"phone": "+44 7700 900123"}});
    assert_accepted(&browser.batch(&json!([event])).await, 1);
    assert_eq!(own.profile(browser.aid(), None).await.id, "amp-2");
}

#[tokio::test]
async fn a_store_that_answers_with_the_id_alone_is_asked_for_the_profile() {
    let own = Enriching::with(Options::default(), &[]).await;
    own.set_profiles(&json!({})).await;
    own.sim.profiles().be_brief();
    let browser = own.visitor().await;
    own.sim.profiles().add("amp-1", "device_cookie", browser.aid(), &json!({"Persona": "Value Hunter"}));
    let told = own.profile(browser.aid(), None).await;
    assert_eq!((told.id.as_str(), attributes(&told)), ("amp-1", json!({"Persona": "Value Hunter"})));
    let calls = own.sim.seen("profiles");
    assert_eq!(calls.last().unwrap().target, format!("/prof/profiles/{COLLECTION}/amp-1"));
}

#[tokio::test]
async fn a_thousand_events_of_a_hundred_visitors_are_a_hundred_calls_and_then_none() {
    let own = Enriching::with(Options { cores: 2, ..Options::default() }, &[]).await;
    let keys = json!([{"source": "anonymous_id", "key": "device_cookie"}]);
    own.set_profiles(&json!({ "linking_keys": keys })).await;
    let mut names = Vec::new();
    let mut sender = own.world.browser();
    for number in 0..100 {
        let name = format!("visitor-{number}");
        // Every second one is known.
        if number % 2 == 0 {
            own.sim.profiles().add(&format!("amp-{number}"), "device_cookie", &name, &json!({"n": number}));
        }
        names.push(name);
    }
    let events: Vec<Value> = names.iter().map(|name| json!({"type": "page", "anonymousId": name})).collect();
    assert_accepted(&sender.batch(&json!(events)).await, 100);
    let subjects = || -> Vec<(Subject, Option<Value>)> {
        (0..1000).map(|at| (subject(&names[at % 100]), None)).collect()
    };
    // What did not come in time is there the next time.
    let told = eventually("all profiles to be there", async || {
        let told = own.profiles(0, subjects()).await;
        if told.iter().all(|profile| ["", "no_match"].contains(&profile.reason.as_str())) {
            Ok(told)
        } else {
            Err(format!("{:?}", told.iter().map(|profile| &profile.reason).collect::<Vec<_>>()))
        }
    })
    .await;
    for (at, profile) in told.iter().enumerate() {
        let number = at % 100;
        let expected = if number % 2 == 0 { json!({ "n": number }) } else { json!({}) };
        assert_eq!(attributes(profile), expected, "{profile:?}");
    }
    assert_eq!(asked(&own).len(), 100);

    // Redis alone answers, in one round trip; another core makes no call either.
    let redis = eventually("a delivery that Redis alone answers", async || {
        own.world.redis_proxy.take();
        own.world.postgres_proxy.take();
        assert_eq!(own.profiles(0, subjects()).await, told);
        let (redis, postgres) =
            (caused(own.world.redis_proxy.take().0), caused(own.world.postgres_proxy.take().0));
        if postgres.is_empty() { Ok(redis) } else { Err(format!("{postgres:#?}")) }
    })
    .await;
    let reads: usize = redis.iter().map(Vec::len).sum();
    assert!((1000..=1200).contains(&reads), "{reads} commands for a thousand names and a hundred people");
    assert_eq!(own.profiles(1, subjects()).await, told);
    assert_eq!(asked(&own).len(), 100);
}

#[tokio::test]
async fn what_is_no_longer_fresh_is_told_and_read_anew() {
    let own = Enriching::with(Options::default(), &[]).await;
    own.set_profiles(&json!({})).await;
    let browser = own.visitor().await;
    own.sim.profiles().add("amp-1", "device_cookie", browser.aid(), &json!({"v": 1}));
    assert_eq!(attributes(&own.profile(browser.aid(), None).await), json!({"v": 1}));
    own.sim.profiles().add("amp-1", "device_cookie", browser.aid(), &json!({"v": 2}));
    assert_eq!(attributes(&own.profile(browser.aid(), None).await), json!({"v": 1}), "it is kept");

    // Five minutes pass.
    own.world.database.execute("UPDATE enrichments SET expires_at = now() - interval '1 s'").await;
    let canonical = own.world.vendor_ids(browser.aid()).await.canonical_id;
    let key = format!("profile:{}:{canonical}", own.world.customer.org_id);
    let fields: Vec<String> = own.world.redis(&["HKEYS", &key]).await;
    let field = fields.iter().find(|field| field.starts_with('p')).unwrap();
    let text: String = own.world.redis(&["HGET", &key, field]).await;
    let mut entry: Value = serde_json::from_str(&text).unwrap();
    entry["fresh_until"] = json!(0);
    let () = own.world.redis(&["HSET", &key, field, &entry.to_string()]).await;
    assert_eq!(attributes(&own.profile(browser.aid(), None).await), json!({"v": 1}), "nobody waits");
    eventually("it to be read anew", async || {
        let told = attributes(&own.profile(browser.aid(), None).await);
        if told == json!({"v": 2}) { Ok(()) } else { Err(told.to_string()) }
    })
    .await;
    // Junk in its place is a miss.
    for script in
        ["redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], 'x')", "redis.call('SET', KEYS[1], 'x')"]
    {
        let () = own.world.redis(&["EVAL", script, "1", &key]).await;
        assert_eq!(attributes(&own.profile(browser.aid(), None).await), json!({"v": 2}), "{script}");
    }
}

#[tokio::test]
async fn who_is_erased_leaves_no_profile_behind() {
    let own = Enriching::with(Options::default(), &[]).await;
    own.set_profiles(&json!({})).await;
    let browser = own.visitor().await;
    own.sim.profiles().add("amp-1", "device_cookie", browser.aid(), &json!({"v": 1}));
    assert_eq!(own.profile(browser.aid(), None).await.id, "amp-1");
    People::of(&own.world).delete(0, people::browser(browser.aid())).await.unwrap();
    let keys: Vec<String> = own.world.redis(&["KEYS", "profile:*"]).await;
    assert_eq!(keys, [""; 0]);
    assert_eq!(own.world.database.count("enrichments", "true").await, 0);
    assert_eq!(own.profile(browser.aid(), None).await.reason, "unknown");
    assert_eq!(asked(&own).len(), 1);
}
