//! A provider of enrichment that answers as it is told, in a world that may call it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use harness::{
    control::{Admin, Control},
    world::Options,
};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::support::source;

/// The credential that the provider is called with.
pub const CANARY: &str = "canary-of-the-provider";

/// A request that the provider saw.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Path and query.
    pub target: String,
    /// The `Authorization` header.
    pub authorization: String,
    /// The body.
    pub body: String,
}

/// An answer of the provider, where `{authorization}` in the body stands for what it was called with.
#[derive(Debug, Clone, Default)]
struct Script {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    /// Time that an answer takes.
    delay: Duration,
    seen: Vec<Seen>,
}

/// A control plane whose owner has a source, and a provider that it can ask. Ends when dropped.
pub struct Scripted {
    /// The control plane.
    pub control: Control,
    /// Path of the source.
    pub source: String,
    /// Address of the provider.
    pub addr: SocketAddr,
    script: Arc<Mutex<Script>>,
    server: AbortHandle,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Scripted {
    /// Starts all of it; the provider knows everybody as `c-1`.
    pub async fn start() -> Self {
        let control = Control::with(1, Options { open_networks: "127.0.0.0/8", ..Options::default() }).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let script = Arc::<Mutex<Script>>::default();
        let router = Router::new().fallback(answer).with_state(script.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        let source = source(&control.owner).await;
        let own = Self { control, source, addr, script, server };
        own.says(200, &[], r#"{"customer_id": "c-1"}"#);
        let secret = json!({"value": CANARY, "hosts": [addr.to_string()]});
        own.owner().put("/v1/admin/secrets/token", &secret).await.expect(201);
        own
    }

    /// The owner of the organisation.
    pub fn owner(&self) -> &Admin {
        &self.control.owner
    }

    /// Has the provider answer so from now on.
    pub fn says(&self, status: u16, headers: &[(&'static str, &'static str)], body: &str) {
        let mut script = self.script();
        (script.status, script.headers, script.body) = (status, headers.to_vec(), body.to_owned());
    }

    /// Has the provider take so long for its answers.
    pub fn slow(&self, delay: Duration) {
        self.script().delay = delay;
    }

    /// The requests that the provider saw so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.script().seen.clone()
    }

    /// Adds the provider under another name, as the specification's example with `more` in it. Answers with its path.
    pub async fn provider(&self, name: &str, more: &Value) -> String {
        let mut settings = json!({
            "endpoint": format!("http://{}/resolve", self.addr),
            "authentication": {"type": "bearer", "token_secret_ref": "secret:token"},
            "request_template": {"anonymous_id": "{{anonymous_id}}", "email_hash": "{{sha256_email}}"},
            "response_mapping": {"redis_field": format!("{name}_id"), "json_path": "$.customer_id"},
            "ttl": "30d",
        });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("{}/custom-providers/{name}", self.source);
        self.owner().put(&path, &settings).await.expect(201);
        path
    }

    /// Has a provider asked about somebody who has consented.
    pub async fn send(&self, provider: &str) -> Value {
        let subject = json!({"anonymous_id": "a-1", "consent": {"marketing": true}});
        let body = json!({"subject": subject, "send": true});
        self.owner().post(&format!("{provider}/dry-run"), &body).await.expect(200)
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(
    State(script): State<Arc<Mutex<Script>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let authorization = authorization.unwrap_or_default();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let script = {
        let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
        script.seen.push(Seen { target: uri.to_string(), authorization: authorization.clone(), body });
        script.clone()
    };
    tokio::time::sleep(script.delay).await;
    let said = script.body.replace("{authorization}", &authorization);
    let mut response = (StatusCode::from_u16(script.status).unwrap(), said).into_response();
    for (name, value) in &script.headers {
        response.headers_mut().insert(HeaderName::from_static(name), value.parse().unwrap());
    }
    response
}
