//! The encryption key is rotated while everything is in use.

use std::{collections::HashMap, sync::Arc, time::Duration};

use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, Binary, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use harness::{
    answers::assert_accepted,
    control::{Admin, Control, start_management},
    database::TestDatabase,
    eventually,
    process::{Service, run},
    seed::seal_keys,
    visits::granted,
    within,
};
use migrations::{
    diesel, diesel_async,
    sealed::{
        SealKeys,
        columns::{self, Column},
    },
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

const PATH: &str = "/v1/admin/crypto/re-encrypt";
/// Time that re-encryption may take: 100,000 values on a busy machine.
const REENCRYPTION_LIMIT: Duration = Duration::from_secs(60);

fn random_key() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// A sealed row of `secrets`.
#[derive(Debug, QueryableByName)]
struct SealedRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    org_id: Uuid,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Binary)]
    sealed: Vec<u8>,
}

impl SealedRow {
    fn open(&self, keys: &SealKeys) -> Option<String> {
        let place = columns::SECRETS.place(self.org_id, self.id);
        Some(String::from_utf8(keys.open(place, &self.sealed).ok()?.to_vec()).unwrap())
    }
}

/// Adds secrets to an organisation that hold their own name, and answers with their IDs.
async fn add(database: &TestDatabase, keys: &SealKeys, org: Uuid, prefix: &str, count: usize) -> Vec<Uuid> {
    // A new version of the settings for each row would take longer than all the rest.
    database.execute("ALTER TABLE secrets DISABLE TRIGGER bump").await;
    let mut connection = database.connection().await.unwrap();
    let numbers: Vec<usize> = (0..count).collect();
    let mut all = Vec::new();
    for chunk in numbers.chunks(20_000) {
        let ids: Vec<Uuid> = chunk.iter().map(|_| Uuid::now_v7()).collect();
        let names: Vec<String> = chunk.iter().map(|number| format!("{prefix}{number}")).collect();
        let seal = |(id, name): (&Uuid, &String)| {
            keys.seal(columns::SECRETS.place(org, *id), name.as_bytes()).unwrap()
        };
        let sealed: Vec<Vec<u8>> = ids.iter().zip(&names).map(seal).collect();
        let sql = format!(
            "INSERT INTO secrets (id, org_id, name, sealed) SELECT id, '{org}', name, sealed \
            FROM unnest($1, $2, $3) AS new (id, name, sealed)"
        );
        let insert = sql_query(sql).bind::<Array<SqlUuid>, _>(&ids).bind::<Array<Text>, _>(names);
        insert.bind::<Array<Binary>, _>(sealed).execute(&mut connection).await.unwrap();
        all.extend(ids);
    }
    database.execute("ALTER TABLE secrets ENABLE TRIGGER bump").await;
    all
}

async fn rows(connection: &mut AsyncPgConnection, ids: &[Uuid]) -> Vec<SealedRow> {
    let sql = "SELECT id, org_id, name, sealed FROM secrets WHERE id = ANY($1)";
    sql_query(sql).bind::<Array<SqlUuid>, _>(ids).load(connection).await.unwrap()
}

/// Number of values of a table that are sealed with a key.
async fn sealed_with(database: &TestDatabase, column: Column, key: &str) -> i64 {
    let id = hex::encode(seal_keys(key, None).current().id());
    let with = format!("substring({} FROM 2 FOR 4) = '\\x{id}'::bytea", column.column);
    database.count(column.table, &with).await
}

/// The progress, from a process that may be too busy to say at once.
async fn progress(admin: &Admin) -> Value {
    within(REENCRYPTION_LIMIT, "the progress to be told", async || {
        let answer = admin.get(PATH).await;
        if answer.status == 503 { Err(answer.json.to_string()) } else { Ok(answer.expect(200)) }
    })
    .await
}

async fn finished(admin: &Admin) -> Value {
    within(REENCRYPTION_LIMIT, "re-encryption to finish", async || {
        let progress = progress(admin).await;
        if progress["state"] == "finished" { Ok(progress) } else { Err(progress.to_string()) }
    })
    .await
}

