//! TLS to the stores: what is encrypted, whose certificates are believed, and what does not start.

use harness::{
    certificates::{Authority, Identity},
    cluster::Secrets,
    database::TestDatabase,
    eventually,
    grpc::Api,
    postgres::PostgresServer,
    process::{Ended, Service, run},
    redis::RedisServer,
    system::free_port,
};
use proto::v1::{Caller, ResolveRequest, Subject, caller::Kind};
use url::Url;
use uuid::Uuid;

/// The host that good certificates name.
const HOST: &str = "localhost";

/// Certificates of servers: a good one, and three that are not.
struct Servers {
    authority: Authority,
    good: Identity,
    expired: Identity,
    misnamed: Identity,
    foreign: Identity,
}

impl Servers {
    fn new() -> Self {
        let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
        Self {
            good: authority.issue(HOST).unwrap(),
            expired: authority.issue_expired(HOST).unwrap(),
            misnamed: authority.issue("elsewhere.example").unwrap(),
            foreign: stranger.issue(HOST).unwrap(),
            authority,
        }
    }
}

/// Variables that show a client's certificate beside the authority.
fn client<'a>(authority: &'a str, identity: &'a Identity) -> Vec<(&'a str, &'a str)> {
    vec![("TLS_STORES_CA", authority), ("TLS_STORES_CERT", &identity.cert), ("TLS_STORES_KEY", &identity.key)]
}

/// The database's URL by the host's name, with an `sslmode`.
fn database_url(database: &TestDatabase, mode: &str) -> String {
    let mut url = Url::parse(&database.url).unwrap();
    url.set_host(Some(HOST)).unwrap();
    url.set_query(Some(&format!("sslmode={mode}")));
    url.into()
}

/// Asks the database whether it has all migrations, as a binary does that is started.
async fn migrate(binary: &str, database_url: &str, tls: &[(&str, &str)]) -> Ended {
    let mut env = vec![("DATABASE_URL", database_url)];
    env.extend(tls);
    run(binary, &["--migrate"], &env, "").await.unwrap()
}

#[track_caller]
fn assert_refused(ended: &Ended, words: &[&str], what: &str) {
    assert!(!ended.status.success(), "{what}: it connected");
    let text = ended.text();
    assert!(words.iter().any(|word| text.contains(word)), "{what}: {text}");
    // Beside what is logged.
    assert_eq!(text.lines().filter(|line| !line.starts_with('{')).count(), 1, "{what}: {text}");
}

#[tokio::test]
async fn postgresql_s_certificate_is_checked_as_far_as_sslmode_says() {
    let servers = Servers::new();
    let server = PostgresServer::start().await.unwrap();
    let database = TestDatabase::on(&server).await.unwrap();
    let ca = [("TLS_STORES_CA", servers.authority.pem.as_str())];

    let refused = migrate("identity-service", &database_url(&database, "require"), &[]).await;
    assert_refused(&refused, &["does not support TLS"], "a server without TLS");
    let plain = migrate("identity-service", &database_url(&database, "prefer"), &[]).await;
    assert!(plain.status.success(), "{}", plain.text());

    // Whether verify-full, verify-ca and require connect.
    let cases = [
        ("good", &servers.good, [true, true, true]),
        ("misnamed", &servers.misnamed, [false, true, true]),
        ("expired", &servers.expired, [false, false, true]),
        ("foreign", &servers.foreign, [false, false, true]),
    ];
    for (name, identity, connects) in cases {
        server.encrypt(identity, None).await.unwrap();
        for (mode, connects) in ["verify-full", "verify-ca", "require"].into_iter().zip(connects) {
            let what = format!("{name}, {mode}");
            for binary in ["identity-service", "management"] {
                let ended = migrate(binary, &database_url(&database, mode), &ca).await;
                if connects {
                    assert!(ended.status.success(), "{what}: {}", ended.text());
                } else {
                    assert_refused(&ended, &["invalid peer certificate"], &what);
                }
            }
        }
    }
    // The system's authorities alone do not know this one.
    server.encrypt(&servers.good, None).await.unwrap();
    let unknown = migrate("identity-service", &database_url(&database, "verify-full"), &[]).await;
    assert_refused(&unknown, &["UnknownIssuer", "TLS_STORES_CA"], "without the authority");
}

