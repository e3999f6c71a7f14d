//! Emails and phones: kept as digests for the identifier that brought them, and in clear nowhere.

use harness::{
    answers::assert_accepted,
    browser::{Answer, Browser},
    people::named,
    round_trips::caused,
    signature::{sign, user_hash},
    visits::granted,
    world::{Options, World},
};
use proto::v1::{DeleteRequest, ExportRequest, identity_ref::Id};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const EMAIL: &str = " Jane.Saoirse+UID2@Gmail.com";
const PHONE: &str = "+1 (234) 567-8901";

fn identify(browser: &Browser, traits: &Value) -> Value {
    let mut event = browser.page_view(&granted());
    event["type"] = json!("identify");
    event["traits"] = traits.clone();
    event
}

async fn say(browser: &mut Browser, traits: &Value) -> Answer {
    let event = identify(browser, traits);
    let answer = browser.batch(&json!([event])).await;
    assert_accepted(&answer, 1);
    answer
}

/// Rows as text: `what`, one of the digests, and `verified`.
async fn stored(world: &World, digest: &str) -> String {
    let sql = format!(
        "SELECT string_agg(what || ' ' || coalesce({digest}, '-') || ' ' || verified, ', ' ORDER BY what) \
         FROM pii_digests"
    );
    world.database.text(&sql).await
}

const UID2: &str = "encode(uid2_sha256, 'base64')";
const LOWER_MD5: &str = "encode(lower_md5, 'hex')";

#[tokio::test]
async fn digests_are_kept_and_link_nobody() {
    let world = World::start().await;
    let mut browser = world.browser();
    say(&mut browser, &json!({"email": EMAIL, "phone": PHONE})).await;
    // UID2's published vectors.
    let expected = "email ku4mBX7Z3qJTXWyLFB1INzkyR2WZGW4ANSJUiW21iI8= false, \
                    phone EObwtHBUqDNZR33LNSMdtt5cafsYFuGmuY4ZLenlue4= false";
    assert_eq!(stored(&world, UID2).await, expected);
    let identifier = world.database.text("SELECT DISTINCT kind || ' ' || value FROM pii_digests").await;
    assert_eq!(identifier, format!("0 {}", browser.aid()));

    // Repeated, with each event or written otherwise: no statement.
    browser.sync("pinterest").await;
    world.postgres_proxy.take();
    for traits in [json!({"email": EMAIL, "phone": PHONE}), json!({"email": EMAIL.to_lowercase()}), json!({})]
    {
        say(&mut browser, &traits).await;
    }
    let postgres = caused(world.postgres_proxy.take().0);
    assert!(postgres.is_empty(), "{postgres:#?}");

    let mut other = world.browser();
    say(&mut other, &json!({"email": EMAIL, "phone": PHONE})).await;
    let (one, another) = (world.vendor_ids(browser.aid()).await, world.vendor_ids(other.aid()).await);
    assert_ne!(one.canonical_id, another.canonical_id, "anybody may type in an address");
}

#[tokio::test]
async fn the_newest_counts_and_no_claim_takes_the_place_of_what_a_signed_call_vouches_for() {
    let world = World::start().await;
    let mut browser = world.browser();
    let foo = "0c7e6a405862e402eb76a70f8a26fc732d07c32931e9fae9ab1582911d2e8a3b";
    // Of a ready-made digest no other form is known, until the same address comes in clear.
    say(&mut browser, &json!({"email_sha256": foo})).await;
    assert_eq!(stored(&world, UID2).await, "email - false");
    say(&mut browser, &json!({"email": "Foo@bar.com"})).await;
    let both = "email DH5qQFhi5ALrdqcPiib8cy0Hwykx6frpqxWCkR0uijs= false";
    assert_eq!(stored(&world, UID2).await, both);
    say(&mut browser, &json!({"email_sha256": foo})).await;
    assert_eq!(stored(&world, UID2).await, both);
    say(&mut browser, &json!({"email": "user@example.com", "phone": "call 12345678901"})).await;
    let claimed = "email b58996c504c5638798eb6b511e6f49af false";
    assert_eq!(stored(&world, LOWER_MD5).await, claimed);
    // A hash of the user ID vouches for that alone.
    let mut login = identify(&browser, &json!({"email": "user@example.com"}));
    login["userId"] = json!("customer-7");
    login["context"]["userHash"] = json!(user_hash(&world.customer.server_secret, "customer-7"));
    assert_accepted(&browser.batch(&json!([login])).await, 1);
    assert_eq!(stored(&world, LOWER_MD5).await, claimed);

    let body = json!({"batch": [identify(&browser, &json!({"email": "user@example.com"}))]}).to_string();
    let request = browser.request(Method::POST, "/v1/batch").bearer_auth(&browser.key);
    let signature = sign(&world.customer.server_secret, &body);
    assert_accepted(&browser.send(request.header("x-datafly-signature", signature).body(body)).await, 1);
    let vouched = "email b58996c504c5638798eb6b511e6f49af true";
    assert_eq!(stored(&world, LOWER_MD5).await, vouched);
    say(&mut browser, &json!({"email": "user@example.com"})).await;
    assert_eq!(stored(&world, LOWER_MD5).await, vouched, "who repeats it takes nothing away");
    say(&mut browser, &json!({"email": "foo@bar.com"})).await;
    assert_eq!(stored(&world, LOWER_MD5).await, vouched, "nor does who says something else");
}

