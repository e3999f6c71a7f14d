//! Seeing and steering delivery over the management API.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use harness::{
    browser::Browser,
    control::{Admin, Control},
    delivery::start_processor,
    delivery_sim::{DeliverySim, Reaction},
    eventually,
    process::Service,
    shop::Shop,
    world::Options,
};
use serde_json::{Value, json};

/// A shop that was set up over the API alone, and delivers to Amperity.
struct Delivering {
    control: Control,
    owner: Admin,
    shop: Shop,
    sim: DeliverySim,
    browser: Browser,
    _processor: Service,
}

impl Delivering {
    async fn start() -> Self {
        let options = Options { open_networks: "127.0.0.0/8", ..Options::default() };
        let (control, sim) = (Control::with(1, options).await, DeliverySim::start().await.unwrap());
        let owner = control.owner.clone();
        let shop = Shop::open(&control.world, &owner).await;
        let path = format!("{}/destinations/amperity", shop.source);
        let early = owner.put(&path, &json!({})).await;
        early.refused(422, "VALIDATION_FAILED");
        assert_eq!(early.fields(), ["profile_provider"]);
        let tenant = json!({"tenant_subdomain": "acme", "tenant_id": "acme", "event_stream_id": "esm-x1",
            "source_value": "SHOP", "api_key": "canary-key-1", "base_url": sim.base_url()});
        owner.put(&format!("{}/profile-providers/amperity", shop.source), &tenant).await.expect(201);
        let made = owner.put(&path, &json!({"preset": "retail"})).await.expect(201);
        assert_eq!((&made["enabled"], &made["preset"]), (&json!(true), &json!("retail")));
        let key = shop.issue(&control.world, &owner, "live").await;
        let browser = shop.browser(&control.world, &key);
        let processor = start_processor(&control.world, &[]).await;
        Self { control, owner, shop, sim, browser, _processor: processor }
    }

    fn path(&self, rest: &str) -> String {
        format!("{}/destinations/amperity{rest}", self.shop.source)
    }

