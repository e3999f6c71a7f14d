//! A core that can't reach the Redis that two use: what the other changes meanwhile must count for it at
//! once.

use std::time::{Duration, Instant};

use harness::{
    answers::assert_gif,
    browser::Browser,
    eventually,
    proxy::Proxy,
    recovery::assert_healed,
    visits::{end_waits, synced},
    wire::Protocol,
    within,
    world::{Options, World},
};
use proto::v1::{
    Caller, ConsentSignals, IdentityRef, IdentityVendorIds, ResolveRequest, Subject, VendorIdsRequest,
    caller::Kind, identity_ref::Id,
};
use serde_json::json;
use tonic::Code;

/// Time for which the first core is cut off, each time.
const OUTAGE: Duration = Duration::from_secs(3);
/// Time within which it uses Redis again: 5 s, as after a failover of Redis, and as much for a machine that
/// runs other tests as well.
const RECOVERY_LIMIT: Duration = Duration::from_secs(10);
/// Time within which a change of the core without Redis reaches the other, by a repair, which any core makes:
/// 2 s where the machine is idle.
const REPAIR_LIMIT: Duration = Duration::from_secs(5);
/// Time that a prompt change takes. A slower one may have found Redis counted as away: a change that waits
/// for it in vain takes half a second.
const PROMPT_CHANGE_LIMIT: Duration = Duration::from_millis(700);

/// Starts two cores, and the proxy through which the first reaches Redis.
async fn split() -> (World, Proxy) {
    let mut world = World::with(Options { cores: 2, ..Options::default() }).await;
    let own = Proxy::start(world.redis.addr, Protocol::Redis).await.unwrap();
    let url = format!("redis://{}/", own.addr);
    world.cluster.cores[0].kill9().await;
    world.cluster.cores[0].restart_with(&[("REDIS_URL", &url)]).await.unwrap();
    uses_redis(&world).await;
    (world, own)
}

/// Waits until the first core uses Redis.
async fn uses_redis(world: &World) {
    within(RECOVERY_LIMIT, "the core to use Redis", async || {
        let up = [("dependency", "redis")];
        match world.cluster.cores[0].metrics().await.sum("datafly_dependency_up", &up) {
            1.0 => Ok(()),
            _ => Err("it does not".to_owned()),
        }
    })
    .await;
}

/// Stores consent through the second core.
async fn consent(world: &World, browser: &Browser, marketing: bool) -> String {
    let consent = json!({ "marketing": marketing }).to_string();
    let subject = Subject {
        anonymous_id: Some(browser.aid().to_owned()),
        consent: Some(ConsentSignals { json: Some(consent.clone()), sec_gpc: false }),
        ..Subject::default()
    };
    let caller = Caller { kind: Some(Kind::OrgId(world.customer.org_id.to_string())) };
    let request =
        ResolveRequest { caller: Some(caller), subjects: vec![subject], ..ResolveRequest::default() };
    let api = world.cluster.api(1, &world.cluster.secrets.internal_token).unwrap();
    // With Redis stopped, a busy machine may need more than a call's time.
    let answer =
        eventually("consent to be stored", async || match api.resolve().resolve(request.clone()).await {
            Err(status) if status.code() == Code::DeadlineExceeded => Err(status.to_string()),
            answer => Ok(answer.unwrap().into_inner()),
        })
        .await;
    assert_eq!(answer.resolutions[0].error, None);
    consent
}

/// Vendor IDs that a core delivers.
async fn delivered(world: &World, core: usize, browser: &Browser) -> IdentityVendorIds {
    let request = VendorIdsRequest {
        org_id: world.customer.org_id.to_string(),
        identities: vec![IdentityRef { id: Some(Id::AnonymousId(browser.aid().to_owned())), browser: None }],
        fields: Vec::new(),
        ..VendorIdsRequest::default()
    };
    let api = world.cluster.api(core, &world.cluster.secrets.internal_token).unwrap();
    api.resolve().vendor_ids(request).await.unwrap().into_inner().identities.remove(0)
}

