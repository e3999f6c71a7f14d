//! The management API against its own document, by a tester nobody here wrote, and in a browser nobody here
//! wrote.

use std::time::Duration;

use harness::{control::Control, system};
use tokio::{process::Command, time::timeout};

/// Calls that end the tester's own session, or change what it logs in with.
const EXCLUDED_PATHS: &[&str] = &["/v1/admin/auth/logout", "/v1/admin/me/password"];

/// Checks of schemathesis that are left out; all others are on. What a schema can't say (that a domain has no
/// path, that a cursor is one of ours) is refused although it fits the schema. And a part of a source that
/// nobody has configured is not found, which it takes for the source itself.
const EXCLUDED_CHECKS: &str = "positive_data_acceptance,ensure_resource_availability";

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_as_its_document_says() {
    let schemathesis = system::tool("schemathesis").unwrap();
    let control = Control::start().await;
    let mut command = Command::new(&schemathesis);
    command
        // It keeps notes where it runs.
        .current_dir(schemathesis.parent().unwrap())
        .arg("run")
        .arg(format!("{}/openapi.json", control.owner.url))
        .args(["--header", &format!("Authorization: Bearer {}", control.owner.access_token)])
        .args([
            "--exclude-checks",
            EXCLUDED_CHECKS,
            "--generation-deterministic",
            "--max-examples",
            "10",
            "--no-color",
        ]);
    for path in EXCLUDED_PATHS {
        command.args(["--exclude-path", path]);
    }
    let ended = timeout(Duration::from_mins(10), command.kill_on_drop(true).output()).await;
    let output = ended.expect("schemathesis does not end").unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("Stateful") && told.contains("passed"), "nothing was tested: {told}");
}

/// Parts of the page come from the same host, and its policy lets it load nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_to_browse_it_needs_no_other_host() {
    let control = Control::start().await;
    let client = reqwest::Client::builder().no_proxy().no_gzip().build().unwrap();
    let docs = format!("{}/docs/", control.owner.url);
    let response = client.get(&docs).send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("http"), "{policy}");
    let page = response.text().await.unwrap();
    let mut parts = 0;
    for attribute in ["src=\"", "href=\""] {
        for part in page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(!part.contains("//"), "{part}");
            let loaded = client.get(format!("{docs}{part}")).send().await.unwrap();
            assert!(loaded.status().is_success(), "{part}: {}", loaded.status());
            parts += 1;
        }
    }
    assert!(parts >= 5, "{page}");
    // Else it asks its makers' host to check the document.
    let script =
        client.get(format!("{docs}swagger-initializer.js")).send().await.unwrap().text().await.unwrap();
    assert!(
        script.contains("\"validatorUrl\": \"none\"") && script.contains("\"/openapi.json\""),
        "{script}"
    );
}
