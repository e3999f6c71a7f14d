//! `/v1/batch` of 1.5 KB: three events of one known visitor, through edge and core.

use anyhow::{Result, ensure};
use http_body_util::BodyExt;
use proto::v1::CollectCaller;
use serde_json::json;

use super::{Edge, connections, edges, resolve::Known};
use crate::{
    http::Client,
    load::{Flood, Lane, Side, compare},
    report::{Item, Report},
    visitors::{CONSENT, address, anonymous_id, in_turn},
    world::World,
};

/// Connection that sends one batch after the other.
pub struct BatchLane {
    /// The connection.
    pub client: Client,
    /// Caller as the edge names it.
    pub caller: CollectCaller,
    /// The body: [`body`].
    pub body: String,
    /// Number of visitors that are stored.
    pub stored: u64,
    /// Number of the first request, by which its events are told from others.
    pub first: u64,
}

/// Placeholder as long as an anonymous ID.
const PLACE: &str = "00000000-0000-4000-8000-anonymous_id";
/// Placeholder of a request's number.
const NUMBER: &str = "message_of_n";

/// Three events as a page sends them, with placeholders where the visitor and the request's number belong.
pub fn body() -> String {
    let event = |kind: &str, name: &str, message: u32| {
        let page = json!({
            "url": "https://shop.example.com/shoes/trail-runner-42?ref=spring",
            "path": "/shoes/trail-runner-42",
            "title": "Trail Runner 42",
            "referrer": "https://www.example.org/search?q=trail+running+shoes",
        });
        json!({
            "type": kind,
            "event": name,
            "anonymousId": PLACE,
            "messageId": format!("6f1d2c3b-4a59-4e{message:02}-9b7c-{NUMBER}"),
            "timestamp": "2026-11-21T10:00:00.000Z",
            "properties": {"sku": "TR-42-BLK", "price": 129.95, "currency": "EUR", "quantity": 1},
            "context": {"page": page, "consent": {"marketing": true}, "locale": "de-DE"},
        })
    };
    json!({"batch": [event("page", "Viewed", 1), event("track", "Product Viewed", 2), event("track", "Added", 3)]})
        .to_string()
}

impl Lane for BatchLane {
    async fn ask(&mut self, number: u64) -> Result<()> {
        let visitor = anonymous_id(in_turn(number, self.stored));
        let body =
            self.body.replace(PLACE, &visitor).replace(NUMBER, &format!("{:012}", self.first + number));
        let request = hyper::Request::post("/v1/batch")
            .header("host", &self.caller.host)
            .header("origin", self.caller.origin.as_deref().unwrap_or_default())
            .header("authorization", format!("Bearer {}", self.caller.pipeline_key))
            .header("x-forwarded-for", address(number))
            .header("content-type", "application/json")
            .body(body)?;
        let answer = self.client.send(request).await?;
        let status = answer.status();
        let cookie = answer.headers().contains_key("set-cookie");
        let body = answer.into_body().collect().await?.to_bytes();
        let body = std::str::from_utf8(&body)?;
        let right = status == 200
            && cookie
            && body.contains(r#""accepted":3,"errors":[]"#)
            && body.contains(&visitor)
            && body.contains(r#""pending_syncs":[]"#);
        ensure!(right, "/v1/batch of {visitor} was answered {status} {body}");
        Ok(())
    }
}

/// Compares floor, product, and the product's edge over the floor's core.
pub async fn measure(world: &World, report: &mut Report) -> Result<()> {
    let body = body();
    ensure!(
        body.contains(CONSENT) && (1400..1600).contains(&body.len()),
        "the body has {} bytes",
        body.len()
    );
    let mut sides = Vec::new();
    for Edge { addr, meters, stores } in edges(world) {
        let Known { caller, stored, .. } = Known::of(stores, world.stored);
        let lane =
            |client| BatchLane { client, caller: caller.clone(), body: body.clone(), stored, first: 0 };
        let flood = Flood::of(connections(addr).await?.into_iter().map(lane).collect());
        sides.push(Side { meters: meters.to_vec(), flood });
    }
    let rounds = compare(sides).await?;
    let item = Item {
        name: "/v1/batch, 3 events, 1.5 KB".to_owned(),
        floor: "a bare axum handler parses the same into borrowed types and makes one bare call to the floor of \
                Resolve",
        processes: vec![("edge", Some(1.3)), ("core", None)],
    };
    report.add_edges(&item, world.stored, &rounds);
    Ok(())
}
