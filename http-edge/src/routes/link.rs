//! `POST /v1/link`: a token for a link to another of the customer's domains, so that the visitor is known
//! there.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    response::Response,
};
use http::request::Parts;
use proto::v1::{CollectCaller, CreateLinkRequest, ErrorReason};
use serde::Serialize;
use serve::discard;
use utoipa::ToSchema;

use super::{Edge, answer_json};
use crate::{caller, cookies, error::ApiError, throttle::Sender};

/// Token for a link to another of the customer's domains.
#[derive(Serialize, ToSchema)]
#[schema(as = LinkToken)]
struct Answer {
    /// Token for the link's URL, as `parameter`; good for one visit.
    link_token: String,
    /// Name of the parameter that the token is to have in the link.
    parameter: &'static str,
    /// Seconds for which the token is good.
    expires_in: u32,
}

/// Answers 200 with a token of the visitor whom the `_dfid` cookie names, and nobody else.
#[utoipa::path(post, path = "/v1/link", responses((status = 200, body = Answer)))]
pub async fn create(
    State(edge): State<Arc<Edge>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let link = async |parts: &Parts, body, caller, sender: &mut Sender| {
        let link_token = token(&edge, parts, body, caller, sender).await?;
        Ok(Answer { link_token, parameter: "_dfl", expires_in: 120 })
    };
    answer_json(&edge, peer, request, link).await
}

async fn token(
    edge: &Edge,
    parts: &Parts,
    body: Body,
    mut caller: CollectCaller,
    sender: &mut Sender,
) -> Result<String, ApiError> {
    // Nothing in it counts, but a signature covers it.
    let _memory = if caller.signature.is_some() {
        let mut body = edge.bodies.read(&parts.headers, body, sender.holder(), sender.signs()).await?;
        caller.signed_body = Some(std::mem::take(&mut body.sent));
        Some(body)
    } else {
        discard(&parts.headers, body).await;
        None
    };
    let Some(cookie_anonymous_id) = cookies::anonymous_ids(&parts.headers).into_iter().next() else {
        return Err(ApiError::new(ErrorReason::InvalidArgument, "There is no _dfid cookie.".to_owned()));
    };
    let message = CreateLinkRequest { caller: Some(caller::message(caller)), cookie_anonymous_id };
    let answer = edge.core.create_link(&caller::trace(&parts.headers), message).await.map_err(ApiError::from);
    edge.throttle.learn(sender, 1, answer.as_ref().err());
    Ok(answer?.link_token)
}
