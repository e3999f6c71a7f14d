//! Pipelines, their identity sources and generated IDs over the management API, and what comes of them at the
//! edge.

use harness::{
    answers::assert_gif,
    control::{Admin, Control},
    eventually,
    shop::{SETTINGS_LIMIT, Shop},
    visits::{denied, granted},
    within,
};
use reqwest::Method;
use serde_json::{Map, Value, json};

/// Settings of Pinterest that lead to the simulator.
fn pinterest(control: &Control) -> Value {
    json!({"partner_id": "2612345678901", "endpoint": control.world.vendors.endpoint("pinterest")})
}

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_a_vendor_s_id_over_the_api_alone() {
    let control = Control::start().await;
    let (world, owner) = (&control.world, &control.owner);
    let shop = Shop::open(world, owner).await;
    let sources = format!("{}/identity-sources", shop.pipeline);
    let made = owner.put(&format!("{sources}/pinterest"), &pinterest(&control)).await;
    assert_eq!((made.status, made.version.as_deref()), (201, Some("1")), "{made:?}");
    assert_eq!(
        (&made.json["ttl_days"], &made.json["enabled"]),
        (&json!(90), &json!(true)),
        "as the catalogue has it"
    );
    let key = shop.issue(world, owner, "live").await;

    let mut browser = shop.browser(world, &key);
    assert_eq!(browser.view(&granted()).await.offered(), ["pinterest"]);
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    let ids = world.vendor_ids_in(&owner.org_id.to_string(), browser.aid()).await;
    assert_eq!(ids.vendor_ids["pin_unauth"].value, harness::vendor_sim::vendor("pinterest").id);
    let seen = world.vendors.seen();
    assert!(seen[0].target.contains("tid=2612345678901"), "{}", seen[0].target);

    // Off, it is neither offered nor redirected to; and so when it is gone.
    let off = json!({"partner_id": "2612345678901", "enabled": false, "endpoint": null});
    let changed = owner.put(&format!("{sources}/pinterest"), &off).await;
    assert_eq!((changed.status, &changed.json["endpoint"]), (200, &Value::Null), "{changed:?}");
    eventually("Pinterest to be off", async || {
        let mut browser = shop.browser(world, &key);
        let offered = browser.view(&granted()).await.offered();
        let redirect = browser.get(&browser.sync_url("pinterest")).await.status;
        if offered.is_empty() && redirect == 404 {
            Ok(())
        } else {
            Err(format!("{offered:?}, HTTP {redirect}"))
        }
    })
    .await;
    for _ in 0..2 {
        owner.delete(&format!("{sources}/pinterest")).await.expect(204);
    }
    owner.get(&format!("{sources}/pinterest")).await.refused(404, "NOT_FOUND");
    let actions =
        "SELECT string_agg(action, ' ' ORDER BY id) FROM audit_log WHERE resource_id LIKE '%/pinterest'";
    assert_eq!(
        world.database.text(actions).await,
        "identity_source.created identity_source.updated identity_source.deleted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_s_settings_take_effect() {
    let control = Control::start().await;
    let (world, owner) = (&control.world, &control.owner);
    let shop = Shop::open(world, owner).await;
    owner
        .put(&format!("{}/identity-sources/pinterest", shop.pipeline), &pinterest(&control))
        .await
        .expect(201);
    let key = shop.issue(world, owner, "live").await;
    let list = owner.get("/v1/admin/pipelines").await.expect(200);
    assert_eq!(list["data"], json!([owner.get(&shop.pipeline).await.expect(200)]));
    assert_eq!(list["data"][0]["consent_mode"], "explicit");

    // Without a signal, `implicit` grants.
    assert!(shop.browser(world, &key).view(&Value::Null).await.offered().is_empty());
    let implicit = json!({"consent_mode": "implicit", "purge_on_withdrawal": true, "rate_limit_rps": 5000});
    let put = owner.put(&shop.pipeline, &implicit).await;
    assert_eq!((put.status, put.version.as_deref()), (200, Some("2")), "{put:?}");
    for (name, value) in implicit.as_object().unwrap() {
        assert_eq!(&put.json[name], value);
    }
    eventually("consent to be implied", async || {
        let offered = shop.browser(world, &key).view(&Value::Null).await.offered();
        if offered == ["pinterest"] { Ok(()) } else { Err(format!("{offered:?}")) }
    })
    .await;

    // And a withdrawal removes.
    let mut browser = shop.browser(world, &key);
    browser.view(&Value::Null).await;
    assert_gif(browser.sync("pinterest").await.last().unwrap());
    assert_eq!(world.database.count("vendor_ids", "field = 'pin_unauth'").await, 1);
    browser.view(&denied()).await;
    assert_eq!(world.database.count("vendor_ids", "field = 'pin_unauth'").await, 0);

    // IDs are made unless it is said otherwise, whatever is synced.
    let meta = format!("{}/generated-ids/meta", shop.pipeline);
    let makes = async |expected: bool| {
        eventually("generated IDs to be made or not", async || {
            let answer = shop.browser(world, &key).view(&granted()).await;
            let made = answer.set_cookies().iter().any(|cookie| cookie.starts_with("_fbp="));
            if made == expected { Ok(()) } else { Err(format!("made: {made}")) }
        })
        .await;
    };
    makes(true).await;
    assert_eq!(owner.put(&meta, &json!({"enabled": false})).await.status, 201);
    makes(false).await;
    assert_eq!(owner.put(&meta, &json!({"enabled": true})).await.status, 200);
    makes(true).await;
    let list = owner.get(&format!("{}/generated-ids", shop.pipeline)).await.expect(200);
    assert_eq!(list["data"], json!([owner.get(&meta).await.expect(200)]));
    for _ in 0..2 {
        owner.delete(&meta).await.expect(204);
    }
    owner.get(&meta).await.refused(404, "NOT_FOUND");

    // At most so many events a second.
    owner.put(&shop.pipeline, &json!({"consent_mode": "explicit", "rate_limit_rps": 1})).await.expect(200);
    let events = json!(vec![shop.browser(world, &key).page_view(&granted()); 400]);
    eventually("the rate to be bounded", async || {
        match shop.browser(world, &key).batch(&events).await.status {
            429 => Ok(()),
            status => Err(format!("HTTP {status}")),
        }
    })
    .await;
    owner.put(&shop.pipeline, &json!({"consent_mode": "explicit", "rate_limit_rps": null})).await.expect(200);
    assert_eq!(owner.get(&shop.pipeline).await.expect(200)["rate_limit_rps"], Value::Null);
    let mut browser = shop.browser(world, &key);
    eventually("the rate to be the usual one", async || match browser.view(&granted()).await {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.text()),
    })
    .await;
}

