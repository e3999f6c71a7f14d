//! `GET /v1/enrich?provider=amperity`: the attributes of a visitor's profile that their page may see.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Request, State},
    response::Response,
};
use http::{HeaderValue, header, request::Parts};
use proto::v1::{Audience, CollectCaller, ErrorReason, ProfileRequest, Subject};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Edge, answer_json};
use crate::{caller, cookies, error::ApiError, query::Query, throttle::Sender};

/// Attributes of the visitor's profile.
#[derive(Serialize, ToSchema)]
#[schema(as = Attributes)]
struct Answer {
    /// Name of the provider.
    provider: String,
    /// The attributes that the source lets pages see, those of the last event's context in place of the others. Empty of a
    /// stranger.
    attributes: Map<String, Value>,
}

/// Answers 200 with the attributes of the visitor whom the `_dfid` cookie names, else `aid`.
#[utoipa::path(get, path = "/v1/enrich",
    params(
        ("provider" = String, Query, description = "Name of the provider: `amperity` or `acxiom`."),
        ("aid" = Option<String>, Query, description = "The visitor's anonymous ID, where there is no cookie."),
    ),
    responses((status = 200, body = Answer)))]
pub async fn read(
    State(edge): State<Arc<Edge>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let tell = async |parts: &Parts, _, caller, sender: &mut Sender| {
        Box::pin(attributes(&edge, parts, caller, sender)).await
    };
    let mut response = answer_json(&edge, peer, request, tell).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    response
}

async fn attributes(
    edge: &Edge,
    parts: &Parts,
    mut caller: CollectCaller,
    sender: &mut Sender,
) -> Result<Answer, ApiError> {
    let query = Query::parse(parts.uri.query())?;
    let name = query.one("provider")?.filter(|name| proto::is_vendor_name(name));
    let provider = name.ok_or(ErrorReason::VendorNotFound)?.to_owned();
    let mut ids = cookies::anonymous_ids(&parts.headers).into_iter();
    let subject = Subject {
        anonymous_id: query.one("aid")?.map(str::to_owned),
        cookie_anonymous_id: ids.next(),
        cookie_anonymous_ids: ids.collect(),
        ..Subject::default()
    };
    // Nothing follows the head, and that is what a signature covers.
    caller.signed_body = caller.signature.is_some().then(Vec::new);
    let message = ProfileRequest {
        caller: Some(caller::message(caller)),
        provider: provider.clone(),
        subject: Some(subject),
        audience: Audience::Browser.into(),
        ..ProfileRequest::default()
    };
    let answer =
        edge.patient_core.profile(&caller::trace(&parts.headers), message).await.map_err(ApiError::from);
    edge.throttle.learn(sender, 1, answer.as_ref().err());
    let answer = answer?;
    let mut attributes = proto::json::object(answer.attributes.unwrap_or_default());
    attributes.extend(proto::json::object(answer.personalized.unwrap_or_default()));
    Ok(Answer { provider, attributes })
}
