//! SIGTERM: what was begun is ended, nothing acknowledged is lost, and the process goes in time.

use std::time::Duration;

use harness::{process::Service, world::World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::granted;

/// Terminates one of the services while 16 browsers send new visitors without a pause, with a half-sent header
/// open at the edge. Answers with the anonymous IDs that were acknowledged.
async fn under_load(world: &mut World, core: bool) -> Vec<String> {
    let mut half_sent = TcpStream::connect(world.cluster.edge.addr("http")).await.unwrap();
    half_sent.write_all(b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nAuthor").await.unwrap();
    let mut visitors = JoinSet::new();
    for _ in 0..16 {
        let template = world.browser();
        visitors.spawn(async move {
            let mut acknowledged = Vec::new();
            for _ in 0..200 {
                let mut browser = template.clone();
                browser.anonymous_id = Some(uuid::Uuid::new_v4().to_string());
                let body = serde_json::json!({"batch": [browser.page_view(&granted())]}).to_string();
                let request = reqwest::Client::new().post(format!("{}/v1/batch", browser.collect));
                let request = request.bearer_auth(&browser.key).header("origin", "https://shop.example.com");
                let Ok(answer) = request.body(body).send().await else { break };
                match answer.status().as_u16() {
                    200 => {}
                    503 => break,
                    other => panic!("HTTP {other}: {}", answer.text().await.unwrap()),
                }
                let answer: serde_json::Value = answer.json().await.unwrap();
                if answer["accepted"] == 1 {
                    acknowledged.push(browser.aid().to_owned());
                }
            }
            acknowledged
        });
    }
    harness::eventually("visitors to arrive", async || match world.database.count("links", "true").await {
        count if count > 20 => Ok(()),
        count => Err(format!("{count} so far")),
    })
    .await;
    let cluster = &mut world.cluster;
    let service: &mut Service = if core { &mut cluster.cores[0] } else { &mut cluster.edge };
    let (status, took) = service.terminate().await;
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(10), "gone after {took:?}");
    if !core {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(1), half_sent.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "the half-sent request is still open");
    }
    visitors.join_all().await.concat()
}

#[tokio::test]
async fn an_edge_under_load_drains() {
    let mut world = World::start().await;
    let acknowledged = under_load(&mut world, false).await;
    assert_all_known(&world, &acknowledged).await;
}

#[tokio::test]
async fn a_core_under_load_drains() {
    let mut world = World::start().await;
    let acknowledged = under_load(&mut world, true).await;
    world.cluster.cores[0].restart().await.unwrap();
    assert_all_known(&world, &acknowledged).await;
}

async fn assert_all_known(world: &World, acknowledged: &[String]) {
    assert!(acknowledged.len() > 10, "{} were acknowledged", acknowledged.len());
    for anonymous_id in acknowledged {
        let condition = format!("value = '{anonymous_id}'");
        assert_eq!(
            world.database.count("links", &condition).await,
            1,
            "{anonymous_id} was acknowledged and is lost"
        );
    }
}
