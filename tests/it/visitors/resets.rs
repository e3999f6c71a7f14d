//! A logout: whoever uses the device from then on is another person, in whatever order, request or retry the IDs of
//! before and after it meet.

use std::collections::BTreeSet;

use harness::{
    answers::assert_accepted,
    browser::{Answer, Browser},
    system::env,
    visits::granted,
    world::World,
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};

/// An event of a browser's ID.
fn event(id: &str) -> Value {
    json!({"type": "page", "anonymousId": id, "context": {"page": {"url": "https://shop.example.com/"}}})
}

fn reset(id: &str) -> Value {
    let mut event = event(id);
    event["context"]["reset"] = json!(true);
    event
}

fn login(id: &str, user: &str) -> Value {
    let mut event = event(id);
    event["userId"] = json!(user);
    event
}

/// Sends events from a device whose cookie has this value.
async fn send(browser: &mut Browser, cookie: &str, events: &[Value]) -> Answer {
    let collect = browser.collect.clone();
    browser.jar.set(&collect, "_dfid", cookie);
    let answer = browser.batch(&json!(events)).await;
    assert_accepted(&answer, events.len());
    answer
}

fn dfid(browser: &Browser) -> Option<&str> {
    browser.jar.value(&browser.collect, "_dfid")
}

async fn person(world: &World, id: &str) -> String {
    let canonical = world.vendor_ids(id).await.canonical_id;
    assert!(!canonical.is_empty(), "nobody is known by {id}");
    canonical
}

#[tokio::test]
async fn what_follows_a_reset_in_its_batch_does_not_join_again() {
    let world = World::start().await;
    let mut browser = world.browser();
    send(&mut browser, "old", &[login("old", "anna")]).await;
    send(&mut browser, "old", &[reset("new"), event("new")]).await;
    assert_ne!(person(&world, "new").await, person(&world, "old").await);
    assert_eq!(dfid(&browser), Some("new"));

    // An event of before that is still in the queue goes to who it was of, and the device stays whose it is.
    send(&mut browser, "new", &[event("new"), event("old"), login("old", "anna")]).await;
    assert_ne!(person(&world, "new").await, person(&world, "old").await);
    assert_eq!(dfid(&browser), Some("new"));
    // The other way round, as from a tab that has not heard of it: the cookie is of before.
    send(&mut browser, "old", &[event("new")]).await;
    assert_ne!(person(&world, "new").await, person(&world, "old").await);
    assert_eq!(dfid(&browser), Some("new"), "the device has moved on");
    // All of it is known from the stores alone.
    world.flush_redis().await;
    send(&mut browser, "new", &[event("old")]).await;
    assert_ne!(person(&world, "new").await, person(&world, "old").await);
    let refused = world.metric("datafly_link_refusals_total", &[("reason", "reset")]).await;
    assert!(refused >= 3.0, "{refused}");

    // A login joins.
    send(&mut browser, "new", &[login("new", "anna")]).await;
    assert_eq!(person(&world, "new").await, person(&world, "old").await);
}

#[tokio::test]
async fn a_reset_that_comes_late_undoes_what_the_cookie_has_joined() {
    let world = World::start().await;
    let mut browser = world.browser();
    send(&mut browser, "old", &[event("old")]).await;
    // The page after the logout is quicker than the logout.
    send(&mut browser, "old", &[event("new"), login("new", "bert")]).await;
    assert_eq!(person(&world, "new").await, person(&world, "old").await);
    send(&mut browser, "old", &[reset("new")]).await;
    let (old, new) = (person(&world, "old").await, person(&world, "new").await);
    assert_ne!(old, new);
    send(&mut browser, "new", &[login("new", "bert")]).await;
    assert_ne!(person(&world, "old").await, person(&world, "new").await, "the old ID never named that user");
    // A reset that is sent again takes nobody away from what they have done since.
    let before = person(&world, "new").await;
    send(&mut browser, "new", &[event("new")]).await;
    assert_eq!(person(&world, "new").await, before);
}

#[tokio::test]
async fn a_device_keeps_its_cookie_where_an_event_says_nothing_new() {
    let world = World::start().await;
    let mut browser = world.browser();
    send(&mut browser, "first", &[event("first")]).await;
    send(&mut browser, "first", &[event("second")]).await;
    assert_eq!(dfid(&browser), Some("second"), "the two are linked, and the newer counts");
    for _ in 0..2 {
        send(&mut browser, "second", &[event("first")]).await;
        assert_eq!(dfid(&browser), Some("second"), "an event of another tab");
    }
    world.flush_redis().await;
    send(&mut browser, "second", &[event("first")]).await;
    assert_eq!(dfid(&browser), Some("second"));
}

#[tokio::test]
async fn several_resets_in_a_row_keep_all_apart() {
    let world = World::start().await;
    let mut browser = world.browser();
    send(&mut browser, "a", &[event("a")]).await;
    send(&mut browser, "a", &[reset("b"), event("b"), reset("c"), event("c")]).await;
    send(&mut browser, "c", &[event("a"), event("b")]).await;
    send(&mut browser, "a", &[event("c")]).await;
    let mut people = BTreeSet::new();
    for id in ["a", "b", "c"] {
        people.insert(person(&world, id).await);
    }
    assert_eq!(people.len(), 3);
    // A first visit may have no cookie yet.
    let collect = browser.collect.clone();
    browser.jar.clear();
    assert_accepted(&browser.batch(&json!([event("x"), reset("y")])).await, 2);
    assert_eq!(browser.jar.value(&collect, "_dfid"), Some("y"));
    send(&mut browser, "y", &[event("x")]).await;
    assert_ne!(person(&world, "x").await, person(&world, "y").await);
}

