//! Providers of enrichment over real HTTP, each as its contract has it, and misbehaving where it is told to.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{sync::Notify, task::AbortHandle};

use crate::{profile_sim::ProfileStore, uid2_operator::Operator};

/// A credential that each provider here wants to see, with the provider's name before it.
pub const CREDENTIAL: &str = "canary-credential";

/// A way in which a provider may be told to misbehave.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers with this status, and with what it was sent: credentials included.
    Status(u16),
    /// Answers 429 with this `Retry-After`, where there is one.
    RateLimited(Option<String>),
    /// Takes so long.
    Slow(Duration),
    /// Never answers.
    Hang,
    /// Answers something that is no JSON.
    Malformed,
    /// Answers more than anybody reads.
    Huge,
    /// Knows nobody.
    NoMatch,
    /// Answers with this document.
    Says(Value),
    /// Waits until it is told to go on, and then answers.
    Held(Arc<Notify>),
}

/// A request that a provider saw.
#[derive(Debug, Clone)]
pub struct SeenCall {
    /// Name of the provider.
    pub provider: String,
    /// The HTTP method.
    pub method: Method,
    /// Path and query, below the provider's own.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; of UID2's as it was decrypted.
    pub body: String,
}

impl SeenCall {
    /// The value of a header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or_default())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// A server of all providers on one port, each below a path of its own. Ends when dropped.
#[derive(Debug)]
pub struct EnrichSim {
    /// Address at which they listen.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    server: AbortHandle,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<Faults>,
    operator: Operator,
    profiles: ProfileStore,
}

#[derive(Debug, Default)]
struct Faults {
    faults: HashMap<String, Fault>,
    seen: Vec<SeenCall>,
}

impl EnrichSim {
    /// Starts them, on a free port.
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let shared = Arc::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { addr, shared, server })
    }

    /// The base URL of a provider.
    pub fn base_url(&self, provider: &str) -> String {
        format!("http://{}/{provider}", self.addr)
    }

    /// Makes a provider misbehave; `None` makes it behave again.
    pub fn misbehave(&self, provider: &str, fault: Option<Fault>) {
        let faults = &mut self.state().faults;
        match fault {
            Some(fault) => faults.insert(provider.to_owned(), fault),
            None => faults.remove(provider),
        };
    }

    /// The requests that a provider saw so far.
    pub fn seen(&self, provider: &str) -> Vec<SeenCall> {
        self.state().seen.iter().filter(|call| call.provider == provider).cloned().collect()
    }

    /// UID2's operator.
    pub fn operator(&self) -> &Operator {
        &self.shared.operator
    }

    /// Amperity's store of profiles.
    pub fn profiles(&self) -> &ProfileStore {
        &self.shared.profiles
    }

    /// The credentials that a built-in vendor here takes.
    pub fn credentials(&self, vendor: &str) -> Value {
        let key = format!("{vendor}-{CREDENTIAL}");
        match vendor {
            "uid2" => json!({"api_key": key, "client_secret": self.shared.operator.client_secret()}),
            "trade_desk" => json!({"partner_id": "partner", "secret": key}),
            "amperity" => json!({ "token": key }),
            _ => json!({ "api_key": key }),
        }
    }

    fn state(&self) -> MutexGuard<'_, Faults> {
        self.shared.lock()
    }
}

