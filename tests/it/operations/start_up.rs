//! Starts of the binaries: migrations on request, and one line that names what is missing.

use harness::{
    database::TestDatabase,
    process::{Service, run},
};

const KEY: &str = "3f9a0c41d7b2e85566710e2fa9c8d4b1075e6a93c2f4187bd09e5a6f31c8b742";
const TOKENS: &str = "edge:edge:0123456789abcdef0123456789abcdef";

fn core<'a>(
    database_url: &'a str,
    without: &str,
    replaced: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let mut env = vec![
        ("DATABASE_URL", database_url),
        ("REDIS_URL", "redis://127.0.0.1:1/"),
        ("DATAFLY_ENCRYPTION_KEY", KEY),
        ("SERVICE_TOKENS", TOKENS),
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("METRICS_ADDR", "127.0.0.1:0"),
    ];
    env.retain(|(name, _)| *name != without && replaced.iter().all(|(other, _)| other != name));
    env.extend(replaced);
    env
}

#[tokio::test]
async fn migrating_is_idempotent_and_starting_needs_it() {
    let database = TestDatabase::empty().await.unwrap();
    let refused = run("identity-service", &[], &core(&database.url, "", &[]), "").await.unwrap();
    assert!(!refused.status.success(), "it started over an empty database");
    assert!(refused.text().contains("--migrate"), "{}", refused.text());
    for binary in ["identity-service", "management"] {
        for round in 0..2 {
            let env = [("DATABASE_URL", database.url.as_str())];
            let ended = run(binary, &["--migrate"], &env, "").await.unwrap();
            assert!(ended.status.success(), "{binary}, round {round}: {}", ended.text());
        }
    }
    assert_eq!(database.count("config_version", "true").await, 1);
}

#[tokio::test]
async fn the_core_names_what_is_missing_and_never_its_value() {
    let database = TestDatabase::create().await.unwrap();
    for name in ["DATABASE_URL", "REDIS_URL", "DATAFLY_ENCRYPTION_KEY", "SERVICE_TOKENS"] {
        let ended = run("identity-service", &[], &core(&database.url, name, &[]), "").await.unwrap();
        assert!(!ended.status.success(), "it started without {name}");
        assert!(ended.text().contains(name), "without {name}: {}", ended.text());
    }
    let malformed = [
        ("DATAFLY_ENCRYPTION_KEY", "c0ffee-secret"),
        ("SERVICE_TOKENS", "edge:root:c0ffee-secret-c0ffee-secret"),
        ("LISTEN_ADDR", "c0ffee-secret"),
        ("LOG_LEVEL", "c0ffee-secret"),
        ("OUTBOUND_ALLOW_CIDRS", "c0ffee-secret"),
        ("OUTBOUND_ALLOW_HOSTS", "https://c0ffee-secret"),
        ("ALLOW_LOOPBACK", "c0ffee-secret"),
        ("DATAFLY_ENCRYPTON_KEY", "c0ffee-secret"),
    ];
    for (name, value) in malformed {
        let ended =
            run("identity-service", &[], &core(&database.url, "", &[(name, value)]), "").await.unwrap();
        assert!(!ended.status.success(), "it started with {name}={value}");
        let text = ended.text();
        assert!(text.contains(name) && !text.contains("c0ffee"), "{name}: {text}");
    }
}

#[tokio::test]
async fn neither_service_seals_with_a_placeholder() {
    let database = TestDatabase::create().await.unwrap();
    for byte in ["00", "ab", "FF"] {
        let key = byte.repeat(32);
        let placeholder = [("DATAFLY_ENCRYPTION_KEY", key.as_str())];
        let management = [
            ("DATABASE_URL", database.url.as_str()),
            ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
            ("SERVICE_TOKEN", "0123456789abcdef0123456789abcdef"),
            ("IDENTITY_URL", "http://127.0.0.1:1"),
            placeholder[0],
        ];
        for ended in [
            run("identity-service", &[], &core(&database.url, "", &placeholder), "").await.unwrap(),
            run("management", &[], &management, "").await.unwrap(),
        ] {
            let text = ended.text();
            assert!(!ended.status.success(), "it started with {byte} over and over");
            assert!(text.contains("DATAFLY_ENCRYPTION_KEY must be random") && !text.contains(&key), "{text}");
        }
    }
}

