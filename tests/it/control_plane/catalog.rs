//! The catalogue over gRPC, as the management service asks for it.

use std::collections::{BTreeMap, BTreeSet};

use harness::{eventually, grpc::Api, process::Service, world::World};
use identity_service::vendors;
use prost_types::{ListValue, Struct, Value as ProtoValue, value::Kind};
use proto::{
    reason_of,
    v1::{
        CheckProviderRequest, ErrorReason, Evidence, ListCollectedVendorsRequest,
        ListEnrichmentVendorsRequest, ListSyncVendorsRequest, ProviderKind, SyncMode,
    },
};
use serde_json::{Value, json};
use tonic::Code;

/// Vendors of enrichment, each with the field it fills, its credentials, and the host it is called at.
const ENRICHMENT: [(&str, &str, &[&str], &str); 5] = [
    ("acxiom_realid", "acxiom_person_id", &["api_key"], "api.us-east-1.a.realid.rapid.acxiom.io"),
    ("amperity", "amperity_id", &["token"], "api.amperity.com"),
    ("liveramp_ats", "ramp_id", &["api_key"], "api.rlcdn.com"),
    ("uid2", "uid2_token", &["api_key", "client_secret"], "prod.uidapi.com"),
    ("trade_desk", "tdid", &["partner_id", "secret"], "match.adsrvr.org"),
];

