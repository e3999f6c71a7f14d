//! PostgreSQL crashes, falls silent, blocks and refuses: what is known is served, what can't be stored is
//! that event's error, and nothing acknowledged is lost.

use std::time::{Duration, Instant};

use diesel::sql_types::Text;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use harness::{
    EVENTUALLY_LIMIT,
    answers::{assert_accepted, assert_gif, assert_retry},
    eventually,
    health::postgres_is,
    postgres::PostgresServer,
    proxy::Hold,
    recovery::{ANSWER_LIMIT, assert_no_open_transaction, assert_serves},
    system::signal,
    visits::{denied, granted},
    world::{Options, World},
    writers::Writers,
};
use migrations::{database::Database, pool::PgPool, tls::StoreTls};
use proto::v1::{IdentityRef, VendorIdsRequest, identity_ref::Id};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::Code;

/// Time within which writes are due to succeed after PostgreSQL is back: 2 s, and some for a machine that
/// runs other tests as well.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

async fn two_cores() -> World {
    World::with(Options { cores: 2, ..Options::default() }).await
}

/// Checks that a new visitor is told to come again, in time: by their event's error, or for the whole request
/// at its deadline.
async fn assert_refuses_new(world: &World) {
    let began = Instant::now();
    let answer = world.browser().view(&granted()).await;
    assert!(began.elapsed() < ANSWER_LIMIT, "{:?}", began.elapsed());
    match answer.status {
        200 => assert_retry(&answer),
        status => assert!([503, 504].contains(&status), "{status} {}", answer.text()),
    }
}

#[tokio::test]
async fn a_crash_under_load_loses_nothing_that_was_acknowledged() {
    let mut server = PostgresServer::start().await.unwrap();
    let world = World::over(&server, Options { cores: 2, ..Options::default() }).await;
    let mut known = world.browser();
    assert_accepted(&known.view(&granted()).await, 1);
    let writers = Writers::start(&world, 4);
    for _ in 0..2 {
        writers.take(20, RECOVERY_LIMIT).await;
        server.crash().await;
        postgres_is(&world, "NOT_SERVING").await;
        assert_serves(&mut known).await;
        assert_retry(&world.browser().view(&granted()).await);
        server.revive().await.unwrap();
        writers.take(20, RECOVERY_LIMIT).await;
        postgres_is(&world, "SERVING").await;
    }
    writers.check(&world).await;
    assert_no_open_transaction(&world).await;
}

