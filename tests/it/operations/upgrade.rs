//! The upgrade to migration 8: a database that the version before has filled serves what it served, and goes
//! back and forth.
//!
//! `before_owners.sql` is what that version's demo has stored, and browsers, servers and an operator after
//! its story; `before_owners.json` tells what it then answered, the same for every name of a person.

use std::collections::BTreeMap;

use harness::{
    browser::Browser,
    cluster::{Cluster, Setup},
    database::TestDatabase,
    people::{browser, canonical, named, user},
    process::run,
    redis::RedisServer,
    system,
    visits::granted,
};
use migrations::migrate;
use proto::v1::{
    Caller, ExplainRequest, IdentityVendorIds, LookupRequest, Person, UnmergeRequest, VendorIdsRequest,
    caller::Kind, identity_ref::Id,
};
use serde::Deserialize;
use time::{Duration, format_description::well_known::Rfc3339};

/// The last migration that the version before has.
const VERSION_BEFORE: &str = "00000000000007";

/// Changed answers: browsers that get a value of their own again, which had given way to another browser's
/// when the two became one person. Everybody else is answered as before.
const OWN_AGAIN: &[(&str, &str, &str)] = &[
    ("carol-laptop", "gclid", "click-carol-laptop"),
    ("carol-laptop", "pin_unauth", "pin-carol-laptop"),
    ("dave-pc", "fbp", "fb.1.1795000000020.100020"),
    ("dave-pc", "gclid", "click-dave-pc"),
    ("dave-pc", "pin_unauth", "pin-dave-pc"),
    ("ivy-1", "fbp", "fb.1.1795000000071.100071"),
    ("ivy-1", "pin_unauth", "pin-ivy-1"),
    ("ivy-2", "gclid", "click-ivy-2"),
    ("ivy-2", "pin_unauth", "pin-ivy-2"),
    ("ivy-3", "gclid", "click-ivy-3"),
    ("jo-1", "gclid", "click-jo-1"),
    ("jo-3", "gclid", "click-jo-3"),
];

/// User IDs that a server had vouched for, by a signature or a hash.
const VOUCHED: &[&str] = &["erin", "erin-crm", "frank"];

/// The browser that left its first user, and what it had brought to them.
const LEFT: (&str, &str) = ("kim-phone", "fb.1.1795000000090.100090");

/// Answers of the version before.
#[derive(Deserialize)]
struct Before {
    pipeline_id: String,
    pipeline_key: String,
    orgs: Vec<OrgBefore>,
}

#[derive(Deserialize)]
struct OrgBefore {
    org_id: String,
    people: Vec<PersonBefore>,
}

/// A person with all their names, the canonical ID that was answered first.
#[derive(Deserialize)]
struct PersonBefore {
    canonical_ids: Vec<String>,
    anonymous_ids: Vec<String>,
    user_ids: Vec<String>,
    vendor_ids: BTreeMap<String, String>,
    /// State of each vendor's sync; none for test data, which has no pipeline.
    syncs: Option<BTreeMap<String, String>>,
}

impl Before {
    fn read() -> Self {
        serde_json::from_str(include_str!("before_owners.json")).unwrap()
    }
}

impl PersonBefore {
    fn names(&self) -> Vec<Id> {
        let canonicals = self.canonical_ids.iter().map(canonical);
        let browsers = self.anonymous_ids.iter().map(browser);
        canonicals.chain(browsers).chain(self.user_ids.iter().map(user)).collect()
    }

    /// The vendor IDs that are to be answered now.
    fn expected(&self, name: &Id) -> BTreeMap<String, String> {
        let mut ids = self.vendor_ids.clone();
        for (browser, field, value) in OWN_AGAIN {
            if matches!(name, Id::AnonymousId(name) if name == browser) {
                let before = ids.insert((*field).to_owned(), (*value).to_owned());
                assert!(before.is_some_and(|before| before != *value), "{browser} had its own {field}");
            }
        }
        ids
    }

