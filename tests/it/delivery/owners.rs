//! Who delivers to a destination: one process at a time, which may be killed, stopped or frozen at any moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use harness::{delivery::Delivering, delivery_sim::Reaction, eventually, within};

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:03}")).collect()
}

async fn all_arrive(delivering: &Delivering, expected: usize) {
    within(Duration::from_secs(60), "all to arrive", async || {
        let mut taken = delivering.sim.message_ids();
        taken.sort();
        taken.dedup();
        if taken.len() == expected { Ok(()) } else { Err(format!("{} of {expected}", taken.len())) }
    })
    .await;
}

/// The owner is killed with events under way: another takes over, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn another_takes_over_from_who_was_killed() {
    let mut delivering = Delivering::start().await;
    delivering.sim.behave(|_| Reaction::Slowly(Duration::from_millis(20), 202));
    let mut browser = delivering.world.browser();
    delivering.send(&mut browser, &ids("a", 200)).await;
    delivering.sim.wait_for(20).await;
    delivering.processors[0].kill9().await;
    let taken = delivering.sim.message_ids().len();
    assert!(taken < 200, "it was faster than this test");
    delivering.send(&mut browser, &ids("b", 5)).await;
    delivering.another_processor().await;
    all_arrive(&delivering, 205).await;
    let repeated = delivering.sim.message_ids().len() - 205;
    // A second's worth, of which nothing was written down, at most.
    assert!(repeated <= 120, "{repeated} were sent twice");
    delivering.settled().await;
}

/// Who is frozen and wakes moves nothing that another has taken over.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_frozen_moves_nothing() {
    let mut delivering = Delivering::start().await;
    let mut browser = delivering.world.browser();
    delivering.send(&mut browser, &ids("a", 3)).await;
    all_arrive(&delivering, 3).await;
    delivering.settled().await;
    delivering.processors[0].signal("STOP");
    delivering.send(&mut browser, &ids("b", 3)).await;
    delivering.another_processor().await;
    all_arrive(&delivering, 6).await;
    delivering.settled().await;
    let (position, epoch) = (delivering.cursor("position").await, delivering.cursor("epoch").await);
    delivering.processors[0].signal("CONT");
    eventually("it to notice", async || {
        let log = delivering.processors[0].log();
        let is_told = log.iter().any(|line| line.contains("is another's now"));
        if is_told { Ok(()) } else { Err(format!("{} lines", log.len())) }
    })
    .await;
    assert_eq!((delivering.cursor("position").await, delivering.cursor("epoch").await), (position, epoch));
    delivering.send(&mut browser, &ids("c", 3)).await;
    all_arrive(&delivering, 9).await;
}

/// Who is told to stop under load is gone in time, and repeats nothing that was answered.
#[tokio::test(flavor = "multi_thread")]
async fn who_stops_repeats_nothing() {
    let mut delivering = Delivering::start().await;
    let answered = Arc::new(AtomicUsize::new(0));
    let own = answered.clone();
    delivering.sim.behave(move |_| {
        let number = own.fetch_add(1, Ordering::SeqCst);
        Reaction::Slowly(Duration::from_millis(u64::try_from(10 + number * 7 % 60).unwrap()), 202)
    });
    for visitor in 0..10 {
        let mut browser = delivering.world.browser();
        delivering.send(&mut browser, &ids(&format!("v{visitor}"), 60)).await;
    }
    delivering.sim.wait_for(50).await;
    let (status, took) = delivering.processors[0].terminate().await;
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    let before = delivering.sim.message_ids().len();
    assert!(before < 600, "it was faster than this test");
    delivering.another_processor().await;
    all_arrive(&delivering, 600).await;
    assert_eq!(delivering.sim.message_ids().len(), 600, "something was sent twice");
}

/// Everything dies at once, again and again, after the answer: what was accepted arrives.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_everything_being_killed() {
    let mut delivering = Delivering::start().await;
    let mut sent = 0;
    for round in 0..20_u64 {
        let mut browser = delivering.world.browser();
        delivering.send(&mut browser, &ids(&format!("r{round}"), 3)).await;
        sent += 3;
        tokio::time::sleep(Duration::from_millis(round * 37 % 120)).await;
        delivering.processors[0].kill9().await;
        if round % 5 == 4 {
            let core = &mut delivering.world.cluster.cores[0];
            core.kill9().await;
            core.restart().await.unwrap();
        }
        delivering.world.database.execute("UPDATE delivery_cursors SET lease_until = now()").await;
        delivering.processors[0].restart().await.unwrap();
    }
    all_arrive(&delivering, sent).await;
}
