//! Secrets that stand out, put through every path that takes one: they are nowhere but where they belong,
//! which is in no log, metric, answer or unsealed column.

use harness::{
    control::{Admin, Control, PASSWORD, start_management},
    eventually,
    process::Service,
    world::Options,
};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

/// Texts that were sent as secrets, and must not be seen.
struct Canaries {
    caller: Admin,
    sent: Vec<String>,
}

impl Canaries {
    /// Makes a new secret; without a dash, so that it is one word wherever it is.
    fn hatch(&mut self) -> String {
        let canary = format!("canary{}", Uuid::new_v4().simple());
        self.sent.push(canary.clone());
        canary
    }

    /// Makes a call, and checks that its answer holds no secret.
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> u16 {
        let answer = self.caller.call(method, path, body, &[]).await;
        let text = answer.json.to_string();
        for canary in &self.sent {
            assert!(!text.contains(canary), "{path} answers with what was sent: {text}");
        }
        answer.status
    }

    /// Sends a secret at `pointer` of a body, in every form that a mistake may give it, and then as it should
    /// be.
    async fn put(&mut self, path: &str, body: &Value, pointer: &str) {
        for form in 0..8 {
            let canary = self.hatch();
            let mut body = body.clone();
            let bad = match form {
                0 => json!([canary]),
                1 => json!({"value": canary}),
                2 => json!(format!("{canary}\n")),
                3 => json!(format!("{canary}{}", "x".repeat(64 * 1024))),
                4 => json!({"value": {"deep": [canary]}}),
                _ => json!(canary),
            };
            *body.pointer_mut(pointer).unwrap() = bad;
            match form {
                5 => body["passwrod"] = json!(self.hatch()),
                // In place of what is no secret.
                6 => {
                    for name in ["enabled", "config", "name", "role", "tenant_id", "linking_keys"] {
                        if body.get(name).is_some() {
                            body[name] = json!(canary);
                        }
                    }
                }
                _ => {}
            }
            let status = self.call(Method::PUT, path, Some(&body)).await;
            if form < 6 {
                assert_eq!(status, 422, "{path}, form {form}");
            } else if form == 7 {
                assert!([200, 201].contains(&status), "{path}: {status}");
            }
        }
    }
}

/// Contents of all tables, as text; bytes are hex digits there.
async fn dump(control: &Control) -> String {
    let database = &control.world.database;
    let tables =
        database.text("SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public'").await;
    let mut all = String::new();
    for table in tables.split(' ') {
        all += &database.text(&format!("SELECT string_agg(t::text, ' ') FROM {table} t")).await;
    }
    all
}

