//! Identity tokens in pages' events: JWTs that vouch for the user, the email and the phone that they name.

use harness::{
    answers::assert_accepted,
    browser::Browser,
    people::{People, browser, user},
    signature::{identity_token, sign, user_hash},
    system::now,
    visits::granted,
    world::World,
};
use proto::v1::identity_ref::Id;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// Claims of a good token for `user`, with these members beside.
fn claims(user: &str, other: &Value) -> Value {
    let mut claims = json!({"sub": user, "aud": "datafly", "exp": now().unix_timestamp() + 3600});
    for (name, value) in other.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// A login of `user` on a page, with these traits and this token.
fn login(page: &Browser, user: &str, traits: &Value, token: Option<&str>) -> Value {
    let mut event = page.page_view(&granted());
    event["userId"] = json!(user);
    event["traits"] = traits.clone();
    event["context"]["identityToken"] = json!(token);
    event
}

async fn say(page: &mut Browser, event: Value) {
    assert_accepted(&page.batch(&json!([event])).await, 1);
}

/// The ways in which the identifiers of a person came.
async fn ways(people: &People, id: Id) -> String {
    let found = people.lookup(id).await.unwrap().identifiers;
    let mut ways: Vec<String> = found.iter().map(|id| format!("{} {}", id.kind, id.via)).collect();
    ways.sort();
    ways.join(", ")
}

/// Number of proofs that were refused.
async fn refused(world: &World) -> String {
    world.metric("datafly_link_refusals_total", &[("reason", "invalid_proof")]).await.to_string()
}

/// Emails and phones that are stored, by their SHA-256.
async fn contacts(world: &World) -> String {
    let digest = "encode(CASE what WHEN 'phone' THEN uid2_sha256 ELSE lower_sha256 END, 'hex')";
    let all = format!("string_agg(concat_ws(' ', what, {digest}, verified), ', ' ORDER BY what)");
    let sql = &format!("SELECT coalesce({all}, '') FROM pii_digests");
    world.database.text(sql).await
}

#[tokio::test]
async fn a_token_vouches_for_the_user_and_the_contacts_that_it_names() {
    let world = World::start().await;
    let people = People::of(&world);
    let secret = &world.customer.server_secret;
    let mut page = world.browser();
    let (anna, other) = (sha256("anna@example.com"), sha256("other@example.com"));
    let token = identity_token(secret, &claims("anna", &json!({"email_sha256": anna})));
    // What the page itself says of the email does not count beside it; of the phone nobody else says anything.
    let traits = json!({"email": "other@example.com", "phone": "+1 234 567 8901"});
    let event = login(&page, "anna", &traits, Some(&token));
    say(&mut page, event).await;
    assert_eq!(ways(&people, user("anna")).await, "anonymous_id identity_token, user_id identity_token");
    let phone = sha256("+12345678901");
    let vouched = format!("email {anna} t, phone {phone} f");
    assert_eq!(contacts(&world).await, vouched);

    // Nor does what is claimed later, with or without a hash of the user ID, which vouches for that alone.
    let mut hashed = login(&page, "anna", &json!({"email": "other@example.com"}), None);
    hashed["context"]["userHash"] = json!(user_hash(secret, "anna"));
    let claimed = login(&page, "anna", &json!({"email_sha256": other}), None);
    for event in [hashed, claimed] {
        say(&mut page, event).await;
        assert_eq!(contacts(&world).await, vouched);
    }
    assert_eq!(
        ways(&people, user("anna")).await,
        "anonymous_id user_hash, user_id user_hash",
        "the stronger way"
    );

    // What the server says next does: another token, and a signed call.
    let next = json!({"email_sha256": other, "phone_sha256": phone.to_uppercase()});
    let event = login(&page, "anna", &json!({}), Some(&identity_token(secret, &claims("anna", &next))));
    say(&mut page, event).await;
    assert_eq!(contacts(&world).await, format!("email {other} t, phone {phone} t"));
    let mut event =
        login(&page, "anna", &json!({"email": "Anna@Example.com"}), Some("nothing that a server needs"));
    event["messageId"] = json!("m1");
    let body = json!({"batch": [event]}).to_string();
    let request = page.request(Method::POST, "/v1/batch").bearer_auth(&page.key);
    let request = request.header("x-datafly-signature", sign(secret, &body));
    assert_accepted(&page.send(request.body(body)).await, 1);
    assert_eq!(contacts(&world).await, format!("email {anna} t, phone {phone} t"));
    assert_eq!(refused(&world).await, "0");
}

#[tokio::test]
async fn a_token_that_is_forged_ended_or_another_s_leaves_a_claim() {
    let world = World::start().await;
    let elsewhere = world.another_customer("explicit").await;
    let people = People::of(&world);
    let secret = &world.customer.server_secret;
    let email = json!({"email_sha256": sha256("anna@example.com")});
    let with = |member: &str, value: Value| {
        let mut claims = claims("anna", &email);
        claims[member] = value;
        identity_token(secret, &claims)
    };
    let seconds = now().unix_timestamp();
    let good = identity_token(secret, &claims("anna", &email));
    let (signed, tag) = good.rsplit_once('.').unwrap();
    let (_, body) = signed.split_once('.').unwrap();
    let forged = [
        ("of another organisation", identity_token(&elsewhere.server_secret, &claims("anna", &email))),
        ("unsigned", format!("{signed}.")),
        ("without an algorithm", format!("eyJhbGciOiJub25lIn0.{body}.")),
        ("without an algorithm, with a tag", format!("eyJhbGciOiJub25lIn0.{body}.{tag}")),
        ("another algorithm", format!("eyJhbGciOiJSUzI1NiJ9.{body}.{tag}")),
        ("of somebody else", identity_token(secret, &claims("bert", &email))),
        ("of a list", with("aud", json!(["datafly"]))),
        ("for somebody else", with("aud", json!("shop"))),
        ("ended", with("exp", json!(seconds - 60))),
        ("for ever", with("exp", json!(1e18))),
        ("for two days", with("exp", json!(seconds + 2 * 86_400))),
        ("a text for an end", with("exp", json!((seconds + 3600).to_string()))),
        ("to come", with("nbf", json!(seconds + 3600))),
        ("an email that is none", with("email_sha256", json!("anna@example.com"))),
        ("too long", with("name", json!("x".repeat(2048)))),
        ("no token", "..".to_owned()),
    ];
    let count = forged.len();
    for (at, (what, token)) in forged.into_iter().enumerate() {
        let mut page = world.browser();
        let event = login(&page, "anna", &json!({}), Some(&token));
        say(&mut page, event).await;
        assert_eq!(contacts(&world).await, "", "{what}");
        let found = people.lookup(browser(page.aid())).await.unwrap();
        assert!(found.identifiers.iter().all(|id| id.via == "claim"), "{what}: {found:?}");
        assert_eq!(
            found.identifiers.len(),
            at + 2,
            "{what}: who claims to be somebody is linked all the same"
        );
    }
    // Nobody is named: nobody is vouched for.
    let mut page = world.browser();
    let mut event = login(&page, "anna", &json!({}), Some(&good));
    event["userId"] = Value::Null;
    say(&mut page, event).await;
    assert_eq!(ways(&people, browser(page.aid())).await, "anonymous_id own");
    assert_eq!(contacts(&world).await, "");
    assert_eq!(refused(&world).await, (count + 1).to_string());
}

#[tokio::test]
async fn a_token_from_before_an_erasure_brings_nothing_back() {
    let world = World::start().await;
    let people = People::of(&world);
    let secret = &world.customer.server_secret;
    let email = sha256("anna@example.com");
    let before = now().unix_timestamp() - 60;
    let token =
        |iat: Value| identity_token(secret, &claims("anna", &json!({"email_sha256": email, "iat": iat})));
    let (mut page, mut late) = (world.browser(), world.browser());
    let event = login(&page, "anna", &json!({}), Some(&token(json!(before))));
    say(&mut page, event.clone()).await;
    assert_ne!(contacts(&world).await, "");
    people.delete(0, user("anna")).await.unwrap();
    // The page goes on with the token that it was given; one that does not say when it was issued may be as old.
    say(&mut page, event.clone()).await;
    let event_of_late = login(&late, "anna", &json!({}), Some(&token(Value::Null)));
    say(&mut late, event_of_late).await;
    say(&mut page, event).await;
    assert_eq!(
        ways(&people, user("anna")).await,
        "anonymous_id claim, anonymous_id claim, user_id claim",
        "a stranger, whom nobody vouches for"
    );
    assert_eq!(contacts(&world).await, "");
    assert_eq!(refused(&world).await, "3");

    let event = login(&page, "anna", &json!({}), Some(&token(json!(now().unix_timestamp() + 2))));
    say(&mut page, event).await;
    assert_eq!(contacts(&world).await, format!("email {email} t"));
    let found = people.lookup(user("anna")).await.unwrap().identifiers;
    assert!(found.iter().any(|id| id.kind == "user_id" && id.via == "identity_token"), "{found:?}");
}

/// A contact that was vouched for is the person's, and not that of whoever uses the browser next.
#[tokio::test]
async fn contacts_stay_behind_when_somebody_else_logs_in() {
    let world = World::start().await;
    let secret = &world.customer.server_secret;
    let mut page = world.browser();
    let anna = sha256("anna@example.com");
    let token = identity_token(secret, &claims("anna", &json!({"email_sha256": anna})));
    for _ in 0..2 {
        let event = login(&page, "anna", &json!({}), Some(&token));
        say(&mut page, event).await;
        assert_eq!(contacts(&world).await, format!("email {anna} t"));
        let event = login(&page, "bert", &json!({}), None);
        say(&mut page, event).await;
        assert_eq!(contacts(&world).await, "");
        let event = login(&page, "bert", &json!({"email": "bert@example.com"}), None);
        say(&mut page, event).await;
        assert_eq!(contacts(&world).await, format!("email {} f", sha256("bert@example.com")));
    }
    // In one request too.
    let events = [
        login(&page, "anna", &json!({}), Some(&token)),
        login(&page, "bert", &json!({"email": "new@example.com"}), None),
    ];
    assert_accepted(&page.batch(&json!(events)).await, 2);
    assert_eq!(contacts(&world).await, format!("email {} f", sha256("new@example.com")));
    let mut logout = login(&page, "anna", &json!({}), None);
    logout["userId"] = Value::Null;
    logout["context"]["reset"] = json!(true);
    let events = json!([login(&page, "anna", &json!({}), Some(&token)), logout]);
    assert_accepted(&page.batch(&events).await, 2);
    assert_eq!(contacts(&world).await, "");
}
