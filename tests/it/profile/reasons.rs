//! Why there is no profile: each cause is a reason of its own, in the answer, in metrics and in the provider's status.

use harness::{
    answers::assert_accepted,
    enrich_sim::Fault,
    eventually,
    profile_sim::ingest_key,
    providers::{Enriching, subject},
    world::Options,
};
use proto::v1::{Audience, BatchProfileRequest, ProviderKind, ProviderStatusRequest, ProviderStatusResponse};
use serde_json::{Value, json};

async fn status(own: &Enriching) -> ProviderStatusResponse {
    let request = ProviderStatusRequest {
        org_id: own.world.customer.org_id.to_string(),
        source_id: own.world.customer.source_id.to_string(),
        name: "amperity".to_owned(),
        kind: ProviderKind::Profile.into(),
    };
    own.world.admin().catalog().provider_status(request).await.unwrap().into_inner()
}

/// Checks that a new visitor has no profile for that reason, and that it is seen.
async fn assert_reason(own: &Enriching, reason: &str, last_error: Option<(&str, Option<u32>)>) {
    let browser = own.visitor().await;
    let labels = [("provider", "amperity"), ("outcome", reason)];
    let before = own.world.metric("datafly_profile_total", &labels).await;
    let told = own.profile(browser.aid(), None).await;
    assert_eq!((told.reason.as_str(), told.id.as_str()), (reason, ""));
    assert_eq!(own.world.metric("datafly_profile_total", &labels).await, before + 1.0, "{reason}");
    let Some((error, code)) = last_error else { return };
    let status = status(own).await;
    let last = status.last_error.unwrap_or_else(|| panic!("{reason} is not told"));
    assert_eq!((last.reason.as_str(), last.status), (error, code));
}

#[tokio::test]
async fn each_cause_is_a_reason_of_its_own() {
    let own = Enriching::with(Options::default(), &[]).await;
    let nobody = own.visitor().await;
    assert_eq!(own.profile(nobody.aid(), None).await.reason, "not_configured");
    assert_eq!(own.profile("stranger", None).await.reason, "not_configured");

    own.set_profiles(&json!({})).await;
    assert_eq!(own.profile("stranger", None).await.reason, "unknown");
    // The collection has none of the keys that are sent.
    assert_reason(&own, "no_match", Some(("no_match", Some(404)))).await;
    let malformed = Fault::Malformed;
    for (fault, reason, code) in [
        (Fault::Status(503), "status", Some(503)),
        (malformed, "malformed", Some(200)),
        (Fault::Huge, "too_large", None),
        (Fault::Hang, "timeout", None),
    ] {
        own.sim.misbehave("profiles", Some(fault));
        let browser = own.visitor().await;
        let told = own.profile(browser.aid(), None).await;
        assert_eq!(told.reason, reason);
        eventually("the status to tell it", async || {
            let last = status(&own).await.last_error.map(|last| (last.reason, last.status));
            if last == Some((reason.to_owned(), code)) { Ok(()) } else { Err(format!("{last:?}")) }
        })
        .await;
    }
    own.sim.misbehave("profiles", None);
    let log = own.world.cluster.cores[0].log();
    assert!(
        log.iter().any(|line| line.contains("partner resolve failed") && line.contains("timeout")),
        "{log:#?}"
    );
    assert!(log.iter().all(|line| !line.contains("canary")), "{log:#?}");

    // No linking keys, and no host.
    own.set_profiles(&json!({"linking_keys": []})).await;
    assert_reason(&own, "no_input", None).await;
    own.set_profiles(&json!({"base_url": "https://acme-nobody.invalid"})).await;
    assert_reason(&own, "no_such_host", Some(("no_such_host", None))).await;
}

#[tokio::test]
async fn a_key_that_is_refused_is_not_sent_again_until_it_changes() {
    let own = Enriching::with(Options::default(), &[]).await;
    // The key that sends events has another scope.
    own.set_profiles_with(&json!({}), &ingest_key()).await;
    assert_reason(&own, "forbidden", Some(("credentials", Some(403)))).await;
    assert!(status(&own).await.credentials_refused);
    let calls = own.sim.seen("profiles").len();
    assert_reason(&own, "forbidden", None).await;
    assert_eq!(own.sim.seen("profiles").len(), calls);

    own.set_profiles_with(&json!({}), "expired").await;
    assert_reason(&own, "credentials", Some(("credentials", Some(401)))).await;
    let browser = own.visitor().await;
    own.set_profiles(&json!({})).await;
    own.sim.profiles().add("amp-1", "device_cookie", browser.aid(), &json!({"a": 1}));
    assert_eq!(own.profile(browser.aid(), None).await.id, "amp-1");
    let status = status(&own).await;
    assert!(!status.credentials_refused && status.last_success_at.is_some(), "{status:?}");
}

#[tokio::test]
async fn a_limit_is_heeded_and_told() {
    let own = Enriching::with(Options { cores: 2, ..Options::default() }, &[]).await;
    own.set_profiles(&json!({})).await;
    own.sim.misbehave("profiles", Some(Fault::RateLimited(Some("600".to_owned()))));
    assert_reason(&own, "rate_limited", Some(("rate_limited", Some(429)))).await;
    assert!(status(&own).await.backoff_until.is_some());
    own.sim.misbehave("profiles", None);
    let (calls, browser) = (own.sim.seen("profiles").len(), own.visitor().await);
    let told = own.profiles(1, vec![(subject(browser.aid()), None)]).await;
    assert_eq!(told[0].reason, "rate_limited");
    assert_eq!(own.sim.seen("profiles").len(), calls);
}

#[tokio::test]
async fn one_that_hangs_holds_up_no_event() {
    let own = Enriching::with(Options::default(), &[]).await;
    own.set_profiles(&json!({})).await;
    own.sim.misbehave("profiles", Some(Fault::Hang));
    let (browser, mut page) = (own.visitor().await, own.visitor().await);
    let mut asked = Box::pin(own.profile(browser.aid(), None));
    let mut events = 0;
    let told = loop {
        tokio::select! {
            told = &mut asked => break told,
            answer = page.view(&Value::Null) => {
                assert_accepted(&answer, 1);
                events += 1;
            }
        }
    };
    assert_eq!(told.reason, "timeout");
    assert!(events > 3, "{events} events within two seconds");
}

#[tokio::test]
async fn a_page_may_not_ask_as_a_server_does() {
    let own = Enriching::with(Options::default(), &[]).await;
    own.set_profiles(&json!({})).await;
    let browser = own.visitor().await;
    let who = subject(browser.aid());
    let request = |caller, audience: Audience, count| BatchProfileRequest {
        caller: Some(caller),
        provider: "amperity".to_owned(),
        subjects: vec![proto::v1::ProfileSubject { subject: Some(who.clone()), event: None }; count],
        audience: audience.into(),
        source_id: None,
    };
    let page = harness::people::page(&own.world);
    let mut edge = own.world.cluster.api(0, &own.world.cluster.secrets.edge_token).unwrap().profile();
    for (audience, count) in
        [(Audience::Server, 1), (Audience::Unspecified, 1), (Audience::Browser, 0), (Audience::Browser, 1001)]
    {
        let refused = edge.batch_profile(request(page.clone(), audience, count)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{audience:?} {count}: {refused:?}");
    }
    assert_eq!(
        edge.batch_profile(request(page, Audience::Browser, 1)).await.unwrap().into_inner().profiles.len(),
        1
    );
    assert!(own.sim.seen("profiles").len() <= 2);
}
