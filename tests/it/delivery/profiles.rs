//! Attributes of a CDP's profile that an event is sent with.

use harness::{
    delivery::{add_destination, start_processor},
    eventually,
    providers::Enriching,
    world::Options,
};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn attributes_are_sent_along_and_their_absence_holds_up_nothing() {
    let own = Enriching::with(Options::default(), &[]).await;
    own.set_profiles(&json!({})).await;
    for (id, user) in [("p-1", "with"), ("p-2", "without")] {
        own.sim.profiles().add(id, "customer_id", user, &json!({"Persona": "Runner"}));
    }
    let mapping =
        json!({"mappings": [{"source": "partner_attrs.amperity.Persona", "target": "user_persona"}]});
    add_destination(&own.world.database, &own.world.customer, "amperity", &mapping).await;
    own.world.events_are_kept(&own.world.customer).await;
    let _processor = start_processor(&own.world, &[]).await;
    let mut browser = own.world.browser();
    let mut send = async |id: &str| {
        let event = json!([{"type": "track", "event": "purchase", "messageId": id, "userId": id}]);
        let answer = browser.batch(&event).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let sent = async |id: &str| -> Value {
        eventually("the event", async || {
            let seen = own.sim.seen("profiles");
            let events =
                seen.iter().filter(|call| call.target.contains("/prof/events/")).map(|call| call.json());
            events
                .into_iter()
                .find(|event| event["message_id"] == id)
                .ok_or_else(|| format!("{} calls", seen.len()))
        })
        .await
    };
    send("with").await;
    assert_eq!(sent("with").await["user_persona"], "Runner");
    own.sim.profiles().be_away(true);
    send("without").await;
    let without = sent("without").await;
    assert!(without.get("user_persona").is_none() && without["type"] == "purchase", "{without}");
}
