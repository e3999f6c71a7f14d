//! The edge's document (OpenAPI): made from the routes, with what holds for all of them added.

use axum::{Router, body::Bytes, routing::get};
use http::{HeaderName, header};
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        Components, Content, PathItem, Ref, RefOr, ResponseBuilder, SecurityRequirement,
        path::Operation,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

use crate::error::ErrorBody;

/// Path of the document.
const PATH: &str = "/openapi.json";
/// Paths that take one event, as `/v1/t` does.
pub const SINGLE_PATHS: [&str; 2] = ["/v1/p", "/v1/i"];

/// Title of the document, and what all operations share.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Signal Identity Collect API",
        description = "What pages and a site's servers send to the collect host. The pipeline key says whose data it is. A \
            page is admitted by its Origin, a server by a signature (`X-Datafly-Signature`). Errors are \
            `{\"error\":{\"code\",\"message\"}}`."
    ),
    components(schemas(ErrorBody<'static>))
)]
pub struct Document;

/// A batch of events. Other members are ignored.
#[derive(ToSchema)]
#[expect(
    dead_code,
    clippy::struct_field_names,
    reason = "the product's names, read into borrowed text elsewhere"
)]
pub struct Batch {
    /// Events, each at most 32 KiB.
    #[schema(min_items = 1, max_items = 500)]
    batch: Vec<EventBody>,
    /// Context of all events; their own members win.
    context: Option<ContextBody>,
    /// False asks for no pending syncs.
    syncs: Option<bool>,
    /// The sender's clock, which counts for nothing.
    #[serde(rename = "sentAt")]
    sent_at: Option<String>,
}

/// An event. Each member may also be written with underscores (`anonymous_id`), and others may be there. What can't be
/// used is left out and named in `warnings`.
#[derive(ToSchema)]
#[schema(as = Event)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "events are read into borrowed text, one by one")]
pub struct EventBody {
    /// The browser, at most 128 bytes from a browser and 1,024 from a server. An integer is its own digits here, and in
    /// the next two.
    anonymous_id: Option<String>,
    /// The site's own ID of the person.
    user_id: Option<String>,
    /// ID of the event, by which a signed one is known again.
    message_id: Option<String>,
    /// Time of the event (RFC 3339), which of a signed call may be when it was signed.
    timestamp: Option<String>,
    traits: Option<TraitsBody>,
    context: Option<ContextBody>,
}

/// Contacts of a person, which are kept as digests alone.
#[derive(ToSchema)]
#[schema(as = Traits)]
#[expect(dead_code, reason = "events are read into borrowed text, one by one")]
pub struct TraitsBody {
    email: Option<String>,
    /// The number with its country; an integer is its own digits.
    phone: Option<String>,
    /// SHA-256 of the address, 64 hex digits.
    email_sha256: Option<String>,
    /// SHA-256 of the number, 64 hex digits.
    phone_sha256: Option<String>,
}

/// Page of the event, and what the visitor allows.
#[derive(ToSchema)]
#[schema(as = Context)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "events are read into borrowed text, one by one")]
pub struct ContextBody {
    page: Option<PageBody>,
    /// Read where the event's own `traits` lack a member.
    traits: Option<TraitsBody>,
    /// The visitor's consent, at most 8 KiB. What can't be understood denies.
    #[schema(value_type = Option<Object>)]
    consent: Option<()>,
    /// True for a logout.
    reset: Option<bool>,
    /// Proof of the user ID, the hex HMAC-SHA256 of `user:` and the ID under the server secret.
    user_hash: Option<String>,
    /// Proof of the user ID, a JWT of the site's server.
    identity_token: Option<String>,
}

/// The page. Texts over 4 KiB are cut.
#[derive(ToSchema)]
#[schema(as = Page)]
#[expect(dead_code, reason = "events are read into borrowed text, one by one")]
pub struct PageBody {
    url: Option<String>,
    search: Option<String>,
    referrer: Option<String>,
}

/// Adds to every operation who may call it, and how it may be refused.
pub struct Shared;

