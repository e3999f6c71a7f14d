//! The control plane while what it stands on is away, and when its clients go.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use harness::{control::Control, eventually, recovery::assert_no_open_transaction, within};
use migrations::diesel_async;
use reqwest::Method;
use serde_json::json;

/// Calls without PostgreSQL are all answered 503, login included, and nothing is wrong once it is back.
#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_everything_is_to_be_tried_again() {
    let control = Control::start().await;
    let mut owner = control.owner.clone();
    control.world.postgres_proxy.refuse().await;
    for path in ["/v1/admin/me", "/v1/admin/sources", "/v1/admin/audit-log"] {
        let answer = owner.get(path).await;
        answer.refused(503, "UNAVAILABLE");
        assert_eq!(answer.retry_after, Some(1));
    }
    owner.post("/v1/admin/sources", &json!({"name": "Shop"})).await.refused(503, "UNAVAILABLE");
    owner.clone().log_in(harness::control::PASSWORD).await.refused(503, "UNAVAILABLE");
    within(Duration::from_secs(5), "the loss to show", async || {
        match control.management[0]
            .metrics()
            .await
            .sum("datafly_dependency_up", &[("dependency", "postgres")])
        {
            0.0 => Ok(()),
            up => Err(up.to_string()),
        }
    })
    .await;
    assert_eq!(owner.anyone().get("/readyz").await.status, 200, "every instance would be taken away at once");

    control.world.postgres_proxy.heal().await;
    within(Duration::from_secs(5), "writes to succeed", async || {
        match owner.post("/v1/admin/sources", &json!({"name": "Shop"})).await.status {
            201 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    owner.log_in(harness::control::PASSWORD).await.expect(200);
    let kept = control.world.database.count("sources", &format!("org_id = '{}'", owner.org_id)).await;
    assert_eq!(kept, 1, "what was refused was not done");
}

/// A PostgreSQL that takes every statement and says nothing more, in the middle of a change: every call is answered
/// all the same, and what was begun is rolled back.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_postgres_holds_nobody() {
    // The service's own limit is 5 s; without one a call waits for as long as the silence.
    const LIMIT: Duration = Duration::from_secs(30);
    let control = Control::start().await;
    let (owner, world) = (&control.owner, &control.world);
    let source = owner.post("/v1/admin/sources", &json!({"name": "Shop"})).await.text("id");
    let path = format!("/v1/admin/sources/{source}");
    let mut holder = world.database.connection().await.unwrap();
    for round in 0..2 {
        // Held here, so that the change stands in its transaction when the silence begins.
        let hold = format!("BEGIN; SELECT 1 FROM sources WHERE id = '{source}' FOR UPDATE");
        holder.batch_execute(&hold).await.unwrap();
        let body = json!({"name": format!("Shop {round}")});
        let change = loop {
            let (owner, path, body) = (owner.clone(), path.clone(), body.clone());
            let change = tokio::spawn(async move { owner.put(&path, &body).await });
            let waiting = "wait_event_type = 'Lock' AND state = 'active' AND query ILIKE '%for update%'";
            let waits = eventually("the change to wait", async || {
                match world.database.count("pg_stat_activity", waiting).await {
                    0 if !change.is_finished() => Err("not yet".to_owned()),
                    count => Ok(count > 0),
                }
            })
            .await;
            // A statement waits for half a second alone, which may be over before this looks.
            if waits {
                break change;
            }
            change.await.unwrap().refused(503, "UNAVAILABLE");
        };
        world.postgres_proxy.mute().await;
        let (read, login) = (owner.get("/v1/admin/sources"), owner.clone());
        let login = async move { login.clone().log_in(harness::control::PASSWORD).await };
        let others = async { tokio::join!(read, login) };
        let answers = tokio::time::timeout(LIMIT, async { (change.await.unwrap(), others.await) }).await;
        let (changed, (read, logged_in)) =
            answers.unwrap_or_else(|_| panic!("not answered within {LIMIT:?}"));
        read.refused(503, "UNAVAILABLE");
        logged_in.refused(503, "UNAVAILABLE");
        changed.refused(503, "UNAVAILABLE");
        assert_eq!(changed.retry_after, Some(1));

        holder.batch_execute("ROLLBACK").await.unwrap();
        world.postgres_proxy.heal().await;
        assert_no_open_transaction(world).await;
        within(LIMIT, "changes to succeed again", async || {
            match owner.put(&path, &json!({"name": "Shop"})).await.status {
                200 => Ok(()),
                status => Err(status.to_string()),
            }
        })
        .await;
    }
    let renamed = "action = 'source.updated'";
    assert_eq!(world.database.count("audit_log", renamed).await, 0, "what was refused was not done");
}

/// Settings can be read and changed without a core; calls about people are told 503.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_core_settings_still_work() {
    let mut control = Control::start().await;
    let person = "/v1/admin/identities?anonymous_id=visitor";
    let answer = eventually("the core to know the organisation", async || {
        let answer = control.owner.get(person).await;
        if answer.status == 404 { Ok(answer) } else { Err(answer.status.to_string()) }
    })
    .await;
    answer.refused(404, "NOT_FOUND");
    control.world.cluster.cores[0].kill9().await;
    let answer = control.owner.get(person).await;
    answer.refused(503, "UNAVAILABLE");
    assert_eq!(answer.retry_after, Some(1));
    control.owner.post("/v1/admin/sources", &json!({"name": "Shop"})).await.expect(201);
    control.world.cluster.cores[0].restart().await.unwrap();
    within(Duration::from_secs(5), "the core to be found again", async || {
        match control.owner.get(person).await.status {
            404 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
}

/// Calls that were begun are finished: a source never is there without its pipeline and its entry in the
/// audit log, and no transaction stays open.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_leaves_nothing_half_done() {
    const CLIENTS: u64 = 200;
    let control = Control::start().await;
    let mut left = 0;
    for number in 0..CLIENTS {
        let owner = control.owner.clone();
        let source =
            json!({"name": format!("Shop {number}"), "collect_hosts": [{"url": "https://c.example"}]});
        let call =
            async move { owner.call(Method::POST, "/v1/admin/sources", Some(&source), &[]).await.status };
        // Anywhere between the first byte and the answer, which takes some milliseconds.
        match tokio::time::timeout(Duration::from_micros(number * 60), call).await {
            Ok(status) => assert_eq!(status, 201),
            Err(_) => left += 1,
        }
    }
    assert!(left > CLIENTS / 10, "only {left} clients went away");
    assert_no_open_transaction(&control.world).await;
    let database = &control.world.database;
    let org = format!("org_id = '{}'", control.owner.org_id);
    assert!(database.count("sources", &org).await > 0);
    // In one look each: what the last of them asked for may just be coming in.
    for (table, condition) in [
        ("pipelines", org.clone()),
        ("collect_hosts", org.clone()),
        ("audit_log", format!("{org} AND action = 'source.created'")),
    ] {
        let sources = format!("(SELECT count(*) FROM sources WHERE {org})");
        let others = format!("(SELECT count(*) FROM {table} WHERE {condition})");
        let seen = database.text(&format!("SELECT {sources} || ' ' || {others}")).await;
        let (sources, others) = seen.split_once(' ').unwrap();
        assert_eq!(others, sources, "{table}");
    }
    // And the process still has all of its connections.
    for _ in 0..20 {
        control.owner.get("/v1/admin/sources").await.expect(200);
    }
}

/// Pages of any site read no answer, so that none can use the session of a person who has it open: no cookie
/// is used, and no origin is allowed.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_get_nothing() {
    let control = Control::start().await;
    let client = reqwest::Client::builder().no_proxy().no_gzip().build().unwrap();
    for method in [Method::OPTIONS, Method::GET, Method::POST] {
        let url = format!("{}/v1/admin/me", control.owner.url);
        let request = client.request(method.clone(), url).header("origin", "https://evil.test");
        let response = request.header("cookie", "session=1").send().await.unwrap();
        assert!(!response.status().is_success(), "{method}: {}", response.status());
        assert!(
            !response.headers().keys().any(|name| name.as_str().starts_with("access-control")),
            "{method}"
        );
        assert!(!response.headers().contains_key("set-cookie"), "{method}");
    }
    let head = control.owner.call(Method::HEAD, "/v1/admin/sources", None, &[]).await;
    assert_eq!(head.status, 200, "as GET");
}
