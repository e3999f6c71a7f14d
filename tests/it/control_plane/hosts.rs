//! Collect hosts: whose they are, who may send browsers elsewhere, and what is seen of calls by another.

use harness::{
    control::Control,
    database::TestDatabase,
    eventually,
    process::run,
    shop::{SETTINGS_LIMIT, Shop},
    visits::granted,
    within,
};
use migrations::migrate;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const SOURCES: &str = "/v1/admin/sources";

fn source(hosts: &[&str]) -> Value {
    let hosts: Vec<Value> = hosts.iter().map(|url| json!({ "url": url })).collect();
    json!({"name": "Shop", "domains": ["shop.example"], "collect_hosts": hosts})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collect_host_belongs_to_one_organisation() {
    let control = Control::start().await;
    let (owner, other) = (&control.owner, control.another_owner().await);
    let made = owner.post(SOURCES, &source(&["https://collect.shop.example"])).await.expect(201);
    let path = format!("{SOURCES}/{}", made["id"].as_str().unwrap());
    let theirs = other.post(SOURCES, &source(&["https://collect.other.example"])).await.expect(201);
    let their_path = format!("{SOURCES}/{}", theirs["id"].as_str().unwrap());
    for url in [
        "https://collect.shop.example",
        "https://COLLECT.shop.example",
        "https://collect.shop.example:443",
        "https://collect.shop.example.",
    ] {
        let claim = source(&["https://collect.other.example", url]);
        other.post(SOURCES, &claim).await.refused(409, "HOST_TAKEN");
        other.put(&their_path, &claim).await.refused(409, "HOST_TAKEN");
    }
    assert_eq!(other.get(&their_path).await.expect(200), theirs, "nothing was changed");
    // Another port is another host, and a second source of the same organisation is no other's.
    other.post(SOURCES, &source(&["https://collect.shop.example:8443"])).await.expect(201);
    let second = owner.post(SOURCES, &source(&["https://collect.shop.example"])).await.expect(201);
    owner.put(&path, &source(&["https://collect.shop.example"])).await.expect(200);

    // Who gives it up has it no more.
    owner.put(&path, &source(&[])).await.expect(200);
    let claim = source(&["https://collect.shop.example"]);
    other.put(&their_path, &claim).await.refused(409, "HOST_TAKEN");
    owner.delete(&format!("{SOURCES}/{}", second["id"].as_str().unwrap())).await.expect(204);
    other.put(&their_path, &claim).await.expect(200);

    // The operator gives it back.
    let env = [("DATABASE_URL", control.world.database.url.as_str())];
    let free = async |host: &str| run("management", &["free-host", host], &env, "").await.unwrap();
    let freed = free("Collect.Shop.Example").await;
    assert!(freed.status.success(), "{}", freed.text());
    let id = theirs["id"].as_str().unwrap();
    assert!(
        freed.text().contains("https://collect.shop.example") && freed.text().contains(id),
        "{}",
        freed.text()
    );
    assert_eq!(other.get(&their_path).await.expect(200)["collect_hosts"], json!([]));
    let log = other.get("/v1/admin/audit-log").await.expect(200);
    assert_eq!(log["data"][0]["action"], "source.host_freed", "{log}");
    owner.put(&path, &source(&["https://collect.shop.example"])).await.expect(200);
    for (host, why) in [("collect.nobody.example", "nobody's"), ("a b", "not a host")] {
        let ended = free(host).await;
        assert!(!ended.status.success() && ended.text().contains(why), "{}", ended.text());
        assert_eq!(ended.text().trim().lines().count(), 1, "{}", ended.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_claims_at_once_one_is_heard() {
    let control = Control::start().await;
    let owners = [control.owner.clone(), control.another_owner().await];
    for round in 0..10 {
        // In both orders, so that whoever is first at one is second at the other.
        let hosts = [1, 2].map(|number| format!("https://c{number}-{round}.shop.example"));
        let mut claims = JoinSet::new();
        for (turn, owner) in owners.iter().cloned().enumerate() {
            let mut hosts = hosts.clone();
            hosts.rotate_left(turn);
            claims.spawn(async move {
                owner.post(SOURCES, &source(&hosts.each_ref().map(String::as_str))).await.status
            });
        }
        let mut statuses = claims.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409], "round {round}");
    }
}

/// A vendor's host that another organisation has claimed is still the vendor's.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_switches_a_vendor_off_for_others() {
    let control = Control::start().await;
    let attacker = control.another_owner().await;
    let vendors = ["https://prod.uidapi.com", "https://ct.pinterest.com"];
    attacker.post(SOURCES, &source(&vendors)).await.expect(201);
    let shop = Shop::open(&control.world, &control.owner).await;
    let uid2 = json!({"enabled": true, "config": {"base_url": "https://prod.uidapi.com"},
        "credentials": {"api_key": "a", "client_secret": "b"}});
    let path = format!("{}/enrichment/uid2", shop.source);
    // Once the core knows of the claim, which the attacker's own settings tell.
    let own = json!({"name": "Own", "domains": ["own.example"], "collect_hosts": []});
    let own = attacker.post(SOURCES, &own).await.expect(201);
    let own = format!("{SOURCES}/{}/enrichment/uid2", own["id"].as_str().unwrap());
    within(SETTINGS_LIMIT, "the claim to be known", async || match attacker.put(&own, &uid2).await {
        answer if answer.status == 422 => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    control.owner.put(&path, &uid2).await.expect(201);
    let sync = json!({"partner_id": "1", "endpoint": "https://ct.pinterest.com/user/"});
    control.owner.put(&format!("{}/identity-sources/pinterest", shop.pipeline), &sync).await.expect(201);
}

/// Browsers are sent to where an endpoint says, and whoever may not remove a source sends them to its vendor alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_outside_the_vendor_s_domain_is_an_admin_s() {
    let control = Control::start().await;
    let shop = Shop::open(&control.world, &control.owner).await;
    let (admin, editor) = (control.owner.colleague("admin").await, control.owner.colleague("editor").await);
    let path = format!("{}/identity-sources/pinterest", shop.pipeline);
    let at = |endpoint: &str, days: u32| json!({"partner_id": "1", "endpoint": endpoint, "ttl_days": days});
    for outside in
        ["https://evil.example/sync", "https://ct.pinterest.com.evil.example/", "http://127.0.0.1:9/"]
    {
        editor.put(&path, &at(outside, 90)).await.refused(403, "FORBIDDEN");
    }
    editor.get(&path).await.refused(404, "NOT_FOUND");
    editor.put(&path, &at("https://ct.pinterest.com/other", 90)).await.expect(201);
    admin.put(&path, &at("https://proxy.shop.example/pin", 90)).await.expect(200);
    // What an admin has set does not keep an editor from the rest.
    editor.put(&path, &at("https://proxy.shop.example/pin", 30)).await.expect(200);
    editor.put(&path, &at("https://proxy.shop.example/other", 30)).await.refused(403, "FORBIDDEN");
    editor.put(&path, &json!({"partner_id": "1"})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_refused_host_is_shown_and_logged_once() {
    let control = Control::start().await;
    let shop = Shop::open(&control.world, &control.owner).await;
    let key = shop.issue(&control.world, &control.owner, "live").await;
    let mut browser = shop.browser(&control.world, &key);
    assert_eq!(control.owner.get(&shop.source).await.expect(200)["last_refused_host"], Value::Null);
    let version = control.world.database.text("SELECT version::text FROM config_version").await;
    for host in ["x".repeat(300), "one.example".to_owned(), "Two.Example.".to_owned()] {
        browser.host = Some(host);
        assert_eq!(browser.view(&granted()).await.status, 421);
    }
    let shown = eventually("the host to be shown", async || {
        let source = control.owner.get(&shop.source).await.expect(200);
        if source["last_refused_host"] == "two.example" { Ok(source) } else { Err(source.to_string()) }
    })
    .await;
    let today = control.world.database.text("SELECT (now() AT TIME ZONE 'UTC')::date::text").await;
    assert_eq!(shown["last_refused_on"], today);
    assert_eq!(control.world.database.text("SELECT version::text FROM config_version").await, version);
    let log = control.world.cluster.cores[0].log();
    let told: Vec<_> = log.iter().filter(|line| line.contains("is no collect host")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&"x".repeat(100)) && !told[0].contains(&"x".repeat(101)), "{told:?}");
}

/// A database in which two organisations hold a host: the older claim stays, and the other is named.
#[tokio::test(flavor = "multi_thread")]
async fn the_older_claim_stays_when_the_schema_is_brought_up_to_date() {
    let database = TestDatabase::empty().await.unwrap();
    migrate::run(&database.address()).await.unwrap();
    migrate::revert_to(&database.address(), "00000000000008").await.unwrap();
    let (old, new) = ("00000000-0000-7000-8000-00000000000a", "00000000-0000-7000-8000-00000000000b");
    for (org, hours, urls) in [
        (new, 1, &["https://collect.shop.example", "https://own.example:8443"][..]),
        (old, 2, &["https://collect.shop.example.:443"]),
        // The oldest one's second claim is no other's.
        (old, 0, &["https://collect.shop.example"]),
    ] {
        let source = format!("{}{hours}", &org[..35]);
        database
            .execute(&format!("INSERT INTO orgs (id, name) VALUES ('{org}', 'x') ON CONFLICT DO NOTHING"))
            .await;
        database
            .execute(&format!("INSERT INTO sources (id, org_id, name) VALUES ('{source}', '{org}', 'x')"))
            .await;
        for url in urls {
            database
                .execute(&format!(
                    "INSERT INTO collect_hosts (id, org_id, source_id, url, created_at) VALUES \
                     (gen_random_uuid(), '{org}', '{source}', '{url}', now() - interval '{hours} hours')"
                ))
                .await;
        }
    }
    let env = [("DATABASE_URL", database.url.as_str())];
    let ended = run("management", &["--migrate"], &env, "").await.unwrap();
    assert!(ended.status.success(), "{}", ended.text());
    let told: Vec<String> =
        ended.text().lines().filter(|line| line.starts_with("removed")).map(str::to_owned).collect();
    assert_eq!(told.len(), 1, "{}", ended.text());
    assert!(told[0].contains("https://collect.shop.example ") && told[0].contains(new), "{told:?}");
    let left = "SELECT string_agg(right(org_id::text, 1) || ' ' || authority, ', ' ORDER BY org_id, created_at) FROM collect_hosts";
    assert_eq!(
        database.text(left).await,
        "a collect.shop.example, a collect.shop.example, b own.example:8443"
    );
    let again = run("management", &["--migrate"], &env, "").await.unwrap();
    assert!(!again.text().contains("removed"), "{}", again.text());
}