fn assert_absent(sent: &[String], place: &str, text: &str) {
    for canary in sent {
        for form in [canary.clone(), hex::encode(canary)] {
            let at = text
                .find(&form)
                .map(|at| text[at.saturating_sub(200)..].chars().take(400).collect::<String>());
            assert!(at.is_none(), "{place} has a secret: {at:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_seen_anywhere() {
    let options = Options { log_level: "trace", ..Options::default() };
    let control = Control::with(1, options).await;
    let service: Service =
        start_management(&control.world, &control.jwt_secret, &[("LOG_LEVEL", "trace")]).await.unwrap();
    let mut owner = control.owner.at(&service);
    owner.log_in(PASSWORD).await.expect(200);
    let source = owner.post("/v1/admin/sources", &json!({"name": "Shop"})).await.text("id");
    let source = format!("/v1/admin/sources/{source}");
    eventually("the core to know the organisation", async || {
        let answer = owner.put(&format!("{source}/enrichment/uid2"), &json!({"enabled": false})).await;
        if answer.status < 300 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    let tokens = [PASSWORD, &owner.access_token, &owner.refresh_token].map(str::to_owned);
    let mut canaries = Canaries { caller: owner.clone(), sent: tokens.to_vec() };

    // Settings.
    canaries.put("/v1/admin/secrets/token", &json!({"value": ""}), "/value").await;
    let credentials =
        json!({"enabled": true, "config": {}, "credentials": {"api_key": "", "client_secret": "x"}});
    for pointer in ["/credentials/api_key", "/credentials/client_secret"] {
        let mut credentials = credentials.clone();
        credentials["credentials"]["api_key"] = json!("x");
        canaries.put(&format!("{source}/enrichment/uid2"), &credentials, pointer).await;
    }
    let amperity = json!({"tenant_subdomain": "acme", "tenant_id": "acme", "profile_collection_id": "apc-x",
        "event_stream_id": "esm-x", "source_value": "x", "linking_keys": [], "api_key": "x", "profile_api_key": "y"});
    let path = format!("{source}/profile-providers/amperity");
    canaries.put(&path, &amperity, "/api_key").await;
    canaries.put(&path, &amperity, "/profile_api_key").await;
    // In clear where a reference belongs, and in URLs and headers.
    for body in [
        json!({"authentication": {"type": "bearer", "token_secret_ref": canaries.hatch()}}),
        json!({"authentication": {"type": canaries.hatch(), "token": canaries.hatch()}}),
        json!({"endpoint": format!("https://x:{}@cdp.example/?token={}", canaries.hatch(), canaries.hatch())}),
    ] {
        let path = format!("{source}/custom-providers/cdp");
        assert_eq!(canaries.call(Method::PUT, &path, Some(&body)).await, 422, "{body}");
    }
    let body = json!({"enabled": false, "config": {"headers": {"authorization": format!("Bearer {}", canaries.hatch())},
        "base_url": format!("https://{}@x.example", canaries.hatch()), "ttl": canaries.hatch()}});
    assert_eq!(canaries.call(Method::PUT, &format!("{source}/enrichment/uid2"), Some(&body)).await, 422);

    // Logging in.
    for password in [json!(canaries.hatch()), json!([canaries.hatch()]), json!({"x": canaries.hatch()})] {
        let body = json!({"email": owner.email, "password": password});
        let status = canaries.call(Method::POST, "/v1/admin/auth/login", Some(&body)).await;
        assert!([401, 422].contains(&status), "{status}");
    }
    // Passwords that are set, well and badly.
    let colleague = owner.colleague("editor").await;
    let id = colleague.get("/v1/admin/me").await.text("id");
    for wrapped in [
        |text| json!(text),
        |text| json!([text]),
        |text| json!({"x": text}),
        |text: String| json!(text + "\u{0}"),
    ] {
        let new = json!({"email": "new@shop.example", "name": "N", "role": "viewer", "password": wrapped(canaries.hatch())});
        canaries.call(Method::POST, "/v1/admin/users", Some(&new)).await;
        let set = json!({"password": wrapped(canaries.hatch())});
        canaries.call(Method::PUT, &format!("/v1/admin/users/{id}/password"), Some(&set)).await;
        let own =
            json!({"current_password": wrapped(canaries.hatch()), "new_password": wrapped(canaries.hatch())});
        let status = canaries.call(Method::PUT, "/v1/admin/me/password", Some(&own)).await;
        assert!([401, 422].contains(&status), "{status}");
        let refresh = json!({"refresh_token": wrapped(canaries.hatch())});
        let status = canaries.call(Method::POST, "/v1/admin/auth/refresh", Some(&refresh)).await;
        assert!([401, 422].contains(&status), "{status}");
    }
    let own = json!({"current_password": PASSWORD, "new_password": canaries.hatch()});
    assert_eq!(canaries.call(Method::PUT, "/v1/admin/me/password", Some(&own)).await, 204);
    for token in [canaries.hatch(), format!("{}x", owner.access_token), owner.refresh_token.clone()] {
        let mut stranger = owner.clone();
        stranger.access_token = token;
        let answer = stranger.get("/v1/admin/me").await;
        answer.refused(401, "INVALID_TOKEN");
        assert_absent(&canaries.sent, "an answer", &answer.json.to_string());
    }
    // Shown where it is asked for, and nowhere else.
    let rotated = owner.post(&format!("{source}/server-secret"), &json!({})).await;
    canaries.sent.push(rotated.text("secret"));

    // What was kept is shown, sealed anew, and removed.
    for path in ["/v1/admin/secrets", "/v1/admin/secrets/token", "/v1/admin/audit-log?limit=100"] {
        assert_eq!(canaries.call(Method::GET, path, None).await, 200);
    }
    for path in ["enrichment", "enrichment/uid2", "profile-providers/amperity", "server-secret", "keys"] {
        assert_eq!(canaries.call(Method::GET, &format!("{source}/{path}"), None).await, 200, "{path}");
    }
    assert_eq!(canaries.call(Method::POST, "/v1/admin/crypto/re-encrypt", None).await, 202);
    assert_absent(&canaries.sent, "the database", &dump(&control).await);
    assert_eq!(canaries.call(Method::DELETE, &path, None).await, 204);
    assert_eq!(canaries.call(Method::DELETE, &source, None).await, 204);
    assert_absent(&canaries.sent, "the database", &dump(&control).await);

    let services = [
        ("management", &service),
        ("core", &control.world.cluster.cores[0]),
        ("edge", &control.world.cluster.edge),
    ];
    for (name, service) in services {
        assert_absent(&canaries.sent, &format!("the log of {name}"), &service.log().join("\n"));
        assert_absent(&canaries.sent, &format!("a metric of {name}"), service.metrics().await.text());
    }
    assert!(service.log().iter().any(|line| line.contains("starting")), "the log is read");
}
