//! The state of a source's providers: their last success and failure, pauses, refused credentials, breakers.

use proto::{
    reason_of,
    v1::{ErrorReason, ProviderKind, ProviderStatusRequest},
};
use serde_json::{Value, json};
use tonic::Code;
use uuid::Uuid;

use super::scripted::{CANARY, Scripted};

/// The status of a provider; its times are of the last minute.
async fn status(world: &Scripted, provider: &str) -> Value {
    let mut status = world.owner().get(&format!("{provider}/status")).await.expect(200);
    for pointer in ["/last_success_at", "/credentials_refused_at", "/last_error/at"] {
        if let Some(time) = status.pointer_mut(pointer).filter(|time| time.is_string()) {
            *time = json!("now");
        }
    }
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_tells_what_came_of_its_calls() {
    let world = Scripted::start().await;
    let provider = world.provider("cdp", &json!({})).await;
    assert_eq!(status(&world, &provider).await, json!({"last_success_at": null, "breaker": "closed"}));
    assert_eq!(world.send(&provider).await["id"], "c-1");
    assert_eq!(status(&world, &provider).await, json!({"last_success_at": "now", "breaker": "closed"}));

    world.says(503, &[], "");
    let failed = world.send(&provider).await;
    assert_eq!((&failed["reason"], &failed["status"]), (&json!("status"), &json!(503)));
    let error = json!({"reason": "status", "status": 503, "at": "now"});
    let expected = json!({"last_success_at": "now", "last_error": error, "breaker": "closed"});
    assert_eq!(status(&world, &provider).await, expected);
    world.says(200, &[], "no JSON");
    assert_eq!(world.send(&provider).await["reason"], "malformed");
    let error = json!({"reason": "malformed", "status": 200, "at": "now"});
    assert_eq!(status(&world, &provider).await["last_error"], error);

    // Two failures there were; with the tenth in a row it is left alone.
    for _ in 2..10 {
        assert_eq!(status(&world, &provider).await["breaker"], "closed");
        world.send(&provider).await;
    }
    assert_eq!(status(&world, &provider).await["breaker"], "open");
    let before = world.seen().len();
    let held = world.send(&provider).await;
    assert_eq!((&held["reason"], &held["status"]), (&json!("busy"), &Value::Null));
    assert_eq!(world.seen().len(), before);
    // Another provider is not held up.
    let other = world.provider("other", &json!({})).await;
    assert_eq!(status(&world, &other).await, json!({"last_success_at": null, "breaker": "closed"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_told_and_kept() {
    let world = Scripted::start().await;
    let provider = world.provider("cdp", &json!({})).await;
    world.says(429, &[("retry-after", "600")], "");
    let limited = world.send(&provider).await;
    assert_eq!((&limited["reason"], &limited["status"]), (&json!("rate_limited"), &json!(429)));
    let mut told = status(&world, &provider).await;
    assert!(told["backoff_until"].take().is_string(), "{told}");
    let error = json!({"reason": "rate_limited", "status": 429, "at": "now"});
    let expected =
        json!({"last_success_at": null, "backoff_until": null, "last_error": error, "breaker": "closed"});
    assert_eq!(told, expected);
    world.says(200, &[], r#"{"customer_id": "c-1"}"#);
    let limited = world.send(&provider).await;
    assert_eq!((&limited["reason"], &limited["status"]), (&json!("rate_limited"), &Value::Null));
    assert_eq!(world.seen().len(), 1, "it is not called");

    // The pause is over, of which nothing is told any more.
    world.control.world.database.execute("UPDATE provider_states SET backoff_until = now()").await;
    assert!(status(&world, &provider).await.get("backoff_until").is_none());
    assert_eq!(world.send(&provider).await["id"], "c-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_told_until_they_change() {
    let world = Scripted::start().await;
    let provider = world.provider("cdp", &json!({})).await;
    world.says(401, &[], "{}");
    let refused = world.send(&provider).await;
    assert_eq!((&refused["reason"], &refused["status"]), (&json!("credentials"), &json!(401)));
    let error = json!({"reason": "credentials", "status": 401, "at": "now"});
    let mut expected = json!({"last_success_at": null, "credentials_refused_at": "now", "last_error": error,
        "breaker": "closed"});
    assert_eq!(status(&world, &provider).await, expected);
    world.says(200, &[], r#"{"customer_id": "c-1"}"#);
    let refused = world.send(&provider).await;
    assert_eq!((&refused["reason"], &refused["status"]), (&json!("credentials"), &Value::Null));
    assert_eq!(world.seen().len(), 1, "it is not called");

    // As soon as the secret has been given anew, whatever it is.
    let secret = json!({"value": CANARY, "hosts": [world.addr.to_string()]});
    world.owner().put("/v1/admin/secrets/token", &secret).await.expect(200);
    expected.as_object_mut().unwrap().remove("credentials_refused_at");
    assert_eq!(status(&world, &provider).await, expected);
    assert_eq!(world.send(&provider).await["id"], "c-1");
    assert_eq!(world.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_providers_of_the_source_have_a_status() {
    let world = Scripted::start().await;
    let (owner, source) = (world.owner(), &world.source);
    let empty = json!({"last_success_at": null, "breaker": "closed"});
    for part in ["enrichment/uid2", "custom-providers/cdp", "profile-providers/amperity"] {
        owner.get(&format!("{source}/{part}/status")).await.refused(404, "NOT_FOUND");
    }
    owner.put(&format!("{source}/enrichment/uid2"), &json!({"enabled": false})).await.expect(201);
    let amperity = json!({"tenant_subdomain": "acme", "tenant_id": "acme", "event_stream_id": "esm-x",
        "source_value": "x", "api_key": "x"});
    owner.put(&format!("{source}/profile-providers/amperity"), &amperity).await.expect(201);
    for part in ["enrichment/uid2", "profile-providers/amperity"] {
        assert_eq!(owner.get(&format!("{source}/{part}/status")).await.expect(200), empty, "{part}");
    }

    let mut catalog = world.control.world.admin().catalog();
    let request = ProviderStatusRequest {
        org_id: owner.org_id.to_string(),
        name: "uid2".to_owned(),
        source_id: source.rsplit('/').next().unwrap().to_owned(),
        kind: ProviderKind::Enrichment.into(),
    };
    assert!(catalog.provider_status(request.clone()).await.is_ok());
    let unknown = (Code::NotFound, ErrorReason::VendorNotFound);
    let invalid = (Code::InvalidArgument, ErrorReason::InvalidArgument);
    let stranger = world.control.another_owner().await.org_id.to_string();
    for (wrong, expected) in [
        (ProviderStatusRequest { name: "nobody".to_owned(), ..request.clone() }, unknown),
        (ProviderStatusRequest { kind: ProviderKind::Custom.into(), ..request.clone() }, unknown),
        (ProviderStatusRequest { kind: ProviderKind::Profile.into(), ..request.clone() }, unknown),
        (ProviderStatusRequest { kind: 0, ..request.clone() }, invalid),
        (ProviderStatusRequest { source_id: Uuid::now_v7().to_string(), ..request.clone() }, invalid),
        (ProviderStatusRequest { source_id: String::new(), ..request.clone() }, invalid),
        (ProviderStatusRequest { org_id: stranger, ..request.clone() }, invalid),
    ] {
        let status = catalog.provider_status(wrong.clone()).await.unwrap_err();
        assert_eq!((status.code(), reason_of(&status).unwrap().reason), expected, "{wrong:?}");
    }
    let mut internal = world.control.world.internal().catalog();
    let refused = internal.provider_status(request).await.unwrap_err();
    assert_eq!(reason_of(&refused).unwrap().reason, ErrorReason::RoleNotAllowed);
}
