//! Identity of visitors: linking that never fuses two users, and what other systems read of it.

use harness::{
    answers::{assert_accepted, assert_gif},
    eventually,
    grpc::Api,
    people::{named, user},
    visits::granted,
    world::World,
};
use proto::v1::{Caller, RefusalReason, Resolution, ResolveRequest, Subject, VendorIdsRequest, caller::Kind};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use uuid::Uuid;

async fn resolve(world: &World, anonymous_id: &str, user_id: &str) -> Resolution {
    resolve_over(world.internal(), world.customer.org_id, anonymous_id.to_owned(), user_id.to_owned())
        .await
        .unwrap()
}

async fn resolve_over(
    core: Api,
    org: Uuid,
    anonymous_id: String,
    user_id: String,
) -> Result<Resolution, Status> {
    let subject = Subject {
        anonymous_id: Some(anonymous_id),
        user_id: Some(user_id).filter(|id| !id.is_empty()),
        ..Subject::default()
    };
    let caller = Caller { kind: Some(Kind::OrgId(org.to_string())) };
    let request =
        ResolveRequest { caller: Some(caller), subjects: vec![subject], ..ResolveRequest::default() };
    Ok(core.resolve().resolve(request).await?.into_inner().resolutions.remove(0))
}

async fn canonical_of_user(world: &World, user_id: &str) -> String {
    let request = VendorIdsRequest {
        org_id: world.customer.org_id.to_string(),
        identities: vec![named(user(user_id))],
        fields: Vec::new(),
        ..VendorIdsRequest::default()
    };
    world
        .internal()
        .resolve()
        .vendor_ids(request)
        .await
        .unwrap()
        .into_inner()
        .identities
        .remove(0)
        .canonical_id
}

#[tokio::test]
async fn two_users_of_one_browser_are_never_fused() {
    let world = World::start().await;
    let first = resolve(&world, "tablet", "anna").await;
    assert!(first.refusals.is_empty() && first.error.is_none(), "{first:?}");
    let second = resolve(&world, "tablet", "bert").await;
    let reasons: Vec<i32> = second.refusals.iter().map(|refusal| refusal.reason).collect();
    assert_eq!(reasons, [i32::from(RefusalReason::DifferentUsers)], "{second:?}");
    let (anna, bert) = (canonical_of_user(&world, "anna").await, canonical_of_user(&world, "bert").await);
    assert_eq!((&first.canonical_id, anna != bert, bert.len()), (&anna, true, 36), "{anna} {bert}");
    world.flush_redis().await;
    assert_eq!(canonical_of_user(&world, "bert").await, bert, "as PostgreSQL has it");
    assert_eq!(world.database.count("links", "kind = 1").await, 2);
}

#[tokio::test]
async fn sixty_four_users_racing_for_one_browser_stay_sixty_four() {
    let world = World::start().await;
    resolve(&world, "tablet", "").await;
    let mut racing = JoinSet::new();
    for n in 0..64 {
        let (core, org) = (world.internal(), world.customer.org_id);
        racing.spawn(async move {
            let user = format!("user-{n}");
            (user.clone(), resolve_over(core, org, "tablet".to_owned(), user).await)
        });
    }
    for (user, first) in racing.join_all().await {
        // Who loses the race, or waits too long, is told to come again, and then has an identity of their
        // own.
        let has_lost = match first {
            Ok(first) => first.error.is_some(),
            Err(status) => {
                assert_eq!(status.code(), Code::DeadlineExceeded, "{user}: {status}");
                true
            }
        };
        if has_lost {
            let again = resolve(&world, "tablet", &user).await;
            assert!(again.error.is_none(), "{user}: {again:?}");
        }
    }
    let shared = "(SELECT canonical_id FROM links WHERE kind = 1 GROUP BY 1 HAVING count(*) > 1) fused";
    assert_eq!(world.database.count(shared, "true").await, 0, "users share a canonical identity");
    assert_eq!(world.database.count("links", "kind = 1").await, 64);
}

