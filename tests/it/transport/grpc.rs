//! The core's own interface: reflection, health, tokens, roles, bounds.

use harness::{
    grpc::{Api, raw},
    visits::{denied, granted},
    world::{Options, World},
};
use prost::Message;
use proto::v1::{
    AuthenticateRequest, Caller, CollectCaller, ConsentMode, Environment, ExplainRequest, IdentityRef,
    PendingSyncsRequest, ResolveRequest, Subject, VendorIdsRequest, VendorSyncStatus, caller::Kind,
    identity_ref::Id,
};
use proto::{ERROR_DOMAIN, reason_of};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

const SERVICES: [&str; 7] = [
    "datafly.identity.v1.AuthService",
    "datafly.identity.v1.CatalogService",
    "datafly.identity.v1.EnrichService",
    "datafly.identity.v1.IdentityAdminService",
    "datafly.identity.v1.ProfileService",
    "datafly.identity.v1.ResolveService",
    "datafly.identity.v1.SyncService",
];

/// Checks that a refusal has the code, and a reason of ours in `google.rpc.ErrorInfo`.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: &str, what: &str) {
    let status = match answer {
        Err(status) => status,
        Ok(answer) => panic!("{what} was answered: {answer:?}"),
    };
    let named = reason_of(&status).map(proto::Reason::name);
    assert_eq!((status.code(), named), (code, Some(reason)), "{what}: {status:?}");
    assert_eq!(status.get_details_error_info().map(|info| info.domain).as_deref(), Some(ERROR_DOMAIN));
}

fn of_org(world: &World) -> Option<Caller> {
    Some(Caller { kind: Some(Kind::OrgId(world.customer.org_id.to_string())) })
}

fn known_as(anonymous_id: &str) -> Option<IdentityRef> {
    Some(IdentityRef { id: Some(Id::AnonymousId(anonymous_id.to_owned())), browser: None })
}

#[tokio::test]
async fn reflection_lists_the_services_with_a_token_and_refuses_without() {
    let world = World::start().await;
    let addr = world.cluster.cores[0].addr("grpc");
    let listed = world.internal().list_services().await.unwrap();
    for service in SERVICES {
        assert!(listed.iter().any(|name| name == service), "{service} is not in {listed:?}");
    }
    assert!(listed.iter().any(|name| name == "grpc.health.v1.Health"), "{listed:?}");
    for token in [None, Some("wrong"), Some("")] {
        let refused = Api::new(addr, token).unwrap().list_services().await;
        assert_refused(refused, Code::Unauthenticated, "INVALID_SERVICE_TOKEN", &format!("token {token:?}"));
    }
}

#[tokio::test]
async fn health_needs_no_token() {
    let world = World::start().await;
    let stranger = Api::new(world.cluster.cores[0].addr("grpc"), None).unwrap();
    let mut health = HealthClient::new(stranger.channel.clone());
    for (service, expected) in
        [("", Ok(1)), ("datafly.identity.v1.ResolveService", Ok(1)), ("nobody", Err(Code::NotFound))]
    {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.map(|a| a.get_ref().status).map_err(|s| s.code());
        assert_eq!(answer, expected, "{service:?}");
    }
    let request = VendorIdsRequest::default();
    let refused = stranger.resolve().vendor_ids(request).await;
    assert_refused(refused, Code::Unauthenticated, "INVALID_SERVICE_TOKEN", "VendorIds without a token");
}

