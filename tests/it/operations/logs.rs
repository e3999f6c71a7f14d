//! Standard output that nobody reads, which costs log lines and never a request, and how much is written
//! while a part is away.

use std::{net::SocketAddr, process::Stdio};

use harness::{
    answers::assert_accepted,
    eventually,
    metrics::Metrics,
    process::Service,
    system::{binary, free_port, signal, tied},
    visits::{denied, granted},
    world::World,
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet};

/// Requests to an edge without a core, which logs a line for each that fails, at debug: a full pipe drops
/// lines.
#[tokio::test]
async fn a_full_pipe_costs_lines_and_no_request() {
    let [http, metrics, nobody] = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port().unwrap())));
    let mut command = tied(&binary("http-edge").unwrap(), "KILL", []);
    command.env_clear().envs([
        ("LISTEN_ADDR", http.to_string()),
        ("METRICS_ADDR", metrics.to_string()),
        ("IDENTITY_URL", format!("http://{nobody}")),
        ("SERVICE_TOKEN", "token".to_owned()),
        ("LOG_LEVEL", "debug".to_owned()),
        // Whose own requests are not counted.
        ("TRUSTED_PROXIES", "127.0.0.1".to_owned()),
    ]);
    let mut edge = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let _unread = edge.stdout.take();
    for address in [metrics, http] {
        eventually("the edge to listen", async || match TcpStream::connect(address).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .await;
    }
    let client = reqwest::Client::builder().no_proxy().no_gzip().build().unwrap();
    // A pipe holds some hundred lines, and 8,192 wait beside it.
    let mut senders = JoinSet::new();
    for _ in 0..16 {
        let request = client.get(format!("http://{http}/v1/sync/pinterest/callback?state=x&uid=x"));
        senders.spawn(async move {
            for _ in 0..700 {
                let answer = request.try_clone().unwrap().send().await.unwrap();
                assert_eq!(answer.status(), 200);
            }
        });
    }
    senders.join_all().await;
    let scraped = Metrics::fetch(metrics).await;
    let dropped = scraped.sum("datafly_log_lines_dropped_total", &[]);
    assert!(dropped > 0.0, "{dropped} lines were dropped:\n{}", scraped.text());

    signal("TERM", &edge.id().unwrap().to_string());
    let status = tokio::time::timeout(std::time::Duration::from_secs(10), edge.wait()).await;
    assert!(status.expect("the pipe holds its end").unwrap().success());
}

/// Lines that want somebody to look.
fn alarms(service: &Service) -> Vec<String> {
    let is_alarm = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        ["WARN", "ERROR"].map(Value::from).contains(&line["level"])
    };
    service.log().into_iter().filter(is_alarm).collect()
}

/// Lines that want somebody to look, once there is one.
async fn first_alarms(service: &Service) -> Vec<String> {
    eventually("an alarm", async || match alarms(service) {
        none if none.is_empty() => Err("there is none".to_owned()),
        lines => Ok(lines),
    })
    .await
}

#[tokio::test]
async fn an_outage_is_a_few_lines_and_not_some_for_each_request() {
    let mut world = World::start().await;
    let mut known = world.browser();
    assert_accepted(&known.view(&granted()).await, 1);
    let callback = known.sync_to_vendor("pinterest").await;
    world.postgres_proxy.refuse().await;
    for _ in 0..30 {
        let mut new = world.browser();
        let mut login = known.page_view(&denied());
        login["userId"] = json!("somebody new");
        login["traits"] = json!({"email": "somebody@example.com"});
        known.batch(&json!([new.page_view(&granted()), login, known.page_view(&denied())])).await;
        new.get(&new.sync_url("pinterest")).await;
        known.get(callback.as_str()).await;
    }
    let core = first_alarms(&world.cluster.cores[0]).await;
    // A dozen places can fail for want of PostgreSQL, each of which says so once.
    assert!(core.len() <= 20, "{} lines:\n{}", core.len(), core.join("\n"));

    world.cluster.cores[0].kill9().await;
    for _ in 0..30 {
        assert_eq!(world.browser().view(&granted()).await.status, 503);
    }
    let edge = first_alarms(&world.cluster.edge).await;
    assert!(edge.len() <= 5, "{} lines:\n{}", edge.len(), edge.join("\n"));
}
