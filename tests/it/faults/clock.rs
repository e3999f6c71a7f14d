//! A clock that is wrong or is set on one machine: what the cores do together stays right.

use std::time::{Duration, Instant};

use harness::{
    clock::{Clock, follows, libfaketime},
    control::{Control, PASSWORD, start_management},
    eventually,
    visits::{denied, granted},
    world::{Options, World},
};
use proto::v1::{
    BeginSyncRequest, Caller, CollectCaller, ConsentSignals, ResolveRequest, StoreSyncResultRequest, Subject,
    SyncOutcome, begin_sync_response::Outcome, caller::Kind,
};
use serde_json::Value;
use url::Url;

/// Starts two cores, of which the first has that clock.
async fn world_with(clock: &Clock) -> World {
    let mut world = World::with(Options { cores: 2, ..Options::default() }).await;
    world.cluster.cores[0].kill9().await;
    let libfaketime = libfaketime();
    world.cluster.cores[0].restart_with(&clock.env(&libfaketime)).await.unwrap();
    world
}

fn of_org(world: &World) -> Option<Caller> {
    Some(Caller { kind: Some(Kind::OrgId(world.customer.org_id.to_string())) })
}

/// Sends a visitor's consent to one core.
async fn consents(world: &World, core: usize, visitor: &str, consent: &Value) {
    let consent = ConsentSignals { json: Some(consent.to_string()), sec_gpc: false };
    let subject =
        Subject { anonymous_id: Some(visitor.to_owned()), consent: Some(consent), ..Subject::default() };
    let request =
        ResolveRequest { caller: of_org(world), subjects: vec![subject], ..ResolveRequest::default() };
    let api = world.cluster.api(core, &world.cluster.secrets.internal_token).unwrap();
    let answer = api.resolve().resolve(request).await.unwrap().into_inner();
    assert_eq!(answer.resolutions[0].error, None);
}

/// Takes a sync that begins at one core and comes back to the other.
async fn sync_across(world: &World, begin: usize, visitor: &str) -> SyncOutcome {
    let host = world.cluster.edge.addr("http").to_string();
    let collect = CollectCaller {
        pipeline_key: world.customer.live_key.clone(),
        host: host.clone(),
        ..CollectCaller::default()
    };
    let request = BeginSyncRequest {
        caller: Some(Caller { kind: Some(Kind::Collect(collect)) }),
        vendor: "pinterest".to_owned(),
        anonymous_id: visitor.to_owned(),
        ..BeginSyncRequest::default()
    };
    let core = |number: usize| world.cluster.api(number, &world.cluster.secrets.edge_token).unwrap().sync();
    let begun = core(begin).begin_sync(request).await.unwrap().into_inner();
    let Some(Outcome::Redirect(redirect)) = begun.outcome else { panic!("{begun:?}") };
    let back = world.browser().get(&redirect.location).await;
    let back = Url::parse(back.header("location").unwrap()).unwrap();
    let request = StoreSyncResultRequest {
        vendor: "pinterest".to_owned(),
        raw_query: back.query().unwrap_or_default().to_owned(),
        host,
        ..StoreSyncResultRequest::default()
    };
    core(1 - begin).store_sync_result(request).await.unwrap().into_inner().outcome()
}

#[tokio::test]
async fn a_machine_s_clock_that_is_wrong_changes_nothing() {
    let clock = Clock::new();
    let world = world_with(&clock).await;
    for (offset, seconds) in [("+300s", 300.0), ("-300s", -300.0), ("-3600s", -3600.0), ("+0s", 0.0)] {
        clock.set(offset);
        follows(&world, 0, seconds).await;
        for begin in 0..2 {
            let visitor = format!("visitor-{offset}-{begin}");
            consents(&world, begin, &visitor, &granted()).await;
            assert_eq!(sync_across(&world, begin, &visitor).await, SyncOutcome::Stored, "{visitor}");
            world.signed_call(begin).await.unwrap_or_else(|status| panic!("{visitor}: {status}"));
            let near = format!(
                "canonical_id = (SELECT canonical_id FROM links WHERE value = '{visitor}') \
                 AND abs(extract(epoch FROM now() - collected_at)) < 5"
            );
            assert_eq!(world.database.count("vendor_ids", &near).await, 1, "{visitor}: collected now");
            // The last word counts, whatever time its core has.
            for (turn, consent) in [(begin, denied()), (1 - begin, granted()), (begin, denied())] {
                consents(&world, turn, &visitor, &consent).await;
                let told = world.vendor_ids(&visitor).await.consent.and_then(|consent| consent.json);
                assert_eq!(told, Some(consent.to_string()), "{visitor}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_judged_by_the_database_s_clock() {
    let clock = Clock::new();
    let control = Control::start().await;
    let libfaketime = libfaketime();
    for offset in ["+300s", "-300s", "-3600s", "+0s"] {
        clock.set(offset);
        let env = clock.env(&libfaketime);
        let wrong = start_management(&control.world, &control.jwt_secret, &env).await.unwrap();
        let right = &control.management[0];
        for (first, second) in [(&wrong, right), (right, &wrong)] {
            let mut owner = control.owner.at(first);
            eventually("two refreshes within a second", async || {
                owner.log_in(PASSWORD).await.expect(200);
                owner.at(second).get("/v1/admin/me").await.expect(200);
                owner.get("/v1/admin/me").await.expect(200);
                let used = owner.refresh_token.clone();
                let mut there = owner.at(second);
                let began = Instant::now();
                there.refresh().await.expect(200);
                let concurrent = owner.refresh_with(&used).await;
                // More than a second later it would be a stolen token's, which ends the session.
                if began.elapsed() > Duration::from_millis(900) {
                    return Err(format!("{:?}", began.elapsed()));
                }
                concurrent.refused(409, "CONCURRENT_REFRESH");
                there.get("/v1/admin/me").await.expect(200);
                Ok(())
            })
            .await;
        }
    }
    // The smallest of the wrong clocks is 300 s off.
    let near = "abs(extract(epoch FROM expires_at - now() - interval '7 days')) < 200";
    let database = &control.world.database;
    assert_eq!(database.count("sessions", near).await, database.count("sessions", "true").await);
}