#[tokio::test]
async fn roles_bound_what_a_token_may_do() {
    let world = World::start().await;
    let secrets = &world.cluster.secrets;
    let edge = world.cluster.api(0, &secrets.edge_token).unwrap();
    let admin = world.cluster.api(0, &secrets.admin_token).unwrap();
    let vendor_ids = VendorIdsRequest {
        org_id: world.customer.org_id.to_string(),
        identities: known_as("a").into_iter().collect(),
        fields: Vec::new(),
        ..VendorIdsRequest::default()
    };
    let subject = Subject { anonymous_id: Some("a".to_owned()), ..Subject::default() };
    let resolve =
        ResolveRequest { caller: of_org(&world), subjects: vec![subject], ..ResolveRequest::default() };
    let (denied, reason) = (Code::PermissionDenied, "ROLE_NOT_ALLOWED");
    assert_refused(
        edge.resolve().resolve(resolve.clone()).await,
        denied,
        reason,
        "an edge that names an org",
    );
    assert_refused(edge.resolve().vendor_ids(vendor_ids.clone()).await, denied, reason, "an edge that reads");
    assert_refused(
        admin.resolve().vendor_ids(vendor_ids.clone()).await,
        denied,
        reason,
        "management that reads",
    );
    assert_refused(
        admin.resolve().resolve(resolve.clone()).await,
        denied,
        reason,
        "management that resolves",
    );
    let list = proto::v1::ListSyncVendorsRequest {};
    let refused = world.internal().catalog().list_sync_vendors(list).await;
    assert_refused(refused, denied, reason, "the processor in the catalogue");
    assert_refused(edge.catalog().list_sync_vendors(list).await, denied, reason, "an edge in the catalogue");
    let org_id = world.customer.org_id.to_string();
    for (who, api) in [("the processor", &world.internal()), ("an edge", &edge)] {
        let identity = known_as("a");
        let lookup = proto::v1::LookupRequest { org_id: org_id.clone(), identity: identity.clone() };
        assert_refused(api.people().lookup(lookup).await, denied, reason, &format!("{who} that looks up"));
        let delete = proto::v1::DeleteRequest { org_id: org_id.clone(), identity };
        assert_refused(api.people().delete(delete).await, denied, reason, &format!("{who} that erases"));
    }

    let operator = world.cluster.api(0, &secrets.operator_token).unwrap();
    operator.resolve().resolve(resolve).await.unwrap();
    operator.resolve().vendor_ids(vendor_ids).await.unwrap();
}

#[tokio::test]
async fn an_edge_speaks_for_the_source_of_its_key() {
    let world = World::start().await;
    let edge = world.cluster.api(0, &world.cluster.secrets.edge_token).unwrap();
    let collect = CollectCaller {
        pipeline_key: world.customer.live_key.clone(),
        origin: Some(world.customer.origin.clone()),
        host: world.cluster.edge.addr("http").to_string(),
        ..CollectCaller::default()
    };
    let subject = Subject { anonymous_id: Some("a".to_owned()), ..Subject::default() };
    let caller = Caller { kind: Some(Kind::Collect(collect.clone())) };
    let request =
        ResolveRequest { caller: Some(caller), subjects: vec![subject], ..ResolveRequest::default() };
    let answer = edge.resolve().resolve(request).await.unwrap().into_inner().resolutions.remove(0);
    assert_eq!((answer.canonical_id.len(), answer.anonymous_id.as_str()), (36, "a"), "{answer:?}");
    assert!(answer.created && answer.error.is_none(), "{answer:?}");

    let who = edge
        .auth()
        .authenticate(AuthenticateRequest { caller: Some(collect.clone()), before_body: false })
        .await
        .unwrap();
    let who = who.into_inner();
    let customer = &world.customer;
    assert_eq!(
        (who.org_id.clone(), who.source_id.clone(), who.pipeline_id.clone()),
        (customer.org_id.to_string(), customer.source_id.to_string(), customer.pipeline_id.to_string())
    );
    assert_eq!((who.environment(), who.consent_mode()), (Environment::Live, ConsentMode::Explicit));
    let collect = CollectCaller { pipeline_key: customer.test_key.clone(), ..collect };
    let who = edge
        .auth()
        .authenticate(AuthenticateRequest { caller: Some(collect), before_body: false })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (who.org_id.clone(), who.environment()),
        (customer.test_org_id.to_string(), Environment::Test)
    );
}

