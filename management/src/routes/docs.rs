//! The API's document, and a page to browse it and try calls. All of the page comes from this process.

use axum::Router;
use http::{HeaderValue, header};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Path of the document.
const DOCUMENT_PATH: &str = "/openapi.json";
/// Path of the page to browse it.
const PAGE_PATH: &str = "/docs";
/// Policy of the page: it may load, and call, nothing but this process. Its styles are written by its script.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Routes of `GET /openapi.json` and `GET /docs`.
pub fn router<S: Clone + Send + Sync + 'static>(document: OpenApi) -> Router<S> {
    // Without this the page has the document checked by a host of the page's makers.
    let config = Config::new([DOCUMENT_PATH]).validator_url("none").persist_authorization(false);
    let page: Router<S> = SwaggerUi::new(PAGE_PATH).url(DOCUMENT_PATH, document).config(config).into();
    let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
    page.layer(SetResponseHeaderLayer::overriding(header::CONTENT_SECURITY_POLICY, policy))
}
