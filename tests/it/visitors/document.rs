//! The edge against its own document, by a tester nobody here wrote.

use std::time::Duration;

use harness::{system, world::World};
use tokio::{process::Command, time::timeout};

/// Checks of schemathesis that are left out; all others are on. What is wrong with an event is told in an answer that is
/// 200, so that it neither costs the others nor a member the event: what does not fit the schema is taken as well. And
/// what fits it may name a vendor that is not enabled.
const EXCLUDED_CHECKS: &str = "positive_data_acceptance,negative_data_rejection";

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_is_as_its_document_says() {
    let schemathesis = system::tool("schemathesis").unwrap();
    let world = World::start().await;
    let browser = world.browser();
    let mut command = Command::new(&schemathesis);
    command
        // It keeps notes where it runs.
        .current_dir(schemathesis.parent().unwrap())
        .arg("run")
        .arg(format!("{}/openapi.json", browser.collect))
        // It answers 501 until profiles are there.
        .args(["--exclude-name", "GET /v1/enrich"])
        .args(["--header", &format!("Authorization: Bearer {}", browser.key)])
        .args([
            "--exclude-checks",
            EXCLUDED_CHECKS,
            "--generation-deterministic",
            "--max-examples",
            "10",
            "--no-color",
        ]);
    let ended = timeout(Duration::from_mins(10), command.kill_on_drop(true).output()).await;
    let output = ended.expect("schemathesis does not end").unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("passed"), "nothing was tested: {told}");
}
