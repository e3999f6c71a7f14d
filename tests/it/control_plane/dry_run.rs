//! Dry runs of a source's providers: the request that is shown, what an answer yields, and calls that are really made.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use proto::{
    reason_of,
    v1::{
        Caller, ConsentSignals, DryRunProviderRequest, ErrorReason, ProviderKind, ResolveRequest, Subject,
        caller::Kind,
    },
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tonic::Code;
use uuid::Uuid;

use super::scripted::{CANARY, Scripted};

/// A visitor who has consented.
fn visitor() -> Value {
    json!({"anonymous_id": "a-1", "email": " Ada@Example.com", "consent": {"marketing": true}})
}

/// The digest of the visitor's email.
fn ada() -> String {
    hex::encode(Sha256::digest("ada@example.com"))
}

/// Tries a provider. Whatever comes of it, no credential is shown.
async fn dry_run(world: &Scripted, provider: &str, body: &Value) -> Value {
    let shown = world.owner().post(&format!("{provider}/dry-run"), body).await.expect(200);
    assert!(!shown.to_string().contains(CANARY), "{shown}");
    shown
}

/// The body of a request that was shown.
fn body_of(shown: &Value) -> Value {
    serde_json::from_str(shown["body"].as_str().unwrap_or_else(|| panic!("no body: {shown}"))).unwrap()
}

