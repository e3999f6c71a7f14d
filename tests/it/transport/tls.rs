//! TLS between the services: who may connect at all.

use std::time::Duration;

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::{Answer, Browser},
    certificates::{Authority, Identity},
    control::start_management,
    eventually,
    process::{Service, run},
    visits::granted,
    world::World,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

const LOOPBACK: &str = "127.0.0.1";
/// Time from which on an answer was late: the edge gives up on a call after a second.
const LATE_AFTER: Duration = Duration::from_millis(900);

/// Starts a core over the world's stores that wants certificates of `authority`.
async fn core(world: &World, authority: &Authority, own: &Identity) -> Service {
    let tokens = world.cluster.secrets.service_tokens();
    let redis = format!("redis://{}/", world.redis.addr);
    let env = [
        ("DATABASE_URL", world.database.url.as_str()),
        ("REDIS_URL", &redis),
        ("DATAFLY_ENCRYPTION_KEY", &world.cluster.secrets.encryption_key),
        ("ALLOW_LOOPBACK", "true"),
        ("SERVICE_TOKENS", &tokens),
        ("ALLOW_LOOPBACK", "true"),
        ("TLS_CERT", &own.cert),
        ("TLS_KEY", &own.key),
        ("TLS_CA", &authority.pem),
        ("LOG_LEVEL", "debug"),
    ];
    Service::start("identity-service", &env, &["grpc", "metrics"]).await.unwrap()
}

/// Starts an edge in front of `core`, which it believes if `authority` does.
async fn edge(world: &World, core: &Service, authority: &Authority, own: Option<&Identity>) -> Service {
    edge_to(world, &format!("https://{}", core.addr("grpc")), authority, own).await
}

/// Starts an edge in front of several cores, by their URLs.
async fn edge_to(world: &World, urls: &str, authority: &Authority, own: Option<&Identity>) -> Service {
    let mut env = vec![
        ("IDENTITY_URL", urls),
        ("SERVICE_TOKEN", &world.cluster.secrets.edge_token),
        ("TLS_CA", &authority.pem),
        ("LOG_LEVEL", "debug"),
    ];
    if let Some(own) = own {
        env.extend([("TLS_CERT", own.cert.as_str()), ("TLS_KEY", own.key.as_str())]);
    }
    Service::start("http-edge", &env, &["http", "metrics"]).await.unwrap()
}

/// A new visitor on the customer's page, who goes by `edge`.
fn browser(world: &World, edge: &Service) -> Browser {
    let mut browser = world.browser();
    browser.host = Some(world.cluster.edge.addr("http").to_string());
    browser.collect = format!("http://{}", edge.addr("http"));
    browser
}

/// Sends a page view. A 503 after all the time that the edge has is a machine that is busy with other tests,
/// and is asked for again; a call that was cut is answered sooner.
async fn view(browser: &mut Browser) -> Answer {
    for _ in 0..3 {
        let asked = Instant::now();
        let answer = browser.view(&granted()).await;
        if answer.status != 503 || asked.elapsed() < LATE_AFTER {
            return answer;
        }
    }
    browser.view(&granted()).await
}

