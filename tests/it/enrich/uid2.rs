//! UID2 with an operator that speaks the real protocol: tokens, refreshes, opt-outs.

use harness::{
    eventually,
    providers::{Enriching, assert_skipped},
    uid2_operator::CLOCKS,
    world::Options,
};
use serde_json::json;
use sha2::{Digest, Sha256};

const EMAIL: &str = "Jane.Doe+x@gmail.com";
const NORMAL: &str = "janedoe@gmail.com";
const SECOND: i64 = 1000;

async fn start() -> Enriching {
    Enriching::with(Options::default(), &["uid2"]).await
}

/// The paths that the operator was asked at.
fn paths(own: &Enriching) -> Vec<String> {
    own.sim.seen("uid2").into_iter().map(|call| call.target).collect()
}

#[tokio::test]
async fn a_token_is_generated_for_the_normal_form_and_kept_until_the_identity_expires() {
    let own = start().await;
    let mut browser = own.visitor_with(EMAIL).await;
    let answer = own.enrich(&mut browser, "uid2").await;
    assert!(own.id_of(&answer).starts_with("A4"), "{answer}");
    let call = own.sim.seen("uid2").remove(0);
    use base64::{Engine, engine::general_purpose::STANDARD};
    assert_eq!(call.json(), json!({"email_hash": STANDARD.encode(Sha256::digest(NORMAL))}));
    assert_eq!(call.header("content-type"), "text/plain");
    let hours = "SELECT round(extract(epoch FROM expires_at - collected_at) / 3600)::text FROM vendor_ids \
        WHERE field = 'uid2_token'";
    assert_eq!(own.world.database.text(hours).await, "72", "in the stores until identity_expires");
    let told = "SELECT round(extract(epoch FROM expires_at - collected_at) / 3600)::text FROM enrichments";
    assert_eq!(own.world.database.text(told).await, "1", "the browser is told refresh_from");
    assert_eq!(own.enrich(&mut browser, "uid2").await, answer);
    assert_eq!(paths(&own), ["/v2/token/generate"]);
    let sealed = "SELECT encode(sealed, 'escape') FROM enrichments";
    assert!(!own.world.database.text(sealed).await.contains("expires_ms"), "sealed");
}

#[tokio::test]
async fn a_token_is_refreshed_and_one_that_can_t_be_is_kept_while_it_lives() {
    let own = start().await;
    own.sim.operator().set_clocks([1, 3600 * SECOND, 7200 * SECOND]);
    let mut browser = own.visitor_with(EMAIL).await;
    let first = own.enrich(&mut browser, "uid2").await;
    // The operator's clock and ours are milliseconds apart at most.
    let refreshed = eventually("a refresh", async || {
        let answer = own.enrich(&mut browser, "uid2").await;
        if answer["id"] == first["id"] { Err(answer.to_string()) } else { Ok(answer) }
    })
    .await;
    own.id_of(&refreshed);
    assert_eq!(paths(&own)[..2], ["/v2/token/generate", "/v2/token/refresh"]);
    let stored = own.world.vendor_id(browser.aid(), "uid2_token").await;
    assert_eq!(stored.as_deref(), refreshed["id"].as_str());

    own.sim.operator().refuse_refresh(true);
    let kept = own.enrich(&mut browser, "uid2").await;
    assert_eq!(kept["id"], refreshed["id"], "until identity_expires");
    own.sim.operator().refuse_refresh(false);
    own.id_of(&own.enrich(&mut browser, "uid2").await);

    // Past the end of its refresh token a new one is generated.
    own.sim.operator().set_clocks(CLOCKS);
    let before = paths(&own).len();
    own.world
        .database
        .execute("UPDATE enrichments SET sealed = NULL, expires_at = now(), kept_until = now()")
        .await;
    own.id_of(&own.enrich(&mut browser, "uid2").await);
    assert_eq!(paths(&own)[before..], ["/v2/token/generate"]);
}

#[tokio::test]
async fn an_opt_out_is_final_and_ends_what_is_stored() {
    let own = start().await;
    own.sim.operator().opt_out("gone@example.com");
    let mut browser = own.visitor_with("gone@example.com").await;
    for _ in 0..2 {
        assert_skipped(&own.enrich(&mut browser, "uid2").await, "opt_out");
    }
    assert_eq!(paths(&own).len(), 1, "not retried");

    own.sim.operator().set_clocks([1, 3600 * SECOND, 7200 * SECOND]);
    let mut later = own.visitor_with("later@example.com").await;
    own.id_of(&own.enrich(&mut later, "uid2").await);
    own.sim.operator().opt_out("later@example.com");
    eventually("the refresh to say so", async || {
        let answer = own.enrich(&mut later, "uid2").await;
        if answer["reason"] == "opt_out" { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
    assert_eq!(own.world.vendor_id(later.aid(), "uid2_token").await, None);
}

#[tokio::test]
async fn a_client_secret_of_another_key_is_a_configuration_error() {
    let own = start().await;
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut credentials = own.sim.credentials("uid2");
    for secret in [STANDARD.encode([7; 32]), "not base64".to_owned()] {
        credentials["client_secret"] = json!(secret);
        own.give("uid2", &json!({"base_url": own.sim.base_url("uid2")}), &credentials).await;
        own.settle().await;
        let mut browser = own.visitor_with(EMAIL).await;
        for _ in 0..2 {
            assert_skipped(&own.enrich(&mut browser, "uid2").await, "credentials");
        }
    }
    assert_eq!(paths(&own).len(), 1, "with the one that is a key, and once");
}
