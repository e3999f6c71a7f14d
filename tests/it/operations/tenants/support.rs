//! Answers of several tenants, counted and judged.

use std::collections::BTreeMap;

use harness::{
    answers::assert_accepted,
    browser::{Answer, Browser},
    eventually,
    process::Service,
    seed::Customer,
    visits::granted,
    world::World,
};
use proto::v1::{AuthenticateRequest, CollectCaller};

/// Statuses, and how many answers had each.
pub(super) type Counts = BTreeMap<u16, usize>;

/// Checks that a page view is taken. On a machine that is busy with other tests a call may pass its deadline,
/// which is no refusal; whatever else comes back is a failure.
pub(super) async fn assert_served(browser: &mut Browser) {
    eventually("the core to answer in time", async || {
        let answer = browser.view(&granted()).await;
        if answer.status == 503 && ["UNAVAILABLE", "DEADLINE_EXCEEDED"].contains(&&*answer.code()) {
            return Err(answer.text());
        }
        assert_accepted(&answer, 1);
        Ok(())
    })
    .await;
}

pub(super) fn retry_after(answer: &Answer) -> u64 {
    answer
        .header("retry-after")
        .unwrap_or_else(|| panic!("no Retry-After: {:?}", answer.headers))
        .parse()
        .unwrap()
}

pub(super) fn visitor_of(
    world: &World,
    customer: &Customer,
    key: &str,
    events: usize,
) -> AuthenticateRequest {
    let caller = CollectCaller {
        pipeline_key: key.to_owned(),
        host: world.cluster.host_at(&customer.collect_name),
        events: events.try_into().unwrap(),
        ..CollectCaller::default()
    };
    AuthenticateRequest { caller: Some(caller), before_body: false }
}

/// Starts a second edge, behind a proxy at 127.0.0.1.
pub(super) async fn behind_proxy(world: &World) -> Service {
    let core = format!("http://{}", world.cluster.cores[0].addr("grpc"));
    let env = [
        ("IDENTITY_URL", core.as_str()),
        ("SERVICE_TOKEN", &world.cluster.secrets.edge_token),
        ("TRUSTED_PROXIES", "127.0.0.1"),
    ];
    Service::start("http-edge", &env, &["http", "metrics"]).await.unwrap()
}
