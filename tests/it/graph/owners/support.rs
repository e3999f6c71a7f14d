//! Devices of people: what they bring, how they name their user, and what is told of them.

use std::collections::BTreeMap;

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::{Answer, Browser},
    people::{People, browser},
    signature::{identity_token, sign, user_hash},
    system::now,
    vendor_sim::Fault,
    visits::granted,
    world::{Options, World},
};
use proto::v1::{IdentityRef, identity_ref::Id};
use reqwest::Method;
use serde_json::{Value, json};

/// Values of vendor IDs by field.
pub(super) type Values = BTreeMap<String, String>;

/// A world with two cores that syncs with two vendors, and has Meta's IDs made and Google's clicks collected.
pub(super) async fn collecting() -> World {
    let (vendors, generated) = (&["criteo", "pinterest"], &["google", "meta"]);
    World::with(Options { cores: 2, vendors, generated, ..Options::default() }).await
}

/// The proof with which a device names its user.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proof {
    /// A call that the customer's server signed.
    Signed,
    /// A hash of the customer's server, in an event of the page.
    UserHash,
    /// A token of the customer's server, in an event of the page.
    IdentityToken,
}

/// Names a person by a device.
pub(super) fn device(page: &Browser) -> Id {
    browser(page.aid())
}

/// A page view that grants consent, with this query in the page's URL.
pub(super) fn page_view(page: &Browser, query: &str) -> Value {
    let mut event = page.page_view(&granted());
    event["context"]["page"]["url"] = json!(format!("https://shop.example.com/{query}"));
    event
}

async fn send(page: &mut Browser, event: Value) -> Answer {
    let answer = page.batch(&json!([event])).await;
    assert_accepted(&answer, 1);
    answer
}

/// Sends a page view with this query.
pub(super) async fn visit(page: &mut Browser, query: &str) -> Answer {
    let event = page_view(page, query);
    send(page, event).await
}

/// Names the user of a device, for whom nobody vouches.
pub(super) async fn claim(page: &mut Browser, user: &str) -> Answer {
    let mut event = page_view(page, "");
    event["userId"] = json!(user);
    send(page, event).await
}

/// Names the user of a device with a proof.
pub(super) async fn prove(world: &World, page: &mut Browser, user: &str, proof: Proof) {
    match proof {
        Proof::Signed => {
            let event = json!({"type": "identify", "anonymousId": page.aid(), "userId": user});
            send_signed(world, &event).await;
        }
        Proof::UserHash => {
            let mut event = page_view(page, "");
            event["userId"] = json!(user);
            event["context"]["userHash"] = json!(user_hash(&world.customer.server_secret, user));
            send(page, event).await;
        }
        Proof::IdentityToken => {
            let mut event = page_view(page, "");
            event["userId"] = json!(user);
            let claims = json!({"sub": user, "aud": "datafly", "exp": now().unix_timestamp() + 3600});
            let token = identity_token(&world.customer.server_secret, &claims);
            event["context"]["identityToken"] = json!(token);
            send(page, event).await;
        }
    }
}

/// Sends an event as the customer's server does.
pub(super) async fn send_signed(world: &World, event: &Value) {
    let mut server = world.browser();
    server.origin = None;
    let body = json!({"batch": [event]}).to_string();
    let signature = sign(&world.customer.server_secret, &body);
    let request = server.request(Method::POST, "/v1/batch").bearer_auth(&server.key);
    let answer = server.send(request.header("x-datafly-signature", signature).body(body)).await;
    assert_accepted(&answer, 1);
}

/// Syncs a device with a vendor, which knows it by this ID.
pub(super) async fn sync(world: &World, page: &mut Browser, vendor: &str, id: &str) {
    world.vendors.misbehave(vendor, Some(Fault::Id(id.to_owned())));
    assert_gif(page.sync(vendor).await.last().unwrap());
}

/// Values that delivery is told for an identity: the same by both cores, and again when Redis has lost all,
/// leases of offered syncs included.
pub(super) async fn told(world: &World, people: &People, identity: IdentityRef) -> Values {
    let answer = people.delivered_for(identity.clone()).await;
    world.flush_redis().await;
    assert_eq!(people.delivered_for(identity).await, answer, "after FLUSHALL");
    answer.vendor_ids.into_iter().map(|(field, id)| (field, id.value)).collect()
}

/// The values of one, and of the other those in fields that the first one lacks.
pub(super) fn first(one: &Values, other: &Values) -> Values {
    let mut all = other.clone();
    all.extend(one.clone());
    all
}

/// Adds values to what is there, in the place of those of the same field.
pub(super) fn with<const N: usize>(values: &Values, more: [(&str, &str); N]) -> Values {
    first(&more.map(|(field, value)| (field.to_owned(), value.to_owned())).into(), values)
}

/// Names of fields, in their order.
pub(super) fn fields(values: &Values) -> Vec<&str> {
    values.keys().map(String::as_str).collect()
}

/// The projection of a device for other systems, as Redis holds it.
pub(super) async fn projection(world: &World, page: &Browser) -> Values {
    let mut values: Values = world.redis(&["HGETALL", &projection_key(world, page)]).await;
    values.retain(|field, _| !field.starts_with('_'));
    values
}

fn projection_key(world: &World, page: &Browser) -> String {
    format!("identity:{}:{}", world.customer.org_id, page.aid())
}
