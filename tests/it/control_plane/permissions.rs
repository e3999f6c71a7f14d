//! Permissions: each route of the management API × each role × two organisations, from one table. The table
//! is kept here once more, so that nobody widens a permission by the way; the routes are those of the API's
//! document.

use std::collections::{BTreeMap, BTreeSet};

use harness::control::{Admin, Control};
use proto::v1::{Caller, ResolveRequest, Subject, caller::Kind};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

/// Permissions with the roles that have them; an owner may do everything.
const PERMISSIONS: &[(&str, &[&str])] = &[
    ("public", &["admin", "editor", "viewer", ""]),
    ("self", &["admin", "editor", "viewer"]),
    ("settings:read", &["admin", "editor", "viewer"]),
    ("settings:write", &["admin", "editor"]),
    ("settings:delete", &["admin"]),
    ("secrets:reveal", &["admin"]),
    ("users:read", &["admin"]),
    ("users:write", &["admin"]),
    ("people:read", &["admin", "editor"]),
    ("people:write", &["admin"]),
    ("audit:read", &["admin"]),
    ("crypto:write", &["admin"]),
];

/// Routes: method, path below `/v1/admin`, and the permission it needs.
#[rustfmt::skip]
const ROUTES: &[(&str, &str, &str)] = &[
    ("POST",   "/auth/login", "public"),
    ("POST",   "/auth/refresh", "public"),
    ("POST",   "/auth/logout", "self"),
    ("GET",    "/me", "self"),
    ("PUT",    "/me/password", "self"),
    ("GET",    "/users", "users:read"),
    ("POST",   "/users", "users:write"),
    ("GET",    "/users/{id}", "users:read"),
    ("PUT",    "/users/{id}", "users:write"),
    ("PUT",    "/users/{id}/password", "users:write"),
    ("DELETE", "/users/{id}", "users:write"),
    ("GET",    "/sources", "settings:read"),
    ("POST",   "/sources", "settings:write"),
    ("GET",    "/sources/{id}", "settings:read"),
    ("PUT",    "/sources/{id}", "settings:write"),
    ("DELETE", "/sources/{id}", "settings:delete"),
    ("GET",    "/sources/{id}/keys", "settings:read"),
    ("POST",   "/sources/{id}/keys", "settings:write"),
    ("DELETE", "/sources/{id}/keys/{key_id}", "settings:delete"),
    ("GET",    "/sources/{id}/server-secret", "settings:read"),
    ("POST",   "/sources/{id}/server-secret", "settings:delete"),
    ("DELETE", "/sources/{id}/server-secret", "settings:delete"),
    ("POST",   "/sources/{id}/server-secret/reveal", "secrets:reveal"),
    ("GET",    "/pipelines", "settings:read"),
    ("GET",    "/pipelines/{id}", "settings:read"),
    ("PUT",    "/pipelines/{id}", "settings:write"),
    ("GET",    "/pipelines/{id}/csp", "settings:read"),
    ("GET",    "/pipelines/{id}/identity-sources", "settings:read"),
    ("GET",    "/pipelines/{id}/identity-sources/{vendor}", "settings:read"),
    ("PUT",    "/pipelines/{id}/identity-sources/{vendor}", "settings:write"),
    ("DELETE", "/pipelines/{id}/identity-sources/{vendor}", "settings:write"),
    ("GET",    "/pipelines/{id}/generated-ids", "settings:read"),
    ("GET",    "/pipelines/{id}/generated-ids/{vendor}", "settings:read"),
    ("PUT",    "/pipelines/{id}/generated-ids/{vendor}", "settings:write"),
    ("DELETE", "/pipelines/{id}/generated-ids/{vendor}", "settings:write"),
    ("GET",    "/sources/{id}/enrichment", "settings:read"),
    ("PUT",    "/sources/{id}/enrichment", "settings:write"),
    ("GET",    "/sources/{id}/enrichment/{vendor}", "settings:read"),
    ("PUT",    "/sources/{id}/enrichment/{vendor}", "settings:write"),
    ("DELETE", "/sources/{id}/enrichment/{vendor}", "settings:write"),
    ("GET",    "/sources/{id}/enrichment/{vendor}/status", "settings:read"),
    ("POST",   "/sources/{id}/enrichment/{vendor}/dry-run", "settings:write"),
    ("GET",    "/sources/{id}/custom-providers", "settings:read"),
    ("GET",    "/sources/{id}/custom-providers/{name}", "settings:read"),
    ("PUT",    "/sources/{id}/custom-providers/{name}", "settings:write"),
    ("DELETE", "/sources/{id}/custom-providers/{name}", "settings:write"),
    ("GET",    "/sources/{id}/custom-providers/{name}/status", "settings:read"),
    ("POST",   "/sources/{id}/custom-providers/{name}/dry-run", "settings:write"),
    ("POST",   "/sources/{id}/profile-providers/amperity/dry-run", "settings:write"),
    ("GET",    "/sources/{id}/profile-providers/amperity", "settings:read"),
    ("PUT",    "/sources/{id}/profile-providers/amperity", "settings:write"),
    ("DELETE", "/sources/{id}/profile-providers/amperity", "settings:write"),
    ("GET",    "/sources/{id}/profile-providers/amperity/status", "settings:read"),
    ("GET",   "/sources/{id}/destinations", "settings:read"),
    ("GET",   "/sources/{id}/destinations/{vendor}", "settings:read"),
    ("PUT",   "/sources/{id}/destinations/{vendor}", "settings:write"),
    ("DELETE", "/sources/{id}/destinations/{vendor}", "settings:delete"),
    ("GET",   "/sources/{id}/destinations/{vendor}/status", "settings:read"),
    ("POST",  "/sources/{id}/destinations/{vendor}/pause", "settings:write"),
    ("POST",  "/sources/{id}/destinations/{vendor}/resume", "settings:write"),
    ("POST",  "/sources/{id}/destinations/{vendor}/dry-run", "settings:write"),
    ("GET",   "/sources/{id}/destinations/{vendor}/dead-letters", "people:read"),
    ("POST",  "/sources/{id}/destinations/{vendor}/dead-letters/retry", "people:read"),
    ("DELETE", "/sources/{id}/destinations/{vendor}/dead-letters/{event_id}", "people:read"),
    ("GET",   "/sources/{id}/destinations/{vendor}/replays", "people:read"),
    ("POST",  "/sources/{id}/destinations/{vendor}/replays", "people:read"),
    ("DELETE", "/sources/{id}/destinations/{vendor}/replays/{replay_id}", "people:read"),
    ("GET",    "/sources/{id}/live-events", "people:read"),
    ("GET",    "/catalog/destinations", "settings:read"),
    ("GET",    "/secrets", "settings:read"),
    ("GET",    "/secrets/{name}", "settings:read"),
    ("PUT",    "/secrets/{name}", "settings:write"),
    ("DELETE", "/secrets/{name}", "settings:write"),
    ("GET",    "/crypto/re-encrypt", "crypto:write"),
    ("POST",   "/crypto/re-encrypt", "crypto:write"),
    ("GET",    "/health/crypto", "public"),
    ("GET",    "/catalog/sync-vendors", "settings:read"),
    ("GET",    "/catalog/enrichment-vendors", "settings:read"),
    ("GET",    "/catalog/generated-ids", "settings:read"),
    ("GET",    "/catalog/profile-providers", "settings:read"),
    ("GET",    "/identities", "people:read"),
    ("GET",    "/identities/{id}/export", "people:write"),
    ("DELETE", "/identities/{id}", "people:write"),
    ("POST",   "/identities/{id}/unmerge", "people:write"),
    ("GET",    "/audit-log", "audit:read"),
];