#[tokio::test]
async fn an_erased_person_s_resets_go_with_them() {
    let world = World::start().await;
    let mut browser = world.browser();
    send(&mut browser, "old", &[event("old")]).await;
    send(&mut browser, "old", &[reset("new")]).await;
    assert_eq!(world.database.count("resets", "true").await, 1);
    let identity = Some(harness::people::named(harness::people::browser("old")));
    let org_id = world.customer.org_id.to_string();
    world.admin().people().delete(proto::v1::DeleteRequest { org_id, identity }).await.unwrap();
    assert_eq!(world.database.count("resets", "true").await, 0);
}

/// The device's life: generation after generation, each begun by a logout; some log in, each as somebody else.
const GENERATIONS: usize = 4;

/// Plays the requests of one device in an order of its own: batches are cut anywhere, sent twice, sent late, from tabs
/// with an older cookie, several at once. `RESETS_SEED=…` repeats it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_is_final_under_every_interleaving() {
    let seed: u64 = env("RESETS_SEED").map_or_else(rand::random, |text| text.parse().unwrap());
    println!("RESETS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::start().await;
    for device in 0..40 {
        let id = |generation: usize| format!("device-{device}-{generation}");
        let mut requests: Vec<(String, Vec<Value>)> = Vec::new();
        for generation in 0..GENERATIONS {
            let own = id(generation);
            let mut events = Vec::new();
            if generation > 0 {
                events.push(reset(&own));
            }
            let logs_in = random.random_bool(0.4);
            for _ in 0..random.random_range(1..4) {
                let names = logs_in && random.random_bool(0.5);
                events.push(if names { login(&own, &format!("user-{own}")) } else { event(&own) });
            }
            // What is sent with the logout still has the cookie of before; what follows may have either.
            let first = random.random_range(1..=events.len());
            let later = events.split_off(first);
            let before = id(generation.saturating_sub(1));
            requests.push((before.clone(), events));
            for event in later {
                let cookie = if random.random_bool(0.3) { before.clone() } else { own.clone() };
                requests.push((cookie, vec![event]));
            }
        }
        // Retries of what was queued, from whichever cookie the device has by then; and tabs that mix generations.
        for _ in 0..4 {
            let (_, events) = requests[random.random_range(0..requests.len())].clone();
            requests.push((id(random.random_range(0..GENERATIONS)), events));
        }
        for _ in 0..3 {
            let mixed = (0..2).map(|_| event(&id(random.random_range(0..GENERATIONS)))).collect();
            requests.push((id(random.random_range(0..GENERATIONS)), mixed));
        }
        requests.shuffle(&mut random);
        // Several at once.
        for at_once in requests.chunks(3) {
            let mut sending = tokio::task::JoinSet::new();
            for (cookie, events) in at_once {
                let (mut browser, cookie, events) = (world.browser(), cookie.clone(), events.clone());
                sending.spawn(async move { _ = send(&mut browser, &cookie, &events).await });
            }
            sending.join_all().await;
        }
        // Whatever came first: once everything is there, each generation is a person of its own.
        for generation in 1..GENERATIONS {
            let mut browser = world.browser();
            send(&mut browser, &id(generation - 1), &[event(&id(generation))]).await;
        }
        let mut people = BTreeSet::new();
        for generation in 0..GENERATIONS {
            people.insert(person(&world, &id(generation)).await);
        }
        assert_eq!(people.len(), GENERATIONS, "RESETS_SEED={seed}, device {device}: {requests:#?}");
    }
}

#[tokio::test]
async fn of_two_cookies_the_usable_one_counts() {
    let world = World::start().await;
    let mut browser = world.browser();
    send(&mut browser, "old", &[event("old")]).await;
    send(&mut browser, "other", &[event("other")]).await;
    let with = async |browser: &mut Browser, cookies: &str, id: Option<&str>| {
        let mut sent = event("");
        match id {
            Some(id) => sent["anonymousId"] = json!(id),
            None => _ = sent.as_object_mut().unwrap().remove("anonymousId"),
        }
        sent["context"]["consent"] = granted();
        browser.jar.clear();
        let request = browser.request(reqwest::Method::POST, "/v1/batch").bearer_auth(&browser.key);
        let body = json!({"batch": [sent]}).to_string();
        let answer = browser.send(request.header("cookie", cookies.to_owned()).body(body)).await;
        assert_accepted(&answer, 1);
        answer.json()["anonymous_id"].as_str().unwrap_or_default().to_owned()
    };
    // The event's own counts, and the other is left alone.
    assert_eq!(with(&mut browser, "_dfid=old; _dfid=other", Some("other")).await, "other");
    assert_ne!(person(&world, "old").await, person(&world, "other").await);
    // Two that are known, and neither is the event's: none of them.
    assert_eq!(with(&mut browser, "_dfid=old; _dfid=other", Some("third")).await, "third");
    let third = person(&world, "third").await;
    assert!(third != person(&world, "old").await && third != person(&world, "other").await);
    let minted = with(&mut browser, "_dfid=old; _dfid=other", None).await;
    assert!(!["old", "other", ""].contains(&minted.as_str()), "{minted}");
    // What can't be one is passed over, and of those that can be the one that is known counts.
    assert_eq!(with(&mut browser, "_dfid=; _dfid=old", None).await, "old");
    assert_eq!(with(&mut browser, "_dfid=null; _dfid=unseen; _dfid=old", None).await, "old");
}
