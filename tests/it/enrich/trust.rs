//! What a browser is told: what its own call found, and a customer's own number only where the person is proven.

use harness::{
    providers::{Enriching, assert_skipped},
    world::Options,
};
use serde_json::json;

const EMAIL: &str = "jane@example.com";

#[tokio::test]
async fn a_customer_s_own_number_is_told_to_who_has_shown_a_proof() {
    let own = Enriching::with(Options::default(), &["amperity", "liveramp_ats"]).await;
    own.add_custom("internal_cdp", &json!({"request_template": {"email_hash": "{{sha256_email}}"}})).await;
    own.settle().await;
    let mut owner = own.visitor().await;
    own.prove(&mut owner, "jane", EMAIL).await;
    let mut pretender = own.visitor_with(EMAIL).await;
    for provider in ["amperity", "internal_cdp"] {
        let told = own.enrich(&mut owner, provider).await;
        own.id_of(&told);
        let untold = own.enrich(&mut pretender, provider).await;
        assert_skipped(&untold, "unverified");
        assert!(untold["expires_at"].is_string(), "{untold}");
    }
    // What a vendor makes of an email that anybody may type in is told to whoever types it in.
    let ramp = own.enrich(&mut pretender, "liveramp_ats").await;
    own.id_of(&ramp);
    // It is delivered all the same.
    for field in ["amperity_id", "cdp_customer_id"] {
        assert!(own.world.vendor_id(pretender.aid(), field).await.is_some(), "{field}");
    }

    // Who claims the user ID is no nearer, though both are one person then.
    let mut claimant = own.visitor().await;
    let event = json!({"type": "identify", "anonymousId": claimant.aid(), "userId": "jane"});
    claimant.batch(&json!([event])).await;
    own.add_custom(
        "by_user",
        &json!({
            "endpoint": format!("{}/v1/resolve", own.sim.base_url("internal_cdp")),
            "request_template": {"email_hash": "{{user_id}}"},
            "authentication": {"type": "bearer", "token_secret_ref": "secret:internal_cdp_token"},
            "response_mapping": {"redis_field": "by_user", "json_path": "$.customer_id"},
        }),
    )
    .await;
    own.settle().await;
    assert_skipped(&own.enrich(&mut claimant, "by_user").await, "unverified");
    own.id_of(&own.enrich(&mut owner, "by_user").await);

    own.world.database.execute("UPDATE sources SET browser_identity = 'claimed'").await;
    own.settle().await;
    own.id_of(&own.enrich(&mut pretender, "internal_cdp").await);
}