/// Tables with what an organisation configured, whose rows nobody else may change.
const TABLES: &[&str] = &[
    "users",
    "sources",
    "collect_hosts",
    "pipeline_keys",
    "server_secrets",
    "pipelines",
    "identity_sources",
    "generated_ids",
    "enrichment_settings",
    "custom_providers",
    "secrets",
    "profile_providers",
    "destinations",
    "replays",
    "live_watches",
    "reencryptions",
    "tombstone_keys",
    "links",
];

/// The value of a secret of the organisation's.
const SECRET: &str = "a-secret-of-the-shop";

/// Providers of a source, and what they are configured with.
const PROVIDERS: [(&str, &str); 4] = [
    ("enrichment/uid2", r#"{"enabled": true, "credentials": {"api_key": "a", "client_secret": "b"}}"#),
    (
        "custom-providers/internal_cdp",
        r#"{"endpoint": "https://cdp.shop.example/resolve", "method": "POST",
            "authentication": {"type": "bearer", "token_secret_ref": "secret:internal_cdp"},
            "request_template": {"id": "{{anonymous_id}}"}, "ttl": "30d", "timeout": "2s",
            "response_mapping": {"redis_field": "cdp_customer_id", "json_path": "$.customer_id"}}"#,
    ),
    (
        "profile-providers/amperity",
        r#"{"enabled": true, "tenant_subdomain": "shop", "tenant_id": "shop", "event_stream_id": "esm-x1",
            "source_value": "SHOP", "api_key": "c"}"#,
    ),
    ("destinations/amperity", r#"{"enabled": true, "preset": "retail"}"#),
];