#[tokio::test]
async fn postgresql_that_asks_for_a_certificate_is_shown_one() {
    let servers = Servers::new();
    let (clients, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let server = PostgresServer::start().await.unwrap();
    let database = TestDatabase::on(&server).await.unwrap();
    server.encrypt(&servers.good, Some(&clients)).await.unwrap();
    let (ca, url) = (servers.authority.pem.as_str(), database_url(&database, "verify-full"));
    let good = clients.issue("core").unwrap();
    for binary in ["identity-service", "management"] {
        let shown = migrate(binary, &url, &client(ca, &good)).await;
        assert!(shown.status.success(), "{}", shown.text());
    }
    for (what, identity) in [
        ("an expired one", clients.issue_expired("core").unwrap()),
        ("a foreign one", stranger.issue("core").unwrap()),
    ] {
        assert!(!migrate("identity-service", &url, &client(ca, &identity)).await.status.success(), "{what}");
    }
    let none = migrate("identity-service", &url, &[("TLS_STORES_CA", ca)]).await;
    assert!(!none.status.success(), "without any");
}

#[tokio::test]
async fn redis_certificate_and_ours_are_checked() {
    let servers = Servers::new();
    let (clients, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let database = TestDatabase::create().await.unwrap();
    let mut server = RedisServer::start().await.unwrap();
    let port = free_port().unwrap();
    let url = format!("rediss://{HOST}:{port}/");
    let compare = async |tls: &[(&str, &str)]| {
        let mut env = vec![("DATABASE_URL", database.url.as_str()), ("REDIS_URL", &url)];
        env.extend(tls);
        run("identity-service", &["--compare"], &env, "").await.unwrap()
    };
    let ca = [("TLS_STORES_CA", servers.authority.pem.as_str())];
    server.encrypt(port, &servers.good, None).await.unwrap();
    let ended = compare(&ca).await;
    assert!(ended.status.success(), "{}", ended.text());
    assert_refused(&compare(&[]).await, &["UnknownIssuer", "TLS_STORES_CA"], "without the authority");
    for (what, identity) in
        [("expired", &servers.expired), ("misnamed", &servers.misnamed), ("foreign", &servers.foreign)]
    {
        server.encrypt(port, identity, None).await.unwrap();
        assert_refused(&compare(&ca).await, &["invalid peer certificate"], what);
    }
    server.encrypt(port, &servers.good, Some(&clients)).await.unwrap();
    let good = clients.issue("core").unwrap();
    let ended = compare(&client(ca[0].1, &good)).await;
    assert!(ended.status.success(), "{}", ended.text());
    for identity in [clients.issue_expired("core").unwrap(), stranger.issue("core").unwrap()] {
        assert!(!compare(&client(ca[0].1, &identity)).await.status.success());
    }
    assert!(!compare(&ca).await.status.success(), "without a certificate of ours");
}

/// The core serves with every connection encrypted, those that look after the stores among them, and leaves a Redis
/// whose certificate is not good any more.
#[tokio::test]
async fn a_core_serves_over_tls_alone() {
    let servers = Servers::new();
    let clients = Authority::new().unwrap();
    let postgres = PostgresServer::start().await.unwrap();
    let database = TestDatabase::on(&postgres).await.unwrap();
    postgres.encrypt(&servers.good, Some(&clients)).await.unwrap();
    let mut redis = RedisServer::start().await.unwrap();
    let port = free_port().unwrap();
    redis.encrypt(port, &servers.good, Some(&clients)).await.unwrap();
    let org = Uuid::now_v7();
    database.execute(&format!("INSERT INTO orgs (id, name) VALUES ('{org}', 'shop')")).await;
    let secrets = Secrets::random();
    let (tokens, own) = (secrets.service_tokens(), clients.issue("core").unwrap());
    let (postgres_url, redis_url) =
        (database_url(&database, "verify-full"), format!("rediss://{HOST}:{port}/"));
    let mut env = vec![
        ("DATABASE_URL", postgres_url.as_str()),
        ("REDIS_URL", &redis_url),
        ("DATAFLY_ENCRYPTION_KEY", &secrets.encryption_key),
        ("ALLOW_LOOPBACK", "true"),
        ("SERVICE_TOKENS", &tokens),
        ("LISTEN_ADDR", "127.0.0.1:0"),
    ];
    env.extend(client(&servers.authority.pem, &own));
    let core = Service::start("identity-service", &env, &["grpc", "metrics"]).await.unwrap();
    let api = Api::new(core.addr("grpc"), Some(&secrets.internal_token)).unwrap();
    // Values that Redis got, and that come from there: a canonical ID and what is due.
    let served = async |visitor: &str| {
        eventually("a visitor to be served from Redis", async || {
            let subject = Subject { anonymous_id: Some(visitor.to_owned()), ..Subject::default() };
            let caller = Some(Caller { kind: Some(Kind::OrgId(org.to_string())) });
            let request = ResolveRequest { caller, subjects: vec![subject], ..ResolveRequest::default() };
            let answer = api.resolve().resolve(request).await.map_err(|status| status.to_string())?;
            let canonical = answer.into_inner().resolutions.remove(0).canonical_id;
            let key = format!("canonical:{org}:anonymous_id:{visitor}");
            match redis.ask::<Option<String>>(&["GET", &key]).await {
                Ok(Some(stored)) if stored == canonical => Ok(()),
                other => Err(format!("{other:?} for {canonical}")),
            }
        })
        .await;
    };
    served("first").await;
    let of_core = "datname = current_database() AND pid <> pg_backend_pid()";
    let sessions = "pg_stat_activity JOIN pg_stat_ssl USING (pid)";
    assert!(
        database.count(sessions, &format!("{of_core} AND ssl")).await >= 2,
        "the pool's and the supervisor's"
    );
    assert_eq!(database.count(sessions, &format!("{of_core} AND NOT ssl")).await, 0);
    let encrypted: String = redis.ask(&["CLIENT", "LIST"]).await.unwrap();
    let of_core = encrypted.lines().filter(|line| line.contains(&format!(":{port} "))).count();
    assert!(of_core >= 2, "{encrypted}");

    redis.encrypt(port, &servers.expired, Some(&clients)).await.unwrap();
    eventually("the expired certificate to be refused", async || {
        let refused =
            core.log().iter().any(|line| line.contains("redis: TLS fails") && line.contains("xpired"));
        if refused { Ok(()) } else { Err("it is not said".to_owned()) }
    })
    .await;
    redis.encrypt(port, &servers.good, Some(&clients)).await.unwrap();
    let subject = Subject { anonymous_id: Some("second".to_owned()), ..Subject::default() };
    let caller = Some(Caller { kind: Some(Kind::OrgId(org.to_string())) });
    eventually("Redis to be used again", async || {
        let request = ResolveRequest {
            caller: caller.clone(),
            subjects: vec![subject.clone()],
            ..ResolveRequest::default()
        };
        let _ = api.resolve().resolve(request).await;
        match redis.ask::<i64>(&["EXISTS", &format!("canonical:{org}:anonymous_id:second")]).await {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn what_can_t_be_meant_is_refused_in_a_line_that_names_it() {
    let database = TestDatabase::create().await.unwrap();
    let authority = Authority::new().unwrap();
    let (one, other) = (authority.issue("one").unwrap(), authority.issue("other").unwrap());
    let encrypted = format!("{}?sslmode=require", database.url);
    let allow = format!("{}?sslmode=allow", database.url);
    let cases: [(&str, Vec<(&str, &str)>); 8] = [
        ("DATABASE_URL", vec![("DATABASE_URL", &allow)]),
        ("REDIS_URL", vec![("REDIS_URL", "rediss://localhost/#insecure")]),
        ("TLS_STORES_CA", vec![("TLS_STORES_CA", &authority.pem)]),
        ("TLS_STORES_CA", vec![("DATABASE_URL", &encrypted), ("TLS_STORES_CA", "c0ffee")]),
        ("TLS_STORES_KEY", vec![("DATABASE_URL", &encrypted), ("TLS_STORES_CERT", &one.cert)]),
        ("TLS_STORES_CERT", vec![("DATABASE_URL", &encrypted), ("TLS_STORES_KEY", &one.key)]),
        (
            "TLS_STORES_KEY",
            vec![("DATABASE_URL", &encrypted), ("TLS_STORES_CERT", &one.cert), ("TLS_STORES_KEY", "c0ffee")],
        ),
        (
            "TLS_STORES_KEY",
            vec![
                ("DATABASE_URL", &encrypted),
                ("TLS_STORES_CERT", &one.cert),
                ("TLS_STORES_KEY", &other.key),
            ],
        ),
    ];
    let secrets = Secrets::random();
    let tokens = secrets.service_tokens();
    for (name, replaced) in cases {
        let mut env = vec![
            ("DATABASE_URL", database.url.as_str()),
            ("REDIS_URL", "redis://127.0.0.1:1/"),
            ("DATAFLY_ENCRYPTION_KEY", &secrets.encryption_key),
            ("ALLOW_LOOPBACK", "true"),
            ("SERVICE_TOKENS", &tokens),
            ("LISTEN_ADDR", "127.0.0.1:0"),
            ("METRICS_ADDR", "127.0.0.1:0"),
        ];
        env.retain(|(own, _)| replaced.iter().all(|(other, _)| other != own));
        env.extend(replaced);
        let ended = run("identity-service", &[], &env, "").await.unwrap();
        assert_refused(&ended, &[&format!("identity-service: {name} ")], name);
        assert!(!ended.text().contains("c0ffee"), "{}", ended.text());
    }
}
