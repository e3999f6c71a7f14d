//! Visits that many tests begin with: what a page says of consent, and a visitor who is synced.

use proto::v1::{
    Caller, ExplainRequest, IdentityVendorIds, VendorExplanation, caller::Kind, identity_ref::Id,
};
use serde_json::{Value, json};

use crate::{answers::assert_gif, browser::Browser, eventually, people::named, world::World};

/// Consent that grants what gateway sync needs.
pub fn granted() -> Value {
    json!({"marketing": true})
}

/// Consent that denies what gateway sync needs.
pub fn denied() -> Value {
    json!({"marketing": false})
}

/// Sends a new visitor to Pinterest and back, until the sync is stored.
pub async fn synced(world: &World) -> Browser {
    let mut browser = world.browser();
    browser.view(&granted()).await;
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    browser
}

/// Vendor IDs that delivery gets while a store is away: asked for again where a busy machine reads too late
/// from the other store.
pub async fn delivered(world: &World, anonymous_id: &str) -> IdentityVendorIds {
    eventually("an answer for delivery", async || {
        let answer = world.ask_vendor_ids(&world.customer.org_id.to_string(), anonymous_id).await;
        answer.map_err(|status| status.to_string())
    })
    .await
}

/// Makes everybody's syncs due again, in PostgreSQL, which decides at the 302.
pub async fn end_waits(world: &World) {
    world.database.execute("UPDATE sync_attempts SET next_at = now() - interval '1 minute'").await;
}

/// Makes a device's syncs due again, and has Redis forget the schedules and leases.
pub async fn make_due(world: &World, page: &Browser) {
    let sql = format!(
        "UPDATE sync_attempts SET next_at = now() - interval '1 minute' WHERE anonymous_id = '{}'",
        page.aid()
    );
    world.database.execute(&sql).await;
    world.flush_redis().await;
}

/// What an engineer is told of one vendor for a browser of the customer's.
pub async fn explained(world: &World, browser: &Browser, vendor: &str) -> VendorExplanation {
    let request = ExplainRequest {
        caller: Some(Caller { kind: Some(Kind::OrgId(world.customer.org_id.to_string())) }),
        identity: Some(named(Id::AnonymousId(browser.aid().to_owned()))),
        pipeline_id: Some(world.customer.pipeline_id.to_string()),
    };
    let told = world.internal().sync().explain(request).await.unwrap().into_inner().vendors;
    told.into_iter().find(|own| own.vendor == vendor).unwrap_or_else(|| panic!("nothing of {vendor}"))
}