/// Time at which the delivered ID was collected, in seconds and nanoseconds.
fn collected(ids: &IdentityVendorIds) -> Option<(i64, i32)> {
    ids.vendor_ids["pin_unauth"].collected_at.map(|at| (at.seconds, at.nanos))
}

/// Changes consent through the second core, which both know of as soon as it is acknowledged, and vendor IDs
/// through either; until then, and `least` times.
async fn changes_count(world: &World, browser: &mut Browser, until: Instant, least: usize) {
    let mut rounds = 0;
    while Instant::now() < until || rounds < least {
        let before = collected(&delivered(world, 1, browser).await);
        for marketing in [false, true] {
            let stored = consent(world, browser, marketing).await;
            for core in [0, 1] {
                let found = delivered(world, core, browser).await.consent.and_then(|consent| consent.json);
                assert_eq!(found.as_ref(), Some(&stored), "core {core}");
            }
        }
        end_waits(world).await;
        assert_gif(browser.sync("pinterest").await.last().unwrap());
        within(REPAIR_LIMIT, "both cores to deliver the new ID", async || {
            let [first, second] = [delivered(world, 0, browser).await, delivered(world, 1, browser).await];
            if first == second && collected(&first) > before {
                Ok(())
            } else {
                Err(format!("{first:?}\n{second:?}"))
            }
        })
        .await;
        rounds += 1;
    }
}

#[tokio::test]
async fn a_core_without_redis_serves_what_another_changes() {
    let (world, own) = split().await;
    let mut browser = synced(&world).await;
    for cut in ["refused", "silent", "mute"] {
        changes_count(&world, &mut browser, Instant::now(), 1).await;
        match cut {
            "refused" => own.refuse().await,
            "silent" => own.blackhole().await,
            _ => own.mute().await,
        }
        changes_count(&world, &mut browser, Instant::now() + OUTAGE, 3).await;
        own.heal().await;
        let healed = Instant::now();
        // From the first moment on, and not only when Redis is used again.
        changes_count(&world, &mut browser, healed + Duration::from_secs(1), 1).await;
        uses_redis(&world).await;
        assert!(healed.elapsed() < RECOVERY_LIMIT, "{cut}: {:?}", healed.elapsed());
        changes_count(&world, &mut browser, Instant::now() + Duration::from_millis(300), 1).await;
    }
    assert_healed(&world).await;
}

#[tokio::test]
async fn a_core_that_stood_still_believes_nothing_old() {
    let (world, _own) = split().await;
    let browser = synced(&world).await;
    for marketing in [false, true, false] {
        assert_eq!(delivered(&world, 0, &browser).await, delivered(&world, 1, &browser).await);
        world.cluster.cores[0].signal("STOP");
        let stored = consent(&world, &browser, marketing).await;
        world.redis.signal("STOP");
        let stopped = Instant::now();
        let unheard = consent(&world, &browser, !marketing).await;
        assert_ne!(stored, unheard);
        let took = stopped.elapsed();
        world.redis.signal("CONT");
        world.cluster.cores[0].signal("CONT");
        if took > PROMPT_CHANGE_LIMIT {
            // By then Redis may have counted as away, and was not told that a change comes: a repair says so.
            within(REPAIR_LIMIT, "both cores to know the change", async || {
                for core in [0, 1] {
                    let found =
                        delivered(&world, core, &browser).await.consent.and_then(|consent| consent.json);
                    if found.as_ref() != Some(&unheard) {
                        return Err(format!("core {core}: {found:?}"));
                    }
                }
                Ok(())
            })
            .await;
        }
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            for core in [0, 1] {
                let found = delivered(&world, core, &browser).await.consent.and_then(|consent| consent.json);
                assert_eq!(found.as_ref(), Some(&unheard), "core {core}");
            }
        }
    }
    assert_healed(&world).await;
}
