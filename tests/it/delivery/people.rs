//! Whose events are sent: not those of who was erased, nor of who has taken consent back.

use harness::{
    answers::assert_accepted,
    delivery::Delivering,
    eventually,
    people::{self, People},
    visits::{denied, granted},
    world::Options,
};
use proto::v1::ExportRequest;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Has the destination rest, or go on, and waits until the worker has heard of it.
pub async fn pause(delivering: &Delivering, is_paused: bool) {
    let at = if is_paused { "now()" } else { "NULL" };
    delivering.world.database.execute(&format!("UPDATE delivery_cursors SET paused_at = {at}")).await;
    if is_paused {
        // Until the worker has heard of it.
        let reported = delivering.cursor("lease_until").await;
        for _ in 0..2 {
            let before = delivering.cursor("lease_until").await;
            eventually("a report", async || {
                let now = delivering.cursor("lease_until").await;
                if now == before { Err(reported.clone()) } else { Ok(()) }
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_erased_is_sent_nowhere() {
    let delivering = Delivering::start().await;
    pause(&delivering, true).await;
    let (mut gone, mut stays) = (delivering.world.browser(), delivering.world.browser());
    delivering.send(&mut gone, &["gone".to_owned()]).await;
    delivering.send(&mut stays, &["stays".to_owned()]).await;
    let id = gone.jar.value(&gone.collect, "_dfid").unwrap().to_owned();
    let (org_id, identity) = (delivering.world.customer.org_id.to_string(), people::browser(id.clone()));
    let export = ExportRequest { org_id, identity: Some(people::named(identity)) };
    let exported = delivering.world.admin().people().export(export).await.unwrap().into_inner();
    let document = serde_json::Value::Object(proto::json::object(exported.document.unwrap()));
    let event = document["events"][0]["event"].as_str().unwrap_or_else(|| panic!("{document}"));
    assert!(event.contains(r#""messageId":"gone""#), "{event}");
    assert_eq!((&document["events_are_all"], &document["deliveries"]), (&json!(true), &json!([])));
    People::of(&delivering.world).delete(0, people::browser(id)).await.unwrap();
    assert_eq!(delivering.world.kept(&gone).await.len(), 0);
    pause(&delivering, false).await;
    delivering.sim.wait_for(1).await;
    delivering.settled().await;
    assert_eq!(delivering.sim.message_ids(), ["stays"]);
}

/// An event that was read before the erasure is checked once more before it is sent.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_reaches_what_is_about_to_be_sent() {
    let delivering = Delivering::start().await;
    delivering.sim.behave(|_| harness::delivery_sim::Reaction::Status(503));
    let (mut gone, mut stays) = (delivering.world.browser(), delivering.world.browser());
    delivering.send(&mut gone, &["gone".to_owned()]).await;
    delivering.send(&mut stays, &["stays".to_owned()]).await;
    eventually("the destination to be down", async || {
        let reason = delivering.cursor("reason").await;
        if reason == "down" { Ok(()) } else { Err(reason) }
    })
    .await;
    let id = gone.jar.value(&gone.collect, "_dfid").unwrap().to_owned();
    People::of(&delivering.world).delete(0, people::browser(id)).await.unwrap();
    // Longer than the core's word counts.
    let tried = delivering.sim.received().len();
    delivering.sim.wait_for(tried + 3).await;
    delivering.sim.forget();
    delivering.sim.behave(|_| harness::delivery_sim::Reaction::Status(202));
    delivering.settled().await;
    assert_eq!(delivering.sim.message_ids(), ["stays"]);
    assert_eq!(delivering.world.database.count("deliveries", "true").await, 0);
}

/// Where a destination needs consent, what was denied or taken back is not sent; without that all is, with the consent.
#[tokio::test(flavor = "multi_thread")]
async fn consent_counts_where_it_is_asked_for() {
    let delivering = Delivering::with(Options::default(), &json!({"consent_category": "marketing"})).await;
    let (mut yes, mut no, mut withdrawn) =
        (delivering.world.browser(), delivering.world.browser(), delivering.world.browser());
    assert_accepted(&yes.view(&granted()).await, 1);
    assert_accepted(&no.view(&denied()).await, 1);
    delivering.settled().await;
    assert_eq!(delivering.sim.received().len(), 1);
    assert_eq!(delivering.sim.received()[0].json()["consent"], granted());
    pause(&delivering, true).await;
    assert_accepted(&withdrawn.view(&granted()).await, 1);
    assert_accepted(&withdrawn.view(&denied()).await, 1);
    pause(&delivering, false).await;
    delivering.settled().await;
    assert_eq!(delivering.sim.received().len(), 1, "both were denied when they were to be sent");
    let metrics = delivering.processors[0].metrics().await;
    let dropped = metrics.sum("datafly_deliveries_total", &[("outcome", "consent")]);
    assert!((dropped - 3.0).abs() < 0.5, "{dropped}");
}

/// What is parked or was given up goes with the person too, and is exported before.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_the_table_is_erased() {
    let delivering = Delivering::start().await;
    delivering.sim.behave(|_| harness::delivery_sim::Reaction::Status(400));
    let mut gone = delivering.world.browser();
    delivering.send(&mut gone, &["gone".to_owned()]).await;
    let database = &delivering.world.database;
    eventually("it to be given up", async || {
        let dead = database.count("deliveries", "dead_at IS NOT NULL").await;
        if dead == 1 { Ok(()) } else { Err(dead.to_string()) }
    })
    .await;
    let id = gone.jar.value(&gone.collect, "_dfid").unwrap().to_owned();
    let (org_id, identity) = (delivering.world.customer.org_id.to_string(), people::browser(id.clone()));
    let export = ExportRequest { org_id, identity: Some(people::named(identity)) };
    let exported = delivering.world.admin().people().export(export).await.unwrap().into_inner();
    let document = serde_json::Value::Object(proto::json::object(exported.document.unwrap()));
    assert_eq!(document["deliveries"][0]["reason"], "bad_request");
    assert!(document["deliveries"][0]["event"].as_str().unwrap().contains("gone"), "{document}");
    People::of(&delivering.world).delete(0, people::browser(id)).await.unwrap();
    assert_eq!(database.count("deliveries", "true").await, 0);
    assert_eq!(database.count("live_events", "true").await, 0);
}

/// A key is rotated while events wait: all are delivered.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_the_key_loses_nothing() {
    let mut delivering = Delivering::start().await;
    pause(&delivering, true).await;
    let mut browser = delivering.world.browser();
    delivering.send(&mut browser, &["before".to_owned()]).await;
    delivering.processors[0].terminate().await;
    let (new, old) =
        (hex::encode(Sha256::digest("a new key")), delivering.world.cluster.secrets.encryption_key.clone());
    let env = [("DATAFLY_ENCRYPTION_KEY", new.as_str()), ("DATAFLY_ENCRYPTION_KEY_PREVIOUS", &old)];
    delivering.processors[0] = harness::delivery::start_processor(&delivering.world, &env).await;
    let core = &mut delivering.world.cluster.cores[0];
    core.terminate().await;
    core.restart_with(&env).await.unwrap();
    eventually("the core to take events again", async || {
        let event = json!([{"type": "track", "event": "purchase", "messageId": "after"}]);
        let answer = browser.batch(&event).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    pause(&delivering, false).await;
    delivering.sim.wait_for(2).await;
    delivering.settled().await;
    assert_eq!(delivering.sim.message_ids(), ["before", "after"]);
}