impl Drop for EnrichSim {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Faults> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let (provider, rest) = target.trim_start_matches('/').split_once('/').unwrap_or((target, ""));
    let (provider, target) = (provider.to_owned(), format!("/{rest}"));
    let text = String::from_utf8_lossy(&body).into_owned();
    let opened = if provider == "uid2" { shared.operator.request_of(&target, &text) } else { None };
    let call = SeenCall { provider, method, target, headers, body: opened.unwrap_or(text.clone()) };
    let fault = {
        let mut state = shared.lock();
        state.seen.push(call.clone());
        state.faults.get(&call.provider).cloned()
    };
    match fault {
        Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Held(go)) => go.notified().await,
        Some(Fault::Status(status)) => {
            let echo = format!("{:?} {}", call.headers, call.body);
            return (StatusCode::from_u16(status).unwrap_or_default(), echo).into_response();
        }
        Some(Fault::RateLimited(after)) => {
            let mut response = StatusCode::TOO_MANY_REQUESTS.into_response();
            if let Some(value) = after.and_then(|after| after.parse().ok()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
            return response;
        }
        Some(Fault::Malformed) => return "<html>maintenance</html>".into_response(),
        Some(Fault::Huge) => return Body::from(vec![b' '; 300 * 1024]).into_response(),
        Some(Fault::NoMatch) => return no_match(&call.provider),
        Some(Fault::Says(document)) => return axum::Json(document).into_response(),
        None => {}
    }
    if call.provider == "profiles" {
        return shared.profiles.answer(&call);
    }
    if !is_authorized(&call) {
        return (StatusCode::UNAUTHORIZED, r#"{"status":"unauthorized"}"#).into_response();
    }
    behave(&shared, &call, &text)
}

/// The answer of a provider that knows nobody by that.
fn no_match(provider: &str) -> Response {
    match provider {
        "liveramp_ats" => StatusCode::NO_CONTENT.into_response(),
        "acxiom_realid" | "amperity" | "profiles" => StatusCode::NOT_FOUND.into_response(),
        _ => axum::Json(json!({})).into_response(),
    }
}

/// True where a call brings all credentials that its provider has given out, or what a public contract has in their place.
fn is_authorized(call: &SeenCall) -> bool {
    let key = format!("{}-{CREDENTIAL}", call.provider);
    match call.provider.as_str() {
        "liveramp_ats" if call.method == Method::GET => call.header("origin") == "https://shop.example",
        "acxiom_realid" if call.target == "/v1/eid/l" => call.json()["partnerId"] == "partner",
        "acxiom_realid" => call.header("x-api-key") == key,
        "trade_desk" => {
            call.header("authorization") == format!("Basic {}", STANDARD.encode(format!("partner:{key}")))
        }
        _ => call.header("authorization") == format!("Bearer {key}"),
    }
}

/// What the provider answers to a request that is as its contract has it; 400 to another.
fn behave(shared: &Shared, call: &SeenCall, raw: &str) -> Response {
    let bad = || StatusCode::BAD_REQUEST.into_response();
    let body = call.json();
    let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
    let is = |method: &Method, own: &str| call.method == *method && path == own;
    let id = |prefix: &str, of: &Value| format!("{prefix}-{}", short(of));
    match call.provider.as_str() {
        "liveramp_ats" if is(&Method::POST, "/api/identity/v2/envelope") => {
            match body["identifiers"].get(0) {
                Some(email) => axum::Json(json!({ "envelope": id("XY1000", email) })).into_response(),
                None => bad(),
            }
        }
        "liveramp_ats" if is(&Method::GET, "/api/identity/v2/envelope") => {
            let query: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            let has = |name: &str, value: &str| query.get(name).is_some_and(|given| given == value);
            match query.get("iv") {
                Some(email) if has("pid", "1234") && has("it", "4") => {
                    let value = id("XY1000", &json!(email));
                    let envelope = json!({"type": 19, "source": 19, "value": value, "err": null});
                    axum::Json(json!({"envelopes": [envelope]})).into_response()
                }
                _ => bad(),
            }
        }
        "acxiom_realid" if is(&Method::POST, "/v1/eid/l") && body["ip"] == "" => {
            let uids = json!([{"id": id("acx", &body["hem"]), "atype": 1}]);
            let eids = json!([{"source": body["sourceId"], "uids": uids}]);
            axum::Json(json!({"requestId": "r", "user": {"eids": eids}})).into_response()
        }
        "amperity" if is(&Method::POST, "/prof/lookup/apc-1/keychain") => {
            if call.header("amperity-tenant") != "acme" || body["enrich"] != false {
                return bad();
            }
            let keys = &body["keys"];
            axum::Json(json!({"collection_id": "apc-1", "profile_id": id("amp", &keys["cookieid"]),
                "attributes": {"tier": "gold"}, "links": {"email": ["somebody@example.com"]}}))
            .into_response()
        }
        "acxiom_realid" if is(&Method::POST, "/") => {
            let by =
                if body["email_sha256"].is_string() { &body["email_sha256"] } else { &body["device_id"] };
            let attributes = json!({"age_band": "35-44", "homeowner": true});
            axum::Json(json!({"acxiom_person_id": id("acx", by), "attributes": attributes})).into_response()
        }
        "amperity" if is(&Method::POST, "/v1/resolve") => {
            let by =
                if body["email_sha256"].is_string() { &body["email_sha256"] } else { &body["anonymous_id"] };
            axum::Json(json!({"amperity_id": id("amp", by), "attributes": {"tier": "gold"}})).into_response()
        }
        "trade_desk" if is(&Method::GET, "/track/rid") && call.target.contains("fmt=json") => {
            let tdid = "7f1ae5c2-55d9-4b6f-9c54-5a5a0a0a0a01";
            axum::Json(json!({"TDID": tdid, "TDID_LOOKUP": "TRUE", "TDID_CREATED_AT": "2026-10-19T03:10:42"}))
                .into_response()
        }
        "uid2" if call.method == Method::POST => shared.operator.answer(path, raw),
        "internal_cdp" if is(&Method::POST, "/v1/resolve") => {
            axum::Json(json!({"customer_id": id("cdp", &body["email_hash"])})).into_response()
        }
        _ => bad(),
    }
}

fn short(of: &Value) -> String {
    of.as_str().unwrap_or("nobody").chars().take(12).collect()
}
