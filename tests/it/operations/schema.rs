//! The migrations: down takes back what up has made, and diesel's view of the tables is the tables.

use diesel::{QueryDsl, debug_query, pg::Pg};
use harness::database::TestDatabase;
use migrations::{diesel, migrate, schema};

const OBJECTS: &str = "SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM ( \
    SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') \
    UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace) objects";

#[tokio::test(flavor = "multi_thread")]
async fn up_and_down_are_each_other_s_reverse() {
    let database = TestDatabase::empty().await.unwrap();
    let applied = migrate::run(&database.address()).await.unwrap();
    assert!(applied.len() >= 2, "{applied:?}");
    let made = database.text(OBJECTS).await;
    assert!(made.contains("canonicals") && made.contains("bump_config_version"), "{made}");

    let reverted = migrate::revert_all(&database.address()).await.unwrap();
    assert_eq!(reverted.len(), applied.len());
    assert_eq!(database.text(OBJECTS).await, "__diesel_schema_migrations");
    assert!(
        migrate::check(&database.address()).await.is_err(),
        "nothing is pending after everything was reverted"
    );

    migrate::run(&database.address()).await.unwrap();
    assert_eq!(database.text(OBJECTS).await, made);
    migrate::check(&database.address()).await.unwrap();
}

#[tokio::test]
async fn diesel_sees_the_tables_as_they_are() {
    let database = TestDatabase::create().await.unwrap();
    let mut seen = Vec::new();
    macro_rules! compare {
        ($($table:ident)*) => {$(
            let select = debug_query::<Pg, _>(&schema::$table::table.select(schema::$table::all_columns)).to_string();
            let columns = select.split_once(" FROM ").unwrap().0.trim_start_matches("SELECT ");
            let name = stringify!($table);
            let actual = database.text(&format!(
                "SELECT string_agg(format('\"{name}\".\"%s\"', column_name), ', ' ORDER BY ordinal_position) \
                 FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '{name}'"
            )).await;
            assert_eq!(columns, actual);
            seen.push(name);
        )*};
    }
    compare!(
        audit_log canonicals collect_hosts config_version consent custom_providers deliveries delivery_cursors delivery_processes destinations enrichment_settings enrichments erased event_heads events expiry_progress
        generated_ids identity_sources link_refusals links live_events live_watches login_failures merge_history orgs pii_digests
        pipeline_keys pipelines profile_providers provider_states redis_repairs reencryptions refresh_tokens refused_hosts replays resets seal_counts secrets
        server_secrets sessions sources sync_attempts tombstone_keys used_proofs used_states users vendor_ids
    );
    let tables = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class \
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition \
        AND relname <> '__diesel_schema_migrations'";
    assert_eq!(seen.join(" "), database.text(tables).await);
}

#[tokio::test]
async fn every_change_of_settings_is_a_new_version() {
    let database = TestDatabase::create().await.unwrap();
    let version =
        || async { database.text("SELECT version::text FROM config_version").await.parse::<i64>().unwrap() };
    let org = "00000000-0000-7000-8000-000000000001";
    let source = "00000000-0000-7000-8000-000000000002";
    let key = "00000000-0000-7000-8000-000000000003";
    let mut before = version().await;
    for change in [
        format!("INSERT INTO orgs (id, name) VALUES ('{org}', 'Acme')"),
        format!("UPDATE orgs SET name = 'Acme Ltd' WHERE id = '{org}'"),
        format!("INSERT INTO sources (id, org_id, name) VALUES ('{source}', '{org}', 'shop')"),
        format!(
            "INSERT INTO pipeline_keys (id, org_id, source_id, environment, key_hash, hint) \
             VALUES ('{key}', '{org}', '{source}', 'live', decode(repeat('00', 32), 'hex'), 'dk_live_')"
        ),
        format!("UPDATE pipeline_keys SET revoked_at = now() WHERE id = '{key}'"),
        format!("DELETE FROM sources WHERE id = '{source}'"),
    ] {
        database.execute(&change).await;
        let after = version().await;
        assert!(after > before, "no new version after: {change}");
        let own = database.text(&format!("SELECT config_version::text FROM orgs WHERE id = '{org}'")).await;
        assert_eq!(own, after.to_string(), "the organisation is not marked as changed after: {change}");
        before = after;
    }
    database.execute("UPDATE pipeline_keys SET last_used_on = CURRENT_DATE").await;
    assert_eq!(version().await, before, "the day a key was used is no setting");
}