/// Starts a management process with the key `current`, and the previous one where there is one.
async fn management(control: &Control, current: &str, previous: Option<&str>) -> Service {
    let mut env = vec![("DATAFLY_ENCRYPTION_KEY", current)];
    env.extend(previous.map(|previous| ("DATAFLY_ENCRYPTION_KEY_PREVIOUS", previous)));
    start_management(&control.world, &control.jwt_secret, &env).await.unwrap()
}

/// Reads values over and over again until told to stop: each opens, and holds its name or what was `written`.
/// Answers with how many were read.
async fn read_on(
    database_url: String,
    keys: Arc<SealKeys>,
    ids: Vec<Uuid>,
    written: Arc<HashMap<String, String>>,
    stop: watch::Receiver<bool>,
) -> usize {
    let mut connection =
        <AsyncPgConnection as diesel_async::AsyncConnection>::establish(&database_url).await.unwrap();
    // Batch after batch is sealed in this order: so there are always some that were, and some that were not.
    let (mut at, mut read) = (0, 0);
    while !*stop.borrow() {
        at = (at + 7919) % ids.len();
        let some: Vec<Uuid> = (0..100).map(|step| ids[(at + step * 997) % ids.len()]).collect();
        for row in rows(&mut connection, &some).await {
            let value = row.open(&keys).unwrap_or_else(|| panic!("{} can't be opened", row.name));
            assert!(value == row.name || written.get(&row.name) == Some(&value), "{}: {value}", row.name);
        }
        read += some.len();
    }
    read
}