#[tokio::test]
async fn an_internal_service_resolves_and_plans() {
    let world = World::start().await;
    let api = world.internal();
    let subject = |anonymous_id: &str| Subject {
        anonymous_id: Some(anonymous_id.to_owned()),
        consent: Some(proto::v1::ConsentSignals { json: Some(granted().to_string()), sec_gpc: false }),
        ..Subject::default()
    };
    let request = ResolveRequest {
        caller: of_org(&world),
        subjects: vec![subject("a"), subject("b"), subject("a")],
        ..ResolveRequest::default()
    };
    let first = api.resolve().resolve(request.clone()).await.unwrap().into_inner().resolutions;
    assert!(first.iter().all(|r| r.error.is_none() && r.cookies.is_empty()), "{first:?}");
    assert_eq!(first[0].canonical_id, first[2].canonical_id);
    assert_ne!(first[0].canonical_id, first[1].canonical_id);
    assert_eq!(uuid::Uuid::parse_str(&first[0].canonical_id).map(|id| id.get_version_num()), Ok(7));
    let again = api.resolve().resolve(request).await.unwrap().into_inner().resolutions;
    assert!(again.iter().all(|r| !r.created), "{again:?}");

    let plan = PendingSyncsRequest {
        caller: of_org(&world),
        identity: known_as("a"),
        pipeline_id: Some(world.customer.pipeline_id.to_string()),
    };
    for _ in 0..2 {
        let pending = api.sync().pending_syncs(plan.clone()).await.unwrap().into_inner().pending_syncs;
        let names: Vec<&str> = pending.iter().map(|sync| sync.vendor.as_str()).collect();
        assert_eq!(names, ["pinterest"], "listing takes no lease");
    }
    let nobody = PendingSyncsRequest { identity: known_as("nobody"), ..plan.clone() };
    assert_refused(
        api.sync().pending_syncs(nobody).await,
        Code::NotFound,
        "IDENTITY_NOT_FOUND",
        "a stranger",
    );
    let elsewhere = PendingSyncsRequest { pipeline_id: Some(uuid::Uuid::nil().to_string()), ..plan };
    assert_refused(
        api.sync().pending_syncs(elsewhere).await,
        Code::NotFound,
        "PIPELINE_NOT_FOUND",
        "no pipeline",
    );
}

#[tokio::test]
async fn bounds_and_malformed_fields() {
    let world = World::start().await;
    let api = world.internal();
    let invalid = (Code::InvalidArgument, "INVALID_ARGUMENT");
    let subjects =
        |count: usize| vec![Subject { anonymous_id: Some("a".to_owned()), ..Subject::default() }; count];
    for count in [0, 1001] {
        let request =
            ResolveRequest { caller: of_org(&world), subjects: subjects(count), ..ResolveRequest::default() };
        assert_refused(
            api.resolve().resolve(request).await,
            invalid.0,
            invalid.1,
            &format!("{count} subjects"),
        );
        let request = VendorIdsRequest {
            org_id: world.customer.org_id.to_string(),
            identities: vec![known_as("a").unwrap(); count],
            fields: Vec::new(),
            ..VendorIdsRequest::default()
        };
        assert_refused(
            api.resolve().vendor_ids(request).await,
            invalid.0,
            invalid.1,
            &format!("{count} identities"),
        );
    }
    for fields in [vec!["f".to_owned(); 201], vec!["f".repeat(65)]] {
        let (count, longest) = (fields.len(), fields[0].len());
        let request = VendorIdsRequest {
            org_id: world.customer.org_id.to_string(),
            identities: vec![known_as("a").unwrap()],
            fields,
            ..VendorIdsRequest::default()
        };
        let what = format!("{count} fields of {longest} bytes");
        assert_refused(api.resolve().vendor_ids(request).await, invalid.0, invalid.1, &what);
    }
    for org in ["", "not-a-uuid", "00000000-0000-0000-0000-00000000000g"] {
        let caller = Some(Caller { kind: Some(Kind::OrgId(org.to_owned())) });
        let request = ResolveRequest { caller, subjects: subjects(1), ..ResolveRequest::default() };
        assert_refused(api.resolve().resolve(request).await, invalid.0, invalid.1, &format!("org {org:?}"));
    }
    let request = ResolveRequest { caller: None, subjects: subjects(1), ..ResolveRequest::default() };
    assert_refused(api.resolve().resolve(request).await, invalid.0, invalid.1, "no caller");
    let huge = Subject { page_url: Some("x".repeat(5 * 1024 * 1024)), ..Subject::default() };
    let request =
        ResolveRequest { caller: of_org(&world), subjects: vec![huge], ..ResolveRequest::default() };
    let refused = api.resolve().resolve(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "5 MiB: {refused:?}");
}