#[tokio::test]
async fn vendors_with_all_that_a_customer_has_to_know() {
    let world = World::start().await;
    let mut catalog = world.admin().catalog();

    let answer = catalog.list_sync_vendors(ListSyncVendorsRequest {}).await.unwrap().into_inner();
    let (vendors, guide) = (answer.vendors, answer.guide.unwrap());
    let names: Vec<&str> = vendors.iter().map(|vendor| vendor.name.as_str()).collect();
    assert_eq!(names, vendors::syncs().map(|record| record.name).collect::<Vec<_>>());
    assert_eq!(names.len(), 15);
    // What the texts are for: the wrong ID, a shorter life, the law, and blockers.
    for (text, word) in [
        (&guide.partner_id, "not interchangeable"),
        (&guide.ttl, "days"),
        (&guide.consent_mode, "PECR"),
        (&guide.expectation, "60"),
    ] {
        assert!(text.contains(word), "{text}");
    }
    assert!(guide.visitors.iter().any(|row| row.visitor.contains("ad blocker")), "{guide:?}");
    assert!(guide.visitors.iter().all(|row| !row.outcome.is_empty()));
    assert!(
        guide.does_not_help.iter().any(|text| text.contains("Customer Match")) && !guide.helps.is_empty()
    );
    for vendor in &vendors {
        let told = [
            &vendor.label,
            &vendor.field,
            &vendor.partner_label,
            &vendor.partner_help,
            &vendor.category,
            &vendor.setup_help,
            &vendor.delivery_help,
        ];
        assert!(told.iter().all(|text| !text.is_empty()), "{vendor:?}");
        let host = vendor.default_endpoint.strip_prefix("https://").unwrap().split('/').next().unwrap();
        assert!(vendor.csp_hosts.iter().any(|known| known == host), "{vendor:?}");
        assert!((1..=400).contains(&vendor.default_ttl_days), "{vendor:?}");
        assert_eq!(vendor.evidence() == Evidence::SpecOnly, vendor.evidence_source.is_empty(), "{vendor:?}");
        let is_registered = vendor.mode() == SyncMode::Registered;
        assert_eq!(!vendor.callback_template.is_empty(), is_registered, "{vendor:?}");
    }
    let trade_desk = vendors.iter().find(|vendor| vendor.name == "trade_desk").unwrap();
    assert_eq!(trade_desk.callback_template, "{collect_url}/v1/sync/trade_desk/callback?ttd_id=%%TDID%%");

    let vendors = catalog.list_collected_vendors(ListCollectedVendorsRequest {}).await.unwrap();
    let vendors: BTreeMap<_, _> =
        vendors.into_inner().vendors.into_iter().map(|vendor| (vendor.name.clone(), vendor)).collect();
    let collected: BTreeSet<&str> =
        vendors::ALL.iter().filter(|vendor| vendor.is_collected()).map(|vendor| vendor.name).collect();
    assert_eq!(vendors.keys().map(String::as_str).collect::<BTreeSet<_>>(), collected);
    let cookies = |name: &str| {
        vendors[name].generated_ids.iter().map(|id| id.cookie.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!([cookies("meta"), cookies("google"), cookies("x")], ["_fbp _fbc", "_ga", ""]);
    let snapchat = &vendors["snapchat"];
    assert_eq!(snapchat.click_ids[0].parameters, ["ScCid", "sccid"]);
    assert!(snapchat.generated_ids[0].unless_synced);
    // Where whoever delivers an event puts the ID.
    let taken_as = |vendor: &str| vendors[vendor].click_ids[0].conversions_field.clone();
    assert_eq!(taken_as("pinterest").as_deref(), Some("user_data.click_id"));
    assert_eq!(taken_as("meta"), None, "the click ID travels as fbc");
    assert_eq!(snapchat.generated_ids[0].conversions_field.as_deref(), Some("user_data.sc_cookie1"));

    let vendors = catalog.list_enrichment_vendors(ListEnrichmentVendorsRequest {}).await.unwrap();
    let vendors = vendors.into_inner().vendors;
    let enriching = vendors::ALL.iter().filter(|vendor| vendor.enrichment.is_some());
    assert!(vendors.iter().map(|vendor| vendor.name.as_str()).eq(enriching.map(|vendor| vendor.name)));
    for (name, field, credentials, host) in ENRICHMENT {
        let vendor = vendors.iter().find(|vendor| vendor.name == name).unwrap();
        assert_eq!((vendor.name.as_str(), vendor.field.as_str(), vendor.host.as_str()), (name, field, host));
        assert_eq!(vendor.credentials, credentials, "{name}");
        let labelled: Vec<&str> = vendor.credential_fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(labelled, credentials, "{name}");
        assert!(
            vendor.credential_fields.iter().all(|field| !field.label.is_empty() && !field.help.is_empty())
        );
        // What is shown as the default is what may be saved.
        let config = vendor.default_config.clone().unwrap();
        let settings = json!({
            "base_url": config.base_url, "method": config.method, "path": config.path, "headers": config.headers,
            "json_path": config.json_path, "ttl": config.ttl,
        });
        assert!(config.request_template.is_some(), "{name}");
        assert_eq!(check(&world, ProviderKind::Enrichment, name, &settings).await, []);
    }
}

/// Path and text of each problem with settings, as the core finds it.
async fn check(world: &World, kind: ProviderKind, name: &str, settings: &Value) -> Vec<(String, String)> {
    let answer = world.admin().catalog().check_provider(request(world, kind, name, settings)).await.unwrap();
    answer.into_inner().problems.into_iter().map(|problem| (problem.field, problem.message)).collect()
}

fn request(world: &World, kind: ProviderKind, name: &str, settings: &Value) -> CheckProviderRequest {
    let fields = settings.as_object().unwrap().iter();
    let fields = fields.map(|(name, value)| (name.clone(), message(value))).collect();
    CheckProviderRequest {
        org_id: world.customer.org_id.to_string(),
        name: name.to_owned(),
        settings: Some(Struct { fields }),
        kind: kind.into(),
    }
}

fn message(value: &Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap()),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Array(list) => Kind::ListValue(ListValue { values: list.iter().map(message).collect() }),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), message(value))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    ProtoValue { kind: Some(kind) }
}

