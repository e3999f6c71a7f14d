//! Bad habits of vendors: what is stored of each, what is counted, and when the vendor is tried again.

use std::time::Duration;

use harness::{
    answers::assert_gif,
    browser::Browser,
    vendor_sim::{Fault, vendor},
    visits::granted,
    world::{Options, World, all_vendors},
};
use identity_service::vendors::find_sync;

async fn world() -> World {
    World::with(Options { vendors: all_vendors().leak(), ..Options::default() }).await
}

/// A new visitor who has been sent to a vendor with that habit, and the statuses of the chain's answers.
async fn sent(world: &World, name: &str, habit: Fault) -> (Browser, Vec<u16>) {
    world.vendors.misbehave(name, Some(habit));
    let mut browser = world.browser();
    browser.view(&granted()).await;
    let hops = browser.sync(name).await;
    (browser, hops.iter().map(|hop| hop.status).collect())
}

/// The ID of a vendor that is delivered for a visitor.
async fn stored(world: &World, browser: &Browser, name: &str) -> Option<String> {
    world.vendor_id(browser.aid(), find_sync(name).unwrap().field).await
}

/// Counted of one vendor so far: redirects, IDs stored, and callbacks without one for each reason that there is.
async fn counted(world: &World, name: &str) -> (f64, f64, Vec<(&'static str, f64)>) {
    let of =
        async |what: &str| world.metric(&format!("datafly_sync_{what}_total"), &[("vendor", name)]).await;
    let mut failed = Vec::new();
    for reason in ["no_id", "no_canonical", "store_failed", "bad_state", "invalid_id", "consent", "shared_id"]
    {
        let count = world.sync_failures(name, reason).await;
        if count > 0.0 {
            failed.push((reason, count));
        }
    }
    (of("attempted").await, of("succeeded").await, failed)
}

/// A vendor that sends nobody back leaves a try that went unanswered: no reason is counted, and the next try is the
/// schedule's.
#[tokio::test]
async fn a_vendor_that_sends_nobody_back_is_tried_again_later() {
    let world = world().await;
    let cases: [(_, _, &[u16]); 4] = [
        ("pinterest", Fault::NoRedirect, &[302, 200]),
        ("linkedin", Fault::BadRequest, &[302, 400]),
        ("x", Fault::Loop, &[302; 21]),
        ("trade_desk", Fault::NoRedirect, &[302, 200]),
    ];
    for (name, habit, chain) in cases {
        let (mut browser, statuses) = sent(&world, name, habit.clone()).await;
        assert_eq!(statuses, chain, "{name}, {habit:?}");
        assert_eq!(stored(&world, &browser, name).await, None, "{name}, {habit:?}");
        assert_eq!(counted(&world, name).await, (1.0, 0.0, vec![]), "{name}, {habit:?}");
        assert_eq!(browser.get(&browser.sync_url(name)).await.status, 204, "{name} was tried a moment ago");

        world.vendors.misbehave(name, None);
        world.age("11 minutes").await;
        assert_gif(browser.sync(name).await.last().unwrap());
        assert_eq!(stored(&world, &browser, name).await.as_deref(), Some(vendor(name).id), "{name}");
    }
}

/// A vendor that sends the browser to our own first hop again ends there: it is not due.
#[tokio::test]
async fn a_vendor_that_redirects_to_our_first_hop_goes_round_once() {
    let world = world().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    world.vendors.misbehave("pinterest", Some(Fault::To(browser.sync_url("pinterest"))));
    let hops = browser.sync("pinterest").await;
    assert_eq!(hops.iter().map(|hop| hop.status).collect::<Vec<_>>(), [302, 302, 204]);
    assert_eq!(counted(&world, "pinterest").await, (1.0, 0.0, vec![]));
    // Before there is an identity as well, where no schedule ends it.
    let mut stranger = world.browser();
    world.database.execute("UPDATE pipelines SET consent_mode = 'implicit'").await;
    harness::eventually("the core to know of the mode", async || {
        match stranger.get(&stranger.sync_url("linkedin")).await.status {
            302 => Ok(()),
            status => Err(format!("HTTP {status}")),
        }
    })
    .await;
    world.vendors.misbehave("pinterest", Some(Fault::To(stranger.sync_url("pinterest"))));
    let hops = stranger.sync("pinterest").await;
    assert_eq!(hops.iter().map(|hop| hop.status).collect::<Vec<_>>(), [302, 302, 204]);
    assert_eq!(world.vendors.seen().iter().filter(|seen| seen.vendor == "pinterest").count(), 2);
}

/// A vendor that answers a browser only once it has its cookie gets its second call after the first wait.
#[tokio::test]
async fn a_vendor_that_answers_the_second_call_is_called_twice() {
    let world = world().await;
    let (mut browser, chain) = sent(&world, "outbrain", Fault::SecondCallOnly).await;
    assert_eq!(chain, [302, 200]);
    world.age("11 minutes").await;
    assert_gif(browser.sync("outbrain").await.last().unwrap());
    assert_eq!(stored(&world, &browser, "outbrain").await.as_deref(), Some(vendor("outbrain").id));
    assert_eq!(counted(&world, "outbrain").await, (2.0, 1.0, vec![]));
}

#[tokio::test]
async fn a_slow_vendor_s_id_is_stored() {
    let world = world().await;
    let (browser, chain) = sent(&world, "criteo", Fault::Slow(Duration::from_millis(500))).await;
    assert_eq!(chain, [302, 302, 200]);
    assert!(stored(&world, &browser, "criteo").await.is_some());
    assert_eq!(counted(&world, "criteo").await, (1.0, 1.0, vec![]));
}

/// A macro that nobody replaced and an opt-out are no IDs, of every vendor.
#[tokio::test]
async fn raw_macros_and_opt_outs_are_counted_as_no_id() {
    let world = world().await;
    for name in all_vendors() {
        for (tries, habit) in [(1.0, Fault::RawMacro), (2.0, Fault::OptOut)] {
            let (browser, chain) = sent(&world, name, habit.clone()).await;
            assert_eq!(chain, [302, 302, 200], "{name}, {habit:?}");
            assert_eq!(stored(&world, &browser, name).await, None, "{name}, {habit:?}");
            assert_eq!(
                counted(&world, name).await,
                (tries, 0.0, vec![("no_id", tries)]),
                "{name}, {habit:?}"
            );
        }
    }
}

/// An ID that is encoded once too often is decoded once, as every one: where the vendor's form is known it is none, else
/// it is stored as it came.
#[tokio::test]
async fn an_id_that_is_encoded_twice_is_not_guessed_at() {
    let world = world().await;
    let uuid = "6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b";
    for name in ["snapchat", "trade_desk"] {
        let (browser, _) = sent(&world, name, Fault::DoublyEncoded(uuid.to_owned())).await;
        assert_eq!(stored(&world, &browser, name).await, None, "{name}");
        assert_eq!(counted(&world, name).await, (1.0, 0.0, vec![("invalid_id", 1.0)]), "{name}");
    }
    let (browser, _) = sent(&world, "pinterest", Fault::DoublyEncoded("dWlk+Pz8=".to_owned())).await;
    assert_eq!(stored(&world, &browser, "pinterest").await.as_deref(), Some("dWlk%2BPz8%3D"));
    assert_eq!(counted(&world, "pinterest").await, (1.0, 1.0, vec![]));
}

/// An ID with `&` comes whole from every vendor that encodes it, and from the one that glues it to the callback raw.
#[tokio::test]
async fn an_id_with_an_ampersand_is_stored_whole() {
    let world = world().await;
    let id = "XlV6w9HM6LYAAHx2YJ4AAACZ&476";
    for (name, habit) in [
        ("index_exchange", Fault::RawId(id.to_owned())),
        ("index_exchange", Fault::Id(id.to_owned())),
        ("criteo", Fault::Id(id.to_owned())),
        ("linkedin", Fault::Id(id.to_owned())),
        ("magnite", Fault::Id(id.to_owned())),
    ] {
        let (browser, _) = sent(&world, name, habit.clone()).await;
        assert_eq!(stored(&world, &browser, name).await.as_deref(), Some(id), "{name}, {habit:?}");
    }
    assert_eq!(counted(&world, "index_exchange").await, (2.0, 2.0, vec![]));
}

/// Parameters behind the ID are none of it, also where it was glued to the callback.
#[tokio::test]
async fn parameters_behind_the_id_are_cut_off() {
    let world = world().await;
    for name in all_vendors() {
        let tail =
            Fault::Tail("&gdpr=0&gdpr_consent=CPXxRfAPXxRfAAfKABENB&us_privacy=1---&gpp=DBAA&gppsid=-1");
        let (browser, _) = sent(&world, name, tail).await;
        assert_eq!(stored(&world, &browser, name).await.as_deref(), Some(vendor(name).id), "{name}");
        assert_eq!(counted(&world, name).await, (1.0, 1.0, vec![]), "{name}");
    }
}
