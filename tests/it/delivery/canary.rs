//! Nobody reads an event in the files of PostgreSQL, or in what the processes write.

use harness::{
    delivery::{Delivering, INGEST_KEY},
    delivery_sim::Reaction,
    eventually,
    world::Options,
};
use serde_json::json;
use uuid::Uuid;

use super::people::pause;

/// The files of this database, and those of the WAL since a position, in which a text stands.
async fn files_with(delivering: &Delivering, since: &str, text: &str) -> String {
    let sql = format!(
        "WITH files AS ( \
             SELECT format('base/%s/%s', oid, name) AS path FROM pg_database, LATERAL pg_ls_dir('base/' || oid) AS name \
             WHERE datname = current_database() AND name ~ '^[0-9]+$' \
             UNION ALL SELECT 'pg_wal/' || name FROM pg_ls_waldir() WHERE name >= '{since}' AND name ~ '^[0-9A-F]+$') \
         SELECT coalesce(string_agg(path, ' '), '') FROM files \
         WHERE position('{text}'::bytea IN coalesce(pg_read_binary_file(path, 0, 1000000000, true), '')) > 0"
    );
    delivering.world.database.text(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stands_in_clear_in_no_file_and_no_line() {
    let options = Options { trusted_proxies: "127.0.0.0/8", ..Options::default() };
    let delivering = Delivering::with(options, &json!({})).await;
    let database = &delivering.world.database;
    let since = database.text("SELECT pg_walfile_name(pg_current_wal_lsn())").await;
    database
        .execute(
            "INSERT INTO live_watches SELECT id, org_id, now() + interval '10 minutes' FROM sources LIMIT 1",
        )
        .await;
    // Heard of, so that what is sent is recorded too.
    pause(&delivering, true).await;
    pause(&delivering, false).await;
    delivering.sim.behave(|request| Reaction::Status(if request.body.contains("bad") { 400 } else { 202 }));
    let part = Uuid::new_v4().simple().to_string();
    let (email, address) = (format!("canary-{part}@example.com"), format!("2001:db8:{}::77", &part[..4]));
    let mut browser = delivering.world.browser();
    browser.address = Some(address.clone());
    for id in ["good", "bad"] {
        let event = json!([{"type": "track", "event": "purchase", "messageId": id, "traits": {"email": email},
            "properties": {"note": format!("of {email}")}}]);
        let answer = browser.batch(&event).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    eventually("one to be given up and both to be shown", async || {
        let (dead, live) =
            (database.count("deliveries", "true").await, database.count("live_events", "true").await);
        if dead == 1 && live == 2 { Ok(()) } else { Err(format!("{dead}, {live}")) }
    })
    .await;
    assert!(delivering.sim.received().iter().all(|request| request.body.contains(&email)), "it is sent");
    database.execute("CHECKPOINT").await;
    let known = browser.jar.value(&browser.collect, "_dfid").unwrap().to_owned();
    assert!(!files_with(&delivering, &since, &known).await.is_empty(), "what is in clear is found");
    for canary in [email.as_str(), &address, INGEST_KEY] {
        assert_eq!(files_with(&delivering, &since, canary).await, "", "{canary}");
        let cluster = &delivering.world.cluster;
        for process in delivering.processors.iter().chain(&cluster.cores).chain([&cluster.edge]) {
            assert!(!process.log().iter().any(|line| line.contains(canary)), "a line has {canary}");
        }
    }
}
