//! Standard output that nobody reads (threats.md F43).

use std::{net::SocketAddr, process::Stdio};

use harness::{
    eventually,
    metrics::Metrics,
    system::{binary, free_port, signal, tied},
};
use tokio::task::JoinSet;

/// An edge without a core logs a line for each request that fails.
#[tokio::test]
async fn a_full_pipe_costs_lines_and_no_request() {
    let [http, metrics, nobody] = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port().unwrap())));
    let mut command = tied(&binary("http-edge").unwrap(), "KILL", []);
    command.env_clear().envs([
        ("LISTEN_ADDR", http.to_string()),
        ("METRICS_ADDR", metrics.to_string()),
        ("IDENTITY_URL", format!("http://{nobody}")),
        ("SERVICE_TOKEN", "token".to_owned()),
        // Whose own requests are not counted.
        ("TRUSTED_PROXIES", "127.0.0.1".to_owned()),
    ]);
    let mut edge = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let _unread = edge.stdout.take();
    let ready = format!("http://{metrics}/readyz");
    eventually("the edge to listen", async || match reqwest::get(&ready).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
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
