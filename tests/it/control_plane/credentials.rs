//! Secrets, credentials and providers over the management API: written, sealed, and never told.

use harness::{
    control::{Admin, Answer, Control},
    eventually,
    seed::seal_keys,
};
use migrations::sealed::{MOST_SEALINGS, columns};
use reqwest::Method;
use serde_json::{Value, json};

use super::support::{opened, source};

/// Actions on record for a kind of thing, in order.
async fn actions(control: &Control, resource: &str) -> String {
    let sql = format!(
        "SELECT string_agg(action, ' ' ORDER BY id) FROM audit_log WHERE resource_type = '{resource}'"
    );
    control.world.database.text(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_secret_is_written_and_never_told() {
    let control = Control::start().await;
    let owner = &control.owner;
    let path = "/v1/admin/secrets/cdp_api_token";
    owner.get(path).await.refused(404, "NOT_FOUND");
    let made = owner.put(path, &json!({"value": "first"})).await;
    assert_eq!((made.status, made.version.as_deref()), (201, Some("1")), "{made:?}");
    assert_eq!(made.json["configured"], true);
    assert_eq!(made.json["hosts"], Value::Null, "{made:?}");
    assert_eq!(made.json.as_object().unwrap().len(), 5, "{made:?}");
    assert_eq!(owner.get(path).await.expect(200), made.json);
    assert_eq!(owner.get("/v1/admin/secrets").await.expect(200)["data"], json!([made.json]));
    assert_eq!(opened(&control, columns::SECRETS, "name = 'cdp_api_token'").await, "first");

    let stale = owner.call(Method::PUT, path, Some(&json!({"value": "x"})), &[("if-match", "\"7\"")]).await;
    stale.refused(409, "VERSION_CONFLICT");
    let changed = owner.put(path, &json!({"value": "second"})).await;
    assert_eq!((changed.status, changed.version.as_deref()), (200, Some("2")), "{changed:?}");
    assert_eq!(opened(&control, columns::SECRETS, "true").await, "second");

    for (body, field) in [
        (json!({"value": ""}), "value"),
        (json!({"value": "a".repeat(8193)}), "value"),
        (json!({"value": "a".repeat(64 * 1024)}), "value"),
        (json!({"value": "a\u{0}"}), "value"),
        (json!({"value": "a\r\nx: y"}), "value"),
        (json!({"value": 1}), "value"),
        (json!({"value": "********"}), "value"),
        (json!({"value": "••••"}), "value"),
        (json!({"value": "x", "hosts": []}), "hosts"),
        (json!({"value": "x", "hosts": ["cdp.example.com/x"]}), "hosts[0]"),
        (json!({"value": "x", "hosts": ["cdp.example.com", "*.example.com"]}), "hosts[1]"),
        (json!({"value": "x", "hosts": ["https://cdp.example.com"]}), "hosts[0]"),
        (json!({"value": "x", "org_id": "x"}), "org_id"),
        (json!({}), "value"),
    ] {
        let answer = owner.put(path, &body).await;
        answer.refused(422, "VALIDATION_FAILED");
        assert_eq!(answer.fields(), [field]);
    }
    owner.put(path, &json!({"value": "a".repeat(8192)})).await.expect(200);
    for odd in ["A", "a.b", "a%00", "%ff", "a%2fb", &"a".repeat(65)] {
        let path = format!("/v1/admin/secrets/{odd}");
        owner.put(&path, &json!({"value": "x"})).await.refused(404, "NOT_FOUND");
        owner.get(&path).await.refused(404, "NOT_FOUND");
    }

    let foreign = control.another_owner().await;
    foreign.get(path).await.refused(404, "NOT_FOUND");
    foreign.delete(path).await.expect(204);
    assert_eq!(foreign.get("/v1/admin/secrets").await.expect(200)["data"], json!([]));
    foreign.put(path, &json!({"value": "theirs"})).await.expect(201);
    owner.get(path).await.expect(200);
    for _ in 0..2 {
        owner.delete(path).await.expect(204);
    }
    owner.get(path).await.refused(404, "NOT_FOUND");
    assert_eq!(opened(&control, columns::SECRETS, "true").await, "theirs");
    assert_eq!(
        actions(&control, "secret").await,
        "secret.created secret.updated secret.updated secret.created secret.deleted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_needs_the_credentials_that_its_settings_name() {
    let control = Control::start().await;
    let owner = &control.owner;
    let source = source(owner).await;
    let listed = owner.get("/v1/admin/catalog/enrichment-vendors").await.expect(200);
    let vendors = listed["data"].as_array().unwrap();
    for (name, needed) in [("liveramp_ats", json!([])), ("amperity", json!(["token"]))] {
        let vendor = vendors.iter().find(|vendor| vendor["name"] == name).unwrap();
        let preset = &vendor["presets"][0];
        assert_eq!(preset["credentials"], needed, "{name}");
        let path = format!("{source}/enrichment/{name}");
        let by_default = owner.put(&path, &json!({"enabled": true})).await;
        by_default.refused(422, "VALIDATION_FAILED");
        let chosen = json!({"enabled": true, "config": preset["config"]});
        let chosen = owner.put(&path, &chosen).await;
        if needed == json!([]) {
            chosen.expect(201);
            owner.put(&path, &json!({"enabled": true})).await.expect(200);
        } else {
            chosen.refused(422, "VALIDATION_FAILED");
            assert_eq!(chosen.fields(), ["credentials.token"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enabled_vendor_has_exactly_its_credentials() {
    let control = Control::start().await;
    let owner = &control.owner;
    let source = source(owner).await;
    let path = format!("{source}/enrichment/uid2");
    let problems = |answer: Answer| {
        answer.refused(422, "VALIDATION_FAILED");
        answer.fields()
    };
    let missing = problems(owner.put(&path, &json!({"enabled": true})).await);
    assert_eq!(missing, ["credentials.api_key", "credentials.client_secret"]);
    let body = json!({"enabled": true, "config": {"method": "PUT", "ttl": "-1d", "base_url": "http://10.0.0.1"},
        "credentials": {"api_key": "a\n", "token": "t"}});
    let mut wrong = problems(owner.put(&path, &body).await);
    wrong.sort();
    assert_eq!(
        wrong,
        [
            "config.base_url",
            "config.method",
            "config.ttl",
            "credentials.api_key",
            "credentials.client_secret",
            "credentials.token"
        ]
    );
    let unknown = json!({"enabled": true, "config": {"x": 1}});
    assert_eq!(problems(owner.put(&path, &unknown).await), ["config.x"]);
    owner
        .put(&format!("{source}/enrichment/nobody"), &json!({"enabled": false}))
        .await
        .refused(404, "NOT_FOUND");

    let body = json!({"enabled": true, "config": {"ttl": "12h"},
        "credentials": {"api_key": "key-1", "client_secret": "secret-1"}});
    let made = owner.put(&path, &body).await;
    assert_eq!((made.status, made.version.as_deref()), (201, Some("1")), "{made:?}");
    let configured = json!({"api_key": {"configured": true}, "client_secret": {"configured": true}});
    assert_eq!((&made.json["credentials"], &made.json["config"]), (&configured, &json!({"ttl": "12h"})));
    assert_eq!(owner.get(&path).await.expect(200), made.json);
    assert_eq!(owner.get(&format!("{source}/enrichment")).await.expect(200)["data"], json!([made.json]));

    // What is left out stays.
    let off = owner.put(&path, &json!({"enabled": false})).await.expect(200);
    let kept = json!({"ttl": "12h"});
    assert_eq!((&off["credentials"], &off["config"], &off["version"]), (&configured, &kept, &json!(2)));
    let sealed = |mut expected: Value| {
        let control = &control;
        expected["@origin"] = json!("https://prod.uidapi.com");
        async move {
            let plain = opened(control, columns::ENRICHMENT_SETTINGS, "true").await;
            assert_eq!(serde_json::from_str::<Value>(&plain).unwrap(), expected);
        }
    };
    sealed(json!({"api_key": "key-1", "client_secret": "secret-1"})).await;
    owner.put(&path, &json!({"enabled": true, "credentials": {"api_key": "key-2"}})).await.expect(200);
    sealed(json!({"api_key": "key-2", "client_secret": "secret-1"})).await;

    let foreign = control.another_owner().await;
    for answer in [
        foreign.get(&path).await,
        foreign.get(&format!("{source}/enrichment")).await,
        foreign.put(&path, &body).await,
        foreign.delete(&path).await,
    ] {
        answer.refused(404, "NOT_FOUND");
    }
    sealed(json!({"api_key": "key-2", "client_secret": "secret-1"})).await;
    for _ in 0..2 {
        owner.delete(&path).await.expect(204);
    }
    owner.get(&path).await.refused(404, "NOT_FOUND");
    let updates = "enrichment.created enrichment.updated enrichment.updated enrichment.deleted";
    assert!(
        actions(&control, "enrichment").await.ends_with(updates),
        "{}",
        actions(&control, "enrichment").await
    );
}

/// A provider as in the specification's example.
fn provider() -> Value {
    json!({
        "name": "internal_cdp",
        "endpoint": "https://cdp.internal.example.com/v1/resolve",
        "method": "POST",
        "authentication": {"type": "bearer", "token_secret_ref": "secret:cdp_api_token"},
        "request_template": {"anonymous_id": "{{anonymous_id}}", "email_hash": "{{sha256_email}}"},
        "response_mapping": {"redis_field": "cdp_customer_id", "json_path": "$.customer_id"},
        "ttl": "30d",
        "timeout": "2s"
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_provider_names_a_secret_that_is_there_and_a_field_of_its_own() {
    let control = Control::start().await;
    let owner = &control.owner;
    let source = source(owner).await;
    let path = format!("{source}/custom-providers/internal_cdp");
    let problems = |answer: Answer| {
        answer.refused(422, "VALIDATION_FAILED");
        answer.fields()
    };
    assert_eq!(problems(owner.put(&path, &provider()).await), ["authentication.token_secret_ref"]);
    // Another organisation's secret is none.
    let foreign = control.another_owner().await;
    let secret = "/v1/admin/secrets/cdp_api_token";
    foreign.put(secret, &json!({"value": "x"})).await.expect(201);
    assert_eq!(problems(owner.put(&path, &provider()).await), ["authentication.token_secret_ref"]);
    owner.put(secret, &json!({"value": "x"})).await.expect(201);
    let made = owner.put(&path, &provider()).await;
    assert_eq!((made.status, made.version.as_deref()), (201, Some("1")), "{made:?}");
    assert_eq!(owner.get(&path).await.expect(200), made.json);
    assert_eq!(
        owner.get(&format!("{source}/custom-providers")).await.expect(200)["data"],
        json!([made.json])
    );
    assert_eq!(owner.put(&path, &provider()).await.status, 200);

    // Deeper than the core's protocol nests, and than JSON does for serde.
    for depth in [20, 40, 120] {
        let mut deep = provider();
        deep["request_template"] = (0..depth).fold(json!({}), |inner, _| json!({"a": inner}));
        assert_eq!(problems(owner.put(&path, &deep).await), ["request_template"], "{depth}");
    }
    let wrong = json!({"name": "other", "endpoint": "http://10.0.0.1/?token=x", "ttl": "999y",
        "response_mapping": {"redis_field": "ramp_id", "json_path": "$..x"}});
    let mut fields = problems(owner.put(&path, &wrong).await);
    fields.sort();
    fields.dedup();
    assert_eq!(
        fields,
        ["endpoint", "name", "response_mapping.json_path", "response_mapping.redis_field", "ttl"]
    );

    // The field is taken, here and on another source, but for the same provider there.
    let mut second = provider();
    second["name"] = json!("second");
    let taken = ["response_mapping.redis_field"];
    assert_eq!(problems(owner.put(&format!("{source}/custom-providers/second"), &second).await), taken);
    let another = owner.post("/v1/admin/sources", &json!({"name": "Other"})).await;
    let another = format!("/v1/admin/sources/{}/custom-providers", another.text("id"));
    assert_eq!(problems(owner.put(&format!("{another}/second"), &second).await), taken);
    owner.put(&format!("{another}/internal_cdp"), &provider()).await.expect(201);

    // Of providers that want the same field at once one gets it.
    let wanted = |number: usize| {
        let (owner, source) = (owner.clone(), source.clone());
        let mut provider = provider();
        provider["name"] = json!(format!("p{number}"));
        provider["response_mapping"]["redis_field"] = json!("wanted");
        async move { put_at_last(&owner, &format!("{source}/custom-providers/p{number}"), &provider).await }
    };
    let answers = tokio::join!(wanted(1), wanted(2), wanted(3), wanted(4));
    let mut answers = [answers.0, answers.1, answers.2, answers.3];
    answers.sort_unstable();
    assert_eq!(answers, [201, 422, 422, 422]);

    owner.delete(secret).await.refused(409, "IN_USE");
    owner.get(secret).await.expect(200);
    foreign.delete(secret).await.expect(204);
    foreign.get(&path).await.refused(404, "NOT_FOUND");
    foreign.put(&path, &provider()).await.refused(404, "NOT_FOUND");
    foreign.delete(&path).await.refused(404, "NOT_FOUND");
    for path in [&path, &format!("{another}/internal_cdp")] {
        for _ in 0..2 {
            owner.delete(path).await.expect(204);
        }
    }
    let left: Vec<Value> =
        vec![owner.get(&format!("{source}/custom-providers")).await.expect(200)["data"].clone()];
    assert_eq!(left[0].as_array().unwrap().len(), 1, "{left:?}");
    owner
        .delete(&format!("{source}/custom-providers/{}", left[0][0]["name"].as_str().unwrap()))
        .await
        .expect(204);
    owner.delete(secret).await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn amperity_is_configured_as_the_specification_says() {
    let control = Control::start().await;
    let owner = &control.owner;
    let source = source(owner).await;
    let path = format!("{source}/profile-providers/amperity");
    let body = json!({
        "tenant_subdomain": "acme",
        "tenant_id": "acme",
        "api_key": "ingest-key",
        "event_stream_id": "esm-2VP6va3Zn",
        "source_value": "DATAFLY",
        "profile_api_key": "profile-key",
        "profile_collection_id": "apc-vPsQheAm",
        "linking_keys": [
            {"source": "email", "key": "email_sha256", "hash": "sha256"},
            {"source": "canonical_id", "key": "device_cookie"},
            {"source": "user_id", "key": "customer_id"},
        ],
        "browser_attribute_allowlist": "Persona, FavoriteBrand,",
        "context_enabled": true,
        "context_mappings": [{"source": "properties.category", "target": "pageCategory"}],
    });
    let mut keyless = body.clone();
    keyless.as_object_mut().unwrap().retain(|name, _| !name.ends_with("api_key"));
    let answer = owner.put(&path, &keyless).await;
    answer.refused(422, "VALIDATION_FAILED");
    assert_eq!(answer.fields(), ["api_key"]);
    let answer =
        owner.put(&path, &json!({"context_enabled": true, "linking_keys": [{"source": "name"}]})).await;
    let mut fields = answer.fields();
    fields.sort();
    assert_eq!(
        fields,
        [
            "api_key",
            "context_mappings",
            "event_stream_id",
            "linking_keys[0].key",
            "linking_keys[0].source",
            "source_value",
            "tenant_id",
            "tenant_subdomain"
        ]
    );

    for (field, value, message) in [
        ("event_stream_id", json!("is-2VP6va3Zn"), "batch"),
        ("profile_collection_id", Value::Null, "is required with profile_api_key"),
        ("profile_collection_id", json!("vPsQheAm"), "must begin with apc-"),
        ("api_key", json!("profile-key"), "must be another than profile_api_key"),
        ("linking_keys", json!("[{"), "must be a list"),
    ] {
        let mut wrong = body.clone();
        wrong[field] = value;
        let answer = owner.put(&path, &wrong).await;
        answer.refused(422, "VALIDATION_FAILED");
        assert_eq!(answer.fields(), [field]);
        let told = answer.json["error"]["fields"][0]["message"].as_str().unwrap();
        assert!(told.contains(message), "{field}: {told}");
    }
    let made = owner.put(&path, &body).await;
    assert_eq!((made.status, made.version.as_deref()), (201, Some("1")), "{made:?}");
    for (field, value) in [
        ("warnings", Value::Null),
        ("provider", json!("amperity")),
        ("api_key", json!({"configured": true})),
        ("profile_api_key", json!({"configured": true})),
        ("browser_attribute_allowlist", json!(["Persona", "FavoriteBrand"])),
        ("linking_keys", body["linking_keys"].clone()),
        ("source_value", json!("DATAFLY")),
    ] {
        assert_eq!(made.json[field], value, "{field}");
    }
    assert_eq!(owner.get(&path).await.expect(200), made.json);
    let kept = owner.put(&path, &keyless).await.expect(200);
    assert_eq!(kept["api_key"], json!({"configured": true}));
    let plain = opened(&control, columns::PROFILE_PROVIDERS, "true").await;
    assert_eq!(
        serde_json::from_str::<Value>(&plain).unwrap(),
        json!({"@origin": "https://acme.amperity.com", "api_key": "ingest-key", "profile_api_key": "profile-key"})
    );
    // Also against the one that is stored.
    let same = owner.put(&path, &json!({"api_key": "profile-key"})).await;
    same.refused(422, "VALIDATION_FAILED");
    assert_eq!(same.fields(), ["api_key"]);
    // The textarea's text, and one key of several sources.
    let text = r#"[{"source":"anonymous_id","key":"device_cookie"},{"source":"canonical_id","key":"device_cookie"}]"#;
    let kept = owner.put(&path, &json!({"linking_keys": text})).await.expect(200);
    assert_eq!(kept["linking_keys"], serde_json::from_str::<Value>(text).unwrap());
    for none in [json!([]), json!(" "), Value::Null] {
        let kept = owner.put(&path, &json!({"linking_keys": none})).await.expect(200);
        assert_eq!(kept["warnings"][0]["field"], "linking_keys", "{none}");
        assert_eq!(owner.get(&path).await.expect(200)["warnings"], kept["warnings"]);
    }
    // Event ingest alone is enough.
    owner.delete(&path).await.expect(204);
    let ingest = json!({"tenant_subdomain": "acme", "tenant_id": "acme", "api_key": "ingest-key",
        "event_stream_id": "esm-2VP6va3Zn", "source_value": "DATAFLY"});
    let made = owner.put(&path, &ingest).await.expect(201);
    assert_eq!((&made["profile_api_key"]["configured"], &made["warnings"]), (&json!(false), &Value::Null));
    let foreign = control.another_owner().await;
    foreign.get(&path).await.refused(404, "NOT_FOUND");
    foreign.put(&path, &body).await.refused(404, "NOT_FOUND");
    foreign.delete(&path).await.refused(404, "NOT_FOUND");
    for _ in 0..2 {
        owner.delete(&path).await.expect(204);
    }
    owner.get(&path).await.refused(404, "NOT_FOUND");
}

/// Sends a PUT, and again where all connections are busy, which is found out by waiting for one.
async fn put_at_last(admin: &Admin, path: &str, body: &Value) -> u16 {
    for _ in 0..50 {
        match admin.put(path, body).await.status {
            503 => {}
            status => return status,
        }
    }
    503
}

/// Writers of the same things at once: no change is lost, and no writer waits for another for ever.
#[tokio::test(flavor = "multi_thread")]
async fn writers_at_once_all_count() {
    const WRITERS: usize = 12;
    let control = Control::start().await;
    let source = source(&control.owner).await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        let (owner, source) = (control.owner.clone(), source.clone());
        writers.spawn(async move {
            let value = json!({"value": format!("value {number}")});
            let credentials = json!({"enabled": true, "credentials": {"api_key": format!("key {number}")}});
            [
                put_at_last(&owner, &format!("/v1/admin/secrets/own_{number}"), &value).await,
                put_at_last(&owner, "/v1/admin/secrets/one", &value).await,
                put_at_last(&owner, &format!("{source}/enrichment/liveramp_ats"), &credentials).await,
            ]
        });
    }
    for status in writers.join_all().await.into_iter().flatten() {
        assert!([200, 201].contains(&status), "{status}");
    }
    let one = control.owner.get("/v1/admin/secrets/one").await;
    assert_eq!(one.version, Some(WRITERS.to_string()));
}

/// A key seals so many values and no more, as random nonces of AES-GCM must not repeat (NIST SP 800-38D,
/// 8.3): the count is kept with what was sealed, and its end is an end.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_has_sealed_too_often_seals_no_more() {
    let control = Control::start().await;
    let (owner, database) = (&control.owner, &control.world.database);
    let secret = |name: &str| format!("/v1/admin/secrets/{name}");
    let value = json!({"value": "x"});
    owner.put(&secret("first"), &value).await.expect(201);
    let count = || database.text("SELECT times FROM seal_counts");
    assert_eq!(count().await, "1");
    owner.put(&secret("first"), &json!({"value": ""})).await.refused(422, "VALIDATION_FAILED");
    assert_eq!(count().await, "1", "nothing was sealed");

    database.execute("UPDATE seal_counts SET times = 2147483647").await;
    owner.put(&secret("first"), &value).await.expect(200);
    let warned = |text: &str| control.management[0].log().iter().any(|line| line.contains(text));
    eventually("a warning", async || {
        if warned("the encryption key has sealed often") { Ok(()) } else { Err("none".to_owned()) }
    })
    .await;
    let seals = control.management[0].metrics().await.sum("datafly_key_seals", &[]);
    assert!((seals - 2_147_483_648.0).abs() < 0.5, "{seals}");

    database.execute(&format!("UPDATE seal_counts SET times = {}", MOST_SEALINGS - 1)).await;
    owner.put(&secret("last"), &value).await.expect(201);
    for name in ["first", "another"] {
        owner.put(&secret(name), &value).await.refused(503, "KEY_EXHAUSTED");
    }
    assert_eq!(count().await, MOST_SEALINGS.to_string());
    let kept = owner.get(&secret("first")).await;
    assert_eq!((kept.status, kept.version.as_deref()), (200, Some("2")), "what is sealed stays as it is");
    owner.get(&secret("another")).await.refused(404, "NOT_FOUND");
}

/// Anyone is told whether the keys work, and those who may rotate them which they are.
#[tokio::test(flavor = "multi_thread")]
async fn the_keys_health_is_told_to_anyone_and_more_to_who_may_rotate() {
    let control = Control::start().await;
    let key = &control.world.cluster.secrets.encryption_key;
    let owner = &control.owner;
    let bare = json!({"status": "healthy"});
    let mut others = vec![owner.anyone(), owner.with_token("x.y.z")];
    for role in ["viewer", "editor"] {
        others.push(owner.colleague(role).await);
    }
    for other in others {
        assert_eq!(other.get("/health/crypto").await.expect(200), bare, "{}", other.email);
    }
    let admin = owner.colleague("admin").await;
    let health = admin.get("/health/crypto").await.expect(200);
    assert_eq!(owner.get("/health/crypto").await.expect(200), health);
    let key_id = hex::encode(seal_keys(key, None).current().id());
    let checks = json!({"key_valid": true, "round_trip": true, "previous_key_valid": null});
    assert_eq!(
        health,
        json!({"status": "healthy", "dual_key_mode": false, "checks": checks, "key_id": key_id})
    );
    let same = [("DATAFLY_ENCRYPTION_KEY_PREVIOUS", key.as_str())];
    let degraded =
        harness::control::start_management(&control.world, &control.jwt_secret, &same).await.unwrap();
    let health = owner.anyone().at(&degraded).get("/health/crypto").await.expect(503);
    assert_eq!(health, json!({"status": "degraded"}));
    let health = owner.at(&degraded).get("/health/crypto").await.expect(503);
    assert_eq!((&health["status"], &health["dual_key_mode"]), (&json!("degraded"), &json!(true)));
}

/// Sealed columns of the database are all among those that are re-encrypted.
#[tokio::test]
async fn no_sealed_column_is_forgotten() {
    let database = harness::database::TestDatabase::create().await.unwrap();
    let mut listed: Vec<String> =
        columns::ALL.iter().map(|column| format!("{}.{}", column.table, column.column)).collect();
    listed.sort();
    let sealed = "SELECT string_agg(table_name || '.' || column_name, ' ' ORDER BY table_name) \
        FROM information_schema.columns WHERE table_schema = 'public' AND column_name LIKE '%sealed' \
        AND data_type = 'bytea'";
    assert_eq!(database.text(sealed).await, listed.join(" "));
}