    /// Kind, value and way of each identifier, in order.
    fn ways(&self) -> Vec<(&str, &str, &str)> {
        let tied = if self.user_ids.is_empty() { "own" } else { "claim" };
        let browsers = self.anonymous_ids.iter().map(|id| ("anonymous_id", id.as_str(), tied));
        let way = |id: &str| if VOUCHED.contains(&id) { "signed" } else { "claim" };
        let mut ways: Vec<_> =
            browsers.chain(self.user_ids.iter().map(|id| ("user_id", id.as_str(), way(id)))).collect();
        ways.sort_unstable();
        ways
    }
}

/// The dump, with each of its times as long from now as it was from the dump's own: nothing in it expires.
fn dump() -> String {
    let now = system::now().replace_nanosecond(0).unwrap();
    let time = |micros: &str| now + Duration::microseconds(micros.parse().unwrap());
    let parts = include_str!("before_owners.sql").split('@').enumerate();
    let text = |(place, part): (usize, &str)| match place % 2 {
        0 => part.to_owned(),
        _ => time(part).format(&Rfc3339).unwrap(),
    };
    parts.map(text).collect()
}

/// Makes a database as the version before has left it.
async fn filled() -> TestDatabase {
    let database = TestDatabase::empty().await.unwrap();
    migrate::run(&database.address()).await.unwrap();
    migrate::revert_to(&database.address(), VERSION_BEFORE).await.unwrap();
    database.execute(&dump()).await;
    database
}

async fn upgrade(database: &TestDatabase) {
    let env = [("DATABASE_URL", database.url.as_str())];
    let ended = run("identity-service", &["--migrate"], &env, "").await.unwrap();
    assert!(ended.status.success(), "{}", ended.text());
}

/// Starts a core and an edge.
async fn serve(database: &TestDatabase, redis: &RedisServer) -> Cluster {
    let free = ([127, 0, 0, 1], 0).into();
    let setup = Setup {
        database_url: database.url.clone(),
        redis_url: redis.url(),
        cores: 1,
        core_addr: free,
        edge_addr: free,
        log_level: "info".to_owned(),
        trusted_proxies: String::new(),
        open_networks: String::new(),
    };
    Cluster::start(&setup).await.unwrap()
}

async fn vendor_ids(cluster: &Cluster, org: &str, names: &[Id]) -> Vec<IdentityVendorIds> {
    let identities = names.iter().cloned().map(named).collect();
    let request = VendorIdsRequest {
        org_id: org.to_owned(),
        identities,
        fields: Vec::new(),
        ..VendorIdsRequest::default()
    };
    let api = cluster.api(0, &cluster.secrets.operator_token).unwrap();
    api.resolve().vendor_ids(request).await.unwrap().into_inner().identities
}

fn values(ids: &IdentityVendorIds) -> BTreeMap<String, String> {
    ids.vendor_ids.iter().map(|(field, id)| (field.clone(), id.value.clone())).collect()
}

async fn person(cluster: &Cluster, org: &str, name: Id) -> Person {
    let request = LookupRequest { org_id: org.to_owned(), identity: Some(named(name)) };
    let api = cluster.api(0, &cluster.secrets.operator_token).unwrap();
    api.people().lookup(request).await.unwrap().into_inner().person.unwrap()
}

/// State of each vendor's sync, in the words of the contract.
async fn syncs(cluster: &Cluster, org: &str, pipeline: &str, name: Id) -> BTreeMap<String, String> {
    let request = ExplainRequest {
        caller: Some(Caller { kind: Some(Kind::OrgId(org.to_owned())) }),
        identity: Some(named(name)),
        pipeline_id: Some(pipeline.to_owned()),
    };
    let api = cluster.api(0, &cluster.secrets.operator_token).unwrap();
    let explained = api.sync().explain(request).await.unwrap().into_inner().vendors;
    let state = |status: &str| status.trim_start_matches("VENDOR_SYNC_STATUS_").to_lowercase();
    explained.into_iter().map(|one| (one.vendor.clone(), state(one.status().as_str_name()))).collect()
}