/// Re-encryption of 100,000 values, each readable all the time, under reads and writes, by a process that is
/// killed half way and resumes; of two others one has the old key alone and one the new one, and neither helps nor
/// hinders.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_values_are_sealed_anew_while_they_are_used() {
    const VALUES: usize = 100_000;
    const REWRITTEN: usize = 20;
    let control = Control::start().await;
    let (owner, database) = (&control.owner, &control.world.database);
    let old = control.world.cluster.secrets.encryption_key.clone();
    let new = random_key();
    let sibling = format!("SELECT id FROM orgs WHERE test_of = '{}'", owner.org_id);
    let sibling: Uuid = database.text(&sibling).await.parse().unwrap();
    let with_old = seal_keys(&old, None);
    let mut ids = add(database, &with_old, owner.org_id, "live", VALUES - 1000).await;
    ids.extend(add(database, &with_old, sibling, "test", 1000).await);
    let foreign = control.another_owner().await;
    add(database, &with_old, foreign.org_id, "foreign", 10).await;

    // A name to what is written into it: by the new process, or by the old one.
    let rewritten: Vec<String> = (0..REWRITTEN).map(|number| format!("live{}", number * 4000)).collect();
    let written = Arc::new(rewritten.iter().map(|name| (name.clone(), format!("{name} anew"))).collect());
    let (stop, stopped) = watch::channel(false);
    let both = Arc::new(seal_keys(&new, Some(&old)));
    let reader = |both: &Arc<SealKeys>| {
        let (url, ids, written) = (database.url.clone(), ids.clone(), Arc::clone(&written));
        tokio::spawn(read_on(url, Arc::clone(both), ids, written, stopped.clone()))
    };
    let readers = [reader(&both), reader(&both)];

    let too_early = management(&control, &new, None).await;
    let mut first = management(&control, &new, Some(&old)).await;
    let begun = owner.at(&first).post(PATH, &json!({})).await.expect(202);
    assert_eq!((&begun["state"], &begun["total"]), (&json!("running"), &json!(VALUES)), "{begun}");
    assert_eq!(begun["key_id"], hex::encode(both.current().id()));
    // Also at the old process, which gives the one that is running.
    let same = owner.post(PATH, &json!({})).await.expect(202);
    assert_eq!((&same["started_at"], &same["key_id"]), (&begun["started_at"], &begun["key_id"]));

    within(REENCRYPTION_LIMIT, "some to be done", async || {
        let done = progress(owner).await["done"].as_u64().unwrap();
        if done > 10_000 { Ok(()) } else { Err(done.to_string()) }
    })
    .await;
    for (number, name) in rewritten.iter().enumerate() {
        let process = if number % 2 == 0 { owner.at(&first) } else { owner.clone() };
        let value = json!({"value": format!("{name} anew")});
        // All of it is busy now: it may say so.
        within(REENCRYPTION_LIMIT, "it to be written", async || {
            match process.put(&format!("/v1/admin/secrets/{name}"), &value).await.status {
                200 => Ok(()),
                status => Err(status.to_string()),
            }
        })
        .await;
    }
    first.kill9().await;
    let half = progress(owner).await;
    assert_eq!(half["state"], "running", "it was faster than this test: {half}");
    // In one statement: PostgreSQL may still end what the process had begun.
    let id = hex::encode(both.current().id());
    let counts = format!(
        "SELECT concat_ws(' ', (SELECT done FROM reencryptions WHERE org_id = '{}'), \
        (SELECT count(*) FROM secrets WHERE substring(sealed FROM 2 FOR 4) = '\\x{id}'::bytea))",
        owner.org_id
    );
    let counts = database.text(&counts).await;
    let (done, anew) = counts.split_once(' ').unwrap();
    let (done, anew): (i64, i64) = (done.parse().unwrap(), anew.parse().unwrap());
    let total = i64::try_from(VALUES).unwrap();
    assert!(done > 10_000 && done < total, "{counts}");
    // What a transaction did is what it says it did; what was written meanwhile is beside that.
    assert!((done..=done + 10).contains(&anew), "{counts}");

    // Another process goes on, and then the first one helps again.
    let second = management(&control, &new, Some(&old)).await;
    first.restart().await.unwrap();
    let end = finished(&owner.at(&second)).await;
    assert_eq!(end["failed"], 0, "{end}");
    assert_eq!(end["started_at"], begun["started_at"], "nobody began from the start");
    stop.send_replace(true);
    for reader in readers {
        let read = reader.await.unwrap();
        assert!(read > 10_000, "a reader read {read} values only");
    }

    assert_eq!(sealed_with(database, columns::SECRETS, &new).await, total);
    assert_eq!(
        sealed_with(database, columns::SECRETS, &old).await,
        10,
        "another organisation's stay as they are"
    );
    let with_new = seal_keys(&new, None);
    let mut connection = database.connection().await.unwrap();
    for row in rows(&mut connection, &ids).await {
        let expected = written.get(&row.name).unwrap_or(&row.name);
        assert_eq!(row.open(&with_new).as_ref(), Some(expected), "{}", row.name);
    }
    let counted =
        format!("SELECT times FROM seal_counts WHERE key_id = '\\x{}'", hex::encode(with_new.current().id()));
    let counted: i64 = database.text(&counted).await.parse().unwrap();
    assert!((total..=total + 30).contains(&counted), "{counted} sealings were counted");
    assert!(
        !control.management[0].log().iter().any(|line| line.contains("can't be opened")),
        "the old process has touched it"
    );
    let unread = too_early.log().into_iter().filter(|line| line.contains("can't be opened, and is left"));
    assert_eq!(unread.collect::<Vec<_>>(), [""; 0], "who lacks the old key has counted");
}

