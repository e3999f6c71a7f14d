//! Memory for bodies, of which everybody has a share: attackers at other addresses of the loopback network.

use std::{net::SocketAddr, time::Duration};

use harness::{
    answers::assert_accepted,
    browser::Browser,
    eventually,
    raw::{rest, send_from, until},
    seed::Customer,
    signature::sign,
    visits::granted,
    world::World,
};
use reqwest::Method;
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};

/// Bytes of a body that is as large as may be, nearly.
const LARGE_BYTES: usize = 500 * 1024;

/// A body that stops a byte before its end.
fn half_sent(customer_key: Option<&str>, signature: &str) -> Vec<u8> {
    let key = customer_key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let head = format!(
        "POST /v1/batch HTTP/1.1\r\nHost: x\r\n{key}{signature}Content-Length: {}\r\n\r\n",
        LARGE_BYTES + 1
    );
    [head.as_bytes(), " ".repeat(LARGE_BYTES).as_bytes()].concat()
}

/// Sends halves of large bodies from one address, more than its share has room for, and waits until the rest is
/// refused. Returns the connections that hold something.
async fn fill(host: u8, edge: SocketAddr, half: &[u8]) -> Vec<TcpStream> {
    /// Bodies that fit into a quarter of 16 MiB.
    const SHARE: usize = 8;
    let mut open = Vec::new();
    for _ in 0..2 * SHARE {
        open.push(send_from(host, edge, half).await);
    }
    let mut refused = 0;
    eventually("an address to have no more than its share", async || {
        for index in (0..open.len()).rev() {
            // Only what is refused is answered.
            if timeout(Duration::ZERO, open[index].readable()).await.is_ok() {
                let answer = until(&mut open.swap_remove(index), "\r\n\r\n").await;
                assert!(answer.starts_with("HTTP/1.1 503"), "127.0.0.{host}: {answer}");
                refused += 1;
            }
        }
        if refused >= SHARE { Ok(()) } else { Err(format!("{refused} refused")) }
    })
    .await;
    open
}

/// A visitor with a body as large as may be.
async fn view_large(browser: &mut Browser) {
    let body = json!({"batch": [browser.page_view(&granted())], "pad": " ".repeat(LARGE_BYTES)}).to_string();
    assert_accepted(&browser.post("/v1/batch", body).await, 1);
}

/// A customer's server with a body as large as may be.
async fn send_large(world: &World, customer: &Customer) {
    let mut server = world.browser_of(customer);
    server.origin = None;
    let event = json!({"type": "page", "anonymousId": server.aid()});
    let body = json!({"batch": [event], "pad": " ".repeat(LARGE_BYTES)}).to_string();
    let request = server.request(Method::POST, "/v1/batch").bearer_auth(&server.key);
    let request = request.header("x-datafly-signature", sign(&customer.server_secret, &body));
    assert_accepted(&server.send(request.body(body)).await, 1);
}

/// Bodies without a key, or with one that is none, and a signature on them, which once made them count fourfold: four
/// of them held everything.
#[tokio::test]
async fn who_shows_no_key_takes_no_memory() {
    let world = World::start().await;
    let edge = world.cluster.edge.addr("http");
    let mut open = Vec::new();
    for number in 0..40 {
        let key = (number % 2 == 0).then_some("dk_live_unknown");
        open.push(send_from(2, edge, half_sent(key, "X-Datafly-Signature: sha256=00\r\n")).await);
    }
    view_large(&mut world.browser()).await;
    send_large(&world, &world.customer).await;
    for stream in open {
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
}

/// The key is public, and so anybody has it: half-sent bodies, with signatures that nobody looks at before they are
/// whole, take a quarter of the memory from one address, and half of it with one key.
#[tokio::test]
async fn an_address_and_a_key_have_their_shares_of_the_memory() {
    let world = World::start().await;
    let other = world.another_customer("explicit").await;
    let edge = world.cluster.edge.addr("http");
    send_large(&world, &world.customer).await;
    let half = half_sent(Some(&world.customer.live_key), "X-Datafly-Signature: sha256=00\r\n");
    let mut open = fill(2, edge, &half).await;
    send_large(&world, &world.customer).await;
    view_large(&mut world.browser()).await;
    // With all of its key's share taken, from as many addresses as it needs, others have theirs.
    for host in 3..=4 {
        open.extend(fill(host, edge, &half).await);
    }
    send_large(&world, &other).await;
    view_large(&mut world.browser_of(&other)).await;
    // What they held is there again.
    drop(open);
    eventually("the key to have its share again", async || {
        let mut browser = world.browser();
        let body =
            json!({"batch": [browser.page_view(&granted())], "pad": " ".repeat(LARGE_BYTES)}).to_string();
        match browser.post("/v1/batch", body).await.status {
            200 => Ok(()),
            status => Err(format!("HTTP {status}")),
        }
    })
    .await;
}
