//! The API's document: generated from the handlers, with what holds for all of them added.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, HttpMethod, PathItem, Ref, RefOr, ResponseBuilder, SecurityRequirement,
        path::Operation,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{error::ErrorBody, permission};

/// Title of the document, and what all operations share.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Signal Identity Management API",
        description = "Settings, credentials and people of an organisation. Log in, then send the access token as a \
            bearer token. Errors are `{\"error\":{\"code\",\"message\"}}`; lists come in pages. The scopes of an \
            operation's security say which permission it needs."
    ),
    components(schemas(ErrorBody))
)]
pub struct Document;

/// Adds to every operation what it needs of the caller, and how it may be refused.
pub struct Shared;

impl Modify for Shared {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        // Cargo.toml names none, which makes an empty one.
        api.info.license = None;
        let scheme =
            SecurityScheme::Http(Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build());
        api.components.get_or_insert_default().add_security_scheme("bearer", scheme);
        for (path, item) in &mut api.paths.paths {
            for (method, operation) in operations(item) {
                describe(&method, path, operation);
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (String, &mut Operation)> {
    let PathItem { get, post, put, delete, .. } = item;
    [(HttpMethod::Get, get), (HttpMethod::Post, post), (HttpMethod::Put, put), (HttpMethod::Delete, delete)]
        .into_iter()
        .filter_map(|(method, operation)| {
            let name = match method {
                HttpMethod::Get => "GET",
                HttpMethod::Post => "POST",
                HttpMethod::Put => "PUT",
                _ => "DELETE",
            };
            operation.as_mut().map(|operation| (name.to_owned(), operation))
        })
}

fn describe(method: &str, path: &str, operation: &mut Operation) {
    // A handler's name is its own in its area alone.
    let area = operation.tags.iter().flatten().next().map(|tag| tag.replace('-', "_"));
    if let (Some(area), Some(name)) = (area, &operation.operation_id) {
        operation.operation_id = Some(format!("{area}_{name}"));
    }
    let needed = permission::needed(method, path);
    let mut refusals = vec![("503", "PostgreSQL or the core is away, or the service is busy.")];
    if let Some(permission) = needed.filter(|needed| *needed != permission::Permission::Public) {
        let (name, _) = permission.row();
        operation.security = Some(vec![SecurityRequirement::new("bearer", [name])]);
        refusals.push(("401", "The access token is missing, expired or revoked."));
        refusals.push(("403", "The caller's role does not allow it."));
    } else {
        operation.security = Some(Vec::new());
    }
    if operation.parameters.as_ref().is_some_and(|all| !all.is_empty()) {
        refusals.push(("400", "A parameter is malformed or unknown."));
    }
    if path.contains('{') {
        refusals.push(("404", "There is no such thing in the caller's organisation."));
    }
    if operation.request_body.is_some() {
        refusals.push(("400", "The body is not JSON, or a parameter is malformed."));
        refusals.push(("413", "The body is over 256 KiB."));
        refusals.push(("415", "The body is not application/json."));
        refusals.push(("422", "Fields are not valid; `fields` says which."));
    }
    let responses = &mut operation.responses.responses;
    for (status, description) in refusals {
        let response = ResponseBuilder::new().description(description).build();
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(response));
    }
    for (_, response) in responses.iter_mut().filter(|(status, _)| status.starts_with(['4', '5'])) {
        if let RefOr::T(response) = response
            && response.content.is_empty()
        {
            let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Error"))));
            response.content.insert("application/json".to_owned(), RefOr::T(content));
        }
    }
}