/// A damaged value, and one that was copied elsewhere, are found and left; all others are sealed anew.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_open_is_told_and_left() {
    let control = Control::start().await;
    let (owner, database) = (&control.owner, &control.world.database);
    let old = control.world.cluster.secrets.encryption_key.clone();
    let new = random_key();
    assert_eq!(progress(owner).await["state"], "never");
    let with_old = seal_keys(&old, None);
    let ids = add(database, &with_old, owner.org_id, "good", 5).await;
    let bad = add(database, &with_old, owner.org_id, "bad", 3).await;
    let lost = add(database, &seal_keys(&random_key(), None), owner.org_id, "lost", 1).await;
    let foreign = control.another_owner().await;
    let theirs = add(database, &with_old, foreign.org_id, "theirs", 1).await;
    database
        .execute(&format!(
            "UPDATE secrets SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) WHERE id = '{}';
             UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE id = '{}') WHERE id = '{}';
             UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE id = '{}') WHERE id = '{}'",
            bad[0], ids[0], bad[1], theirs[0], bad[2]
        ))
        .await;
    let unreadable =
        "SELECT string_agg(encode(sealed, 'hex'), ' ' ORDER BY id) FROM secrets WHERE name ~ '^(bad|lost)'";
    let before = database.text(unreadable).await;
    let version = "SELECT version FROM config_version";
    let settings = database.text(version).await;

    let process = management(&control, &new, Some(&old)).await;
    let admin = owner.at(&process);
    let begun = admin.post(PATH, &json!({})).await.expect(202);
    assert_eq!(begun["total"], 9);
    let end = finished(&admin).await;
    assert_eq!((&end["done"], &end["failed"]), (&json!(5), &json!(4)));
    assert_eq!(database.text(unreadable).await, before);
    assert_eq!(database.text(version).await, settings, "the cores need not hear of it");
    let mut connection = database.connection().await.unwrap();
    for row in rows(&mut connection, &ids).await {
        assert_eq!(row.open(&seal_keys(&new, None)), Some(row.name.clone()));
    }
    for id in bad.iter().chain(&lost) {
        let told = eventually("each to be told", async || {
            let log = process.log();
            log.into_iter().find(|line| line.contains(&id.to_string())).ok_or_else(|| id.to_string())
        })
        .await;
        assert!(told.contains("\"table\":\"secrets\"") && told.contains("\"key_id\""), "{told}");
    }
    let unreadable = process.metrics().await.sum("datafly_reencrypt_unreadable_total", &[]);
    assert!((unreadable - 4.0).abs() < 0.5, "{unreadable}");

    // They can be seen to be there, given again, and removed.
    admin.get("/v1/admin/secrets/lost0").await.expect(200);
    admin.put("/v1/admin/secrets/lost0", &json!({"value": "found"})).await.expect(200);
    admin.delete("/v1/admin/secrets/bad0").await.expect(204);
    assert_eq!(admin.post(PATH, &json!({})).await.expect(202)["total"], 2);
    assert_eq!(finished(&admin).await["failed"], 2);
    assert_eq!(progress(&foreign.at(&process)).await["state"], "never");
    let record = "SELECT string_agg(action, ' ' ORDER BY id) FROM audit_log WHERE action LIKE 'crypto.%'";
    assert_eq!(database.text(record).await, "crypto.reencryption_started crypto.reencryption_started");
}

/// Starts the core again with other keys; an empty one is none.
async fn restart_core(control: &mut Control, current: &str, previous: &str) {
    let keys = [("DATAFLY_ENCRYPTION_KEY", current), ("DATAFLY_ENCRYPTION_KEY_PREVIOUS", previous)];
    let core = &mut control.world.cluster.cores[0];
    core.terminate().await;
    core.restart_with(&keys).await.unwrap();
}