    async fn send(&mut self, message_id: &str) {
        let event = json!({"type": "track", "event": "Order Completed", "messageId": message_id, "properties": {"order_id": message_id}});
        let answer = self.browser.batch(&json!([event])).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    async fn status(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            let status = self.owner.get(&self.path("/status")).await.expect(200);
            if is_so(&status) { Ok(status) } else { Err(status.to_string()) }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_paused_resumed_and_watched() {
    let mut delivering = Delivering::start().await;
    delivering.send("first").await;
    delivering.sim.wait_for(1).await;
    let status =
        delivering.status("the delivery to be told", |status| !status["last_success_at"].is_null()).await;
    assert_eq!((&status["state"], &status["source_value"]), (&json!("active"), &json!("SHOP")));
    assert!(status["hint"].as_str().unwrap().contains("SHOP"), "{status}");

    let paused = delivering.owner.post(&delivering.path("/pause"), &json!({})).await.expect(200);
    assert_eq!((&paused["state"], &paused["reason"]), (&json!("paused"), &json!("people")));
    // The worker hears of it within a second.
    delivering.status("a report after the pause", |status| status["lag"]["events"] == 0).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    delivering.send("held").await;
    delivering.status("it to wait", |status| status["lag"]["events"] == 1).await;
    assert_eq!(delivering.sim.message_ids(), ["first"]);
    delivering.owner.post(&delivering.path("/resume"), &json!({})).await.expect(200);
    delivering.sim.wait_for(2).await;
    let log = delivering.owner.get("/v1/admin/audit-log?limit=100").await.expect(200);
    for action in ["destination.created", "destination.paused", "destination.resumed"] {
        assert!(log["data"].as_array().unwrap().iter().any(|row| row["action"] == action), "{action}");
    }

    // Nobody has looked: nothing is recorded.
    assert_eq!(delivering.control.world.database.count("live_events", "true").await, 0);
    let live = format!("{}/live-events", delivering.shop.source);
    let first = delivering.owner.get(&live).await.expect(200);
    assert_eq!(first["data"], json!([]));
    let mut looks = 0;
    let shown = eventually("an event to be shown", async || {
        looks += 1;
        delivering.send(&format!("watched-{looks}")).await;
        let shown = delivering.owner.get(&live).await.expect(200);
        shown["data"].as_array().unwrap().first().cloned().ok_or_else(|| shown.to_string())
    })
    .await;
    assert_eq!((&shown["status"], &shown["outcome"]), (&json!(202), &json!("delivered")));
    assert_eq!(shown["event"]["event"], "Order Completed");
    assert_eq!(shown["transformed"]["type"], "purchase");
    assert_eq!(shown["request"]["headers"]["authorization"], "Bearer ***");
    assert_eq!(shown["request"]["url"], format!("{}/prof/events/esm-x1", delivering.sim.base_url()));
    assert!(!shown.to_string().contains("canary-key-1"));
    let viewer = delivering.owner.colleague("viewer").await;
    viewer.get(&live).await.refused(403, "FORBIDDEN");
    viewer.get(&delivering.path("/status")).await.expect(200);
    let stranger = delivering.control.another_owner().await;
    assert_eq!(stranger.get(&live).await.status, 404);
    assert_eq!(stranger.get(&delivering.path("/status")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_listed_and_sent_again() {
    let mut delivering = Delivering::start().await;
    let is_mended = Arc::new(AtomicBool::new(false));
    let own = is_mended.clone();
    delivering.sim.behave(move |request| {
        let is_bad = request.body.contains("bad-") && !own.load(Ordering::SeqCst);
        Reaction::Status(if is_bad { 400 } else { 202 })
    });
    for id in ["bad-1", "good-1", "bad-2", "bad-3"] {
        delivering.send(id).await;
    }
    delivering.status("three to be given up", |status| status["dead"] == 3).await;
    let listed = delivering.owner.get(&delivering.path("/dead-letters?limit=2")).await.expect(200);
    assert_eq!(listed["has_more"], true);
    let letter = &listed["data"][0];
    assert_eq!(
        (&letter["reason"], &letter["status"], &letter["attempts"]),
        (&json!("bad_request"), &json!(400), &json!(1))
    );
    assert_eq!(letter["event"]["messageId"], "bad-1");
    let path = delivering.path(&format!("/dead-letters/{}", listed["data"][1]["event_id"].as_str().unwrap()));
    delivering.owner.delete(&path).await.expect(204);
    delivering.owner.delete(&path).await.expect(204);
    let retry = delivering.path("/dead-letters/retry");
    for bad in [json!({}), json!({"ids": ["x"]}), json!({"all": true, "ids": [letter["event_id"]]})] {
        assert!([400, 422].contains(&delivering.owner.post(&retry, &bad).await.status), "{bad}");
    }
    is_mended.store(true, Ordering::SeqCst);
    let one = delivering.owner.post(&retry, &json!({"ids": [letter["event_id"]]})).await.expect(202);
    assert_eq!(one["retried"], 1);
    eventually("it to be delivered", async || {
        let taken = delivering.sim.message_ids();
        if taken.contains(&"bad-1".to_owned()) { Ok(()) } else { Err(format!("{taken:?}")) }
    })
    .await;
    delivering.owner.post(&retry, &json!({"all": true})).await.expect(202);
    delivering.status("nothing to be left", |status| status["dead"] == 0 && status["parked"] == 0).await;
    let mut taken = delivering.sim.message_ids();
    taken.sort();
    assert_eq!(taken, ["bad-1", "bad-3", "good-1"], "and what was removed is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_sent_once_more() {
    let mut delivering = Delivering::start().await;
    for number in 0..30 {
        delivering.send(&format!("old-{number:02}")).await;
    }
    delivering.sim.wait_for(30).await;
    let replays = delivering.path("/replays");
    let bad = delivering
        .owner
        .post(&replays, &json!({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}))
        .await;
    assert_eq!(bad.fields(), ["to"]);
    let none = json!({"from": "2020-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z", "events": ["Nobody Sends This"]});
    delivering.owner.post(&replays, &none).await.expect(202);
    let all =
        json!({"from": "2020-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z", "events": ["Order Completed"]});
    let begun = delivering.owner.post(&replays, &all).await.expect(202);
    assert_eq!((&begun["state"], &begun["started_by"]), (&json!("running"), &json!(delivering.owner.email)));
    let ended = eventually("the replays to end", async || {
        let listed = delivering.owner.get(&replays).await.expect(200);
        let rows = listed["data"].as_array().unwrap().clone();
        if rows.iter().all(|row| row["state"] == "finished") { Ok(rows) } else { Err(listed.to_string()) }
    })
    .await;
    assert_eq!((&ended[0]["sent"], &ended[1]["sent"]), (&json!(30), &json!(0)));
    let mut taken = delivering.sim.message_ids();
    assert_eq!(taken.len(), 60);
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 30, "with the IDs that they had");
}

/// A replay sends no event of a test key, tries what fails less and less, holds up nothing that is new, and can be ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_ended() {
    let mut delivering = Delivering::start().await;
    let key = delivering.shop.issue(&delivering.control.world, &delivering.owner, "test").await;
    let mut tester = delivering.shop.browser(&delivering.control.world, &key);
    let event = json!({"type": "track", "event": "Order Completed", "messageId": "of-a-test"});
    eventually("the test key to be known", async || {
        let answer = tester.batch(&json!([event])).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    for id in ["good", "poison"] {
        delivering.send(id).await;
    }
    delivering.sim.wait_for(2).await;
    delivering.sim.forget();
    delivering
        .sim
        .behave(|request| Reaction::Status(if request.body.contains("poison") { 503 } else { 202 }));
    let all = json!({"from": "2020-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z"});
    let replays = delivering.path("/replays");
    let begun = delivering.owner.post(&replays, &all).await.expect(202);
    let tries = |sim: &DeliverySim| sim.received().iter().filter(|one| one.body.contains("poison")).count();
    eventually("a second try", async || {
        let tries = tries(&delivering.sim);
        if tries >= 2 { Ok(()) } else { Err(tries.to_string()) }
    })
    .await;
    delivering.send("new").await;
    eventually("what is new", async || {
        let taken = delivering.sim.message_ids();
        if taken.contains(&"new".to_owned()) { Ok(()) } else { Err(format!("{taken:?}")) }
    })
    .await;
    let path = delivering.path(&format!("/replays/{}", begun["id"].as_str().unwrap()));
    let viewer = delivering.owner.colleague("viewer").await;
    viewer.delete(&path).await.refused(403, "FORBIDDEN");
    for _ in 0..2 {
        delivering.owner.delete(&path).await.expect(204);
    }
    let listed = delivering.owner.get(&replays).await.expect(200);
    assert_eq!(listed["data"][0]["state"], "cancelled");
    assert!(tries(&delivering.sim) <= 3, "with pauses of 4 and 8 seconds");
    assert!(!delivering.sim.message_ids().contains(&"of-a-test".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_described_tried_and_checked() {
    let delivering = Delivering::start().await;
    let owner = &delivering.owner;
    let listed = owner.get("/v1/admin/catalog/destinations").await.expect(200);
    let amperity = &listed["data"][0];
    assert_eq!((&amperity["name"], &listed["data"][1]["name"]), (&json!("amperity"), &json!("webhook")));
    assert!(amperity["match_keys"].as_array().unwrap().contains(&json!("meta")), "{amperity}");
    let blueprint = &amperity["blueprint"];
    assert_eq!(
        (blueprint["revision"].as_str(), blueprint["presets"].as_array().map(Vec::len)),
        (Some("1.8.0"), Some(7))
    );
    assert!(blueprint["global"].as_array().unwrap().len() >= 65);
    let purchase = blueprint["presets"][0]["events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["name"] == "purchase")
        .unwrap();
    assert!(
        purchase["mappings"].as_array().unwrap().iter().any(|own| own["target"] == "transaction_id"),
        "{purchase}"
    );

    let run = json!({"event": {"type": "track", "event": "Order Completed", "properties": {"order_id": "o-9"}}, "anonymous_id": "nobody"});
    let shown = owner.post(&delivering.path("/dry-run"), &run).await.expect(200);
    let body: Value = serde_json::from_str(shown["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&body["type"], &body["transaction_id"], &body["source"]),
        (&json!("purchase"), &json!("o-9"), &json!("SHOP"))
    );
    assert_eq!(shown["headers"]["authorization"], "***");
    assert!(delivering.sim.received().is_empty(), "nothing is sent");

    let path = delivering.path("");
    for (body, field) in [
        (json!({"preset": "shoes"}), "preset"),
        (json!({"mappings": [{"source": "nowhere.x", "target": "a"}]}), "mappings[0].source"),
        (json!({"mappings": [{"source": "event", "target": "consent"}]}), "mappings[0].target"),
        (json!({"mappings": [{"source": "event", "target": "type"}]}), "mappings[0].target"),
        (
            json!({"mappings": [{"source": "event", "target": "a", "else": {"source": "match_keys.criteo"}}]}),
            "mappings[0].source",
        ),
        (
            json!({"mappings": [{"source": format!("vendor_ids.{}", "x".repeat(65)), "target": "a"}]}),
            "mappings[0].source",
        ),
        (json!({"consent_category": "x"}), "consent_category"),
        (json!({"secret": "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}), "secret"),
        (json!({"odd": 1}), "odd"),
    ] {
        let refused = owner.put(&path, &body).await;
        refused.refused(422, "VALIDATION_FAILED");
        assert_eq!(refused.fields(), [field], "{body}");
    }
    let off = owner.put(&path, &json!({"enabled": false, "unmapped": "drop"})).await.expect(200);
    assert_eq!(
        (&off["preset"], &off["unmapped"]),
        (&json!("retail"), &json!("drop")),
        "what is left out stays"
    );
    assert_eq!(owner.get(&delivering.path("/status")).await.expect(200)["reason"], "disabled");
    owner.delete(&path).await.expect(204);
    assert_eq!(owner.get(&path).await.status, 404);
    assert_eq!(
        owner.put(&format!("{}/destinations/nobody", delivering.shop.source), &json!({})).await.status,
        404
    );
}