/// An organisation with one of everything.
struct FurnishedOrg {
    owner: Admin,
    /// IDs that `{id}` stands for below each area.
    ids: BTreeMap<&'static str, String>,
}

impl FurnishedOrg {
    async fn furnish(control: &Control) -> Self {
        let owner = control.owner.clone();
        let source =
            owner.post("/v1/admin/sources", &json!({"name": "Shop", "domains": ["shop.example"]})).await;
        let source = source.expect(201);
        let text = |name: &str| source[name].as_str().unwrap().to_owned();
        let (source_path, pipeline_path) = (
            format!("/v1/admin/sources/{}", text("id")),
            format!("/v1/admin/pipelines/{}", text("pipeline_id")),
        );
        let key = owner.post(&format!("{source_path}/keys"), &json!({"environment": "live"})).await;
        owner.post(&format!("{source_path}/server-secret"), &json!({})).await.expect(201);
        let sync = json!({"partner_id": "1", "enabled": true});
        owner.put(&format!("{pipeline_path}/identity-sources/pinterest"), &sync).await.expect(201);
        owner
            .put(&format!("{pipeline_path}/generated-ids/meta"), &json!({"enabled": true}))
            .await
            .expect(201);
        owner.put("/v1/admin/secrets/internal_cdp", &json!({"value": SECRET})).await.expect(201);
        for (part, body) in PROVIDERS {
            let body: Value = serde_json::from_str(body).unwrap();
            owner.put(&format!("{source_path}/{part}"), &body).await.expect(201);
        }
        let user = owner.colleague("viewer").await;
        let user = user.get("/v1/admin/me").await.text("id");
        let canonical = visitor(control, owner.org_id).await;
        let ids = [
            ("sources", text("id")),
            ("pipelines", text("pipeline_id")),
            ("users", user),
            ("identities", canonical),
            ("keys", key.text("id")),
        ];
        Self { owner, ids: ids.into() }
    }

    /// The route of `path` with this organisation's own IDs, or with others that nothing has.
    fn path(&self, path: &str, own: bool) -> String {
        let area = path.split('/').nth(1).unwrap_or_default();
        let nobody = Uuid::now_v7().to_string();
        let known = |area: &str| self.ids.get(area).filter(|_| own).unwrap_or(&nobody).clone();
        let vendor = if path.contains("/enrichment/") { "uid2" } else { "pinterest" };
        let vendor = if path.contains("/generated-ids/") { "meta" } else { vendor };
        let vendor = if path.contains("/destinations/") { "amperity" } else { vendor };
        let path = path
            .replace("{id}", &known(area))
            .replace("{key_id}", &known("keys"))
            .replace("{event_id}", &nobody)
            .replace("{replay_id}", &nobody)
            .replace("{vendor}", vendor);
        let path = path.replace("{name}", "internal_cdp");
        if path.starts_with("/health") { path } else { format!("/v1/admin{path}") }
    }
}

/// Makes a visitor of an organisation, and answers with their canonical ID.
async fn visitor(control: &Control, org: Uuid) -> String {
    let subject = Subject { anonymous_id: Some("visitor".to_owned()), ..Subject::default() };
    let request = ResolveRequest {
        caller: Some(Caller { kind: Some(Kind::OrgId(org.to_string())) }),
        subjects: vec![subject],
        ..ResolveRequest::default()
    };
    harness::eventually("the core to know the organisation", async || {
        let answer = control.world.internal().resolve().resolve(request.clone()).await;
        let answer = answer.map_err(|status| status.to_string())?.into_inner();
        Ok(answer.resolutions[0].canonical_id.clone())
    })
    .await
}

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

