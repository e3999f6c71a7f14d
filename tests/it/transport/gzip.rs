//! Bodies that SDKs send packed.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use harness::{
    answers::assert_accepted,
    browser::{Answer, Browser},
    signature::{sign, sign_bytes},
    visits::granted,
    world::World,
};
use reqwest::Method;
use serde_json::json;

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

async fn send(browser: &mut Browser, codings: &[&str], body: Vec<u8>) -> Answer {
    let mut request = browser.request(Method::POST, "/v1/batch").bearer_auth(&browser.key);
    for coding in codings {
        request = request.header("content-encoding", *coding);
    }
    browser.send(request.body(body)).await
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
}

#[tokio::test]
async fn a_packed_body_is_taken_and_bounded_by_what_it_unpacks_to() {
    let world = World::start().await;
    let mut browser = world.browser();
    let body = json!({"batch": [browser.page_view(&granted())]}).to_string();
    let answer = send(&mut browser, &["gzip"], packed(&body)).await;
    assert_accepted(&answer, 1);
    assert_eq!(answer.offered(), ["pinterest"]);
    let members = [packed(&body[..20]), packed(&body[20..])].concat();
    assert_accepted(&send(&mut browser, &["GZIP"], members).await, 1);

    let padded = |bytes: usize| body.clone() + &" ".repeat(bytes - body.len());
    assert_accepted(&send(&mut browser, &["gzip"], packed(&padded(512 * 1024))).await, 1);
    let over = send(&mut browser, &["gzip"], packed(&padded(512 * 1024 + 1))).await;
    assert_refused(&over, 413, "PAYLOAD_TOO_LARGE");
    let bomb = send(&mut browser, &["gzip"], packed(&" ".repeat(64 * 1024 * 1024))).await;
    assert_refused(&bomb, 413, "PAYLOAD_TOO_LARGE");
    let pair = [packed(&padded(300 * 1024)), packed(&" ".repeat(300 * 1024))].concat();
    assert_refused(&send(&mut browser, &["gzip"], pair).await, 413, "PAYLOAD_TOO_LARGE");

    let good = packed(&body);
    for broken in [body.clone().into_bytes(), good[..good.len() - 4].to_vec(), [&good[..], b"{}"].concat()] {
        assert_refused(&send(&mut browser, &["gzip"], broken).await, 400, "INVALID_JSON");
    }
    for codings in [&["br"][..], &["deflate"], &["gzip, gzip"], &["gzip", "gzip"], &["identity", "gzip"]] {
        assert_refused(&send(&mut browser, codings, good.clone()).await, 415, "UNSUPPORTED_ENCODING");
    }
    assert_eq!(world.database.count("links", "true").await, 1);
}

/// The body that a signature is over is the one on the wire, whatever it unpacks to.
#[tokio::test]
async fn a_signature_is_over_the_bytes_as_sent() {
    let world = World::start().await;
    let mut server = world.browser();
    server.origin = None;
    let body = json!({"batch": [{"type": "identify", "userId": "anna"}]}).to_string();
    let packed = packed(&body);
    let sealed = |bytes: &[u8]| sign_bytes(&world.customer.server_secret, bytes);
    for (signature, status) in
        [(sealed(&packed), 200), (sign(&world.customer.server_secret, &body), 401), (sealed(b""), 401)]
    {
        let request = server.request(Method::POST, "/v1/batch").bearer_auth(&server.key);
        let request = request.header("content-encoding", "gzip").header("x-datafly-signature", signature);
        let answer = server.send(request.body(packed.clone())).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert_eq!(world.database.count("links", "kind = 1").await, 1);
}