/// Checks that nobody was made, and that no ID is stored.
async fn assert_nothing_stored(world: &Scripted) {
    let stores = &world.control.world;
    for table in ["links", "canonicals", "vendor_ids", "enrichments", "pii_digests", "consent"] {
        let count = stores.database.text(&format!("SELECT count(*)::text FROM {table}")).await;
        assert_eq!(count, "0", "{table}");
    }
    let keys: Vec<String> = stores.redis(&["KEYS", "*a-1*"]).await;
    assert_eq!(keys, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_shown_as_it_would_be_sent_and_an_answer_read() {
    let world = Scripted::start().await;
    let template = json!({"anonymous_id": "{{anonymous_id}}", "email_hash": "{{sha256_email}}",
        "order": "{{properties.order}}", "user": "{{user_id}}", "page": "{{page_url}}"});
    let provider = world.provider("cdp", &json!({ "request_template": template })).await;
    let mut subject = visitor();
    subject["page_url"] = json!("https://shop.example/a");
    let mut asked = json!({"subject": subject, "event": {"properties": {"order": 7}}});
    let shown = dry_run(&world, &provider, &asked).await;
    let body =
        json!({"anonymous_id": "a-1", "email_hash": ada(), "order": "7", "page": "https://shop.example/a"});
    assert_eq!(body_of(&shown), body);
    let headers =
        json!({"accept": "application/json", "content-type": "application/json", "authorization": "***"});
    let expected = json!({"method": "POST", "url": format!("http://{}/resolve", world.addr), "headers": headers,
        "body": shown["body"], "id": null, "reason": null, "status": null});
    assert_eq!(shown, expected);

    for (answer, id, reason) in [
        (r#"{"customer_id": "c-7"}"#, json!("c-7"), Value::Null),
        (r#"{"customer_id": 7}"#, json!("7"), Value::Null),
        (r#"{"customer": "c-7"}"#, Value::Null, json!("no_id")),
        (r#"{"customer_id": ["c-7"]}"#, Value::Null, json!("malformed")),
        ("<html>", Value::Null, json!("malformed")),
    ] {
        asked["answer"] = json!(answer);
        let shown = dry_run(&world, &provider, &asked).await;
        assert_eq!((&shown["id"], &shown["reason"]), (&id, &reason), "{answer}");
        assert_eq!(body_of(&shown), body);
    }
    assert!(world.seen().is_empty());
    assert_nothing_stored(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_not_be_asked_says_why() {
    let world = Scripted::start().await;
    let provider = world.provider("cdp", &json!({})).await;
    let nothing = json!({"method": null, "url": null, "headers": {}, "body": null, "id": null, "status": null,
        "reason": "no_input"});
    let subject = json!({"email": "nonsense", "consent": {"marketing": true}});
    assert_eq!(dry_run(&world, &provider, &json!({ "subject": subject })).await, nothing);
    for consent in [None, Some(json!({"marketing": false}))] {
        let mut subject = visitor();
        subject["consent"] = consent.unwrap_or_default();
        for send in [false, true] {
            let shown = dry_run(&world, &provider, &json!({"subject": subject, "send": send})).await;
            assert_eq!((&shown["reason"], &shown["status"]), (&json!("consent"), &Value::Null));
            assert_eq!(body_of(&shown)["email_hash"], ada());
        }
    }
    assert!(world.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_stores_no_id_and_is_on_record() {
    let world = Scripted::start().await;
    let provider = world.provider("cdp", &json!({})).await;
    let sent = dry_run(&world, &provider, &json!({"subject": visitor(), "send": true})).await;
    assert_eq!((&sent["id"], &sent["status"], &sent["reason"]), (&json!("c-1"), &json!(200), &Value::Null));
    let seen = world.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].target.as_str(), seen[0].authorization.as_str()),
        ("/resolve", &*format!("Bearer {CANARY}"))
    );
    assert_eq!(serde_json::from_str::<Value>(&seen[0].body).unwrap(), body_of(&sent));
    assert_nothing_stored(&world).await;
    for (status, body, reason) in
        [(200, "{}", "no_id"), (204, "", "no_id"), (302, "", "status"), (500, "{}", "status")]
    {
        world.says(status, &[], body);
        let sent = dry_run(&world, &provider, &json!({"subject": visitor(), "send": true})).await;
        assert_eq!(
            (&sent["id"], &sent["status"], &sent["reason"]),
            (&Value::Null, &json!(status), &json!(reason))
        );
    }
    // Who only looks is not on record.
    dry_run(&world, &provider, &json!({ "subject": visitor() })).await;
    let log = world.owner().get("/v1/admin/audit-log").await.expect(200);
    let sent =
        log["data"].as_array().unwrap().iter().filter(|row| row["action"] == "custom_provider.dry_run");
    let sent: Vec<&Value> = sent.collect();
    assert_eq!(sent.len(), 5, "{log}");
    assert!(!log.to_string().contains("\"a-1\"") && !log.to_string().contains(&ada()), "{log}");
    let resource = provider.strip_prefix("/v1/admin/sources/").unwrap().replace("custom-providers/", "");
    assert_eq!(sent[0]["resource_id"], json!(resource));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_a_provider_sends_back_is_shown_to_nobody() {
    let world = Scripted::start().await;
    let bearer = world.provider("cdp", &json!({})).await;
    let basic = json!({"type": "basic", "token_secret_ref": "secret:token", "username": "shop"});
    let basic = world.provider("basic", &json!({ "authentication": basic })).await;
    let body = json!({"subject": visitor(), "send": true});
    world.says(200, &[], r#"{"customer_id": "{authorization}"}"#);
    for provider in [&bearer, &basic] {
        let sent = dry_run(&world, provider, &body).await;
        assert_eq!((&sent["id"], &sent["reason"]), (&Value::Null, &json!("malformed")), "{sent}");
        assert_eq!(sent["headers"]["authorization"], "***");
    }
    let pair = STANDARD.encode(format!("shop:{CANARY}"));
    assert_eq!(world.seen()[1].authorization, format!("Basic {pair}"));
    world.says(403, &[("x-echo", CANARY)], "{authorization}");
    assert_eq!(dry_run(&world, &bearer, &body).await["reason"], "credentials");
    let told = world.owner().get(&format!("{bearer}/status")).await.expect(200).to_string();
    let mut logs = world.control.world.cluster.cores[0].log();
    logs.extend(world.control.management[0].log());
    assert!(logs.iter().any(|line| line.contains("refuses the credentials")));
    for text in logs.iter().chain([&told]) {
        assert!(!text.contains(CANARY) && !text.contains(&pair), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_of_a_known_visitor_counts_where_they_are_not_described() {
    let world = Scripted::start().await;
    let template =
        json!({"canonical": "{{canonical_id}}", "user": "{{user_id}}", "email": "{{sha256_email}}"});
    let provider = world.provider("cdp", &json!({ "request_template": template })).await;
    let subject = Subject {
        anonymous_id: Some("a-1".to_owned()),
        user_id: Some("u-1".to_owned()),
        email: Some("ada@example.com".to_owned()),
        consent: Some(ConsentSignals { json: Some(r#"{"marketing":true}"#.to_owned()), sec_gpc: false }),
        ..Subject::default()
    };
    let caller = Some(Caller { kind: Some(Kind::OrgId(world.owner().org_id.to_string())) });
    let request = ResolveRequest { caller, subjects: vec![subject], ..ResolveRequest::default() };
    let known = world.control.world.internal().resolve().resolve(request).await.unwrap().into_inner();
    let known = json!({"canonical": known.resolutions[0].canonical_id, "user": "u-1", "email": ada()});

    for subject in [json!({"anonymous_id": "a-1"}), json!({"user_id": "u-1"})] {
        let shown = dry_run(&world, &provider, &json!({ "subject": subject })).await;
        assert_eq!((body_of(&shown), &shown["reason"]), (known.clone(), &Value::Null), "{subject}");
    }
    let described = json!({"anonymous_id": "a-1", "email_sha256": "ab".repeat(32)});
    let shown = dry_run(&world, &provider, &json!({ "subject": described })).await;
    assert_eq!(body_of(&shown)["email"], "ab".repeat(32));
    // Who is unknown has no canonical identity, and gets none.
    let stranger = json!({"user_id": "u-2", "consent": {"marketing": true}});
    let shown = dry_run(&world, &provider, &json!({ "subject": stranger })).await;
    assert_eq!(body_of(&shown), json!({"user": "u-2"}));
    let people = world.control.world.database.text("SELECT count(*)::text FROM canonicals").await;
    assert_eq!(people, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn built_in_vendors_are_tried_with_the_request_of_their_settings() {
    let world = Scripted::start().await;
    let owner = world.owner();
    let vendor = |name: &str| format!("{}/enrichment/{name}", world.source);
    let base_url = format!("http://{}", world.addr);
    let acxiom = json!({"enabled": true, "credentials": {"api_key": CANARY}, "config": {
        "base_url": base_url, "method": "GET", "path": "/match", "json_path": "$.customer_id",
        "request_template": {"hem": "{{sha256_email}}", "idfa": "{{device_id}}", "v": 2}}});
    let saved = owner.put(&vendor("acxiom_realid"), &acxiom).await.expect(201);
    assert_eq!(saved["config"]["request_template"], acxiom["config"]["request_template"]);
    let mut subject = visitor();
    subject["device_id"] = json!({"value": "6D92078A-8246-4BA4-AE5B-76104861E7DC", "type": "idfa"});
    let body = json!({"subject": subject, "send": true});
    let sent = dry_run(&world, &vendor("acxiom_realid"), &body).await;
    let target = format!("/match?hem={}&idfa=6d92078a-8246-4ba4-ae5b-76104861e7dc&v=2", ada());
    assert_eq!((&sent["url"], &sent["method"]), (&json!(format!("{base_url}{target}")), &json!("GET")));
    assert_eq!((&sent["headers"]["x-api-key"], &sent["body"]), (&json!("***"), &Value::Null));
    assert_eq!((&sent["id"], world.seen()[0].target.as_str()), (&json!("c-1"), &*target));

    // UID2's request is shown before it is encrypted. A vendor that is not enabled yet can be tried, and not asked.
    let uid2 = json!({"enabled": false, "config": {"base_url": base_url}});
    owner.put(&vendor("uid2"), &uid2).await.expect(201);
    let shown = dry_run(&world, &vendor("uid2"), &json!({ "subject": visitor() })).await;
    let digest = STANDARD.encode(Sha256::digest("ada@example.com"));
    assert_eq!(
        (body_of(&shown), &shown["headers"]["authorization"]),
        (json!({"email_hash": digest}), &json!("***"))
    );
    let answer = json!({"status": "optout"}).to_string();
    let shown = dry_run(&world, &vendor("uid2"), &json!({"subject": visitor(), "answer": answer})).await;
    assert_eq!(shown["reason"], "opt_out");
    let refused = owner.post(&format!("{}/dry-run", vendor("uid2")), &body).await;
    refused.refused(422, "VALIDATION_FAILED");
    assert_eq!(refused.fields(), ["send"]);
    assert_eq!(world.seen().len(), 1);

    for wrong in [json!({"a": "{{email}}"}), json!({"a": {"b": vec![0; 200]}})] {
        let config = json!({"enabled": false, "config": {"request_template": wrong}});
        let refused = owner.put(&vendor("liveramp_ats"), &config).await;
        refused.refused(422, "VALIDATION_FAILED");
        assert_eq!(refused.fields(), ["config.request_template"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_may_take_its_own_time() {
    let world = Scripted::start().await;
    // Longer than anything else that management waits for.
    let provider = world.provider("cdp", &json!({"timeout": "10s"})).await;
    world.slow(Duration::from_millis(5500));
    assert_eq!(world.send(&provider).await["id"], "c-1");
    let provider = world.provider("fast", &json!({"timeout": "100ms"})).await;
    assert_eq!(world.send(&provider).await["reason"], "timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused() {
    let world = Scripted::start().await;
    let provider = world.provider("cdp", &json!({})).await;
    for (body, fields) in [
        (json!({}), &["subject"][..]),
        (json!({"subject": {"name": "x"}}), &["subject.name"]),
        (json!({"subject": {}, "answer": "{}", "send": true}), &["answer"]),
        (json!({"subject": {}, "event": {"properties": {"a": "x".repeat(8 * 1024)}}}), &["event"]),
        (
            json!({"subject": {"anonymous_id": "a\nb", "user_id": "x".repeat(1025)}}),
            &["subject.anonymous_id", "subject.user_id"],
        ),
        (json!({"subject": {"device_id": {"value": "x", "type": "imei"}}}), &["subject.device_id.type"]),
    ] {
        let refused = world.owner().post(&format!("{provider}/dry-run"), &body).await;
        refused.refused(422, "VALIDATION_FAILED");
        assert_eq!(refused.fields(), fields, "{body}");
    }
    let nowhere = format!("{}/custom-providers/nobody/dry-run", world.source);
    world.owner().post(&nowhere, &json!({"subject": {}})).await.refused(404, "NOT_FOUND");

    let mut catalog = world.control.world.admin().catalog();
    let request = DryRunProviderRequest {
        org_id: world.owner().org_id.to_string(),
        name: "cdp".to_owned(),
        subject: Some(Subject { anonymous_id: Some("a-1".to_owned()), ..Subject::default() }),
        kind: ProviderKind::Custom.into(),
        source_id: Some(world.source.rsplit('/').next().unwrap().to_owned()),
        ..DryRunProviderRequest::default()
    };
    assert!(catalog.dry_run_provider(request.clone()).await.is_ok());
    let settings = |fields: &[(&str, &str)]| {
        let text = |text: &str| prost_types::Value {
            kind: Some(prost_types::value::Kind::StringValue(text.to_owned())),
        };
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
        Some(prost_types::Struct { fields })
    };
    let enrichment = ProviderKind::Enrichment.into();
    let given = DryRunProviderRequest {
        name: "amperity".to_owned(),
        settings: settings(&[("path", "/v2")]),
        kind: enrichment,
        source_id: None,
        ..request.clone()
    };
    let shown = catalog.dry_run_provider(given.clone()).await.unwrap().into_inner();
    assert_eq!((shown.url.as_str(), shown.reason.as_str()), ("https://api.amperity.com/v2", ""));
    assert_eq!(shown.headers["authorization"], "***");

    let invalid = (Code::InvalidArgument, ErrorReason::InvalidArgument);
    let unknown = (Code::NotFound, ErrorReason::VendorNotFound);
    let profile = ProviderKind::Profile.into();
    for (wrong, expected) in [
        (DryRunProviderRequest { kind: 0, ..request.clone() }, invalid),
        (DryRunProviderRequest { subject: None, ..request.clone() }, invalid),
        (DryRunProviderRequest { source_id: None, ..request.clone() }, invalid),
        (DryRunProviderRequest { source_id: Some(Uuid::now_v7().to_string()), ..request.clone() }, invalid),
        (DryRunProviderRequest { event: Some("[]".to_owned()), ..request.clone() }, invalid),
        (DryRunProviderRequest { send: true, ..given.clone() }, invalid),
        (DryRunProviderRequest { settings: settings(&[("ttl", "0")]), ..given.clone() }, invalid),
        (DryRunProviderRequest { name: "nobody".to_owned(), ..request.clone() }, unknown),
        (DryRunProviderRequest { name: "nobody".to_owned(), ..given.clone() }, unknown),
        (DryRunProviderRequest { kind: enrichment, ..request.clone() }, unknown),
        (DryRunProviderRequest { kind: profile, ..request.clone() }, unknown),
        (DryRunProviderRequest { kind: profile, ..given.clone() }, invalid),
    ] {
        let status = catalog.dry_run_provider(wrong.clone()).await.unwrap_err();
        assert_eq!((status.code(), reason_of(&status).unwrap().reason), expected, "{wrong:?}");
    }
}
