//! An address that users of several organisations have.

use std::time::Duration;

use harness::control::{Admin, Answer, Control, PASSWORD};
use reqwest::Method;
use serde_json::{Value, json};

const WRONG: &str = "not-the-password-at-all";
const OTHER: &str = "granite-otter-51-telescope";

/// Logs in from an address, naming an organisation or none.
async fn log_in(who: &Admin, address: &str, org: Value, password: &str) -> Answer {
    let mut body = json!({"email": who.email, "password": password});
    if !org.is_null() {
        body["org"] = org;
    }
    who.anyone()
        .call(Method::POST, "/v1/admin/auth/login", Some(&body), &[("x-forwarded-for", address)])
        .await
}

/// Makes a user of the owner's address in another organisation, and answers with that one's owner.
async fn namesake(control: &Control, password: &str) -> Admin {
    let other = control.another_owner().await;
    let user = json!({"email": control.owner.email.to_uppercase(), "role": "viewer", "password": password});
    other.post("/v1/admin/users", &user).await.expect(201);
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_an_address_in_two_organisations_says_which() {
    let control = Control::start().await;
    let owner = &control.owner;
    let other = namesake(&control, OTHER).await;
    let rename =
        |admin: &Admin, name: &str| format!("UPDATE orgs SET name = '{name}' WHERE id = '{}'", admin.org_id);
    control.world.database.execute(&rename(owner, "The Shop")).await;
    control.world.database.execute(&rename(&other, "The Mall")).await;

    // Only who knows a password learns that there are two.
    let from = "192.0.2.1";
    for password in [PASSWORD, OTHER] {
        log_in(owner, from, Value::Null, password).await.refused(409, "ORG_NEEDED");
        log_in(owner, from, json!(" "), password).await.refused(409, "ORG_NEEDED");
    }
    let wrong = log_in(owner, from, Value::Null, WRONG).await;
    wrong.refused(401, "INVALID_CREDENTIALS");
    let (own, others) = (owner.org_id.to_string(), other.org_id.to_string());
    for (org, password, enters) in [
        (own.as_str(), PASSWORD, Some(owner.org_id)),
        (&own.to_uppercase(), PASSWORD, Some(owner.org_id)),
        ("The Shop", PASSWORD, Some(owner.org_id)),
        (&others, OTHER, Some(other.org_id)),
        ("The Mall", OTHER, Some(other.org_id)),
        (&own, OTHER, None),
        ("The Mall", PASSWORD, None),
        ("nobody's", PASSWORD, None),
        ("the shop", PASSWORD, None),
    ] {
        let answer = log_in(owner, from, json!(org), password).await;
        if let Some(expected) = enters {
            let me = owner.with_token(&answer.text("access_token")).get("/v1/admin/me").await.expect(200);
            assert_eq!(me["org_id"], expected.to_string(), "{org}");
        } else {
            assert_eq!((answer.status, &answer.json), (401, &wrong.json), "{org}");
        }
    }
    let long = log_in(owner, from, json!("x".repeat(201)), PASSWORD).await;
    long.refused(422, "VALIDATION_FAILED");
    assert_eq!(long.fields(), ["org"]);
    let metrics = control.management[0].metrics().await;
    assert_eq!(metrics.sum("datafly_logins_total", &[("outcome", "org_needed")]), 4.0);
    // An address that one organisation alone has needs none.
    log_in(&other, from, Value::Null, PASSWORD).await.expect(200);
}

/// An admin who makes a user of somebody else's address learns nothing and gets no further: their own password
/// forgets no failure of the other's.
#[tokio::test(flavor = "multi_thread")]
async fn a_namesake_of_one_s_own_gives_no_more_guesses() {
    let control = Control::start().await;
    let owner = &control.owner;
    let attacker = namesake(&control, OTHER).await;
    let (victim_s, own) = (json!(owner.org_id), json!(attacker.org_id));
    for guess in 0..10 {
        let from = format!("192.0.2.{guess}");
        // By name, or without: both count.
        let org = if guess % 2 == 0 { victim_s.clone() } else { Value::Null };
        log_in(owner, &from, org, WRONG).await.refused(401, "INVALID_CREDENTIALS");
        log_in(owner, &from, own.clone(), OTHER).await.expect(200);
    }
    for password in [WRONG, PASSWORD] {
        log_in(owner, "192.0.2.99", victim_s.clone(), password).await.refused(429, "RATE_LIMITED");
        log_in(owner, "192.0.2.99", Value::Null, password).await.refused(429, "RATE_LIMITED");
    }
    log_in(owner, "198.51.100.1", victim_s, PASSWORD).await.expect(200);
}

/// The same work for one user of an address, for two, and for none.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_does_not_tell_how_many_there_are() {
    const SAMPLES: usize = 15;
    let control = Control::start().await;
    let owner = &control.owner;
    let other = namesake(&control, OTHER).await;
    let mut nobody = owner.clone();
    nobody.email = "nobody@shop.example".to_owned();
    let kinds = [("two", owner, Value::Null), ("one", &other, Value::Null), ("none", &nobody, Value::Null)];
    let named = [("named", owner, json!(owner.org_id))];
    let mut work = [Duration::ZERO; 4];
    for sample in 0..SAMPLES {
        for (kind, (_, who, org)) in kinds.iter().chain(&named).enumerate() {
            let before = control.management[0].cpu().unwrap_or_default();
            let answer = log_in(who, &format!("10.{sample}.{kind}.1"), org.clone(), WRONG).await;
            work[kind] += control.management[0].cpu().unwrap_or_default().saturating_sub(before);
            answer.refused(401, "INVALID_CREDENTIALS");
        }
    }
    let (least, most) = (work.iter().min().unwrap(), work.iter().max().unwrap());
    assert!(most.as_secs_f64() <= least.as_secs_f64() * 1.3, "two, one, none, named cost {work:?}");
}