/// Checks all that is answered of everybody.
async fn assert_served(cluster: &Cluster, before: &Before) {
    for OrgBefore { org_id, people } in &before.orgs {
        for known in people {
            let names = known.names();
            let answers = vendor_ids(cluster, org_id, &names).await;
            for (name, answer) in names.iter().zip(&answers) {
                assert_eq!(answer.canonical_id, known.canonical_ids[0], "{name:?}");
                assert_eq!(values(answer), known.expected(name), "{name:?}");
                if let Some(expected) = &known.syncs {
                    let mut found = syncs(cluster, org_id, &before.pipeline_id, name.clone()).await;
                    // Vendors that the version before did not know are enabled nowhere.
                    found.retain(|vendor, state| expected.contains_key(vendor) || state != "disabled");
                    assert_eq!(found, *expected, "{name:?}");
                }
            }
            assert_eq!(answers.len(), names.len());
            let found = person(cluster, org_id, names[0].clone()).await.identifiers;
            let mut ways: Vec<_> =
                found.iter().map(|one| (one.kind.as_str(), one.value.as_str(), one.via.as_str())).collect();
            ways.sort_unstable();
            assert_eq!(ways, known.ways());
        }
    }
}

/// Leaves in Redis what the version before might have served there, and its word that these values are good.
async fn serve_as_before(redis: &RedisServer, org: &OrgBefore) {
    let info: String = redis.ask(&["INFO"]).await.unwrap();
    let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim_end();
    let name = format!("{}:{}", line("run_id:"), line("master_replid:"));
    let () = redis.ask(&["SET", "datafly:server", &name]).await.unwrap();
    for person in &org.people {
        let canonicals = person.canonical_ids.iter().map(|id| format!("cvid:{}:{id}", org.org_id));
        let browsers = person.anonymous_ids.iter().map(|id| format!("identity:{}:{id}", org.org_id));
        for key in canonicals.chain(browsers) {
            let () =
                redis.ask(&["HSET", &key, "_v", "1", "pin_unauth", "of-the-version-before"]).await.unwrap();
        }
    }
}

async fn assert_no_difference(database: &TestDatabase, redis: &RedisServer) {
    let env = [("DATABASE_URL", database.url.as_str()), ("REDIS_URL", &redis.url())];
    let compared = run("identity-service", &["--compare"], &env, "").await.unwrap();
    assert!(compared.status.success(), "{}", compared.text());
}

/// Rows of what the migration changes, in the columns of the version before. Left out is what does not come
/// back: who had vouched for a contact, and whose an ID is, of which the migration knows more.
async fn stored(database: &TestDatabase) -> String {
    let sql = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
        SELECT (to_jsonb(vendor_ids) - 'anonymous_id')::text AS line FROM vendor_ids
        UNION ALL SELECT to_jsonb(sync_attempts)::text FROM sync_attempts
        UNION ALL SELECT to_jsonb(links)::text FROM links
        UNION ALL SELECT (to_jsonb(pii_digests) - 'verified')::text FROM pii_digests
        UNION ALL SELECT (to_jsonb(merge_history) - 'moved' || jsonb_build_object(
            'links', moved -> 'links', 'merged', moved -> 'merged'))::text FROM merge_history) AS rows";
    database.text(sql).await
}