/// A body that breaks a rule wherever it gets, so that a call that is allowed changes nothing.
fn junk(method: &str) -> Option<Value> {
    ["POST", "PUT"].contains(&method).then(|| json!({"nobody": "knows this"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_the_document() {
    let control = Control::start().await;
    let document = control.owner.get("/openapi.json").await.expect(200);
    let mut listed = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let scope = operation["security"][0]["bearer"][0].as_str().unwrap_or("public");
            let path = path.strip_prefix("/v1/admin").unwrap_or(path);
            listed.insert((method.to_uppercase(), path.to_owned(), scope.to_owned()));
        }
    }
    let own = ROUTES
        .iter()
        .map(|(method, path, scope)| ((*method).into(), (*path).into(), (*scope).into()))
        .collect();
    let difference: Vec<_> = listed.symmetric_difference(&own).collect();
    assert!(difference.is_empty(), "in the document or the table alone: {difference:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_may_do_what_the_table_says_and_no_more() {
    let control = Control::start().await;
    let shop = FurnishedOrg::furnish(&control).await;
    let mut people = vec![("", shop.owner.anyone())];
    for role in ["viewer", "editor", "admin"] {
        people.push((role, shop.owner.colleague(role).await));
    }
    people.push(("owner", shop.owner.clone()));
    for (role, person) in &people {
        // Logging out comes last: it ends the session.
        let (logout, others): (Vec<_>, Vec<_>) =
            ROUTES.iter().partition(|(_, path, _)| *path == "/auth/logout");
        for &(name, path, scope) in others.into_iter().chain(logout) {
            let allowed = PERMISSIONS.iter().find(|(own, _)| *own == scope).unwrap().1;
            let url = shop.path(path, name != "DELETE");
            let answer = person.call(method(name), &url, junk(name).as_ref(), &[]).await;
            let what = format!("{name} {path} as {role:?}: {} {}", answer.status, answer.json);
            if *role == "owner" || allowed.contains(role) {
                assert!(![401, 403, 405].contains(&answer.status) || scope == "public", "{what}");
            } else if role.is_empty() {
                assert_eq!((answer.status, answer.code()), (401, "INVALID_TOKEN"), "{what}");
            } else {
                assert_eq!((answer.status, answer.code()), (403, "FORBIDDEN"), "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reaches_into_another_organisation() {
    let control = Control::start().await;
    let shop = FurnishedOrg::furnish(&control).await;
    let stranger = control.another_owner().await;
    let state = async || {
        let mut state = Vec::new();
        for table in TABLES {
            let org = shop.owner.org_id;
            let rows = format!(
                "SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} t WHERE org_id = '{org}'"
            );
            state.push((*table, control.world.database.text(&rows).await));
        }
        state
    };
    let before = state().await;
    let own: Vec<&String> = shop.ids.values().collect();
    for &(name, path, _) in ROUTES.iter().filter(|(_, path, _)| *path != "/auth/logout") {
        let url = shop.path(path, true);
        let body = valid(path).filter(|_| name != "GET" && name != "DELETE");
        let answer = stranger.call(method(name), &url, body.as_ref(), &[]).await;
        let what = format!("{name} {path}: {} {}", answer.status, answer.json);
        if path.contains("{id}") {
            // Erasing somebody nobody knows is no error.
            let expected = if (name, path) == ("DELETE", "/identities/{id}") { 204 } else { 404 };
            assert_eq!(answer.status, expected, "{what}");
        }
        let text = answer.json.to_string();
        assert!(!own.iter().any(|id| text.contains(*id)), "{what}");
    }
    assert_eq!(state().await, before);
}

/// A body that the route would take, so that nothing but the organisation stands in its way.
fn valid(path: &str) -> Option<Value> {
    let password = "perch-quilted-ocean-52";
    Some(match path {
        "/users/{id}" => json!({"name": "x", "role": "owner", "disabled": false}),
        "/users/{id}/password" => json!({"password": password}),
        "/sources/{id}" => json!({"name": "mine now"}),
        "/sources/{id}/keys" => json!({"environment": "live"}),
        "/sources/{id}/server-secret" => json!({"overlap_seconds": 0}),
        "/pipelines/{id}" => json!({"consent_mode": "implicit"}),
        "/pipelines/{id}/identity-sources/{vendor}" => json!({"partner_id": "2", "enabled": true}),
        "/pipelines/{id}/generated-ids/{vendor}" => json!({"enabled": false}),
        "/secrets/{name}" => json!({"value": "mine now"}),
        "/sources/{id}/enrichment/{vendor}" => serde_json::from_str(PROVIDERS[0].1).unwrap(),
        "/sources/{id}/enrichment" => json!({"enrichment": {"custom_providers": []}}),
        "/sources/{id}/custom-providers/{name}" => serde_json::from_str(PROVIDERS[1].1).unwrap(),
        "/sources/{id}/profile-providers/amperity" => serde_json::from_str(PROVIDERS[2].1).unwrap(),
        "/sources/{id}/destinations/{vendor}" => serde_json::from_str(PROVIDERS[3].1).unwrap(),
        "/sources/{id}/destinations/{vendor}/dead-letters/retry" => json!({"all": true}),
        "/sources/{id}/destinations/{vendor}/replays" => {
            json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"})
        }
        "/sources/{id}/destinations/{vendor}/dry-run" => json!({"event": {"type": "page"}}),
        path if path.ends_with("/dry-run") => {
            json!({"subject": {"anonymous_id": "visitor"}, "send": true})
        }
        "/identities/{id}/unmerge" => json!({"merge_id": Uuid::now_v7()}),
        _ => json!({}),
    })
}