#[tokio::test]
async fn a_server_that_is_stopped_for_ten_seconds() {
    let server = PostgresServer::start().await.unwrap();
    let world = World::over(&server, Options::default()).await;
    let mut known = world.browser();
    assert_accepted(&known.view(&granted()).await, 1);
    let writers = Writers::start(&world, 4);
    writers.take(20, RECOVERY_LIMIT).await;
    // The postmaster comes first, so that it makes no session that is missed.
    let postmaster = server.processes().await[0].to_string();
    let mut listing = world.database.connection().await.unwrap();
    signal("STOP", &postmaster);
    let pids = "(SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE pid <> pg_backend_pid())";
    let asked = diesel::select(diesel::dsl::sql::<Text>(pids));
    let others: String = diesel_async::RunQueryDsl::get_result(asked, &mut listing).await.unwrap();
    signal("STOP", &others);
    drop(listing);
    let stopped = Instant::now();
    postgres_is(&world, "NOT_SERVING").await;
    while stopped.elapsed() < Duration::from_secs(10) {
        assert_serves(&mut known).await;
        assert_refuses_new(&world).await;
        // Paces the visitors; what is waited for is the end of the ten seconds.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    signal("CONT", &format!("{postmaster} {others}"));
    writers.take(20, RECOVERY_LIMIT).await;
    postgres_is(&world, "SERVING").await;
    writers.check(&world).await;
    assert_no_open_transaction(&world).await;
}

#[tokio::test]
async fn a_network_that_drops_everything() {
    let world = World::start().await;
    let mut known = world.browser();
    assert_accepted(&known.view(&granted()).await, 1);
    let writers = Writers::start(&world, 4);
    writers.take(20, RECOVERY_LIMIT).await;
    world.postgres_proxy.blackhole().await;
    postgres_is(&world, "NOT_SERVING").await;
    assert_serves(&mut known).await;
    assert_refuses_new(&world).await;
    world.postgres_proxy.heal().await;
    writers.take(20, RECOVERY_LIMIT).await;
    postgres_is(&world, "SERVING").await;
    writers.check(&world).await;
    assert_no_open_transaction(&world).await;
}

#[tokio::test]
async fn a_table_that_is_locked_for_five_seconds() {
    let world = World::start().await;
    let mut known = world.browser();
    assert_accepted(&known.view(&granted()).await, 1);
    let writers = Writers::start(&world, 4);
    writers.take(20, RECOVERY_LIMIT).await;
    let mut blocker = world.database.connection().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE links IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let locked = Instant::now();
    while locked.elapsed() < Duration::from_secs(5) {
        assert_serves(&mut known).await;
        assert_refuses_new(&world).await;
        let long = "datname = current_database() AND state = 'active' AND pid <> pg_backend_pid() \
            AND clock_timestamp() - query_start > interval '3 s'";
        assert_eq!(world.database.count("pg_stat_activity", long).await, 0, "statements beyond the deadline");
        postgres_is(&world, "SERVING").await;
    }
    blocker.batch_execute("ROLLBACK").await.unwrap();
    writers.take(20, RECOVERY_LIMIT).await;
    writers.check(&world).await;
    assert_no_open_transaction(&world).await;
}

#[tokio::test]
async fn a_full_pool_refuses_in_time_and_looks_healthy() {
    let world = World::start().await;
    let mut visitors = Vec::new();
    for _ in 0..64 {
        let mut browser = world.browser();
        assert_accepted(&browser.view(&granted()).await, 1);
        visitors.push(browser);
    }
    world.flush_redis().await;
    let mut blocker = world.database.connection().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE links IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut calls = JoinSet::new();
    for browser in &visitors {
        let mut core = world.internal().resolve();
        let request = VendorIdsRequest {
            org_id: world.customer.org_id.to_string(),
            identities: vec![IdentityRef {
                id: Some(Id::AnonymousId(browser.aid().to_owned())),
                browser: None,
            }],
            fields: Vec::new(),
            ..VendorIdsRequest::default()
        };
        calls.spawn(async move {
            let began = Instant::now();
            (core.vendor_ids(request).await.map(drop).map_err(|status| status.code()), began.elapsed())
        });
    }
    while let Some(answer) = calls.join_next().await {
        let (answer, took) = answer.unwrap();
        assert_eq!(answer, Err(Code::Unavailable), "after {took:?}");
        assert!(took < ANSWER_LIMIT, "{took:?}");
        postgres_is(&world, "SERVING").await;
    }
    // The holders of the 16 connections wait for a lock for 500 ms; who gets none is told after 250.
    let timeouts = world.metric("datafly_pool_timeouts_total", &[]).await;
    assert!(timeouts >= 20.0, "{timeouts} were told for want of a connection");
    blocker.batch_execute("ROLLBACK").await.unwrap();
    for mut browser in visitors {
        assert_serves(&mut browser).await;
    }
    assert_no_open_transaction(&world).await;
}

#[tokio::test]
async fn a_server_without_room_meets_no_storm() {
    let mut server = PostgresServer::start().await.unwrap();
    server.execute(&["ALTER SYSTEM SET max_connections = 30"]).await;
    server.crash().await;
    server.revive().await.unwrap();
    let world = World::over(&server, Options::default()).await;
    let mut known = world.browser();
    assert_accepted(&known.view(&granted()).await, 1);
    let writers = Writers::start(&world, 16);
    writers.take(50, RECOVERY_LIMIT).await;

    // Takes all the room there is, and ends the core's own sessions until it has none.
    let mut seated = Vec::new();
    let mut first = AsyncPgConnection::establish(&server.url).await.unwrap();
    first.batch_execute("SET application_name = 'seated'").await.unwrap();
    eventually("the core to have no session", async || {
        let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE application_name <> 'seated' AND backend_type = 'client backend'";
        first.batch_execute(ended).await.unwrap();
        while let Ok(mut more) = AsyncPgConnection::establish(&server.url).await {
            more.batch_execute("SET application_name = 'seated'").await.unwrap();
            seated.push(more);
        }
        // `first` and 29 others.
        if seated.len() == 29 { Ok(()) } else { Err(format!("{} seats", seated.len())) }
    })
    .await;
    postgres_is(&world, "NOT_SERVING").await;
    let refusals = || server.log().matches("too many clients").count();
    let (before, began) = (refusals(), Instant::now());
    while began.elapsed() < Duration::from_secs(3) {
        assert_serves(&mut known).await;
        assert_retry(&world.browser().view(&granted()).await);
    }
    let (attempts, took) = (refusals() - before, began.elapsed());
    assert!((1..30).contains(&attempts), "{attempts} attempts in {took:?}");
    seated.clear();
    writers.take(20, Duration::from_secs(5)).await;
    drop(first);
    writers.check(&world).await;
    assert_no_open_transaction(&world).await;
}

#[tokio::test]
async fn sessions_that_are_ended_in_mid_transaction() {
    let world = two_cores().await;
    let writers = Writers::start(&world, 8);
    let mut ended = 0;
    while ended < 40 {
        let victim = "datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()";
        let sql = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {victim}");
        ended += world.database.text(&sql).await.parse::<usize>().unwrap();
    }
    writers.take(20, RECOVERY_LIMIT).await;
    writers.check(&world).await;
    assert_no_open_transaction(&world).await;
}

/// The connection is cut when the server has done what it was asked, before it has said so: once after each
/// flight of a callback, COMMIT among them.
#[tokio::test]
async fn answers_that_are_lost_on_the_way() {
    let world = World::start().await;
    let (mut lost, mut flights, mut visitors) = (0, 0, Vec::new());
    loop {
        let mut browser = world.browser();
        eventually("the cut to be over", async || match browser.view(&granted()).await {
            answer if answer.json()["accepted"] == json!(1) => Ok(()),
            answer => Err(answer.text()),
        })
        .await;
        let callback = browser.sync_to_vendor("pinterest").await;
        world.postgres_proxy.freeze_after(flights, Hold::Answer);
        let mut calling = browser.clone();
        let call = calling.get(callback.as_str());
        tokio::pin!(call);
        let answered = tokio::select! {
            answer = &mut call => { assert_gif(&answer); true }
            () = world.postgres_proxy.frozen() => false,
        };
        world.postgres_proxy.cut();
        world.postgres_proxy.heal().await;
        if !answered {
            assert_gif(&call.await);
        }
        // The visitor comes again: stored once, whether or not it was said so.
        let table = "vendor_ids JOIN links USING (org_id, canonical_id)";
        let own = format!("links.value = '{}'", browser.aid());
        eventually("the ID to be stored", async || {
            assert_gif(&browser.get(callback.as_str()).await);
            match world.database.count(table, &own).await {
                1 => Ok(()),
                rows => Err(format!("{rows} rows after flight {flights}")),
            }
        })
        .await;
        visitors.push(browser);
        if answered && lost > 0 {
            break;
        }
        lost += usize::from(!answered);
        flights += 1;
        assert!(flights < 60, "a callback takes ever more flights");
    }
    assert!(lost >= 5, "{lost} answers were lost");
    postgres_is(&world, "SERVING").await;
    for mut browser in visitors {
        assert_serves(&mut browser).await;
        assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some(), "stored and not delivered");
    }
    assert_no_open_transaction(&world).await;
}