#[tokio::test]
async fn a_phone_is_kept_in_every_form_that_somebody_asks_for() {
    let world = World::start().await;
    let mut browser = world.browser();
    say(&mut browser, &json!({"phone": " +1 (202) 555-0143"})).await;
    let digest = |text: &str| hex::encode(Sha256::digest(text));
    let forms = "concat_ws(' ', encode(lower_sha256, 'hex'), encode(uid2_sha256, 'hex'), \
        encode(substr(digits, 1, 32), 'hex'), encode(substr(ten, 1, 32), 'hex'))";
    let all = ["+1 (202) 555-0143", "+12025550143", "12025550143", "2025550143"].map(digest).join(" ");
    assert_eq!(world.database.text(&format!("SELECT {forms} FROM pii_digests")).await, all);
    let identity = Some(named(Id::AnonymousId(browser.aid().to_owned())));
    let request = ExportRequest { org_id: world.customer.org_id.to_string(), identity };
    let document =
        format!("{:?}", world.admin().people().export(request).await.unwrap().into_inner().document);
    assert!(all.split(' ').all(|digest| document.contains(digest)), "{document}");

    // Without its country it has the form in which it came, as linking keys ask for it.
    say(&mut browser, &json!({"phone": "07700 900123"})).await;
    assert_eq!(
        world.database.text(&format!("SELECT {forms} FROM pii_digests")).await,
        digest("07700 900123")
    );
}

#[tokio::test]
async fn a_digest_of_nothing_is_nobody_s() {
    let world = World::start().await;
    let mut browser = world.browser();
    for nothing in ["", " ", "null", "undefined", "None", "n/a", "anonymous"] {
        let digest = hex::encode(Sha256::digest(nothing));
        say(&mut browser, &json!({"email_sha256": digest, "phone_sha256": digest})).await;
        assert_eq!(world.database.count("pii_digests", "true").await, 0, "{nothing:?}");
    }
    say(&mut browser, &json!({"email_sha256": hex::encode(Sha256::digest("anna@shop.example"))})).await;
    assert_eq!(world.database.count("pii_digests", "true").await, 1);
}

#[tokio::test]
async fn they_are_exported_and_erased_with_the_person() {
    let world = World::start().await;
    let mut browser = world.browser();
    say(&mut browser, &json!({"email": EMAIL})).await;
    let org_id = world.customer.org_id.to_string();
    let identity = Some(named(Id::AnonymousId(browser.aid().to_owned())));
    let request = ExportRequest { org_id: org_id.clone(), identity: identity.clone() };
    let document = world.admin().people().export(request).await.unwrap().into_inner().document;
    let document = format!("{document:?}");
    let sha256 = world.database.text("SELECT encode(uid2_sha256, 'hex') FROM pii_digests").await;
    assert!(sha256.len() == 64 && document.contains(&sha256), "{document}");

    world.admin().people().delete(DeleteRequest { org_id, identity }).await.unwrap();
    assert_eq!(world.database.count("pii_digests", "true").await, 0);
    // The stranger that the browser is now brings it anew.
    say(&mut browser, &json!({"email": EMAIL})).await;
    assert_eq!(world.database.count("pii_digests", "true").await, 1);
}

#[tokio::test]
async fn in_clear_they_are_nowhere() {
    let world = World::with(Options { log_level: "debug", ..Options::default() }).await;
    let mut browser = world.browser();
    let clear = ["Canary.Person+x@Gmail.com", "+1 555 0100 777", "not-an-address-4711", "0555-no-number"];
    let event = |email: &str, phone: &str| json!({"email": email, "phone": phone});
    say(&mut browser, &event(clear[0], clear[1])).await;
    say(&mut browser, &event(clear[2], clear[3])).await;
    let mut login = identify(&browser, &event(clear[0], clear[1]));
    login["userId"] = json!("customer-7");
    assert_accepted(&browser.batch(&json!([login])).await, 1);
    assert_eq!(world.database.count("pii_digests", "true").await, 2);
    // And the ways that fail.
    world.postgres_proxy.refuse().await;
    browser.batch(&json!([identify(&browser, &event("canary.person@other.example", clear[1]))])).await;
    world.redis_proxy.refuse().await;
    browser.batch(&json!([login])).await;

    let mut hidden: Vec<String> = clear.map(str::to_lowercase).into();
    hidden.extend(
        ["canaryperson@gmail.com", "+15550100777", "5550100777", "canary.person@"].map(str::to_owned),
    );
    let found = |text: &str| {
        let text = text.to_lowercase();
        hidden.iter().find(|secret| text.contains(*secret) || text.contains(&hex::encode(secret))).cloned()
    };
    let tables = "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public'";
    let tables = world.database.text(tables).await;
    assert!(tables.contains("pii_digests"), "{tables}");
    for table in tables.split(' ') {
        let rows = world.database.text(&format!("SELECT string_agg(own::text, ' ') FROM {table} own")).await;
        assert_eq!(found(&rows), None, "{table}: {rows}");
    }
    for key in world.redis::<Vec<String>>(&["KEYS", "*"]).await {
        let text = match world.redis::<String>(&["TYPE", &key]).await.as_str() {
            "hash" => world.redis::<Vec<String>>(&["HGETALL", &key]).await.join(" "),
            "string" => world.redis::<Option<String>>(&["GET", &key]).await.unwrap_or_default(),
            // It has expired since.
            "none" => continue,
            other => panic!("{key} is a {other}"),
        };
        assert_eq!(found(&format!("{key} {text}")), None, "{key}: {text}");
    }
    for (name, service) in [("core", &world.cluster.cores[0]), ("edge", &world.cluster.edge)] {
        let log = service.log();
        assert!(log.len() > 2, "{name} logged {} lines", log.len());
        for line in log {
            assert_eq!(found(&line), None, "{name} logs {line}");
        }
        assert_eq!(found(service.metrics().await.text()), None, "{name} has it in its metrics");
    }
}