fn assert_silent(services: &[&Service], keys: &[&Identity]) {
    for service in services {
        let log = service.log().join("\n");
        for key in keys {
            let secret = key.key.lines().nth(1).unwrap();
            assert!(!log.contains(secret) && !log.contains("PRIVATE KEY"), "a key is in a log");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_s_path_works_with_certificates_on_both_sides() {
    let world = World::start().await;
    let authority = Authority::new().unwrap();
    let (server, client) = (authority.issue(LOOPBACK).unwrap(), authority.issue("edge").unwrap());
    let mut core = core(&world, &authority, &server).await;
    let edge = edge(&world, &core, &authority, Some(&client)).await;
    let url = format!("http://{}", edge.addr("http"));
    world.customer.add_collect_host(&mut world.database.connection().await.unwrap(), &url).await.unwrap();

    let (visitor, hops) = eventually("the core to know its host", async || {
        let mut browser = browser(&world, &edge);
        browser.host = None;
        let answer = view(&mut browser).await;
        if answer.status == 421 {
            return Err(answer.text());
        }
        assert_accepted(&answer, 1);
        let hops = browser.follow(&browser.sync_url("pinterest")).await;
        match hops.get(2).is_some_and(|callback| callback.url.as_str().starts_with(&url)) {
            true => Ok((browser.aid().to_owned(), hops)),
            false => Err(format!("{hops:?}")),
        }
    })
    .await;
    assert_gif(hops.last().unwrap());
    assert!(world.vendor_id(&visitor, "pin_unauth").await.is_some());

    // And the control plane's path, to the same core.
    let identity_url = format!("https://{}", core.addr("grpc"));
    let more = [
        ("IDENTITY_URL", identity_url.as_str()),
        ("TLS_CA", &authority.pem),
        ("TLS_CERT", &client.cert),
        ("TLS_KEY", &client.key),
    ];
    let management = start_management(&world, "0123456789abcdef0123456789abcdef", &more).await.unwrap();
    assert_silent(&[&core, &edge, &management], &[&server, &client]);

    // Connections that stand are drained as plain ones are.
    let (status, took) = core.terminate().await;
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
}

/// A core that takes connections, as a machine does whose process hangs, and never says a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_does_not_shake_hands_costs_no_visitor_anything() {
    let world = World::start().await;
    let authority = Authority::new().unwrap();
    let (server, client) = (authority.issue(LOOPBACK).unwrap(), authority.issue("edge").unwrap());
    let core = core(&world, &authority, &server).await;
    let silent = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let urls = format!("https://{},https://{}", silent.local_addr().unwrap(), core.addr("grpc"));
    let edge = edge_to(&world, &urls, &authority, Some(&client)).await;
    // Every other one is meant for the one that is silent. A few may be late for all else that this machine
    // does.
    let mut late = 0;
    for _ in 0..12 {
        let asked = Instant::now();
        let answer = browser(&world, &edge).view(&granted()).await;
        if answer.status == 503 && asked.elapsed() >= LATE_AFTER {
            late += 1;
        } else {
            assert_accepted(&answer, 1);
        }
    }
    assert!(late <= 3, "{late} of 12 waited");
}

/// Cores are ended in turn, each of two, while visitors come.
#[tokio::test(flavor = "multi_thread")]
async fn a_core_drains_under_tls() {
    let world = World::start().await;
    let authority = Authority::new().unwrap();
    let (server, client) = (authority.issue(LOOPBACK).unwrap(), authority.issue("edge").unwrap());
    let mut cores = [core(&world, &authority, &server).await, core(&world, &authority, &server).await];
    let [first, second] = &cores;
    let urls = format!("https://{},https://{}", first.addr("grpc"), second.addr("grpc"));
    let edge = edge_to(&world, &urls, &authority, Some(&client)).await;
    for core in &mut cores {
        assert_accepted(&view(&mut browser(&world, &edge)).await, 1);
        let visitors = async {
            loop {
                assert_accepted(&view(&mut browser(&world, &edge)).await, 1);
            }
        };
        let (status, took) = tokio::select! {
            ended = core.terminate() => ended,
            () = visitors => unreachable!("they don't end"),
        };
        assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
        core.restart().await.unwrap();
    }
}

/// Plaintext to TLS, a certificate of another authority, an expired one, or none at all: the handshake fails,
/// and nothing is served.
#[tokio::test(flavor = "multi_thread")]
async fn who_can_not_show_a_good_certificate_does_not_get_in() {
    let world = World::start().await;
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let server = authority.issue(LOOPBACK).unwrap();
    let core = core(&world, &authority, &server).await;
    let good = authority.issue("edge").unwrap();
    let stranger = other.issue("edge").unwrap();
    let expired = authority.issue_expired("edge").unwrap();
    for (what, ca, own) in [
        ("none", &authority, None),
        ("of another authority", &authority, Some(&stranger)),
        ("expired", &authority, Some(&expired)),
        ("good, but it believes another authority", &other, Some(&good)),
    ] {
        let edge = edge(&world, &core, ca, own).await;
        assert_eq!(browser(&world, &edge).view(&granted()).await.status, 503, "{what}");
    }
    // The edge may know of it before the core has counted it.
    eventually("every failure to be counted", async || {
        let counted = core.metrics().await.sum("datafly_tls_handshake_failures_total", &[]);
        if counted >= 4.0 { Ok(()) } else { Err(counted.to_string()) }
    })
    .await;

    // A server of another name.
    let elsewhere = authority.issue("core.example").unwrap();
    let misnamed = self::core(&world, &authority, &elsewhere).await;
    let edge = edge(&world, &misnamed, &authority, Some(&good)).await;
    assert_eq!(browser(&world, &edge).view(&granted()).await.status, 503);

    // Plain text to a port that wants TLS: nothing is answered that is a response.
    let mut plain = TcpStream::connect(core.addr("grpc")).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ =
        timeout(Duration::from_secs(5), plain.read_to_end(&mut answer)).await.expect("it should be closed");
    assert!(answer.first().is_none_or(|kind| *kind == 21), "an alert or nothing: {answer:?}");

    // Other targets are those of stores, which may be late on a busy machine.
    let loud: Vec<_> = core
        .log()
        .into_iter()
        .filter(|line| line.contains("\"ERROR\"") || line.contains("\"WARN\""))
        .filter(|line| line.contains("\"target\":\"serve"))
        .collect();
    assert!(loud.is_empty(), "strangers fill no log: {loud:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_end_is_left() {
    let world = World::start().await;
    let authority = Authority::new().unwrap();
    let mut core = core(&world, &authority, &authority.issue(LOOPBACK).unwrap()).await;
    let began = Instant::now();
    let mut slow = TcpStream::connect(core.addr("grpc")).await.unwrap();
    // The beginning of a ClientHello.
    slow.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    let mut byte = [0];
    let read = timeout(Duration::from_secs(15), slow.read(&mut byte)).await.expect("it should be closed");
    assert!(
        matches!(read, Ok(0) | Err(_)) && began.elapsed() >= Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    // And it does not hold the end of the process.
    let mut slow = TcpStream::connect(core.addr("grpc")).await.unwrap();
    slow.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    let (status, took) = core.terminate().await;
    assert!(status.success() && took < Duration::from_secs(6), "{status} after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_stops_the_start_in_one_line() {
    let authority = Authority::new().unwrap();
    let (one, two) = (authority.issue(LOOPBACK).unwrap(), authority.issue(LOOPBACK).unwrap());
    let (https, http) = ("https://127.0.0.1:1", "http://127.0.0.1:1");
    let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let core = [
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/x"),
        ("REDIS_URL", "redis://127.0.0.1:1/"),
        ("DATAFLY_ENCRYPTION_KEY", key),
        ("SERVICE_TOKENS", "edge:edge:0123456789abcdef"),
    ];
    for (binary, own, variable) in [
        ("identity-service", vec![("TLS_CERT", one.cert.as_str())], "TLS_KEY"),
        ("identity-service", vec![("TLS_KEY", one.key.as_str())], "TLS_CERT"),
        ("identity-service", vec![("TLS_CA", authority.pem.as_str())], "TLS_CA"),
        ("identity-service", vec![("TLS_CERT", &one.cert), ("TLS_KEY", &two.key)], "TLS_KEY"),
        ("identity-service", vec![("TLS_CERT", "x"), ("TLS_KEY", &one.key)], "TLS_CERT"),
        ("identity-service", vec![("TLS_CERT", &one.cert), ("TLS_KEY", "x")], "TLS_KEY"),
        ("identity-service", vec![("TLS_CERT", &one.cert), ("TLS_KEY", &one.key), ("TLS_CA", "x")], "TLS_CA"),
        ("http-edge", vec![("IDENTITY_URL", https)], "TLS_CA"),
        ("http-edge", vec![("IDENTITY_URL", http), ("TLS_CA", &authority.pem)], "TLS_CA"),
        (
            "http-edge",
            vec![("IDENTITY_URL", https), ("TLS_CA", &authority.pem), ("TLS_CERT", &one.cert)],
            "TLS_KEY",
        ),
        (
            "http-edge",
            vec![("IDENTITY_URL", "https://a:1,http://b:2"), ("TLS_CA", &authority.pem)],
            "IDENTITY_URL",
        ),
    ] {
        let mut env = own.clone();
        match binary {
            "identity-service" => env.extend(core),
            _ => env.push(("SERVICE_TOKEN", "0123456789abcdef")),
        }
        let ended = run(binary, &[], &env, "").await.unwrap();
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success(), "{binary} {variable}");
        assert_eq!(told.trim().lines().count(), 1, "{told}");
        assert!(
            told.contains(&format!("{binary}: {variable} ")) && !told.contains("PRIVATE"),
            "{variable}: {told}"
        );
    }
}