impl Modify for Shared {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        // Cargo.toml names none, which makes an empty one.
        api.info.license = None;
        add_schemes(api.components.get_or_insert_default());
        let single = api.paths.paths.get("/v1/t").cloned().unwrap_or_default();
        for path in SINGLE_PATHS {
            api.paths.paths.insert(path.to_owned(), single.clone());
        }
        for (path, item) in &mut api.paths.paths {
            let PathItem { get, post, .. } = item;
            // Each operation has a name of its own.
            let read = if post.is_some() { "read_" } else { "" };
            for (prefix, operation) in [(read, get), ("", post)] {
                if let Some(operation) = operation {
                    describe(path, prefix, operation);
                }
            }
        }
    }
}

fn add_schemes(components: &mut Components) {
    let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some("The pipeline key, dk_…"));
    components.add_security_scheme("key", SecurityScheme::Http(bearer.build()));
    let description = "The same, where headers can't be set";
    let query = ApiKeyValue::with_description("pipeline_key", description);
    components.add_security_scheme("query_key", SecurityScheme::ApiKey(ApiKey::Query(query)));
}

fn describe(path: &str, prefix: &str, operation: &mut Operation) {
    let name = path.trim_start_matches("/v1/").replace(['/', '{', '}'], "_").replace("__", "_");
    operation.operation_id = Some(format!("{prefix}{name}"));
    if path.ends_with("/callback") {
        operation.security = Some(Vec::new());
        return;
    }
    let either = ["key", "query_key"].map(|scheme| SecurityRequirement::new(scheme, [""; 0]));
    operation.security = Some(either.to_vec());
    let mut refusals = vec![
        ("400", "A parameter or the body is malformed, or, of a single event, the event."),
        ("401", "The pipeline key or the signature is missing or not good."),
        ("403", "The origin is not one of the source's domains, or the request is a navigation."),
        ("429", "The key, or the address, is over its rate; `Retry-After` says until when."),
    ];
    if operation.request_body.is_some() {
        refusals.extend([
            ("408", "The body did not arrive in time."),
            ("410", "Of a single signed event: the person was erased after it was sent."),
            ("413", "The body is over 512 KiB or 500 events, or, of a single event, the event over 32 KiB."),
            ("415", "The body is compressed by another coding than gzip."),
        ]);
    }
    if path == "/v1/enrich" {
        refusals.push(("404", "No vendor of that name is enabled on the key's source."));
    }
    if !path.contains('{') {
        refusals.push(("421", "The host is not one of the source's collect hosts."));
        refusals.push((
            "503",
            "A store or the core is away, or the service is busy; `Retry-After` says when to return.",
        ));
    }
    for (status, description) in refusals {
        let response = ResponseBuilder::new().description(description).build();
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(response));
    }
    for (_, response) in
        operation.responses.responses.iter_mut().filter(|(status, _)| status.starts_with(['4', '5']))
    {
        if let RefOr::T(response) = response {
            let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Error"))));
            response.content.insert("application/json".to_owned(), RefOr::T(content));
        }
    }
}

/// Route of the document.
pub fn router<S: Clone + Send + Sync + 'static>(document: &utoipa::openapi::OpenApi) -> Router<S> {
    const HEADERS: [(HeaderName, &str); 2] =
        [(header::CONTENT_TYPE, "application/json"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    let text = Bytes::from(text(document));
    Router::new().route(PATH, get(async move || (HEADERS, text.clone())))
}

/// The document as JSON that reads well.
#[expect(clippy::expect_used, reason = "the document is texts, numbers and lists, which JSON has")]
pub fn text(document: &utoipa::openapi::OpenApi) -> String {
    document.to_pretty_json().expect("the document is JSON")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_is_the_one_on_record() {
        let recorded = include_str!("../../openapi.json");
        let told = "the API has changed: look at the difference after \
            `cargo run -p http-edge -- openapi > http-edge/openapi.json`";
        assert!(recorded.trim() == crate::routes::document().trim(), "{told}");
    }
}
