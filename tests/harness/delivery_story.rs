//! The part of the demo's story in which accepted events are delivered to Amperity.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    cluster::Cluster,
    control::Admin,
    enrich_sim::{EnrichSim, SeenCall},
    eventually,
    process::Service,
};

/// Has the source's events delivered, as a customer would, over the management API.
pub async fn set_up(admin: &Admin, source: &str) {
    let destination = json!({
        "preset": "retail",
        "mappings": [{"source": "partner_attrs.amperity.Persona", "target": "user_persona"}],
    });
    admin.put(&format!("{source}/destinations/amperity"), &destination).await.expect(201);
}

/// Starts the processor, which delivers.
pub async fn start_processor(cluster: &Cluster, database_url: &str) -> Result<Service> {
    let identity_url = format!("http://{}", cluster.cores[0].addr("grpc"));
    let env = [
        ("DATABASE_URL", database_url),
        ("DATAFLY_ENCRYPTION_KEY", &cluster.secrets.encryption_key),
        ("SERVICE_TOKEN", &cluster.secrets.internal_token),
        ("IDENTITY_URL", &identity_url),
        ("OUTBOUND_ALLOW_CIDRS", "127.0.0.0/8, ::1"),
    ];
    Service::start("event-processor", &env, &["metrics"]).await
}

/// The shopper buys something: an event that is to arrive.
pub async fn buy(shopper: &mut Browser) -> Result<()> {
    let event = json!({"type": "track", "event": "Order Completed", "messageId": "demo-order-1",
        "anonymousId": shopper.anonymous_id,
        "properties": {"order_id": "o-1001", "value": 129.90, "currency": "EUR",
            "products": [{"sku": "boot-42", "price": 129.90, "quantity": 1}]},
        "context": {"consent": {"marketing": true}}});
    let answer = shopper.batch(&json!([event])).await;
    ensure!(answer.status == 200, "the order was answered {}: {}", answer.status, answer.text());
    Ok(())
}

/// Waits until the order is at Amperity's stream, and answers with the request.
pub async fn arrived(sim: &EnrichSim) -> Result<SeenCall> {
    let call = eventually("the order to arrive", async || {
        let calls = sim.seen("profiles").into_iter();
        let mut orders = calls.filter(|call| call.json()["message_id"] == "demo-order-1");
        orders.next().ok_or_else(|| "it has not".to_owned())
    })
    .await;
    let event = call.json();
    let told: [(&str, Value); 4] = [
        ("type", json!("purchase")),
        ("source", json!("DATAFLY")),
        ("transaction_id", json!("o-1001")),
        ("user_persona", json!("Value Hunter")),
    ];
    for (name, expected) in told {
        ensure!(event[name] == expected, "{name} should be {expected}, and was {}", event[name]);
    }
    ensure!(event["consent"]["marketing"] == true, "the consent should be nested: {event}");
    Ok(call)
}
