//! Sources over the management API: made, changed, removed, and no more than a bound.

use harness::{answers::assert_accepted, control::Control, shop::Shop, visits::granted};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_made_changed_and_removed_and_all_of_it_is_on_record() {
    let control = Control::start().await;
    let owner = &control.owner;
    let made = owner
        .post(
            "/v1/admin/sources",
            &json!({"name": "Shop", "domains": ["Shop.example:443", "http://localhost:3000"],
                "collect_hosts": [{"url": "https://collect.shop.example", "cookie_domain": "shop.example"}]}),
        )
        .await;
    assert_eq!((made.status, made.version.as_deref()), (201, Some("1")), "{made:?}");
    assert_eq!(made.json["domains"], json!(["shop.example", "http://localhost:3000"]));
    let path = format!("/v1/admin/sources/{}", made.text("id"));
    assert_eq!(owner.get(&path).await.expect(200), made.json);
    assert_eq!(owner.get("/v1/admin/sources").await.expect(200)["data"], json!([made.json]));

    let changed = json!({"name": "Shop 2", "domains": [], "collect_hosts": [], "require_signature": true});
    let stale = owner.call(Method::PUT, &path, Some(&changed), &[("if-match", "\"7\"")]).await;
    stale.refused(409, "VERSION_CONFLICT");
    let updated = owner.call(Method::PUT, &path, Some(&changed), &[("if-match", "\"1\"")]).await;
    assert_eq!((updated.status, updated.version.as_deref()), (200, Some("2")), "{updated:?}");
    assert_eq!(updated.json["collect_hosts"], json!([]));
    assert_eq!(owner.put(&path, &changed).await.expect(200)["name"], "Shop 2");

    let foreign = control.another_owner().await;
    foreign.get(&path).await.refused(404, "NOT_FOUND");
    foreign.put(&path, &changed).await.refused(404, "NOT_FOUND");
    foreign.delete(&path).await.refused(404, "NOT_FOUND");
    for _ in 0..2 {
        owner.delete(&path).await.expect(204);
    }
    owner.get(&path).await.refused(404, "NOT_FOUND");
    foreign.delete(&path).await.refused(404, "NOT_FOUND");

    let actions = "SELECT string_agg(action || ' ' || coalesce(changes->'name'->>'new', '-'), ', ' ORDER BY id) \
        FROM audit_log WHERE resource_type = 'source'";
    assert_eq!(
        control.world.database.text(actions).await,
        "source.created Shop, source.updated Shop 2, source.deleted -",
        "what changed nothing is not on record"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_domain_is_kept_as_browsers_compare_it() {
    let control = Control::start().await;
    let hosts = |domain: &str| json!({"name": "Shop", "collect_hosts": [{"url": "https://Collect.Bücher.example", "cookie_domain": domain}]});
    for domain in ["BÜCHER.example", ".bücher.example", ".XN--BCHER-KVA.example"] {
        let made = control.owner.post("/v1/admin/sources", &hosts(domain)).await.expect(201);
        let host =
            json!({"url": "https://collect.xn--bcher-kva.example", "cookie_domain": "xn--bcher-kva.example"});
        assert_eq!(made["collect_hosts"], json!([host]), "{domain}");
    }
    for (domain, why) in [("example", "shared"), ("other.example", "under"), ("10.0.0.1", "address")] {
        let refused = control.owner.post("/v1/admin/sources", &hosts(domain)).await;
        assert_eq!(refused.fields(), ["collect_hosts[0].cookie_domain"]);
        let message = refused.json["error"]["fields"][0]["message"].as_str().unwrap();
        assert!(message.contains(why), "{domain}: {message}");
    }
}

/// Pages of hybrid apps come from origins that no other program's pages have.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_s_origin_is_listed_and_may_call() {
    let control = Control::start().await;
    let (world, owner) = (&control.world, &control.owner);
    let mut shop = Shop::open(world, owner).await;
    let domains = json!({"name": "Shop", "domains": ["capacitor://localhost", "Ionic://localhost"]});
    let kept = owner.put(&shop.source, &domains).await.expect(200);
    assert_eq!(kept["domains"], json!(["capacitor://localhost", "ionic://localhost"]));
    let key = shop.issue(world, owner, "live").await;
    for origin in ["capacitor://localhost", "ionic://localhost"] {
        shop.origin = origin.to_owned();
        let answer = shop.browser(world, &key).view(&granted()).await;
        assert_accepted(&answer, 1);
        assert_eq!(answer.headers["access-control-allow-origin"], origin);
    }
    for origin in ["https://localhost", "http://localhost", "capacitor://evil.example", "file://"] {
        shop.origin = origin.to_owned();
        assert_eq!(shop.browser(world, &key).view(&granted()).await.status, 403, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn placeholders_are_kept_as_identifiers_are_compared_with_them() {
    let control = Control::start().await;
    let source = json!({"name": "Shop", "placeholders": [" House-Account ", "LAUFKUNDE", "Ä"]});
    let made = control.owner.post("/v1/admin/sources", &source).await.expect(201);
    assert_eq!(made["placeholders"], json!(["house-account", "laufkunde", "ä"]));
}

/// Removing takes the same right by PUT as by DELETE.
#[tokio::test(flavor = "multi_thread")]
async fn an_editor_shuts_nobody_out_by_a_put() {
    let control = Control::start().await;
    let owner = &control.owner;
    let (editor, admin) = (owner.colleague("editor").await, owner.colleague("admin").await);
    let hosts = json!([{"url": "https://collect.shop.example", "cookie_domain": "shop.example"},
        {"url": "https://c.shop.example"}]);
    let full = json!({"name": "Shop", "domains": ["shop.example", "www.shop.example"], "collect_hosts": hosts,
        "browser_identity": "claimed"});
    let made = owner.post("/v1/admin/sources", &full).await;
    let path = format!("/v1/admin/sources/{}", made.text("id"));
    for (field, value) in [
        ("domains", json!([])),
        ("domains", json!(["shop.example"])),
        ("domains", json!(["shop.example", "www.shop.example:8443"])),
        ("collect_hosts", json!([])),
        ("collect_hosts", json!([hosts[1]])),
        ("collect_hosts", json!([hosts[1], {"url": "https://other.shop.example"}])),
        ("require_signature", json!(true)),
    ] {
        let body = json!({"name": "Shop", field: value});
        editor.put(&path, &body).await.refused(403, "FORBIDDEN");
        assert_eq!(owner.get(&path).await.expect(200), made.json, "{body}");
        // What is none of the type is no way to say so either.
        editor.put(&path, &json!({"name": "Shop", field: null})).await.refused(422, "VALIDATION_FAILED");
    }
    // Nor by leaving out: that says nothing.
    let renamed = editor.put(&path, &json!({"name": "Boutique"})).await.expect(200);
    for field in ["domains", "collect_hosts", "browser_identity", "require_signature"] {
        assert_eq!(renamed[field], made.json[field], "{field}");
    }
    let mut more =
        json!({"name": "Boutique", "domains": ["shop.example", "www.shop.example", "m.shop.example"]});
    editor.put(&path, &more).await.expect(200);
    more["domains"] = json!(["shop.example"]);
    more["collect_hosts"] = json!([hosts[0]]);
    more["require_signature"] = json!(true);
    let less = admin.put(&path, &more).await.expect(200);
    assert_eq!((&less["domains"], &less["collect_hosts"]), (&more["domains"], &more["collect_hosts"]));
    editor.delete(&path).await.refused(403, "FORBIDDEN");
}

/// A PUT of every kind keeps what its body leaves out.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_put_leaves_out_stays() {
    let control = Control::start().await;
    let owner = &control.owner;
    let made = owner.post("/v1/admin/sources", &json!({"name": "Shop"})).await;
    let (source, pipeline) = (
        format!("/v1/admin/sources/{}", made.text("id")),
        format!("/v1/admin/pipelines/{}", made.text("pipeline_id")),
    );
    let user = owner.colleague("viewer").await.get("/v1/admin/me").await.text("id");
    owner
        .put("/v1/admin/secrets/cdp", &json!({"value": "x", "hosts": ["cdp.example.com"]}))
        .await
        .expect(201);
    for (path, full, least) in [
        (
            format!("/v1/admin/users/{user}"),
            json!({"name": "Ada", "role": "editor", "disabled": true}),
            json!({"role": "editor"}),
        ),
        (
            source.clone(),
            json!({"name": "Shop", "domains": ["shop.example"], "browser_identity": "claimed",
                "collect_hosts": [{"url": "https://c.shop.example"}], "require_signature": true,
                "placeholders": ["house-account"]}),
            json!({"name": "Shop"}),
        ),
        (
            pipeline.clone(),
            json!({"consent_mode": "implicit", "purge_on_withdrawal": true, "rate_limit_rps": 7,
                "consent_mapping": {"preset": "onetrust", "codes": {"C0009": "analytics"}}}),
            json!({"consent_mode": "implicit"}),
        ),
        (
            format!("{pipeline}/identity-sources/pinterest"),
            json!({"partner_id": "1", "ttl_days": 3, "enabled": false, "endpoint": "https://ct.example.com/"}),
            json!({"partner_id": "1"}),
        ),
        (
            format!("{source}/enrichment/uid2"),
            json!({"enabled": true, "config": {"ttl": "12h"},
                "credentials": {"api_key": "a", "client_secret": "b"}}),
            json!({"enabled": true}),
        ),
        (
            format!("{source}/custom-providers/own"),
            json!({"endpoint": "https://cdp.example.com/", "method": "GET", "ttl": "30d", "timeout": "1s",
                "authentication": {"type": "bearer", "token_secret_ref": "secret:cdp"},
                "request_template": {"id": "{{anonymous_id}}"},
                "response_mapping": {"redis_field": "own", "json_path": "$.id"}}),
            json!({}),
        ),
        (
            format!("{source}/profile-providers/amperity"),
            json!({"enabled": false, "tenant_subdomain": "acme", "tenant_id": "acme",
                "profile_collection_id": "apc-x1", "event_stream_id": "esm-x1", "source_value": "D",
                "linking_keys": [{"source": "user_id", "key": "id"}], "api_key": "k",
                "browser_attribute_allowlist": ["A"], "consent_category": "marketing"}),
            json!({}),
        ),
        (
            "/v1/admin/secrets/other".to_owned(),
            json!({"value": "x", "hosts": ["cdp.example.com"]}),
            json!({"value": "x"}),
        ),
    ] {
        harness::eventually("the core to know the organisation", async || {
            match owner.put(&path, &full).await {
                answer if answer.status < 300 => Ok(()),
                answer => Err(format!("{answer:?}")),
            }
        })
        .await;
        let shown = async || {
            let mut record = owner.get(&path).await.expect(200);
            record
                .as_object_mut()
                .unwrap()
                .retain(|name, _| !["version", "updated_at"].contains(&name.as_str()));
            record
        };
        let before = shown().await;
        owner.put(&path, &least).await.expect(200);
        assert_eq!(shown().await, before, "{path}");
    }
    // Null is no leaving out.
    let endpoint = format!("{pipeline}/identity-sources/pinterest");
    let null = json!({"partner_id": "1", "ttl_days": null, "endpoint": null});
    let reset = owner.put(&endpoint, &null).await.expect(200);
    assert_eq!((&reset["ttl_days"], &reset["endpoint"]), (&json!(90), &json!(null)));
    let own = format!("{source}/custom-providers/own");
    let reset = owner.put(&own, &json!({"authentication": null, "timeout": null})).await.expect(200);
    let names: Vec<&String> = reset["settings"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["endpoint", "method", "request_template", "response_mapping", "ttl"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_field_by_field() {
    let control = Control::start().await;
    let sources = "/v1/admin/sources";
    let wrong = json!({"name": " ", "domains": ["shop.example", "*", "https://shop.example", "shop.example/x", "http://x"],
        "collect_hosts": [{"url": "http://collect.example"}, {"url": "https://a.b.example", "cookie_domain": "c.example"}],
        "browser_identity": "maybe"});
    let answer = control.owner.post(sources, &wrong).await;
    answer.refused(422, "VALIDATION_FAILED");
    assert_eq!(
        answer.fields(),
        [
            "name",
            "browser_identity",
            "domains[1]",
            "domains[2]",
            "domains[3]",
            "domains[4]",
            "collect_hosts[0].url",
            "collect_hosts[1].cookie_domain",
        ]
    );
    for (body, field) in [
        (json!({"name": "Shop", "org_id": "x"}), "org_id"),
        (json!({"name": 1}), "name"),
        (json!({"name": "Shop", "domains": [1]}), "domains[0]"),
        (json!({"domains": []}), "name"),
        (json!({"name": "Shop", "domains": ["https://@shop.example"]}), "domains[0]"),
        (json!({"name": "Shop", "domains": ["com."]}), "domains[0]"),
        (json!({"name": "Shop", "name\u{200b}": ""}), "name\u{200b}"),
        (json!({"name": "Shop\u{200b}"}), "name"),
        (json!({"name": "Shop", "placeholders": [" "]}), "placeholders[0]"),
        (json!({"name": "Shop", "placeholders": ["Kiosk", "till", " kiosk "]}), "placeholders[2]"),
        (json!({"name": "Shop", "placeholders": ["x".repeat(65)]}), "placeholders[0]"),
        (
            json!({"name": "Shop", "placeholders": (0..51).map(|n| n.to_string()).collect::<Vec<_>>()}),
            "placeholders",
        ),
        (json!({"name": "Shop", "placeholders": null}), "placeholders"),
    ] {
        let answer = control.owner.post(sources, &body).await;
        answer.refused(422, "VALIDATION_FAILED");
        assert_eq!(answer.fields(), [field], "{body}");
    }
    for bad in ["limit=0", "limit=-1", "limit=x", "cursor=x", "sort=name", "cursor=AAAA"] {
        control.owner.get(&format!("{sources}?{bad}")).await.refused(400, "INVALID_PARAMETER");
    }
    for odd in ["x", "..%2f..", "1000000000", "00000000-0000-0000-0000-000000000000"] {
        control.owner.get(&format!("{sources}/{odd}")).await.refused(404, "NOT_FOUND");
    }
    assert_eq!(control.world.database.count("sources", "name <> 'Shop'").await, 0);
}

/// Settings are held in the memory of every core, which no organisation may fill.
#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_makes_so_much_and_no_more() {
    let control = Control::start().await;
    let owner = &control.owner;
    let made = owner.post("/v1/admin/sources", &json!({"name": "Shop"})).await;
    let (org, source) = (owner.org_id, made.text("id"));
    let provider = json!({"endpoint": "https://cdp.shop.example/", "ttl": "30d",
        "response_mapping": {"redis_field": "own", "json_path": "$.id"}});
    let providers = format!("/v1/admin/sources/{source}/custom-providers");
    harness::eventually("the core to know the organisation", async || {
        match owner.put(&format!("{providers}/first"), &provider).await.status {
            200 | 201 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    let fill = format!(
        "INSERT INTO sources (id, org_id, name) \
            SELECT gen_random_uuid(), '{org}', 'x' FROM generate_series(1, 998); \
        INSERT INTO secrets (id, org_id, name, sealed) \
            SELECT gen_random_uuid(), '{org}', 'x' || n, '\\x00' FROM generate_series(1, 999) n; \
        INSERT INTO custom_providers (id, org_id, source_id, name, redis_field, settings) \
            SELECT gen_random_uuid(), '{org}', '{source}', 'x' || n, 'x' || n, '{{}}' FROM generate_series(1, 98) n"
    );
    for statement in fill.split("; ") {
        control.world.database.execute(statement).await;
    }
    let mut last = provider.clone();
    last["response_mapping"]["redis_field"] = json!("last");
    owner.post("/v1/admin/sources", &json!({"name": "Last"})).await.expect(201);
    owner.put("/v1/admin/secrets/last", &json!({"value": "x"})).await.expect(201);
    owner.put(&format!("{providers}/last"), &last).await.expect(201);
    owner.post("/v1/admin/sources", &json!({"name": "One more"})).await.refused(409, "LIMIT_REACHED");
    owner.put("/v1/admin/secrets/more", &json!({"value": "x"})).await.refused(409, "LIMIT_REACHED");
    last["response_mapping"]["redis_field"] = json!("more");
    owner.put(&format!("{providers}/more"), &last).await.refused(409, "LIMIT_REACHED");
    // What is there can be replaced, and nobody else is kept from anything.
    owner.put("/v1/admin/secrets/last", &json!({"value": "y"})).await.expect(200);
    owner.put(&format!("{providers}/first"), &provider).await.expect(200);
    control.another_owner().await.post("/v1/admin/sources", &json!({"name": "Other"})).await.expect(201);
}
