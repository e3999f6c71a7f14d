//! The part of the demo's story in which a visitor's profile is read, before and after a login.

use anyhow::{Result, ensure};
use proto::v1::{Audience, Caller, ProfileRequest, ProfileResponse, Subject, caller::Kind};
use serde_json::{Value, json};

use crate::{
    browser::{Answer, Browser},
    cluster::Cluster,
    control::Admin,
    enrich_sim::EnrichSim,
    profile_sim::{COLLECTION, TENANT, ingest_key, profile_key},
    seed::Customer,
};

/// The user whose profile Amperity has.
pub const USER: &str = "demo-shopper";

/// Configures Amperity, as a customer would, over the management API, and gives it a profile.
pub async fn set_up(admin: &Admin, source: &str, sim: &EnrichSim) {
    let profile = json!({"Persona": "Value Hunter", "LifetimeTier": "gold", "CreditLimit": 9000});
    sim.profiles().add("amp-demo", "customer_id", USER, &profile);
    let amperity = json!({
        "tenant_subdomain": "acme", "tenant_id": TENANT, "api_key": ingest_key(),
        "event_stream_id": "esm-2VP6va3Zn", "source_value": "DATAFLY",
        "profile_api_key": profile_key(), "profile_collection_id": COLLECTION,
        "linking_keys": [
            {"source": "email", "key": "email_sha256", "hash": "sha256"},
            {"source": "canonical_id", "key": "device_cookie"},
            {"source": "user_id", "key": "customer_id"},
        ],
        "browser_attribute_allowlist": "Persona,LifetimeTier",
        "base_url": sim.base_url("profiles"),
    });
    admin.put(&format!("{source}/profile-providers/amperity"), &amperity).await.expect(201);
}

/// What the page is told.
pub async fn on_page(browser: &mut Browser) -> Answer {
    let request =
        browser.request(reqwest::Method::GET, "/v1/enrich?provider=amperity").bearer_auth(&browser.key);
    browser.send(request).await
}

/// What whoever delivers events is told.
pub async fn for_delivery(
    cluster: &Cluster,
    customer: &Customer,
    browser: &Browser,
) -> Result<ProfileResponse> {
    let request = ProfileRequest {
        caller: Some(Caller { kind: Some(Kind::OrgId(customer.org_id.to_string())) }),
        provider: "amperity".to_owned(),
        subject: Some(Subject { anonymous_id: Some(browser.aid().to_owned()), ..Subject::default() }),
        audience: Audience::Server.into(),
        source_id: Some(customer.source_id.to_string()),
        event: None,
    };
    let mut api = cluster.api(0, &cluster.secrets.internal_token)?.profile();
    Ok(api.profile(request).await?.into_inner())
}

/// The attributes that delivery is told, which are to be `expected`.
pub fn attributes(profile: ProfileResponse, expected: &Value) -> Result<Value> {
    let told = Value::Object(profile.attributes.map(proto::json::object).unwrap_or_default());
    ensure!(told == *expected, "delivery was told {told}: {:?}", profile.reason);
    Ok(told)
}
