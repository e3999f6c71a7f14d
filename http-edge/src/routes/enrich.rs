//! `POST /v1/enrich`: a vendor's ID for one visitor, by a call that the core makes with credentials of its own.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    response::Response,
};
use http::request::Parts;
use proto::v1::{
    CollectCaller, ConsentSignals, DeviceId, EnrichRequest, EnrichResponse, EnrichStatus, ErrorReason,
    Subject,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use super::{Edge, answer_json};
use crate::{caller, cookies, error::ApiError, throttle::Sender};

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[schema(as = EnrichQuery)]
struct Query<'a> {
    /// Name of the vendor, `liveramp_ats`, or of a provider of the customer's own.
    #[serde(borrow)]
    #[schema(value_type = String)]
    vendor: Cow<'a, str>,
    /// Anonymous ID of the visitor; without it the `_dfid` cookie's.
    #[serde(default, borrow, alias = "anonymousId")]
    #[schema(value_type = Option<String>)]
    anonymous_id: Option<Cow<'a, str>>,
    /// The customer's own ID of the person, of signed calls.
    #[serde(default, borrow, alias = "userId")]
    #[schema(value_type = Option<String>)]
    user_id: Option<Cow<'a, str>>,
    /// The page's own event at hand, an object of `properties`, `traits` and `context` and at most 8 KiB: an input to
    /// templates alone. Of signed calls `context.device` has the device's advertising ID.
    #[serde(default, borrow)]
    #[schema(value_type = Option<Object>)]
    event: Option<&'a RawValue>,
}

/// The ID, or why there is none.
#[derive(Serialize, ToSchema)]
#[schema(as = Enriched)]
struct Answer {
    /// Name of the vendor.
    vendor: String,
    /// The vendor's ID. Null: the vendor was skipped.
    id: Option<String>,
    /// `skipped`, where there is no ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    status: Option<&'static str>,
    /// The reason for skipping the vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Time until which the ID, or the lack of one, holds, as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// Seconds after which another try makes sense. Absent: the next visit will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

/// Answers 200 with the vendor's ID of the visitor, or with the reason why there is none. It is never later than the
/// vendor's timeout.
#[utoipa::path(post, path = "/v1/enrich", request_body = Query<'_>, responses((status = 200, body = Answer)))]
pub async fn create(
    State(edge): State<Arc<Edge>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let enrich = async |parts: &Parts, body, caller, sender: &mut Sender| {
        Box::pin(enrich(&edge, parts, body, caller, sender)).await
    };
    answer_json(&edge, peer, request, enrich).await
}

async fn enrich(
    edge: &Edge,
    parts: &Parts,
    body: Body,
    mut caller: CollectCaller,
    sender: &mut Sender,
) -> Result<Answer, ApiError> {
    let mut body = edge.bodies.read(&parts.headers, body, sender.holder(), sender.signs()).await?;
    let signed = caller.signature.is_some();
    let query: Query<'_> = serde_json::from_slice(body.content()).map_err(|_| ErrorReason::InvalidJson)?;
    let event = query.event.map(|event| event.get().to_owned());
    let mut subject = Subject {
        anonymous_id: query.anonymous_id.map(Cow::into_owned),
        consent: caller::sec_gpc(&parts.headers).then_some(ConsentSignals { json: None, sec_gpc: true }),
        ..Subject::default()
    };
    if signed {
        subject.user_id = query.user_id.map(Cow::into_owned);
        subject.device_id = event.as_deref().and_then(device);
    } else {
        let mut ids = cookies::anonymous_ids(&parts.headers).into_iter();
        subject.cookie_anonymous_id = ids.next();
        subject.cookie_anonymous_ids = ids.collect();
    }
    let vendor = query.vendor.into_owned();
    caller.signed_body = signed.then(|| std::mem::take(&mut body.sent));
    // Counted for as long as its bytes are held: a signature covers them until the core has looked at it.
    let _memory = signed.then_some(body);
    let caller = Some(caller::message(caller));
    let message = EnrichRequest { caller, vendor, subject: Some(subject), event, source_id: None };
    let answer =
        edge.patient_core.enrich(&caller::trace(&parts.headers), message).await.map_err(ApiError::from);
    edge.throttle.learn(sender, 1, answer.as_ref().err());
    Ok(answer?.into())
}

/// The device's advertising ID in an event's `context.device`.
fn device(event: &str) -> Option<DeviceId> {
    #[derive(Deserialize)]
    struct Event {
        context: Context,
    }
    #[derive(Deserialize)]
    struct Context {
        device: Device,
    }
    #[derive(Deserialize)]
    struct Device {
        #[serde(alias = "advertising_id")]
        #[serde(rename = "advertisingId")]
        advertising_id: String,
        r#type: String,
    }
    let Device { advertising_id, r#type } = serde_json::from_str::<Event>(event).ok()?.context.device;
    Some(DeviceId { value: advertising_id, r#type })
}

impl From<EnrichResponse> for Answer {
    fn from(response: EnrichResponse) -> Self {
        let is_skipped = response.status() == EnrichStatus::Skipped;
        let expires_at = response.expires_at.and_then(|at| {
            let at = OffsetDateTime::from_unix_timestamp(at.seconds).ok()?;
            at.format(&Rfc3339).ok()
        });
        let seconds = |pause: prost_types::Duration| {
            let whole = u64::try_from(pause.seconds).ok()?;
            Some(whole.saturating_add(u64::from(pause.nanos > 0)).max(1))
        };
        Self {
            vendor: response.vendor,
            id: response.id,
            status: is_skipped.then_some("skipped"),
            reason: Some(response.reason).filter(|reason| !reason.is_empty()),
            expires_at,
            retry_after: response.retry_after.and_then(seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_from_its_place_alone() {
        let read = |event: &str| device(event).map(|device| (device.value, device.r#type));
        let known = Some(("x".to_owned(), "idfa".to_owned()));
        assert_eq!(read(r#"{"context":{"device":{"advertisingId":"x","type":"idfa"}}}"#), known);
        assert_eq!(read(r#"{"context":{"device":{"advertising_id":"x","type":"idfa","y":1}}}"#), known);
        for none in ["", "{}", "[]", r#"{"context":{"device":{"advertisingId":1,"type":"idfa"}}}"#] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn what_was_skipped_says_why_and_for_how_long() {
        let mut response =
            EnrichResponse { vendor: "uid2".into(), reason: "busy".into(), ..Default::default() };
        response.set_status(EnrichStatus::Skipped);
        response.retry_after = Some(prost_types::Duration { seconds: 1, nanos: 1 });
        let text = serde_json::to_string(&Answer::from(response)).unwrap();
        assert_eq!(text, r#"{"vendor":"uid2","id":null,"status":"skipped","reason":"busy","retry_after":2}"#);
        let mut response =
            EnrichResponse { vendor: "uid2".into(), id: Some("A4".into()), ..Default::default() };
        response.set_status(EnrichStatus::Cached);
        response.expires_at = Some(prost_types::Timestamp { seconds: 1_795_255_200, nanos: 5 });
        let text = serde_json::to_string(&Answer::from(response)).unwrap();
        assert_eq!(text, r#"{"vendor":"uid2","id":"A4","expires_at":"2026-11-21T10:00:00Z"}"#);
    }
}
