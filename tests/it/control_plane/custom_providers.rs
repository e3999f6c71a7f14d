//! A source's own providers in the product documentation's JSON, pasted whole: all or none of them.

use harness::control::Control;
use serde_json::{Value, json};

use super::support::source;

/// The specification's JSON, to the letter.
const PASTED: &str = r#"{
  "enrichment": {
    "custom_providers": [
      {
        "name": "internal_cdp",
        "endpoint": "https://cdp.internal.example.com/v1/resolve",
        "method": "POST",
        "authentication": {
          "type": "bearer",
          "token_secret_ref": "secret:cdp_api_token"
        },
        "request_template": {
          "anonymous_id": "{{anonymous_id}}",
          "email_hash": "{{sha256_email}}"
        },
        "response_mapping": {
          "redis_field": "cdp_customer_id",
          "json_path": "$.customer_id"
        },
        "ttl": "30d",
        "timeout": "2s"
      }
    ]
  }
}"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_specification_s_json_pasted_whole_is_taken() {
    let control = Control::start().await;
    let owner = &control.owner;
    let source = source(owner).await;
    let (path, providers) = (format!("{source}/enrichment"), format!("{source}/custom-providers"));
    let pasted: Value = serde_json::from_str(PASTED).unwrap();
    let refused = owner.put(&path, &pasted).await;
    refused.refused(422, "VALIDATION_FAILED");
    assert_eq!(refused.fields(), ["enrichment.custom_providers[0].authentication.token_secret_ref"]);
    owner.put("/v1/admin/secrets/cdp_api_token", &json!({"value": "x"})).await.expect(201);
    let editor = owner.colleague("editor").await;
    let refused = editor.put(&path, &pasted).await;
    refused.refused(422, "CREDENTIAL_NOT_FOR_HOST");
    assert_eq!(refused.fields(), ["enrichment.custom_providers[0].authentication.token_secret_ref"]);

    let made = owner.put(&path, &pasted).await.expect(201);
    let one = owner.get(&format!("{providers}/internal_cdp")).await.expect(200);
    assert_eq!(made["custom_providers"], json!([one]));
    let mut settings = pasted["enrichment"]["custom_providers"][0].clone();
    settings.as_object_mut().unwrap().remove("name");
    assert_eq!(one["settings"], settings);
    // Without the outer member, and by whoever may change settings, it is the same.
    let again = editor.put(&path, &pasted["enrichment"]).await.expect(200);
    assert_eq!(again["custom_providers"][0]["settings"], settings);
    let foreign = control.another_owner().await;
    foreign.put(&path, &pasted).await.refused(404, "NOT_FOUND");

    // Variables of the event, and what is not named goes; the field is free at once.
    let second = json!({"custom_providers": [{"name": "crm", "endpoint": "https://crm.example.com/{{properties.tenant}}",
        "request_template": {"plan": "{{traits.plan}}", "from": "{{context.page.referrer}}"},
        "response_mapping": {"redis_field": "cdp_customer_id", "json_path": "$.id"}, "ttl": "1d"}]});
    owner.put(&path, &second).await.expect(201);
    let names = async || {
        let list = owner.get(&providers).await.expect(200);
        let names = list["data"].as_array().unwrap().iter();
        names.map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["crm"]);
    let noted = "SELECT string_agg(split_part(action, '.', 2) || ' ' || split_part(resource_id, '/', 2), ', ' ORDER BY id) \
        FROM audit_log WHERE resource_type = 'custom_provider'";
    assert_eq!(
        control.world.database.text(noted).await,
        "created internal_cdp, deleted internal_cdp, created crm"
    );
    owner.put(&path, &json!({"custom_providers": []})).await.expect(200);
    assert!(names().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_wrong_keeps_all_out_and_is_told_with_its_index() {
    let control = Control::start().await;
    let owner = &control.owner;
    let path = format!("{}/enrichment", source(owner).await);
    let provider = |name: &str, field: &str| {
        json!({"name": name, "endpoint": "https://cdp.example.com/", "ttl": "30d",
            "response_mapping": {"redis_field": field, "json_path": "$.id"}})
    };
    owner.put(&path, &json!({"custom_providers": [provider("kept", "kept_id")]})).await.expect(201);
    let mut wrong = provider("c", "ramp_id");
    wrong["endpoint"] = json!("https://cdp.internal/");
    wrong["request_template"] = json!({"x": "{{event.name}}"});
    let nameless = json!({"endpoint": "https://cdp.example.com/", "ttl": "30d",
        "response_mapping": {"redis_field": "d_id", "json_path": "$.id"}});
    let given = json!([provider("a", "a_id"), provider("a", "a_id"), wrong, nameless]);
    let expected = |path: &str| {
        [
            "[1].name",
            "[1].response_mapping.redis_field",
            "[2].endpoint",
            "[2].request_template",
            "[2].response_mapping.redis_field",
            "[3].name",
        ]
        .map(|field| format!("{path}{field}"))
    };
    for (body, prefix) in [
        (json!({"custom_providers": given}), "custom_providers"),
        (json!({"enrichment": {"custom_providers": given}}), "enrichment.custom_providers"),
    ] {
        let refused = owner.put(&path, &body).await;
        refused.refused(422, "VALIDATION_FAILED");
        assert_eq!(refused.fields(), expected(prefix));
    }
    for (body, field) in [
        (json!({}), "custom_providers"),
        (json!({"custom_providers": [], "enrichment": {"custom_providers": []}}), "custom_providers"),
        (json!({"custom_providers": vec![provider("x", "x"); 101]}), "custom_providers"),
        (json!({"custom_providers": [{"name": "a", "token": "x"}]}), "custom_providers[0].token"),
        (json!({"enrichment": {"custom_providers": [{"name": 1}]}}), "enrichment.custom_providers[0].name"),
    ] {
        let refused = owner.put(&path, &body).await;
        refused.refused(422, "VALIDATION_FAILED");
        assert_eq!(refused.fields(), [field], "{body}");
    }
    let left = owner.get(&path.replace("/enrichment", "/custom-providers")).await.expect(200);
    assert_eq!(left["data"].as_array().unwrap().len(), 1, "nothing was changed: {left}");
    assert_eq!(left["data"][0]["name"], "kept");
}