/// Vendor IDs of version 7 whose browser is known, one a line.
async fn owned(database: &TestDatabase) -> String {
    let sql = "SELECT string_agg(to_jsonb(vendor_ids)::text, E'\\n') FROM vendor_ids \
        WHERE anonymous_id IS NOT NULL";
    database.text(sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_version_before_has_stored_is_served_taken_back_and_served_again() {
    let before = Before::read();
    let database = filled().await;
    let (rows, owners) = (stored(&database).await, owned(&database).await);

    upgrade(&database).await;
    let redis = RedisServer::start().await.unwrap();
    serve_as_before(&redis, &before.orgs[0]).await;
    let mut cluster = serve(&database, &redis).await;
    assert_served(&cluster, &before).await;
    assert_no_difference(&database, &redis).await;
    assert_eq!(database.count("pii_digests", "verified").await, 0);
    assert!(database.count("pii_digests", "NOT verified").await > 0);
    cluster.cores[0].terminate().await;
    drop(cluster);

    assert!(!migrate::revert_to(&database.address(), VERSION_BEFORE).await.unwrap().is_empty());
    assert_eq!(stored(&database).await, rows);
    let owners_again = owned(&database).await;
    let lost: Vec<&str> =
        owners.lines().filter(|row| !owners_again.lines().any(|other| other == *row)).collect();
    assert_eq!(lost, [""; 0]);

    upgrade(&database).await;
    let () = redis.ask(&["FLUSHALL"]).await.unwrap();
    let cluster = serve(&database, &redis).await;
    assert_served(&cluster, &before).await;
    assert_no_difference(&database, &redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_of_the_version_before_is_taken_apart_and_no_browser_is_given_another_s_id() {
    let before = Before::read();
    let org = &before.orgs[0].org_id;
    let database = filled().await;
    upgrade(&database).await;
    let redis = RedisServer::start().await.unwrap();
    let cluster = serve(&database, &redis).await;

    let api = cluster.api(0, &cluster.secrets.operator_token).unwrap();
    for (stays, goes) in [("carol-laptop", "carol-tablet"), ("dave-phone", "dave-pc")] {
        let merges = person(&cluster, org, browser(goes)).await.merges;
        assert_eq!(merges.len(), 1, "{merges:?}");
        let request = UnmergeRequest { org_id: org.clone(), merge_id: merges[0].merge_id.clone() };
        let apart = api.people().unmerge(request).await.unwrap().into_inner().canonical_id;
        let answers = vendor_ids(&cluster, org, &[browser(stays), browser(goes)]).await;
        assert_ne!(answers[0].canonical_id, apart);
        assert_eq!(answers[1].canonical_id, apart);
        for (name, other, answer) in [(stays, goes, &answers[0]), (goes, stays, &answers[1])] {
            let ids = values(answer);
            assert_eq!(ids.get("pin_unauth"), Some(&format!("pin-{name}")));
            assert_eq!(ids.get("gclid"), Some(&format!("click-{name}")));
            assert!(!ids.values().any(|id| id.contains(other)), "{name}: {ids:?}");
        }
    }

    // The phone has no cookie and no ID of its own. The computer's is delivered for it, as before, and stays
    // unknown to it: the computer is another user's since.
    let (phone, computer_s) = LEFT;
    let mut page = Browser::new(&cluster.collect_url(), &before.pipeline_key, "https://shop.example.com");
    page.anonymous_id = Some(phone.to_owned());
    page.host = Some("127.0.0.1:8080".to_owned());
    let answer = page.view(&granted()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let given = page.jar.value(&page.collect, "_fbp");
    assert!(given.is_some_and(|given| given != computer_s), "{given:?}");
    assert_no_difference(&database, &redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_of_before_goes_on_collecting_what_it_did() {
    let database = filled().await;
    let pipeline = Before::read().pipeline_id;
    let said = format!(
        "DELETE FROM generated_ids WHERE pipeline_id = '{pipeline}' AND vendor NOT IN ('meta', 'google')"
    );
    database.execute(&said).await;
    database.execute("UPDATE generated_ids SET enabled = false WHERE vendor = 'meta'").await;
    // By the rule of before those of these are collected.
    let synced = database
        .text("SELECT string_agg(vendor, ' ' ORDER BY vendor) FROM identity_sources WHERE enabled")
        .await;
    upgrade(&database).await;
    let rows = async |enabled: bool| {
        let sql = "SELECT string_agg(vendor, ' ' ORDER BY vendor) FROM generated_ids WHERE enabled = ";
        database.text(&format!("{sql}{enabled}")).await
    };
    assert_eq!(synced, "criteo index_exchange pinterest trade_desk", "the fixture has these");
    assert_eq!(rows(true).await, "google pinterest");
    assert_eq!(
        rows(false).await,
        "linkedin meta microsoft nextdoor outbrain reddit snapchat taboola tiktok x"
    );
}