#[tokio::test]
async fn a_link_that_can_not_be_stored_is_that_event_s_error() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    world.postgres_proxy.refuse().await;
    let mut login = browser.page_view(&Value::Null);
    login["userId"] = json!("anna");
    let answer = browser.batch(&json!([login])).await.json();
    assert_eq!(answer["accepted"], json!(0), "{answer}");
    assert_eq!(answer["errors"][0]["retry"], json!(true), "{answer}");

    world.postgres_proxy.heal().await;
    eventually("the link to be taken", async || match browser.batch(&json!([login])).await.json() {
        answer if answer["accepted"] == json!(1) => Ok(()),
        answer => Err(answer.to_string()),
    })
    .await;
    assert_eq!(world.database.count("links", "kind = 1").await, 1);
}

#[tokio::test]
async fn an_unknown_organisation_is_not_found_and_hurts_nobody() {
    let world = World::start().await;
    let subject = Subject { anonymous_id: Some("a".to_owned()), ..Subject::default() };
    let caller = Caller { kind: Some(Kind::OrgId(Uuid::new_v4().to_string())) };
    let request =
        ResolveRequest { caller: Some(caller), subjects: vec![subject], ..ResolveRequest::default() };
    let refused = world.internal().resolve().resolve(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    assert_accepted(&world.browser().view(&granted()).await, 1);
}

#[tokio::test]
async fn other_systems_find_the_projection_again_after_a_loss() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    let stored = world.vendor_id(browser.aid(), "pin_unauth").await.unwrap();
    let key = format!("identity:{}:{}", world.customer.org_id, browser.aid());
    let projected = async || world.redis::<Option<String>>(&["HGET", &key, "pin_unauth"]).await;
    assert_eq!(projected().await.as_ref(), Some(&stored));

    // Redis may miss its bound on a busy machine, and is not filled then.
    let is_back = async || match projected().await {
        Some(found) if found == stored => Ok(()),
        found => Err(format!("{found:?}")),
    };
    eventually("it to be back with the visitor's next page", async || {
        world.flush_redis().await;
        browser.view(&granted()).await;
        is_back().await
    })
    .await;
    eventually("it to be back with a delivery", async || {
        world.flush_redis().await;
        world.vendor_ids(browser.aid()).await;
        is_back().await
    })
    .await;

    // A second browser of the person has it from the moment it is linked.
    resolve(&world, browser.aid(), "anna").await;
    let other = Uuid::new_v4().to_string();
    resolve(&world, &other, "anna").await;
    let key = format!("identity:{}:{other}", world.customer.org_id);
    assert_eq!(world.redis::<Option<String>>(&["HGET", &key, "pin_unauth"]).await, Some(stored));
}

#[tokio::test]
async fn a_repair_waits_for_a_writer_that_holds_the_key() {
    let world = World::start().await;
    let org = world.customer.org_id;
    let key = format!("consent:{org}:somebody");
    let () = world.redis(&["SET", &key, "!busy:another", "PX", "2500"]).await;
    world
        .database
        .execute(&format!("INSERT INTO redis_repairs (org_id, redis_key) VALUES ('{org}', '{key}')"))
        .await;
    // The drain has looked at the row at least once when the age shows; it may not have taken it.
    eventually("the row to be seen", async || {
        match world.metric("datafly_redis_repairs_age_seconds", &[]).await {
            age if age > 0.0 => Ok(()),
            age => Err(format!("age {age}")),
        }
    })
    .await;
    let marked: bool = world.redis(&["EXISTS", &key]).await;
    if marked {
        assert_eq!(world.database.count("redis_repairs", "true").await, 1, "taken under a writer's marker");
    }
    eventually("the repair to be done", async || match world.database.count("redis_repairs", "true").await {
        0 => Ok(()),
        rows => Err(format!("{rows} rows")),
    })
    .await;
    let left: bool = world.redis(&["EXISTS", &key]).await;
    assert!(!left, "the repair was taken while the marker stood");
}
