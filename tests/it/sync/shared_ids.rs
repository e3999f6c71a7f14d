//! A vendor that answers everybody with one constant: it is noticed, and stored for a bounded number of browsers.

use harness::{
    answers::assert_gif,
    eventually,
    vendor_sim::{Fault, vendor},
    visits::{explained, granted, make_due, synced},
    world::{Options, World},
};
use identity_service::sync::shared_ids::MAX_BROWSERS;
use proto::v1::SyncOutcome;

/// Visitors who come back with the same ID.
const VISITORS: usize = 120;

#[tokio::test(flavor = "multi_thread")]
async fn one_id_that_arrives_for_many_browsers_is_stored_for_fifty() {
    let world = World::with(Options { log_level: "debug", ..Options::default() }).await;
    let constant = vendor("pinterest").id;
    let mut first = synced(&world).await;
    let mut last = first.clone();
    for _ in 1..VISITORS {
        last = synced(&world).await;
    }
    let stored = format!("value = '{constant}'");
    assert_eq!(world.database.count("vendor_ids", &stored).await, i64::try_from(MAX_BROWSERS).unwrap());
    let refused = world.sync_failures("pinterest", "shared_id").await;
    assert_eq!(refused.to_string(), (VISITORS - MAX_BROWSERS).to_string());
    assert!(world.vendor_ids(last.aid()).await.vendor_ids.is_empty());

    // It is told of the visitor, and once in the log, without the ID.
    let told = explained(&world, &last, "pinterest").await;
    assert_eq!((told.last_outcome(), told.unanswered), (SyncOutcome::SharedId, 0));
    // Another thread writes the log.
    let log = eventually("a line in the log", async || {
        let log = world.cluster.cores[0].log();
        if log.iter().any(|line| line.contains("one ID came")) { Ok(log) } else { Err(String::new()) }
    })
    .await;
    assert_eq!(log.iter().filter(|line| line.contains("one ID came")).count(), 1);
    assert!(!log.iter().any(|line| line.contains(constant)), "no uid in the log");

    // As where the vendor has none, it is tried again a day later; with an ID of its own the visitor gets that.
    world.age("23 hours").await;
    assert_eq!(last.view(&granted()).await.offered(), [""; 0]);
    world.age("2 hours").await;
    assert_eq!(last.view(&granted()).await.offered(), ["pinterest"]);
    world.vendors.misbehave("pinterest", Some(Fault::Id("an-id-of-its-own".to_owned())));
    assert_gif(last.sync("pinterest").await.last().unwrap());
    assert_eq!(world.vendor_id(last.aid(), "pin_unauth").await.as_deref(), Some("an-id-of-its-own"));

    // Whoever has it keeps it, also when it is refreshed, and another customer's visitors are none of these.
    world.vendors.misbehave("pinterest", Some(Fault::Id(constant.to_owned())));
    make_due(&world, &first).await;
    assert_gif(first.sync("pinterest").await.last().unwrap());
    assert_eq!(world.sync_failures("pinterest", "shared_id").await, refused);
    let customer = world.another_customer("explicit").await;
    let mut other = world.browser_of(&customer);
    other.view(&granted()).await;
    assert_gif(other.sync("pinterest").await.last().unwrap());
    let of_other = world.vendor_ids_in(&customer.org_id.to_string(), other.aid()).await;
    assert_eq!(of_other.vendor_ids["pin_unauth"].value, constant);
}