/// A rotation with the operator's command: the new key is added, everything is sealed with it, the old one is
/// removed; before that it is removed too early, which costs what it sealed and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_with_nothing_lost() {
    let mut control = Control::start().await;
    let owner = control.owner.clone();
    let old = control.world.cluster.secrets.encryption_key.clone();
    let new = random_key();
    let source = owner.post("/v1/admin/sources", &json!({"name": "Shop"})).await.text("id");
    let vendor = format!("/v1/admin/sources/{source}/enrichment/uid2");
    let credentials = json!({"enabled": true, "credentials": {"api_key": "a", "client_secret": "b"}});
    eventually("the core to know the organisation", async || {
        let answer = owner.put(&vendor, &credentials).await;
        if answer.status < 300 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    owner.put("/v1/admin/secrets/token", &json!({"value": "x"})).await.expect(201);
    control.world.signed_call(0).await.unwrap();

    // Too early.
    restart_core(&mut control, &new, "").await;
    let refused = control.world.signed_call(0).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused}");
    let mut browser = control.world.browser();
    let view = browser.view(&granted()).await;
    assert_accepted(&view, 1);
    let too_early = management(&control, &new, None).await;
    let admin = owner.at(&too_early);
    assert_eq!(admin.get(&vendor).await.expect(200)["credentials"]["api_key"], json!({"configured": true}));
    admin.put(&vendor, &json!({"enabled": false})).await.expect(200);
    let one = json!({"enabled": true, "credentials": {"api_key": "c"}});
    admin.put(&vendor, &one).await.refused(503, "KEY_UNAVAILABLE");
    admin.put("/v1/admin/secrets/another", &json!({"value": "y"})).await.expect(201);
    let database_url = control.world.database.url.clone();
    let env = [("DATABASE_URL", database_url.as_str()), ("DATAFLY_ENCRYPTION_KEY", &new)];
    let ended = run("management", &["re-encrypt"], &env, "").await.unwrap();
    assert!(!ended.status.success(), "{}", ended.text());
    assert!(ended.text().contains("3 values can't be opened"), "{}", ended.text());
    let database = &control.world.database;
    assert_eq!(sealed_with(database, columns::SERVER_SECRETS, &old).await, 1, "nothing is removed");
    // The job of who lacks the old key is taken over by who has it.
    database.execute("UPDATE reencryptions SET finished_at = NULL").await;

    // In order: both keys everywhere, the command, the new key alone.
    restart_core(&mut control, &new, &old).await;
    control.world.signed_call(0).await.unwrap();
    let env = [env[0], env[1], ("DATAFLY_ENCRYPTION_KEY_PREVIOUS", &old)];
    let ended = run("management", &["re-encrypt"], &env, "").await.unwrap();
    assert!(ended.status.success(), "{}", ended.text());
    assert!(ended.text().contains("finished: 3 values sealed with key"), "{}", ended.text());
    control.world.signed_call(0).await.unwrap();
    restart_core(&mut control, &new, "").await;
    control.world.signed_call(0).await.unwrap();
    admin.put(&vendor, &one).await.expect(200);
    for column in columns::ALL {
        assert_eq!(sealed_with(&control.world.database, column, &old).await, 0, "{column:?}");
    }
    let nothing = run("management", &["re-encrypt"], &env, "").await.unwrap();
    assert!(nothing.text().contains("finished: 0 values"), "{}", nothing.text());
}

/// A process that drains leaves the rest to others; one that is asked to seal with another key than its own
/// does not.
#[tokio::test(flavor = "multi_thread")]
async fn who_drains_leaves_the_rest_to_others() {
    const VALUES: usize = 20_000;
    let control = Control::start().await;
    let (owner, database) = (&control.owner, &control.world.database);
    let old = control.world.cluster.secrets.encryption_key.clone();
    let new = random_key();
    add(database, &seal_keys(&old, None), owner.org_id, "value", VALUES).await;
    let mut first = management(&control, &new, Some(&old)).await;
    owner.at(&first).post(PATH, &json!({})).await.expect(202);
    within(REENCRYPTION_LIMIT, "some to be done", async || match progress(owner).await["done"].as_u64() {
        Some(1..) => Ok(()),
        done => Err(format!("{done:?}")),
    })
    .await;
    let (status, took) = first.terminate().await;
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    let half = progress(owner).await;
    assert_eq!(half["state"], "running", "{half}");
    // A third key: the job of the previous one is taken over, and everything goes to the third.
    let third = random_key();
    let stranger = management(&control, &third, None).await;
    let given = owner.at(&stranger).post(PATH, &json!({})).await.expect(202);
    assert_eq!(given["key_id"], half["key_id"], "it can't know which of the keys is older");
    drop(stranger);
    let heir = management(&control, &third, Some(&new)).await;
    let begun = owner.at(&heir).post(PATH, &json!({})).await.expect(202);
    assert_eq!(begun["key_id"], hex::encode(seal_keys(&third, None).current().id()));
    let end = finished(&owner.at(&heir)).await;
    let count = |key: String| async move { sealed_with(database, columns::SECRETS, &key).await };
    let (anew, left) = (count(third).await, count(old).await);
    assert_eq!(
        (&end["done"], &end["failed"]),
        (&json!(anew), &json!(left)),
        "what has the oldest key is left"
    );
    assert_eq!(anew + left, i64::try_from(VALUES).unwrap());
    let refused = owner.anyone().call(Method::POST, PATH, None, &[]).await;
    refused.refused(401, "INVALID_TOKEN");
}
