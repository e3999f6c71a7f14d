//! Credentials go to the hosts that they were given for: whoever may change settings can't have them sent elsewhere.

use harness::{
    control::{Admin, Answer, Control, start_management},
    eventually,
    process::run,
    seed::seal_keys,
    within,
};
use migrations::sealed::columns;
use serde_json::{Value, json};
use uuid::Uuid;

use super::support::{opened, reseal, source};

const CODE: &str = "CREDENTIAL_NOT_FOR_HOST";

/// Fields that are to be given again.
#[track_caller]
fn again(answer: &Answer) -> Vec<String> {
    answer.refused(422, CODE);
    answer.fields()
}

/// A provider at a host that authenticates with the secret `cdp`.
fn provider(host: &str) -> Value {
    json!({"endpoint": format!("https://{host}/v1/resolve"), "ttl": "30d",
        "authentication": {"type": "bearer", "token_secret_ref": "secret:cdp"},
        "response_mapping": {"redis_field": "cdp_id", "json_path": "$.id"}})
}

/// Sealed credentials of the one row of a table.
async fn sealed(control: &Control, column: columns::Column) -> Value {
    serde_json::from_str(&opened(control, column, "true").await).unwrap()
}

/// Lines that say of a table's values that they are bound from now on.
fn bound_lines(control: &Control, table: &str) -> usize {
    let log = control.management[0].log();
    let of_table = format!("\"table\":\"{table}\"");
    log.iter().filter(|line| line.contains("without an audience") && line.contains(&of_table)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_leads_no_vendor_s_credentials_elsewhere() {
    let control = Control::start().await;
    let owner = &control.owner;
    let editor = owner.colleague("editor").await;
    let path = format!("{}/enrichment/uid2", source(owner).await);
    let given = json!({"api_key": "key-1", "client_secret": "secret-1"});
    let made = owner.put(&path, &json!({"enabled": true, "credentials": given})).await.expect(201);
    let mut expected = given.clone();
    expected["@origin"] = json!("https://prod.uidapi.com");
    assert_eq!(sealed(&control, columns::ENRICHMENT_SETTINGS).await, expected);

    for base_url in [
        "https://evil.example.com",
        "https://prod.uidapi.com:8443",
        "https://prod.uidapi.com.evil.example.com",
    ] {
        for enabled in [true, false] {
            let body = json!({"enabled": enabled, "config": {"base_url": base_url}});
            let answer = editor.put(&path, &body).await;
            assert_eq!(again(&answer), ["credentials.api_key", "credentials.client_secret"]);
            assert!(!answer.json.to_string().contains("key-1"), "{answer:?}");
        }
        let half =
            json!({"enabled": true, "config": {"base_url": base_url}, "credentials": {"api_key": "x"}});
        assert_eq!(again(&editor.put(&path, &half).await), ["credentials.client_secret"]);
    }
    assert_eq!(owner.get(&path).await.expect(200), made, "nothing was changed");
    assert_eq!(sealed(&control, columns::ENRICHMENT_SETTINGS).await, expected);

    // The same origin, written out, is no other; and all of them anew are for the new one.
    let same = json!({"enabled": true, "config": {"base_url": "https://PROD.uidapi.com:443/v2"}});
    editor.put(&path, &same).await.expect(200);
    let anew =
        json!({"enabled": true, "config": {"base_url": "https://eu.example.com"}, "credentials": given});
    editor.put(&path, &anew).await.expect(200);
    expected["@origin"] = json!("https://eu.example.com");
    assert_eq!(sealed(&control, columns::ENRICHMENT_SETTINGS).await, expected);
    // Nor back again.
    again(&editor.put(&path, &json!({"enabled": true, "config": {}})).await);
    assert_eq!(bound_lines(&control, "enrichment_settings"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_is_another_host() {
    let control = Control::start().await;
    let owner = &control.owner;
    let editor = owner.colleague("editor").await;
    let path = format!("{}/profile-providers/amperity", source(owner).await);
    let body = json!({"tenant_subdomain": "acme", "tenant_id": "acme", "event_stream_id": "esm-x1",
        "source_value": "D"});
    let mut keyed = body.clone();
    keyed["api_key"] = json!("key-1");
    owner.put(&path, &keyed).await.expect(201);
    for (field, value) in [("tenant_subdomain", "evil"), ("base_url", "https://evil.example.com")] {
        let mut other = body.clone();
        other[field] = json!(value);
        assert_eq!(again(&editor.put(&path, &other).await), ["api_key"]);
    }
    let mut written_out = body.clone();
    written_out["base_url"] = json!("https://acme.amperity.com");
    editor.put(&path, &written_out).await.expect(200);
    let expected = json!({"@origin": "https://acme.amperity.com", "api_key": "key-1"});
    assert_eq!(sealed(&control, columns::PROFILE_PROVIDERS).await, expected);

    let mut masked = body.clone();
    masked["api_key"] = json!("********");
    let answer = editor.put(&path, &masked).await;
    answer.refused(422, "VALIDATION_FAILED");
    assert_eq!(answer.fields(), ["api_key"]);
    assert_eq!(sealed(&control, columns::PROFILE_PROVIDERS).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_secret_goes_to_its_own_hosts() {
    let control = Control::start().await;
    let owner = &control.owner;
    let editor = owner.colleague("editor").await;
    let source = source(owner).await;
    let path = format!("{source}/custom-providers/own");
    let secret = "/v1/admin/secrets/cdp";
    let hosts = async || owner.get(secret).await.expect(200)["hosts"].clone();
    let reference = ["authentication.token_secret_ref"];

    // Left out: bound by the first provider of an owner or admin, and no editor's before.
    owner.put(secret, &json!({"value": "v1"})).await.expect(201);
    assert_eq!(again(&editor.put(&path, &provider("evil.example.com")).await), reference);
    assert_eq!(hosts().await, Value::Null);
    let admin = owner.colleague("admin").await;
    admin.put(&path, &provider("cdp.example.com")).await.expect(201);
    assert_eq!(hosts().await, json!(["cdp.example.com"]));

    // From then on nobody leads it elsewhere, by this provider or another.
    for person in [&editor, &admin, owner] {
        for host in ["evil.example.com", "cdp.example.com:8443", "cdp.example.com.evil.example.com"] {
            assert_eq!(again(&person.put(&path, &provider(host)).await), reference);
        }
    }
    let mut second = provider("evil.example.com");
    second["response_mapping"]["redis_field"] = json!("other");
    assert_eq!(again(&editor.put(&format!("{source}/custom-providers/other"), &second).await), reference);
    editor.put(&path, &provider("cdp.example.com")).await.expect(200);

    // A new value keeps the hosts; other hosts come with the value alone.
    editor.put(secret, &json!({"value": "v2"})).await.expect(200);
    assert_eq!(hosts().await, json!(["cdp.example.com"]));
    editor.put(secret, &json!({"hosts": ["evil.example.com"]})).await.refused(422, "VALIDATION_FAILED");
    let given = json!({"value": "v3", "hosts": ["new.example.com:443", "cdp.example.com:8443"]});
    editor.put(secret, &given).await.expect(200);
    assert_eq!(hosts().await, json!(["cdp.example.com:8443", "new.example.com"]));
    assert_eq!(again(&owner.put(&path, &provider("cdp.example.com")).await), reference);
    editor.put(&path, &provider("new.example.com")).await.expect(200);

    let changes = "SELECT string_agg(coalesce(changes->'hosts'->>'new', '-'), ' ' ORDER BY id) \
        FROM audit_log WHERE resource_type = 'secret'";
    assert_eq!(
        control.world.database.text(changes).await,
        r#"- ["cdp.example.com"] - ["cdp.example.com:8443", "new.example.com"]"#
    );
}

/// Credentials of before there were audiences are bound to the host that they were used for, and not to the one that
/// somebody asks for first.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_without_an_audience_is_bound_to_the_one_it_has() {
    let control = Control::start().await;
    let owner = &control.owner;
    let editor = owner.colleague("editor").await;
    let source = source(owner).await;
    let path = format!("{source}/enrichment/liveramp_ats");
    owner.put(&path, &json!({"enabled": true, "credentials": {"api_key": "key-1"}})).await.expect(201);
    let old = r#"{"api_key":"key-1"}"#;
    reseal(&control, columns::ENRICHMENT_SETTINGS, "true", old).await;
    let evil = json!({"enabled": true, "config": {"base_url": "https://evil.example.com"}});
    assert_eq!(again(&editor.put(&path, &evil).await), ["credentials.api_key"]);
    assert_eq!(opened(&control, columns::ENRICHMENT_SETTINGS, "true").await, old);
    for _ in 0..2 {
        editor.put(&path, &json!({"enabled": true})).await.expect(200);
        let expected = json!({"@origin": "https://api.rlcdn.com", "api_key": "key-1"});
        assert_eq!(sealed(&control, columns::ENRICHMENT_SETTINGS).await, expected);
    }
    again(&editor.put(&path, &evil).await);

    let path = format!("{source}/custom-providers/own");
    let secret = "/v1/admin/secrets/cdp";
    owner.put(secret, &json!({"value": "v1"})).await.expect(201);
    owner.put(&path, &provider("cdp.example.com")).await.expect(201);
    reseal(&control, columns::SECRETS, "true", "v1").await;
    again(&editor.put(&path, &provider("evil.example.com")).await);
    again(&owner.put(&path, &provider("evil.example.com")).await);
    for _ in 0..2 {
        editor.put(&path, &provider("cdp.example.com")).await.expect(200);
        assert_eq!(owner.get(secret).await.expect(200)["hosts"], json!(["cdp.example.com"]));
    }
    // A new value as well.
    reseal(&control, columns::SECRETS, "true", "v1").await;
    editor.put(secret, &json!({"value": "v2"})).await.expect(200);
    assert_eq!(owner.get(secret).await.expect(200)["hosts"], json!(["cdp.example.com"]));

    for table in ["enrichment_settings", "secrets"] {
        eventually("it to be said once", async || match bound_lines(&control, table) {
            1 => Ok(()),
            lines => Err(format!("{table}: {lines}")),
        })
        .await;
    }
}

/// Seals everything with a new key, by the API or the command.
async fn reencrypted(control: &Control, admin: &Admin) {
    admin.post("/v1/admin/crypto/re-encrypt", &json!({})).await.expect(202);
    within(std::time::Duration::from_secs(60), "re-encryption to finish", async || {
        let progress = admin.get("/v1/admin/crypto/re-encrypt").await.expect(200);
        if progress["state"] == "finished" { Ok(()) } else { Err(progress.to_string()) }
    })
    .await;
    assert_eq!(control.world.database.count("reencryptions", "failed > 0").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn re_encryption_binds_as_well() {
    let control = Control::start().await;
    let owner = &control.owner;
    let database = &control.world.database;
    let source = source(owner).await;
    let path = format!("{source}/enrichment/liveramp_ats");
    owner.put(&path, &json!({"enabled": true, "credentials": {"api_key": "key-1"}})).await.expect(201);
    owner.put("/v1/admin/secrets/cdp", &json!({"value": "v1"})).await.expect(201);
    owner.put("/v1/admin/secrets/unused", &json!({"value": "v2"})).await.expect(201);
    owner.put(&format!("{source}/custom-providers/own"), &provider("cdp.example.com")).await.expect(201);
    let amperity = json!({"tenant_subdomain": "acme", "tenant_id": "acme", "profile_collection_id": "apc-x1",
        "event_stream_id": "esm-x1", "source_value": "D", "api_key": "key-1", "profile_api_key": "key-2"});
    owner.put(&format!("{source}/profile-providers/amperity"), &amperity).await.expect(201);
    reseal(&control, columns::ENRICHMENT_SETTINGS, "true", r#"{"api_key":"key-1"}"#).await;
    reseal(&control, columns::SECRETS, "name = 'cdp'", "v1").await;
    reseal(&control, columns::PROFILE_PROVIDERS, "true", r#"{"profile_api_key":"key-2"}"#).await;

    let old = control.world.cluster.secrets.encryption_key.clone();
    let new = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let both = [("DATAFLY_ENCRYPTION_KEY", new.as_str()), ("DATAFLY_ENCRYPTION_KEY_PREVIOUS", &old)];
    // The command knows no vendor's own host where it can't ask a core, and leaves that one.
    let env = [("DATABASE_URL", database.url.as_str()), both[0], both[1]];
    let ended = run("management", &["re-encrypt"], &env, "").await.unwrap();
    assert!(ended.status.success(), "{}", ended.text());
    let value = async |key: &str, column: columns::Column, condition: &str| {
        let sql = format!(
            "SELECT concat_ws(' ', org_id, id, encode(sealed, 'hex')) FROM {} WHERE {condition}",
            column.table
        );
        let row = database.text(&sql).await;
        let parts: Vec<&str> = row.split(' ').collect();
        let place = column.place(parts[0].parse().unwrap(), parts[1].parse().unwrap());
        let plain = seal_keys(key, None).open(place, &hex::decode(parts[2]).unwrap()).unwrap();
        String::from_utf8(plain.to_vec()).unwrap()
    };
    let json = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let enrichment = value(&new, columns::ENRICHMENT_SETTINGS, "true").await;
    assert_eq!(enrichment, r#"{"api_key":"key-1"}"#);
    let secret = value(&new, columns::SECRETS, "name = 'cdp'").await;
    assert_eq!(json(secret.trim_start_matches('\u{1}').to_owned())["hosts"], json!(["cdp.example.com"]));
    assert_eq!(value(&new, columns::SECRETS, "name = 'unused'").await, "v2");
    let profile = json(value(&new, columns::PROFILE_PROVIDERS, "true").await);
    assert_eq!(profile["@origin"], "https://acme.amperity.com");

    // The service does. With a third key, which no other process has that could not open the second one's.
    let third = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let back = [("DATAFLY_ENCRYPTION_KEY", third.as_str()), ("DATAFLY_ENCRYPTION_KEY_PREVIOUS", &new)];
    let management = start_management(&control.world, &control.jwt_secret, &back).await.unwrap();
    reencrypted(&control, &owner.at(&management)).await;
    let enrichment = json(value(&third, columns::ENRICHMENT_SETTINGS, "true").await);
    assert_eq!(enrichment, json!({"@origin": "https://api.rlcdn.com", "api_key": "key-1"}));
    assert_eq!(json(value(&third, columns::PROFILE_PROVIDERS, "true").await), profile);
}