#[tokio::test]
async fn settings_are_checked_before_anybody_saves_them() {
    let world = World::start().await;
    let custom = json!({
        "endpoint": "https://cdp.internal.example.com/v1/resolve",
        "authentication": {"type": "bearer", "token_secret_ref": "secret:cdp_api_token"},
        "request_template": {"anonymous_id": "{{anonymous_id}}"},
        "response_mapping": {"redis_field": "cdp_customer_id", "json_path": "$.customer_id"},
        "ttl": "30d",
    });
    assert_eq!(check(&world, ProviderKind::Custom, "internal_cdp", &custom).await, []);
    let fields = async |kind, name, settings: &Value| {
        let problems = check(&world, kind, name, settings).await;
        assert!(problems.iter().all(|(_, message)| !message.is_empty() && !message.contains("s3cret")));
        problems.into_iter().map(|(field, _)| field).collect::<Vec<_>>()
    };
    let mut wrong = custom.clone();
    wrong["endpoint"] = json!("https://169.254.169.254/?token=s3cret");
    wrong["response_mapping"]["redis_field"] = json!("pin_unauth");
    wrong["s3cret"] = json!("s3cret");
    assert_eq!(
        fields(ProviderKind::Custom, "internal_cdp", &wrong).await,
        ["endpoint", "response_mapping.redis_field", "s3cret"]
    );
    // Nobody has us call ourselves.
    let mut database = world.database.connection().await.unwrap();
    world.customer.add_collect_host(&mut database, "https://collect.example.com").await.unwrap();
    eventually("the collect host to be known", async || {
        let mut ours = custom.clone();
        ours["endpoint"] = json!("https://collect.example.com/v1/t");
        let found = fields(ProviderKind::Custom, "internal_cdp", &ours).await;
        if found == ["endpoint"] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let headers = json!({"headers": {"x-a": "a\r\nb: c", "Authorization": "Bearer s3cret"}, "ttl": "0"});
    assert_eq!(
        fields(ProviderKind::Enrichment, "uid2", &headers).await,
        ["headers.Authorization", "headers.x-a", "ttl"]
    );
    let profile =
        json!({"tenant_subdomain": "acme", "tenant_id": "acme", "linking_keys": [{"source": "name"}]});
    assert_eq!(
        fields(ProviderKind::Profile, "amperity", &profile).await,
        ["event_stream_id", "source_value", "linking_keys[0].source", "linking_keys[0].key"]
    );
}

#[tokio::test]
async fn networks_and_hosts_that_the_operator_opens_may_be_called() {
    let world = World::start().await;
    let secrets = &world.cluster.secrets;
    let env = [
        ("DATABASE_URL", world.database.url.as_str()),
        ("REDIS_URL", &format!("redis://{}/", world.redis.addr)),
        ("DATAFLY_ENCRYPTION_KEY", &secrets.encryption_key),
        ("SERVICE_TOKENS", &secrets.service_tokens()),
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("OUTBOUND_ALLOW_CIDRS", "127.0.0.0/8, 10.7.0.0/16"),
        ("OUTBOUND_ALLOW_HOSTS", "uid2, .svc.cluster.local"),
        ("ALLOW_LOOPBACK", "true"),
    ];
    let open = Service::start("identity-service", &env, &["grpc", "metrics"]).await.unwrap();
    let open = Api::new(open.addr("grpc"), Some(&secrets.admin_token)).unwrap();
    for (base_url, may) in [
        ("http://127.0.0.1:49152/uid2", true),
        ("http://localhost:49152", true),
        ("https://10.7.0.1", true),
        ("https://10.8.0.1", false),
        ("http://uid2/operator", true),
        ("https://uid2.identity.svc.cluster.local:8443", true),
        ("https://uid2.internal", false),
        ("http://prod.uidapi.com", false),
        (&world.cluster.collect_url(), false),
    ] {
        let settings = json!({ "base_url": base_url });
        let asked = request(&world, ProviderKind::Enrichment, "uid2", &settings);
        let problems = open.catalog().check_provider(asked).await.unwrap().into_inner().problems;
        assert_eq!(problems.is_empty(), may, "{base_url}: {problems:?}");
        let elsewhere = check(&world, ProviderKind::Enrichment, "uid2", &settings).await;
        assert!(!elsewhere.is_empty(), "{base_url} where nothing is opened");
    }
}

#[tokio::test]
async fn what_can_t_be_checked_is_refused() {
    let world = World::start().await;
    let refusal = async |request: CheckProviderRequest| {
        let status = world.admin().catalog().check_provider(request).await.unwrap_err();
        (status.code(), reason_of(&status).unwrap().reason)
    };
    let own = |kind, name| request(&world, kind, name, &json!({}));
    let unknown = (Code::NotFound, ErrorReason::VendorNotFound);
    assert_eq!(refusal(own(ProviderKind::Enrichment, "nobody")).await, unknown);
    assert_eq!(refusal(own(ProviderKind::Profile, "nobody")).await, unknown);
    let invalid = (Code::InvalidArgument, ErrorReason::InvalidArgument);
    assert_eq!(refusal(own(ProviderKind::Unspecified, "uid2")).await, invalid);
    let nothing = CheckProviderRequest { settings: None, ..own(ProviderKind::Custom, "a") };
    assert_eq!(refusal(nothing).await, invalid);
    let elsewhere =
        CheckProviderRequest { org_id: uuid::Uuid::nil().to_string(), ..own(ProviderKind::Custom, "a") };
    assert_eq!(refusal(elsewhere).await, (Code::NotFound, ErrorReason::OrgNotFound));
}