#[tokio::test]
async fn errors_are_told_in_english_whatever_the_database_s_language() {
    let server = PostgresServer::start().await.unwrap();
    let password = "CREATE ROLE plain LOGIN PASSWORD 'plain'";
    // Other languages have to be installed; another name for C's does as well.
    server.execute(&["ALTER SYSTEM SET lc_messages = 'POSIX'", "SELECT pg_reload_conf()", password]).await;
    let mut plain = url::Url::parse(&server.url).unwrap();
    plain.set_username("plain").unwrap();
    plain.set_password(Some("plain")).unwrap();
    let language = async |url: &str| {
        let pool = PgPool::connect_lazily(
            &Database::parse(&url.to_owned().into(), &StoreTls::default()).unwrap(),
            1,
        );
        let mut connection = pool.open().await.unwrap();
        let setting = diesel::dsl::sql::<Text>("current_setting('lc_messages')");
        let asked = diesel::select(setting);
        diesel_async::RunQueryDsl::get_result::<String>(asked, &mut *connection).await.unwrap()
    };
    assert_eq!(language(&server.url).await, "C");
    // Who may not choose is let in all the same.
    assert_eq!(language(plain.as_str()).await, "POSIX");
}

#[tokio::test]
async fn sixty_four_writers_of_the_same_visitors() {
    let world = two_cores().await;
    let mut first = world.browser();
    let mut second = world.browser();
    assert_accepted(&first.view(&granted()).await, 1);
    assert_accepted(&second.view(&granted()).await, 1);
    let mut writers = JoinSet::new();
    for number in 0..64 {
        let (mut browser, other) = (first.clone(), second.clone());
        writers.spawn(async move {
            for round in 0..5 {
                let consent = if (number + round) % 2 == 0 { granted() } else { denied() };
                let mut events = [browser.page_view(&consent), other.page_view(&consent)];
                events[0]["userId"] = json!("first@shop");
                events[1]["userId"] = json!("second@shop");
                // In both orders, so that locks taken in the order of arrival would meet crosswise.
                if number % 2 == 0 {
                    events.reverse();
                }
                // A machine with too much to do may ask for another try; whoever obeys is served.
                let began = Instant::now();
                loop {
                    browser.jar.clear();
                    let answer = browser.batch(&json!(events)).await;
                    if answer.json()["accepted"] == 2 {
                        break;
                    }
                    let errors = answer.json()["errors"].as_array().cloned().unwrap_or_default();
                    let obeys = errors.iter().all(|error| error["retry"] == json!(true));
                    assert!(
                        obeys && began.elapsed() < EVENTUALLY_LIMIT,
                        "{} {}",
                        answer.status,
                        answer.text()
                    );
                }
            }
        });
    }
    writers.join_all().await;
    let sql = "SELECT deadlocks::text FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(world.database.text(sql).await, "0", "deadlocks");
    assert_eq!(world.database.count("links", "kind = 1").await, 2);
    assert_eq!(world.database.count("canonicals", "true").await, 2);
    assert_no_open_transaction(&world).await;
}
