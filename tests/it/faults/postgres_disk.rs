//! PostgreSQL's disk is full: what is known is served, what can't be stored is to be sent again, and all is
//! well as soon as there is space.
//!
//! The disk becomes full by a limit: the server's own sessions may write no further than so many bytes into
//! any file, which needs no privilege, no mount and no other file system. PostgreSQL 15 finds that fewer
//! bytes were written than asked for, and answers with SQLSTATE 53100 as on a disk without space; later ones
//! have another SQLSTATE, and the same hint.

use std::time::Duration;

use harness::{
    answers::{assert_accepted, assert_retry},
    eventually,
    health::postgres_is,
    postgres::PostgresServer,
    recovery::{assert_healed, assert_no_open_transaction},
    visits::{granted, synced},
    world::{Options, World},
    writers::Writers,
};
use serde_json::json;
use uuid::Uuid;

/// Time within which writes are due to succeed after there is space: 2 s, and some for a machine that runs
/// other tests as well.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);
/// Size of each table when the disk is full: more than that of a file of the log, and of any other file.
const TABLE_BYTES: u32 = 1 << 20;
const PAGE_BYTES: u32 = 8192;

/// Stores rows of strangers, until each table that visitors are stored in has [`TABLE_BYTES`] and a page
/// more.
async fn fill(world: &World, org: Uuid) {
    let [canonicals, links, consent, vendor_ids, attempts] = [
        ("canonicals", "(org_id, id) SELECT O, gen_random_uuid()"),
        ("links", "(org_id, kind, value, canonical_id) SELECT O, 0, gen_random_uuid(), canonical"),
        ("consent", "(org_id, anonymous_id, updated_at) SELECT O, gen_random_uuid(), now()"),
        (
            "vendor_ids",
            "(org_id, canonical_id, field, value, source, collected_at, expires_at) \
             SELECT O, canonical, gen_random_uuid(), 'x', 'sync', now(), now() + interval '1 day'",
        ),
        (
            "sync_attempts",
            "(org_id, canonical_id, vendor, outcome, attempts, next_at) \
             SELECT O, canonical, gen_random_uuid(), 'attempted', 1, now()",
        ),
    ]
    .map(|(table, rows)| {
        let rows = rows.replace('O', &format!("'{org}'"));
        format!(
            "WHILE pg_relation_size('{table}') <= {TABLE_BYTES} LOOP \
               INSERT INTO {table} {rows} FROM generate_series(1, 20); \
             END LOOP;"
        )
    });
    let sql = format!(
        "DO $$ DECLARE canonical uuid; BEGIN \
           {canonicals} SELECT id INTO canonical FROM canonicals WHERE org_id = '{org}' LIMIT 1; \
           {links} {consent} {vendor_ids} {attempts} \
         END $$"
    );
    world.database.execute(&sql).await;
}

#[tokio::test]
async fn a_full_disk_stops_no_read_and_heals_by_itself() {
    let server = PostgresServer::with_small_log_files().await.unwrap();
    let world = World::over(&server, Options { cores: 2, ..Options::default() }).await;
    let mut known = synced(&world).await;
    let before = world.vendor_ids(known.aid()).await;
    let mut waiting = world.browser();
    assert_accepted(&waiting.view(&granted()).await, 1);
    let strangers = world.another_customer("explicit").await.org_id;
    fill(&world, strangers).await;
    let writers = Writers::start(&world, 4);
    writers.take(20, RECOVERY_LIMIT).await;

    // In the middle of the page that each table gets next.
    server.limit_files(Some(u64::from(TABLE_BYTES + PAGE_BYTES + PAGE_BYTES / 2))).await.unwrap();
    eventually("the disk to be full", async || {
        match world.metric("datafly_postgres_errors_total", &[("kind", "disk_full")]).await {
            0.0 => Err("it is not".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let mut refused = 0;
    eventually("visitors to be refused", async || {
        assert_accepted(&known.view(&granted()).await, 1);
        assert_eq!(world.vendor_ids(known.aid()).await, before, "from Redis");
        world.flush_redis().await;
        assert_eq!(world.vendor_ids(known.aid()).await, before, "from PostgreSQL");
        postgres_is(&world, "SERVING").await;
        let answer = world.browser().view(&granted()).await;
        // What another left behind may be room for one, and a request at its deadline says nothing.
        if ![503, 504].contains(&answer.status) && answer.json()["accepted"] != json!(1) {
            assert_retry(&answer);
            refused += 1;
        }
        if refused == 10 { Ok(()) } else { Err(format!("{refused} were")) }
    })
    .await;
    let image = waiting.get(&waiting.sync_url("pinterest")).await;
    assert!([204, 302].contains(&image.status), "an image is never an error: {}", image.status);
    let log = server.log();
    assert!(log.contains("could not extend file") && log.contains("Check free disk space"), "{log}");
    assert!(!log.contains("PANIC"), "{log}");

    server.limit_files(None).await.unwrap();
    writers.take(20, RECOVERY_LIMIT).await;
    synced(&world).await;
    writers.check(&world).await;
    assert_no_open_transaction(&world).await;
    // They would take long to compare.
    for table in ["canonicals", "consent"] {
        world.database.execute(&format!("DELETE FROM {table} WHERE org_id = '{strangers}'")).await;
    }
    assert_healed(&world).await;
}