/// Click IDs of every vendor, and the field of each.
const CLICKS: &str = "?gclid=1&wbraid=1&gbraid=1&dclid=1&fbclid=1&ttclid=1&epik=1&msclkid=1&ScCid=1&rdt_cid=1&li_fat_id=1\
    &twclid=1&ndclid=1&tblci=1&dicbo=1";
const CLICK_FIELDS: [&str; 15] = [
    "dclid",
    "dicbo",
    "epik",
    "fbclid",
    "gbraid",
    "gclid",
    "li_fat_id",
    "msclkid",
    "ndclid",
    "rdt_cid",
    "sccid",
    "tblci",
    "ttclid",
    "twclid",
    "wbraid",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_new_pipeline_collects_of_every_vendor_until_it_is_switched_off() {
    let control = Control::start().await;
    let (world, owner) = (&control.world, &control.owner);
    let shop = Shop::open(world, owner).await;
    let key = shop.issue(world, owner, "live").await;
    let collected = async || {
        let mut browser = shop.browser(world, &key);
        let mut event = browser.page_view(&json!({"marketing": true, "analytics": true}));
        event["context"]["page"]["url"] = json!(format!("https://boutique.example.com/{CLICKS}"));
        browser.batch(&json!([event])).await;
        let ids = world.vendor_ids_in(&owner.org_id.to_string(), browser.aid()).await.vendor_ids;
        let mut fields: Vec<String> = ids.into_keys().collect();
        fields.sort();
        fields
    };
    let mut all = [&CLICK_FIELDS[..], &["client_id", "fbc", "fbp", "rdt_uuid", "sc_cookie1", "ttp"]].concat();
    all.sort_unstable();
    assert_eq!(collected().await, all);
    // Without consent there is none of it, whatever is on.
    let mut browser = shop.browser(world, &key);
    browser.view(&denied()).await;
    let denied = world.vendor_ids_in(&owner.org_id.to_string(), browser.aid()).await.vendor_ids;
    assert!(denied.is_empty(), "{denied:?}");

    let list = owner.get("/v1/admin/catalog/generated-ids").await.expect(200);
    let vendors: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|vendor| vendor["name"].as_str().unwrap()).collect();
    assert_eq!(vendors.len(), 12, "those with click IDs alone as well: {vendors:?}");
    for vendor in vendors {
        let path = format!("{}/generated-ids/{vendor}", shop.pipeline);
        owner.put(&path, &json!({"enabled": vendor == "microsoft"})).await.expect(201);
    }
    eventually("all but one vendor to be off", async || match collected().await {
        fields if fields == ["msclkid"] => Ok(()),
        fields => Err(fields.join(" ")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_mapping_is_kept_as_it_was_typed() {
    let control = Control::start().await;
    let owner = &control.owner;
    let shop = Shop::open(&control.world, owner).await;
    assert_eq!(owner.get(&shop.pipeline).await.expect(200)["consent_mapping"], Value::Null);
    let whole = json!({"preset": "cookiebot", "codes": {"C0004": "marketing", "Präferenzen": "functional"}});
    let body = |mapping: &Value| json!({"consent_mode": "explicit", "consent_mapping": mapping});
    for (given, kept) in [
        (whole.clone(), whole),
        (json!({"preset": "segment"}), json!({"preset": "segment", "codes": {}})),
        (json!({"codes": {"1": "essential"}}), json!({"preset": null, "codes": {"1": "essential"}})),
        (Value::Null, Value::Null),
    ] {
        let put = owner.put(&shop.pipeline, &body(&given)).await.expect(200);
        assert_eq!(put["consent_mapping"], kept);
        assert_eq!(owner.get(&shop.pipeline).await.expect(200), put);
    }
    let log = control.world.cluster.cores[0].log().join("\n");
    assert!(!log.contains("a consent mapping can't be read"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_pipeline_is_told_field_by_field() {
    let control = Control::start().await;
    let owner = &control.owner;
    let shop = Shop::open(&control.world, owner).await;
    let source = format!("{}/identity-sources/pinterest", shop.pipeline);
    let generated = format!("{}/generated-ids/meta", shop.pipeline);
    let long = "x".repeat(257);
    let many: Map<String, Value> = (0..201).map(|n| (format!("C{n}"), json!("marketing"))).collect();
    let partner = |id: &str| json!({ "partner_id": id });
    let endpoint = |url: &str| json!({"partner_id": "1", "endpoint": url});
    let wrong: Vec<(&str, Value, &[&str])> = vec![
        (
            &shop.pipeline,
            json!({"consent_mode": "opt-in", "rate_limit_rps": 0}),
            &["consent_mode", "rate_limit_rps"],
        ),
        (
            &shop.pipeline,
            json!({"consent_mode": "explicit", "rate_limit_rps": 1_000_001}),
            &["rate_limit_rps"],
        ),
        (&shop.pipeline, json!({"consent_mode": "explicit", "rate_limit_rps": 1e12}), &["rate_limit_rps"]),
        (&shop.pipeline, json!({"consent_mode": "explicit", "source_id": "x"}), &["source_id"]),
        (
            &shop.pipeline,
            json!({"consent_mode": "explicit", "purge_on_withdrawal": null}),
            &["purge_on_withdrawal"],
        ),
        (&shop.pipeline, json!({}), &["consent_mode"]),
        (
            &shop.pipeline,
            json!({"consent_mode": "explicit", "consent_mapping": {"preset": "OneTrust", "codes": {"": "ads", "A": "advertising"}}}),
            &[
                "consent_mapping.preset",
                "consent_mapping.codes",
                "consent_mapping.codes.",
                "consent_mapping.codes.A",
            ],
        ),
        (
            &shop.pipeline,
            json!({"consent_mode": "explicit", "consent_mapping": {"codes": {"c1": "marketing", "C1": "analytics"}}}),
            &["consent_mapping.codes"],
        ),
        (
            &shop.pipeline,
            json!({"consent_mode": "explicit", "consent_mapping": {"codes": {"a\u{0}": "marketing"}}}),
            &["consent_mapping.codes"],
        ),
        (
            &shop.pipeline,
            json!({"consent_mode": "explicit", "consent_mapping": {"codes": {&long[..65]: "marketing"}}}),
            &["consent_mapping.codes"],
        ),
        (
            &shop.pipeline,
            json!({"consent_mode": "explicit", "consent_mapping": {"codes": many}}),
            &["consent_mapping.codes"],
        ),
        (
            &shop.pipeline,
            json!({"consent_mode": "explicit", "consent_mapping": {"other": 1}}),
            &["consent_mapping.other"],
        ),
        (
            &source,
            json!({"partner_id": "", "ttl_days": 0, "endpoint": "http://x"}),
            &["partner_id", "ttl_days", "endpoint"],
        ),
        (&source, json!({"partner_id": "1", "ttl_days": 401}), &["ttl_days"]),
        (&source, json!({"partner_id": "1", "ttl_days": -1}), &["ttl_days"]),
        (&source, json!({"partner_id": "1", "ttl_days": 1.5}), &["ttl_days"]),
        (&source, json!({"partner_id": "1", "vendor": "criteo"}), &["vendor"]),
        (&source, json!({"partner_id": 1}), &["partner_id"]),
        (&source, partner(" 1"), &["partner_id"]),
        (&source, partner("1\n"), &["partner_id"]),
        (&source, partner("1\u{0}"), &["partner_id"]),
        (&source, partner("."), &["partner_id"]),
        (&source, partner(".."), &["partner_id"]),
        (&source, partner("1\u{200b}"), &["partner_id"]),
        (&source, partner(&long), &["partner_id"]),
        (&source, endpoint("https://user:pass@ct.example/"), &["endpoint"]),
        (&source, endpoint("https://ct.example/#part"), &["endpoint"]),
        (&source, endpoint("http://ct.example/"), &["endpoint"]),
        (&source, endpoint("javascript:alert(1)"), &["endpoint"]),
        (&source, endpoint(""), &["endpoint"]),
        (&generated, json!({"enabled": "yes"}), &["enabled"]),
        (&generated, json!({}), &["enabled"]),
    ];
    for (path, body, fields) in wrong {
        let answer = owner.put(path, &body).await;
        answer.refused(422, "VALIDATION_FAILED");
        assert_eq!(answer.fields(), fields, "{path} {body}");
    }
    for odd in ["nobody", "Pinterest", "pin%00terest", "%FF", "..%2fkeys", &long] {
        for (area, body) in
            [("identity-sources", json!({"partner_id": "1"})), ("generated-ids", json!({"enabled": true}))]
        {
            let path = format!("{}/{area}/{odd}", shop.pipeline);
            owner.put(&path, &body).await.refused(404, "NOT_FOUND");
            owner.get(&path).await.refused(404, "NOT_FOUND");
        }
    }
    let unknown = owner.put(&format!("{}/identity-sources/nobody", shop.pipeline), &partner("1")).await;
    assert!(unknown.json["error"]["message"].as_str().unwrap().contains("/v1/admin/catalog/sync-vendors"));
    assert_eq!(owner.get(&shop.pipeline).await.expect(200)["version"], 1);
    let own = format!("org_id = '{}'", owner.org_id);
    for table in ["identity_sources", "generated_ids"] {
        assert_eq!(control.world.database.count(table, &own).await, 0, "{table}");
    }
}

/// A vendor whose endpoint is the service itself would have the edge redirect browsers to itself: it is
/// refused, whichever of the two is set first.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_is_not_at_the_shop_s_own_host() {
    let control = Control::start().await;
    let owner = &control.owner;
    let shop = Shop::open(&control.world, owner).await;
    let vendor = format!("{}/identity-sources/pinterest", shop.pipeline);
    let host = control.world.cluster.collect_url_at(&shop.collect_name);
    let own = format!("{host}/v1/sync/pinterest");
    let answer = owner.put(&vendor, &json!({"partner_id": "1", "endpoint": own})).await;
    answer.refused(422, "VALIDATION_FAILED");
    assert_eq!(answer.fields(), ["endpoint"]);
    owner.put(&vendor, &json!({"partner_id": "1", "endpoint": "http://127.0.0.1:9/sync"})).await.expect(201);
    let key = shop.issue(&control.world, owner, "live").await;
    let mut browser = shop.browser(&control.world, &key);
    assert_eq!(browser.view(&granted()).await.json()["pending_syncs"][0]["vendor"], "pinterest");
    let sync = browser.sync_url("pinterest");
    assert_eq!(browser.get(&sync).await.status, 302);

    let hosts = [host.as_str(), "http://127.0.0.1:9"].map(|url| json!({"url": url}));
    let changed = json!({"name": "Shop", "domains": ["boutique.example.com"], "collect_hosts": hosts});
    owner.put(&shop.source, &changed).await.expect(200);
    within(SETTINGS_LIMIT, "the vendor to be left out", async || match browser.get(&sync).await.status {
        404 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
}

async fn put_if(owner: &Admin, path: &str, body: &Value, version: &str) -> u16 {
    let tag = format!("\"{version}\"");
    owner.call(Method::PUT, path, Some(body), &[("if-match", &tag)]).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_who_saw_the_same_version_one_is_told() {
    let control = Control::with(2, harness::world::Options::default()).await;
    let (one, two) = (&control.owner, &control.at(1, &control.owner));
    let shop = Shop::open(&control.world, one).await;
    let source = format!("{}/identity-sources/pinterest", shop.pipeline);
    let generated = format!("{}/generated-ids/meta", shop.pipeline);
    let (partner, enabled) = (json!({"partner_id": "1"}), json!({"enabled": true}));
    for (path, body) in [(&source, &partner), (&generated, &enabled)] {
        assert_eq!(put_if(one, path, body, "1").await, 409, "there is no version yet");
        one.put(path, body).await.expect(201);
    }
    let changes = [
        (
            &shop.pipeline,
            [json!({"consent_mode": "implicit"}), json!({"consent_mode": "explicit", "rate_limit_rps": 7})],
        ),
        (&source, [json!({"partner_id": "2"}), json!({"partner_id": "3"})]),
        (&generated, [json!({"enabled": false}), json!({"enabled": true})]),
    ];
    for (path, [first, second]) in &changes {
        let both = tokio::join!(put_if(one, path, first, "1"), put_if(two, path, second, "1"));
        assert!(matches!(both, (200, 409) | (409, 200)), "{path}: {both:?}");
        let now = one.get(path).await;
        assert_eq!(now.version.as_deref(), Some("2"), "{now:?}");
        let winner = if both.0 == 200 { first } else { second };
        for (name, value) in winner.as_object().unwrap() {
            assert_eq!(&now.json[name], value, "{path}");
        }
    }
}

/// Calls that name an object of a shop, one for each route.
fn calls(shop: &Shop, key: &str) -> Vec<(Method, String, Option<Value>)> {
    let (source, pipeline) = (&shop.source, &shop.pipeline);
    let partner = json!({"partner_id": "theirs"});
    let mut calls = vec![
        (Method::POST, format!("{source}/keys"), Some(json!({"environment": "live"}))),
        (Method::DELETE, key.to_owned(), None),
        (Method::POST, format!("{source}/server-secret"), Some(json!({"overlap_seconds": 0}))),
        (Method::DELETE, format!("{source}/server-secret"), None),
        (Method::PUT, pipeline.clone(), Some(json!({"consent_mode": "implicit"}))),
    ];
    for (vendor, body) in [
        ("identity-sources/pinterest", &partner),
        ("identity-sources/criteo", &partner),
        ("identity-sources/nobody", &partner),
        ("generated-ids/meta", &json!({"enabled": false})),
        ("generated-ids/tiktok", &json!({"enabled": false})),
    ] {
        calls.push((Method::PUT, format!("{pipeline}/{vendor}"), Some(body.clone())));
        calls.push((Method::GET, format!("{pipeline}/{vendor}"), None));
        calls.push((Method::DELETE, format!("{pipeline}/{vendor}"), None));
    }
    let lists = [format!("{source}/keys"), format!("{source}/server-secret"), pipeline.clone()];
    let more = ["identity-sources", "generated-ids"].map(|area| format!("{pipeline}/{area}"));
    calls.extend(lists.into_iter().chain(more).map(|path| (Method::GET, path, None)));
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn another_organisation_s_settings_are_not_there() {
    let control = Control::start().await;
    let owner = &control.owner;
    let shop = Shop::open(&control.world, owner).await;
    let key = shop.issue(&control.world, owner, "live").await;
    owner.post(&format!("{}/server-secret", shop.source), &json!({})).await.expect(201);
    for (path, body) in [
        ("identity-sources/pinterest", json!({"partner_id": "ours"})),
        ("generated-ids/meta", json!({"enabled": true})),
    ] {
        owner.put(&format!("{}/{path}", shop.pipeline), &body).await.expect(201);
    }
    let tables = [
        "pipeline_keys",
        "server_secrets",
        "pipelines",
        "identity_sources",
        "generated_ids",
        "audit_log",
        "config_version",
    ];
    let state = async || {
        let mut rows = Vec::new();
        for table in tables {
            // The core notes the use of a key in its own time.
            let row = "(to_jsonb(t) - 'last_used_on')::text";
            let all = format!("SELECT string_agg({row}, ' ' ORDER BY {row}) FROM {table} t");
            rows.push(control.world.database.text(&all).await);
        }
        rows
    };
    let foreign = control.another_owner().await;
    let theirs = Shop::open(&control.world, &foreign).await;
    let before = state().await;
    for (method, path, body) in calls(&shop, &key.path) {
        foreign.call(method, &path, body.as_ref(), &[]).await.refused(404, "NOT_FOUND");
    }
    // Nor is the key there under a source of their own.
    let key_id = key.path.rsplit('/').next().unwrap();
    foreign.delete(&format!("{}/keys/{key_id}", theirs.source)).await.refused(404, "NOT_FOUND");
    assert_eq!(state().await, before, "something was changed");
    // The calls are good ones: the owner's do something.
    for (method, path, body) in calls(&shop, &key.path) {
        let answer = owner.call(method.clone(), &path, body.as_ref(), &[]).await;
        let is_known = !path.contains("nobody") && method != Method::GET;
        assert!(!is_known || answer.status < 300, "{method} {path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_of_before_keeps_its_field_and_its_vendor_off() {
    let mut control = Control::start().await;
    let shop = Shop::open(&control.world, &control.owner).await;
    let source = shop.source.rsplit('/').next().unwrap().to_owned();
    for (name, field) in [("old_pins", "Pin_Unauth"), ("old_uid2", "uid2_token"), ("old_clicks", "gclid")] {
        control
            .world
            .database
            .execute(&format!(
                "INSERT INTO custom_providers (id, org_id, source_id, name, redis_field, settings) \
                 SELECT gen_random_uuid(), org_id, id, '{name}', '{field}', '{{\"response_mapping\":{{\"redis_field\":\"{field}\"}}}}' FROM sources WHERE id = '{source}'"
            ))
            .await;
    }
    let owner = &control.owner;
    let path = format!("{}/identity-sources/pinterest", shop.pipeline);
    let refused = owner.put(&path, &pinterest(&control)).await;
    assert_eq!(
        (refused.status, &refused.json["error"]["code"]),
        (422, &json!("VALIDATION_FAILED")),
        "{refused:?}"
    );
    let field = &refused.json["error"]["fields"][0];
    assert_eq!(field["field"], json!("enabled"));
    assert!(field["message"].as_str().unwrap().contains("old_pins"), "{field}");
    let mut off = pinterest(&control);
    off["enabled"] = json!(false);
    owner.put(&path, &off).await.expect(201);

    // Nor are its click IDs collected beside it, by saying so or by saying nothing.
    let google = format!("{}/generated-ids/google", shop.pipeline);
    owner.put(&google, &json!({"enabled": true})).await.refused(422, "VALIDATION_FAILED");
    owner.put(&google, &json!({"enabled": false})).await.expect(201);
    owner.delete(&google).await.refused(422, "VALIDATION_FAILED");
    owner.delete(&format!("{}/generated-ids/meta", shop.pipeline)).await.expect(204);

    let enrichment = format!("{}/enrichment/uid2", shop.source);
    let uid2 = json!({"enabled": true, "credentials": {"api_key": "k", "client_secret": "s"}});
    let refused = owner.put(&enrichment, &uid2).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    let fields = refused.json["error"]["fields"].as_array().unwrap();
    let enabled = fields.iter().find(|field| field["field"] == json!("enabled")).unwrap();
    assert!(enabled["message"].as_str().unwrap().contains("old_uid2"), "{enabled}");

    // It may change, but for another reserved field, and nobody else may have such a field.
    let provider = |field: &str| {
        json!({"endpoint": "https://cdp.example.com/v1", "ttl": "2d",
            "response_mapping": {"redis_field": field, "json_path": "$.id"}})
    };
    let path = format!("{}/custom-providers", shop.source);
    owner.put(&format!("{path}/old_pins"), &provider("Pin_Unauth")).await.expect(200);
    for (name, field) in [("old_pins", "ttd_uid"), ("new_pins", "magnite_id"), ("new_pins", "Pin_Unauth")] {
        owner.put(&format!("{path}/{name}"), &provider(field)).await.refused(422, "VALIDATION_FAILED");
    }

    // Another vendor is nobody's concern, and the core that starts next says whose field is taken.
    let criteo = json!({"partner_id": "1", "endpoint": control.world.vendors.endpoint("criteo")});
    owner.put(&format!("{}/identity-sources/criteo", shop.pipeline), &criteo).await.expect(201);
    control.world.cluster.cores[0].restart().await.unwrap();
    let log = control.world.cluster.cores[0].log().join("\n");
    assert!(log.contains("old_pins") && log.contains("old_uid2"), "{log}");
}
