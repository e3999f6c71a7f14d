//! Pipeline keys and server secrets over the management API, and what they open at the edge.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use harness::{
    EVENTUALLY_LIMIT,
    answers::assert_accepted,
    browser::{Answer, Browser},
    control::{Admin, Control, start_management},
    eventually,
    shop::{Issued, SETTINGS_LIMIT, Shop, every_core},
    signature::sign,
    visits::granted,
    within,
    world::Options,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// The longest that a core waits for PostgreSQL before it answers from what it has.
const LOOK_TIMEOUT: Duration = Duration::from_millis(800);

async fn secret(owner: &Admin, shop: &Shop, rotation: &Value) -> String {
    let answer = owner.post(&format!("{}/server-secret", shop.source), rotation).await;
    assert_eq!(answer.status, 201, "{}", answer.json);
    answer.text("secret")
}

/// Sends a signed event of a server.
async fn signed(server: &mut Browser, secret: &str) -> Answer {
    let body = json!({"type": "track", "event": "Order Completed", "userId": "user_123"}).to_string();
    let request = server.request(Method::POST, "/v1/t").bearer_auth(&server.key);
    let request = request.header("content-type", "application/json");
    server.send(request.header("x-datafly-signature", sign(secret, &body)).body(body)).await
}

fn server(control: &Control, shop: &Shop, key: &Issued) -> Browser {
    let mut server = shop.browser(&control.world, key);
    server.origin = None;
    server
}