#[tokio::test]
async fn what_the_framework_refuses_has_a_reason_too() {
    let world = World::start().await;
    for (method, flag, message, code, reason) in [
        ("Resolve", 0, &b"\x07\xff"[..], Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("Resolve", 1, b"x", Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("Nothing", 0, b"", Code::Unimplemented, "NOT_IMPLEMENTED"),
    ] {
        let answer = raw(&world, method, flag, message, "5S").await;
        let status = Status::from_header_map(answer.headers());
        let refused: Result<(), Status> = Err(status.unwrap_or_else(|| panic!("{method}: {answer:?}")));
        assert_refused(refused, code, reason, &format!("{method} with {message:?}"));
    }
}

#[tokio::test]
async fn a_deadline_that_passes_is_called_so() {
    let world = World::start().await;
    world.redis_proxy.blackhole().await;
    world.postgres_proxy.blackhole().await;
    let subject = Subject { anonymous_id: Some("a".to_owned()), ..Subject::default() };
    let message =
        ResolveRequest { caller: of_org(&world), subjects: vec![subject], ..ResolveRequest::default() }
            .encode_to_vec();
    // By hand: tonic's own client watches the deadline too, and would answer in the server's place.
    let answer = raw(&world, "Resolve", 0, &message, "20m").await;
    let status = answer.headers().get("grpc-status").and_then(|status| status.to_str().ok());
    let expected = (Code::DeadlineExceeded as i32).to_string();
    assert_eq!(status, Some(expected.as_str()), "without stores, in 20 ms: {:?}", answer.headers());
}

#[tokio::test]
async fn an_engineer_is_told_why_a_vendor_is_offered_or_not() {
    let world = World::with(Options { vendors: &["pinterest", "criteo"], ..Options::default() }).await;
    let mut browser = world.browser();
    let explained = async |aid: &str| -> Vec<(String, VendorSyncStatus, bool)> {
        let request = ExplainRequest {
            caller: of_org(&world),
            identity: known_as(aid),
            pipeline_id: Some(world.customer.pipeline_id.to_string()),
        };
        let vendors = world.internal().sync().explain(request).await.unwrap().into_inner().vendors;
        let told: Vec<_> =
            vendors.into_iter().map(|v| (v.vendor.clone(), v.status(), v.until.is_some())).collect();
        assert_eq!(told.len(), 15);
        let (own, others): (Vec<_>, Vec<_>) =
            told.into_iter().partition(|(vendor, _, _)| ["pinterest", "criteo"].contains(&vendor.as_str()));
        assert!(others.iter().all(|(_, status, _)| *status == VendorSyncStatus::Disabled), "{others:?}");
        own
    };
    let told = |pinterest, criteo| {
        let until = |status| matches!(status, VendorSyncStatus::Synced | VendorSyncStatus::Waiting);
        vec![
            ("pinterest".to_owned(), pinterest, until(pinterest)),
            ("criteo".to_owned(), criteo, until(criteo)),
        ]
    };
    use VendorSyncStatus::{Consent, Pending, Synced, Waiting};
    browser.view(&granted()).await;
    assert_eq!(explained(browser.aid()).await, told(Pending, Pending));
    browser.sync("pinterest").await;
    browser.sync_to_vendor("criteo").await;
    assert_eq!(explained(browser.aid()).await, told(Synced, Waiting));
    browser.view(&denied()).await;
    assert_eq!(explained(browser.aid()).await, told(Synced, Consent), "what is stored stays");

    let nobody = ExplainRequest {
        caller: of_org(&world),
        identity: known_as("nobody"),
        pipeline_id: Some(world.customer.pipeline_id.to_string()),
    };
    let refused = world.internal().sync().explain(nobody).await;
    assert_refused(refused, Code::NotFound, "IDENTITY_NOT_FOUND", "Explain of nobody");
}
