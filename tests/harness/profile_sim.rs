//! Amperity's real-time profile store (amperity/amperity-docs, `endpoint_*_profile_store_*`): look-ups by linking key,
//! profiles by ID, and the scopes of its tokens.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json,
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::enrich_sim::{CREDENTIAL, SeenCall};

/// ID of the collection.
pub const COLLECTION: &str = "apc-vPsQheAm";
/// ID of the tenant.
pub const TENANT: &str = "acme";

/// Profiles, and the values that they are found by.
#[derive(Debug, Default)]
pub struct ProfileStore(Mutex<Profiles>);

#[derive(Debug, Default)]
struct Profiles {
    /// Linking key and value → ID.
    links: HashMap<(String, String), String>,
    /// ID → attributes.
    attributes: HashMap<String, Value>,
    /// True where a look-up answers with the ID alone.
    is_brief: bool,
    is_away: bool,
}

/// The key that reads profiles.
pub fn profile_key() -> String {
    format!("profiles-{CREDENTIAL}")
}

/// The key that sends events, which reads none.
pub fn ingest_key() -> String {
    format!("ingest-{CREDENTIAL}")
}

impl ProfileStore {
    /// Adds a profile that is found by `value` of the linking key of that name, or another value of one that there is.
    pub fn add(&self, id: &str, key: &str, value: &str, attributes: &Value) {
        let mut profiles = self.lock();
        profiles.links.insert((key.to_owned(), value.to_owned()), id.to_owned());
        profiles.attributes.insert(id.to_owned(), attributes.clone());
    }

    /// Has look-ups answer with the ID of the profile alone.
    pub fn be_brief(&self) {
        self.lock().is_brief = true;
    }

    /// Has it answer that it is not there, or as ever; events are taken all the same.
    pub fn be_away(&self, is_away: bool) {
        self.lock().is_away = is_away;
    }

    fn lock(&self) -> MutexGuard<'_, Profiles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a call as the store does.
    pub(crate) fn answer(&self, call: &SeenCall) -> Response {
        let token = call.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
        if call.method == Method::POST && call.target.starts_with("/prof/events/esm-") {
            let is_known = token == ingest_key() && call.header("amperity-tenant") == TENANT;
            return if is_known { StatusCode::ACCEPTED } else { StatusCode::UNAUTHORIZED }.into_response();
        }
        if self.lock().is_away {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        if token == ingest_key() {
            return (StatusCode::FORBIDDEN, r#"{"message":"wrong scope"}"#).into_response();
        }
        if token != profile_key() || call.header("amperity-tenant") != TENANT {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (&call.method, parts.as_slice()) {
            (&Method::POST, ["prof", "lookup", COLLECTION, "keychain"]) => self.look_up(&call.json()),
            (&Method::GET, ["prof", "profiles", COLLECTION, id]) => self.profile(id, query),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn look_up(&self, body: &Value) -> Response {
        let Some(keys) = body["keys"].as_object().filter(|keys| keys.len() == 1) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let profiles = self.lock();
        let pair = keys.iter().next();
        let pair = pair.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
        let Some(id) = pair.and_then(|pair| profiles.links.get(&pair)) else {
            return (StatusCode::NOT_FOUND, r#"{"message":"no matching profile"}"#).into_response();
        };
        if profiles.is_brief {
            return Json(json!({"collection_id": COLLECTION, "profile_id": id})).into_response();
        }
        let location = format!("/prof/profiles/{COLLECTION}/{id}");
        ([(header::LOCATION, location)], Json(whole(id, &profiles.attributes[id]))).into_response()
    }

    /// A profile, with what the tenant's own attribute logic makes of the context.
    fn profile(&self, id: &str, query: &str) -> Response {
        let profiles = self.lock();
        let Some(attributes) = profiles.attributes.get(id) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let mut attributes = attributes.clone();
        let query: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        if query.get("enrich").is_some_and(|enrich| enrich == "true")
            && let Some(category) = query.get("pageCategory")
        {
            attributes["Hero"] = json!(format!("{category} for {}", attributes["LifetimeTier"]));
        }
        Json(whole(id, &attributes)).into_response()
    }
}

/// The documented answer; `links` has what nobody may be told.
fn whole(id: &str, attributes: &Value) -> Value {
    json!({"collection_id": COLLECTION, "profile_id": id, "attributes": attributes,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        "links": {"email": ["canary-link@example.com"]}})
}