#[tokio::test]
async fn the_edge_names_what_is_missing() {
    let env = [
        ("SERVICE_TOKEN", "0123456789abcdef0123456789abcdef"),
        ("IDENTITY_URL", "http://127.0.0.1:1"),
        ("LISTEN_ADDR", "127.0.0.1:0"),
        ("METRICS_ADDR", "127.0.0.1:0"),
    ];
    for name in ["SERVICE_TOKEN", "IDENTITY_URL"] {
        let rest: Vec<_> = env.into_iter().filter(|(other, _)| *other != name).collect();
        let ended = run("http-edge", &[], &rest, "").await.unwrap();
        assert!(!ended.status.success() && ended.text().contains(name), "without {name}: {}", ended.text());
    }
}

#[tokio::test]
async fn the_first_owner_is_made_on_the_command_line() {
    let database = TestDatabase::create().await.unwrap();
    let env = [("DATABASE_URL", database.url.as_str())];
    let help = run("management", &["create-owner", "--help"], &[], "").await.unwrap();
    assert!(help.status.success() && help.text().contains("--email"), "{}", help.text());
    let arguments = ["create-owner", "--email", "owner@example.com", "--org", "Shop"];
    let weak = run("management", &arguments, &env, "short\n").await.unwrap();
    assert!(!weak.status.success(), "a short password was taken: {}", weak.text());
    let made = run("management", &arguments, &env, "correct horse battery staple\n").await.unwrap();
    assert!(made.status.success(), "{}", made.text());
    assert_eq!(
        database.count("users", "role = 'owner' AND password_hash LIKE '$argon2id$%m=19456,t=2,p=1%'").await,
        1
    );
    // Of another organisation, for the address is unique in its own alone.
    let again = run("management", &arguments, &env, "correct horse battery staple\n").await.unwrap();
    assert!(again.status.success() && again.text() != made.text(), "{}", again.text());
    assert!(!made.text().contains("correct horse") && !again.text().contains("correct horse"));
}

#[tokio::test]
async fn management_starts_tells_its_health_and_ends() {
    let database = TestDatabase::create().await.unwrap();
    let env = [
        ("DATABASE_URL", database.url.as_str()),
        ("DATAFLY_ENCRYPTION_KEY", KEY),
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ("SERVICE_TOKEN", "0123456789abcdef0123456789abcdef"),
        ("IDENTITY_URL", "http://127.0.0.1:1"),
    ];
    let mut management = Service::start("management", &env, &["http", "metrics"]).await.unwrap();
    for listener in ["http", "metrics"] {
        for path in ["healthz", "readyz"] {
            let url = format!("http://{}/{path}", management.addr(listener));
            assert_eq!(reqwest::get(&url).await.unwrap().status(), 200, "{url}");
        }
    }
    let nothing = reqwest::get(format!("http://{}/v1/admin/nothing", management.addr("http"))).await.unwrap();
    let (status, body) = (nothing.status(), nothing.json::<serde_json::Value>().await.unwrap());
    assert_eq!((status.as_u16(), &body["error"]["code"]), (404, &serde_json::json!("NOT_FOUND")), "{body}");
    let (status, took) = management.terminate().await;
    assert!(status.success() && took.as_secs() < 10, "{status} after {took:?}");
}

#[tokio::test]
async fn stores_run_with_a_command_and_end_with_it() {
    let path = std::env::var_os("PATH").unwrap();
    let env = [("PATH", path.to_str().unwrap())];
    let script = "echo $DATABASE_URL; echo $REDIS_URL; exit 7";
    let ended = run("stores", &["run", "--", "sh", "-c", script], &env, "").await.unwrap();
    assert_eq!(ended.status.code(), Some(7), "{}", ended.text());
    let output = String::from_utf8_lossy(&ended.stdout).into_owned();
    let urls: Vec<url::Url> = output.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(urls.iter().map(url::Url::scheme).collect::<Vec<_>>(), ["postgres", "redis"]);
    for url in urls {
        let port = url.port().unwrap();
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "{url} still answers");
    }
}
