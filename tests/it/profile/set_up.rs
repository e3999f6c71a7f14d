//! Setting Amperity up over the management API: the form, the status, and trying it.

use harness::{
    control::Control,
    enrich_sim::EnrichSim,
    profile_sim::{COLLECTION, TENANT, ingest_key, profile_key},
    world::Options,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[tokio::test(flavor = "multi_thread")]
async fn the_form_has_the_fields_of_the_specification_and_what_it_asks_for_is_taken() {
    let control = Control::start().await;
    let listed = control.owner.get("/v1/admin/catalog/profile-providers").await.expect(200);
    let [amperity] = listed["data"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    let field = |field: &Value| {
        assert!(!field["label"].as_str().unwrap().is_empty() && !field["help"].as_str().unwrap().is_empty());
        json!([field["key"], field["type"], field["required"]])
    };
    let fields: Vec<Value> = amperity["fields"].as_array().unwrap().iter().map(field).collect();
    // The specification's table, in its order.
    let table = [
        ("tenant_subdomain", "string", true),
        ("tenant_id", "string", true),
        ("api_key", "secret", true),
        ("event_stream_id", "string", true),
        ("source_value", "string", true),
        ("profile_api_key", "secret", false),
        ("profile_collection_id", "string", false),
        ("linking_keys", "textarea", false),
        ("browser_attribute_allowlist", "csv", false),
    ];
    let table: Vec<Value> = table.iter().map(|(key, kind, required)| json!([key, kind, required])).collect();
    assert_eq!(fields[..9], table);

    let source = control.owner.post("/v1/admin/sources", &json!({"name": "Shop"})).await.text("id");
    let path = format!("/v1/admin/sources/{source}/profile-providers/amperity");
    let missing = control.owner.put(&path, &json!({})).await;
    missing.refused(422, "VALIDATION_FAILED");
    let mut missing = missing.fields();
    missing.sort();
    let mut required: Vec<&str> = amperity["fields"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|field| field["required"] == true)
        .map(|field| field["key"].as_str().unwrap())
        .collect();
    required.sort_unstable();
    assert_eq!(missing, required);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_tried_before_anybody_relies_on_it() {
    let options = Options { open_networks: "127.0.0.0/8", ..Options::default() };
    let (control, sim) = (Control::with(1, options).await, EnrichSim::start().await.unwrap());
    let owner = &control.owner;
    let source = owner.post("/v1/admin/sources", &json!({"name": "Shop"})).await.text("id");
    let path = format!("/v1/admin/sources/{source}/profile-providers/amperity");
    let mut amperity = json!({
        "tenant_subdomain": "acme", "tenant_id": TENANT, "api_key": ingest_key(),
        "event_stream_id": "esm-1", "source_value": "DATAFLY", "base_url": sim.base_url("profiles"),
        "profile_collection_id": COLLECTION,
        "linking_keys": [{"source": "email", "key": "email_sha256", "hash": "sha256"}],
    });
    harness::eventually("the core to know the organisation", async || {
        let answer = owner.put(&path, &amperity).await;
        if answer.status < 300 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    let dry_run = format!("{path}/dry-run");
    let subject = json!({"email": "Ada@Example.com"});
    // Without a key it is shown, and can't be sent.
    let shown = harness::eventually("the core to know the source", async || {
        let answer = owner.post(&dry_run, &json!({ "subject": subject })).await;
        if answer.status == 200 { Ok(answer.json) } else { Err(format!("{answer:?}")) }
    })
    .await;
    let digest = hex::encode(Sha256::digest("ada@example.com"));
    assert_eq!(shown["body"], json!({"keys": {"email_sha256": digest}, "enrich": false}).to_string());
    assert_eq!(shown["headers"]["authorization"], "***");
    owner.post(&dry_run, &json!({"subject": subject, "send": true})).await.refused(422, "VALIDATION_FAILED");
    let nothing = owner.post(&dry_run, &json!({"subject": {"anonymous_id": "a"}})).await.expect(200);
    assert_eq!((&nothing["reason"], &nothing["url"]), (&json!("no_input"), &Value::Null));

    amperity["profile_api_key"] = json!(profile_key());
    owner.put(&path, &amperity).await.expect(200);
    sim.profiles().add("amp-1", "email_sha256", &digest, &json!({"Persona": "P"}));
    let sent = harness::eventually("the core to have the key", async || {
        let answer = owner.post(&dry_run, &json!({"subject": subject, "send": true})).await;
        if answer.status == 200 { Ok(answer.json) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!((&sent["id"], &sent["status"], &sent["reason"]), (&json!("amp-1"), &json!(200), &Value::Null));
    let status = owner.get(&format!("{path}/status")).await.expect(200);
    assert!(status["last_success_at"].is_string() && status["last_error"].is_null(), "{status}");
}