async fn passes(server: &mut Browser, secret: &str, expected: u16) {
    let what = format!("a signed call to be answered with {expected}");
    within(SETTINGS_LIMIT, &what, async || match signed(server, secret).await {
        answer if answer.status == expected => Ok(()),
        answer => Err(answer.text()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_listed_whole_and_refused_everywhere_within_a_second_once_it_is_revoked() {
    let mut control = Control::with(1, Options { cores: 2, ..Options::default() }).await;
    let owner = control.owner.clone();
    let shop = Shop::open(&control.world, &owner).await;
    let (first, second) =
        (shop.issue(&control.world, &owner, "live").await, shop.issue(&control.world, &owner, "live").await);
    assert!(first.key.starts_with("dk_live_") && first.key.len() == 40 && first.key != second.key);
    let mut browser = shop.browser(&control.world, &first);
    assert_accepted(&browser.view(&granted()).await, 1);

    let keys = format!("{}/keys", shop.source);
    let list = owner.get(&keys).await.expect(200);
    let shown = &list["data"][0];
    assert_eq!((&shown["key"], &shown["hint"]), (&json!(first.key), &json!(first.key[..12])));
    assert_eq!((&shown["environment"], &shown["revoked_at"]), (&json!("live"), &Value::Null));
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    let page = owner.get(&format!("{keys}?limit=1")).await.expect(200);
    let next = format!("{keys}?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(owner.get(&next).await.expect(200)["data"][0]["id"], list["data"][1]["id"]);
    eventually("the day of its use to be told", async || {
        let day = owner.get(&keys).await.expect(200)["data"][0]["last_used_on"].clone();
        let told = day.as_str().is_some_and(|day| day.len() == 10 && day.starts_with("20"));
        if told { Ok(()) } else { Err(day.to_string()) }
    })
    .await;

    for _ in 0..2 {
        owner.delete(&first.path).await.expect(204);
        within(SETTINGS_LIMIT, "the key to be refused", async || {
            every_core(&control.world, &first, false).await
        })
        .await;
        let refused = browser.view(&granted()).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "INVALID_PIPELINE_KEY"));
        assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 401);
    }
    every_core(&control.world, &second, true).await.unwrap();
    let list = owner.get(&keys).await.expect(200);
    assert!(list["data"][0]["revoked_at"].is_string() && list["data"][1]["revoked_at"].is_null(), "{list}");
    let noted = "SELECT string_agg(action || ' ' || coalesce(changes->'hint'->>'new', '-'), ', ' ORDER BY id) \
        FROM audit_log WHERE resource_type = 'key'";
    let expected =
        format!("key.issued {}, key.issued {}, key.revoked -", &first.key[..12], &second.key[..12]);
    assert_eq!(control.world.database.text(noted).await, expected);

    // Revocation asks nothing of Redis.
    control.world.redis.kill9().await;
    let third = shop.issue(&control.world, &owner, "live").await;
    owner.delete(&second.path).await.expect(204);
    within(SETTINGS_LIMIT, "the key to be refused", async || {
        every_core(&control.world, &second, false).await
    })
    .await;
    // And a source takes its keys with it.
    owner.delete(&shop.source).await.expect(204);
    within(SETTINGS_LIMIT, "the key to be refused", async || every_core(&control.world, &third, false).await)
        .await;
    assert_eq!(shop.browser(&control.world, &third).view(&granted()).await.status, 401);
    owner.get(&keys).await.refused(404, "NOT_FOUND");
    owner.delete(&third.path).await.refused(404, "NOT_FOUND");
}

/// What the promise rests on: a core that was stopped, and so has polled nothing, looks before it answers. Only where
/// PostgreSQL does not answer in time is an older snapshot good for longer.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_that_is_asked_for_a_second_after_a_revocation_lets_the_key_in() {
    let control = Control::with(1, Options { cores: 2, ..Options::default() }).await;
    let owner = control.owner.clone();
    let shop = Shop::open(&control.world, &owner).await;
    let (mut stopped_looks, mut slow_looks) = (0, 0);
    while stopped_looks < 3 {
        let key = shop.issue(&control.world, &owner, "live").await;
        every_core(&control.world, &key, true).await.unwrap();
        control.world.cluster.cores[1].signal("STOP");
        owner.delete(&key.path).await.expect(204);
        // The clock is what is tested: later than this by a second nobody is let in.
        tokio::time::sleep(Duration::from_secs(1)).await;
        control.world.cluster.cores[1].signal("CONT");
        let asked = Instant::now();
        match every_core(&control.world, &key, false).await {
            Ok(()) => stopped_looks += 1,
            Err(error) if asked.elapsed() >= LOOK_TIMEOUT && slow_looks < 3 => {
                eprintln!("PostgreSQL was slow: {error}");
                slow_looks += 1;
            }
            Err(error) => panic!("a second after the key was revoked {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_ends_those_of_its_environment_at_once_unless_they_are_kept() {
    let control = Control::with(1, Options { cores: 2, ..Options::default() }).await;
    let owner = control.owner.clone();
    let shop = Shop::open(&control.world, &owner).await;
    let keys = format!("{}/keys", shop.source);
    let editor = owner.colleague("editor").await;
    // The first of an environment ends nothing, so that an editor may issue it; and any that leaves the others.
    let first = editor.post(&keys, &json!({"environment": "live"})).await;
    assert_eq!((first.status, &first.json["ended"]), (201, &json!([])), "{first:?}");
    let second = editor.post(&keys, &json!({"environment": "live", "keep_existing": true})).await;
    assert_eq!((second.status, &second.json["ended"]), (201, &json!([])), "{second:?}");
    let test = editor.post(&keys, &json!({"environment": "test"})).await.expect(201);
    let refused = editor.post(&keys, &json!({"environment": "live", "keep_existing": false})).await;
    refused.refused(403, "FORBIDDEN");
    let issued = |answer: &Value| Issued {
        path: format!("{keys}/{}", answer["id"].as_str().unwrap()),
        key: answer["key"].as_str().unwrap().to_owned(),
        host: control.world.cluster.host_at(&shop.collect_name),
    };
    let (first, second, test) = (issued(&first.json), issued(&second.json), issued(&test));
    for key in [&first, &second, &test] {
        eventually("every core to know the key", async || every_core(&control.world, key, true).await).await;
    }
    let used = eventually("the day of their use to be told", async || {
        let list = owner.get(&keys).await.expect(200);
        let days = [0, 1].map(|index| list["data"][index]["last_used_on"].clone());
        if days.iter().all(Value::is_string) { Ok(days) } else { Err(format!("{days:?}")) }
    })
    .await;
    let unused = json!({"environment": "live", "keep_existing": true});
    let unused = issued(&editor.post(&keys, &unused).await.expect(201));

    let third = owner.post(&keys, &json!({"environment": "live"})).await.expect(201);
    let id = |key: &Issued| json!(key.path.rsplit('/').next());
    let ended = json!([
        {"id": id(&first), "hint": first.key[..12], "last_used_on": used[0]},
        {"id": id(&second), "hint": second.key[..12], "last_used_on": used[1]},
        {"id": id(&unused), "hint": unused.key[..12], "last_used_on": null},
    ]);
    assert_eq!(third["ended"], ended);
    for key in [&first, &second, &unused] {
        within(SETTINGS_LIMIT, "the older keys to be refused", async || {
            every_core(&control.world, key, false).await
        })
        .await;
    }
    let third = issued(&third);
    for key in [&third, &test] {
        every_core(&control.world, key, true).await.unwrap();
    }
    let noted =
        "SELECT changes->'ended'->'new' FROM audit_log WHERE action = 'key.issued' ORDER BY id DESC LIMIT 1";
    let noted: Value = serde_json::from_str(&control.world.database.text(noted).await).unwrap();
    assert_eq!(noted, ended);
    let list = owner.get(&keys).await.expect(200);
    let good: Vec<&Value> =
        list["data"].as_array().unwrap().iter().filter(|key| key["revoked_at"].is_null()).collect();
    assert_eq!(good.iter().map(|key| &key["key"]).collect::<Vec<_>>(), [&json!(test.key), &json!(third.key)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_before_opens_by_its_hash_and_is_listed_by_its_hint() {
    let control = Control::start().await;
    let owner = control.owner.clone();
    let shop = Shop::open(&control.world, &owner).await;
    let old = "dk_live_0123456789abcdef0123456789abcdef";
    let source = shop.source.rsplit('/').next().unwrap();
    control
        .world
        .database
        .execute(&format!(
            "INSERT INTO pipeline_keys (id, org_id, source_id, environment, key_hash, hint) SELECT gen_random_uuid(), \
             org_id, id, 'live', sha256('{old}'), 'dk_live_0123' FROM sources WHERE id = '{source}'"
        ))
        .await;
    let keys = format!("{}/keys", shop.source);
    let listed = owner.get(&keys).await.expect(200);
    let shown = &listed["data"][0];
    assert_eq!((&shown["key"], &shown["hint"]), (&Value::Null, &json!("dk_live_0123")), "{shown}");
    let host = control.world.cluster.host_at(&shop.collect_name);
    let old = Issued { path: format!("{keys}/{}", shown["id"].as_str().unwrap()), key: old.to_owned(), host };
    eventually("the core to know it", async || every_core(&control.world, &old, true).await).await;
    assert_accepted(&shop.browser(&control.world, &old).view(&granted()).await, 1);
    let new = shop.issue(&control.world, &owner, "live").await;
    every_core(&control.world, &old, true).await.unwrap();
    owner.delete(&old.path).await.expect(204);
    within(SETTINGS_LIMIT, "it to be refused", async || every_core(&control.world, &old, false).await).await;
    every_core(&control.world, &new, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_has_at_most_twenty_good_keys_however_many_ask_at_once() {
    let control = Control::with(2, Options::default()).await;
    let owner = &control.owner;
    let shop = Shop::open(&control.world, owner).await;
    let keys = format!("{}/keys", shop.source);
    let mut asking = JoinSet::new();
    // Fewer at each process than it has connections; on a busy machine some are told to come again all the
    // same.
    for n in 0..24 {
        let (owner, keys) = (control.at(n % 2, owner), keys.clone());
        asking.spawn(async move {
            let began = Instant::now();
            loop {
                let answer = owner.post(&keys, &json!({"environment": "test", "keep_existing": true})).await;
                if answer.status != 503 || began.elapsed() > EVENTUALLY_LIMIT {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    let answers = asking.join_all().await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(made.len(), 20, "{refused:?}");
    refused.iter().for_each(|answer| answer.refused(409, "LIMIT_REACHED"));
    let different: HashSet<String> = made.iter().map(|answer| answer.text("key")).collect();
    assert_eq!(different.len(), 20);

    owner.delete(&format!("{keys}/{}", made[0].text("id"))).await.expect(204);
    owner.post(&keys, &json!({"environment": "live"})).await.expect(201);
    let more = json!({"environment": "live", "keep_existing": true});
    owner.post(&keys, &more).await.refused(409, "LIMIT_REACHED");
    // In another's place there is room.
    owner.post(&keys, &json!({"environment": "live"})).await.expect(201);
    for (body, field) in [
        (json!({"environment": "prod"}), "environment"),
        (json!({"environment": "LIVE"}), "environment"),
        (json!({"environment": "live\u{0}"}), "environment"),
        (json!({"environment": null}), "environment"),
        (json!({}), "environment"),
        (json!({"environment": "live", "key": "dk_live_mine"}), "key"),
        (json!({"environment": "live", "keep_existing": null}), "keep_existing"),
    ] {
        let answer = owner.post(&keys, &body).await;
        answer.refused(422, "VALIDATION_FAILED");
        assert_eq!(answer.fields(), [field], "{body}");
    }
    for odd in ["x", "%00", "00000000-0000-0000-0000-000000000000"] {
        owner.delete(&format!("{keys}/{odd}")).await.refused(404, "NOT_FOUND");
    }
    assert_eq!(control.world.database.count("pipeline_keys", "length(hint) <> 12").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_test_keys_bring_is_apart() {
    let control = Control::start().await;
    let (world, owner) = (&control.world, &control.owner);
    let shop = Shop::open(world, owner).await;
    let (live, test) = (shop.issue(world, owner, "live").await, shop.issue(world, owner, "test").await);
    assert!(test.key.starts_with("dk_test_"), "{test:?}");
    let mut tester = shop.browser(world, &test);
    assert_accepted(&tester.view(&granted()).await, 1);
    let org = owner.org_id.to_string();
    let sibling =
        world.database.text(&format!("SELECT id FROM orgs WHERE test_of = '{}'", owner.org_id)).await;
    assert_eq!(world.vendor_ids_in(&org, tester.aid()).await.canonical_id, "");
    let apart = world.vendor_ids_in(&sibling, tester.aid()).await.canonical_id;
    let mut visitor = shop.browser(world, &live);
    visitor.anonymous_id.clone_from(&tester.anonymous_id);
    assert_accepted(&visitor.view(&granted()).await, 1);
    let canonical = world.vendor_ids_in(&org, tester.aid()).await.canonical_id;
    assert!(!canonical.is_empty() && !apart.is_empty() && canonical != apart, "{canonical} {apart}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_server_secret_is_rotated_both_pass_and_then_the_new_one_alone() {
    let control = Control::start().await;
    let (world, owner) = (&control.world, &control.owner);
    let shop = Shop::open(world, owner).await;
    let key = shop.issue(world, owner, "live").await;
    let path = format!("{}/server-secret", shop.source);
    let mut server = server(&control, &shop, &key);
    assert_eq!(signed(&mut server, "").await.status, 401, "there is no secret yet");
    let none = json!({"configured": false, "created_at": null, "previous_expires_at": null});
    assert_eq!(owner.get(&path).await.expect(200), none);
    owner.post(&format!("{path}/reveal"), &json!({})).await.refused(404, "NOT_FOUND");

    let first = secret(owner, &shop, &json!({})).await;
    assert!(first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{first}");
    passes(&mut server, &first, 200).await;
    let shown = owner.get(&path).await.expect(200);
    assert!(shown["configured"] == true && shown["previous_expires_at"].is_null(), "{shown}");

    let second = secret(owner, &shop, &json!({"overlap_seconds": 3600})).await;
    passes(&mut server, &second, 200).await;
    assert_eq!(signed(&mut server, &first).await.status, 200, "the earlier one as well");
    assert!(owner.get(&path).await.expect(200)["previous_expires_at"].is_string());
    let admin = owner.colleague("admin").await;
    let revealed = admin.call(Method::POST, &format!("{path}/reveal"), None, &[]).await.expect(200);
    assert_eq!(revealed["secret"], second, "the one in force");
    assert!(revealed["previous_expires_at"].is_string(), "{revealed}");
    let who = "SELECT string_agg(user_email || ' ' || changes, ', ') FROM audit_log WHERE action = 'server_secret.revealed'";
    assert_eq!(world.database.text(who).await, format!("{} {{}}", admin.email));
    for role in ["editor", "viewer"] {
        let colleague = owner.colleague(role).await;
        colleague.post(&format!("{path}/reveal"), &json!({})).await.refused(403, "FORBIDDEN");
    }

    // A shorter overlap ends all earlier ones as early; a longer one does not lengthen their lives.
    let third = secret(owner, &shop, &json!({"overlap_seconds": 1})).await;
    let fourth = secret(owner, &shop, &json!({"overlap_seconds": 3600})).await;
    passes(&mut server, &fourth, 200).await;
    for earlier in [&first, &second] {
        eventually("the earlier secret to end", async || match signed(&mut server, earlier).await.status {
            401 => Ok(()),
            status => Err(format!("HTTP {status}")),
        })
        .await;
    }
    assert_eq!(signed(&mut server, &third).await.status, 200, "it has its hour");

    let fifth = secret(owner, &shop, &json!({"overlap_seconds": 0})).await;
    assert_eq!(world.database.count("server_secrets", &in_org(owner)).await, 1, "what has ended is gone");
    passes(&mut server, &fifth, 200).await;
    for earlier in [&third, &fourth] {
        assert_eq!(signed(&mut server, earlier).await.status, 401);
    }
    for _ in 0..2 {
        owner.delete(&path).await.expect(204);
        passes(&mut server, &fifth, 401).await;
    }
    assert_eq!(owner.get(&path).await.expect(200), none);
    assert_eq!(server.view(&granted()).await.status, 200, "what is not signed is no concern of it");

    for (body, field) in [
        (json!({"overlap_seconds": -1}), "overlap_seconds"),
        (json!({"overlap_seconds": 2_592_001}), "overlap_seconds"),
        (json!({"overlap_seconds": 1e30}), "overlap_seconds"),
        (json!({"overlap_seconds": "1"}), "overlap_seconds"),
        (json!({"secret": "mine"}), "secret"),
    ] {
        let answer = owner.post(&path, &body).await;
        answer.refused(422, "VALIDATION_FAILED");
        assert_eq!(answer.fields(), [field], "{body}");
    }
    assert_eq!(world.database.count("server_secrets", &in_org(owner)).await, 0);
    for _ in 0..10 {
        owner.post(&path, &json!({})).await.expect(201);
    }
    owner.post(&path, &json!({})).await.refused(409, "LIMIT_REACHED");
    assert_eq!(world.database.count("server_secrets", &in_org(owner)).await, 10, "none was ended");
    owner.post(&path, &json!({"overlap_seconds": 0})).await.expect(201);
    let actions = "SELECT string_agg(DISTINCT action, ' ' ORDER BY action) FROM audit_log \
        WHERE resource_type = 'server_secret'";
    assert_eq!(
        world.database.text(actions).await,
        "server_secret.deleted server_secret.revealed server_secret.rotated"
    );
}

fn in_org(owner: &Admin) -> String {
    format!("org_id = '{}'", owner.org_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_secret_is_told_where_it_is_asked_for_and_nowhere_else() {
    let control = Control::with(1, Options { log_level: "debug", ..Options::default() }).await;
    let world = &control.world;
    let debugged = start_management(world, &control.jwt_secret, &[("LOG_LEVEL", "debug")]).await.unwrap();
    let owner = control.owner.at(&debugged);
    let shop = Shop::open(world, &owner).await;
    let (live, test) = (shop.issue(world, &owner, "live").await, shop.issue(world, &owner, "test").await);
    let first = secret(&owner, &shop, &json!({})).await;
    let second = secret(&owner, &shop, &json!({})).await;
    let mut server = server(&control, &shop, &live);
    passes(&mut server, &second, 200).await;
    signed(&mut server, &first).await;
    shop.browser(world, &test).view(&granted()).await;
    owner.post(&format!("{}/server-secret/reveal", shop.source), &json!({})).await.expect(200);

    let mut answers = Vec::new();
    for path in ["/keys", "/server-secret", ""] {
        answers.push(owner.get(&format!("{}{path}", shop.source)).await.expect(200).to_string());
    }
    for path in ["/v1/admin/sources", "/v1/admin/audit-log", &shop.pipeline] {
        answers.push(owner.get(path).await.expect(200).to_string());
    }
    owner.delete(&test.path).await.expect(204);
    owner.delete(&format!("{}/server-secret", shop.source)).await.expect(204);
    answers.push(owner.get("/v1/admin/audit-log").await.expect(200).to_string());
    let tables = ["pipeline_keys", "server_secrets", "audit_log", "sources"];
    for table in tables {
        answers.push(world.database.text(&format!("SELECT string_agg(t::text, ' ') FROM {table} t")).await);
    }
    let mut logs = Vec::new();
    for service in [&debugged, &world.cluster.cores[0], &world.cluster.edge] {
        assert!(service.log().len() > 2);
        logs.extend(service.log());
        logs.push(service.metrics().await.text().to_owned());
    }
    for key in [&live.key, &test.key] {
        assert!(!logs.iter().any(|text| text.contains(key)), "a key is public, and all the same in no log");
    }
    answers.extend(logs);
    for secret in [&first, &second] {
        for form in [secret.clone(), hex::encode(secret)] {
            let found = answers.iter().find(|text| text.contains(&form));
            assert!(found.is_none(), "{secret} is told again: {found:?}");
        }
    }
}
