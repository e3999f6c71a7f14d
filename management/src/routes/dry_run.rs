//! Dry runs of a source's providers, which the core makes.

use std::collections::BTreeMap;

use axum::Json;
use proto::v1::{
    ConsentSignals, DeviceId, DryRunProviderRequest, DryRunProviderResponse, ProviderKind, Subject,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    api::{
        audit::Change,
        caller::Caller,
        error::{Code, Result},
        fields::Fields,
    },
    state::Management,
};

/// Longest identifier, in bytes.
const MAX_ID_BYTES: usize = 1024;
/// Longest event, in bytes as JSON: 8 KiB.
const MAX_EVENT_BYTES: usize = 8 * 1024;

/// Input for a dry run.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DryRunInput {
    /// The visitor to ask for.
    subject: Visitor,
    /// The page's event: `properties`, `traits` and `context`, which templates may name; at most 8 KiB.
    event: Option<Map<String, Value>>,
    /// An answer of status 200 to read, as the provider would send it.
    answer: Option<String>,
    /// True where the provider is to be asked with its stored credentials, within its back-off. It can't have an
    /// `answer` then.
    #[serde(default)]
    send: bool,
}

/// A visitor to try a provider with. Of somebody who is known, what is stored counts where this doesn't say itself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Visitor {
    /// A browser's anonymous ID.
    anonymous_id: Option<String>,
    /// User ID, your own ID of a person.
    user_id: Option<String>,
    /// Email in clear, of which digests alone go on.
    email: Option<String>,
    /// Phone in clear, with its country, of which digests alone go on.
    phone: Option<String>,
    /// Hex SHA-256 of the trimmed, lower-case email.
    email_sha256: Option<String>,
    /// Hex SHA-256 of the phone in E.164.
    phone_sha256: Option<String>,
    /// URL of the page.
    page_url: Option<String>,
    /// Advertising ID of the device.
    device_id: Option<Device>,
    /// Consent, as events have it in `context.consent`. Absent: what is stored of the visitor counts.
    consent: Option<Map<String, Value>>,
}

/// Advertising ID of a device.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The ID, a UUID.
    value: String,
    /// Kind of the ID, `idfa` or `gaid`.
    #[serde(rename = "type")]
    kind: String,
}

/// Outcome of a dry run.
#[derive(Debug, Serialize, ToSchema)]
pub struct DryRun {
    /// Method of the request. Null, as all of it: there would be none, for `reason`.
    method: Option<String>,
    /// URL of the request.
    url: Option<String>,
    /// Headers of the request; those with credentials are `***`.
    headers: BTreeMap<String, String>,
    /// Body of the request; of UID2 before it is encrypted. Null: it has none.
    body: Option<String>,
    /// ID that the answer yields. Null: there was no answer, or it yields none.
    id: Option<String>,
    /// Reason for not asking, or for no ID, as `POST /v1/enrich` tells it. Null: all is well.
    reason: Option<String>,
    /// HTTP status of the answer to what was sent. Null: nothing was sent, or nothing came.
    status: Option<u32>,
}

/// The provider that is tried.
pub struct Provider<'a> {
    /// The source that has it.
    pub source: Uuid,
    /// The kind of provider.
    pub kind: ProviderKind,
    /// Its name.
    pub name: &'a str,
    /// Settings of one that is not enabled, so that the core doesn't know it.
    pub settings: Option<Value>,
}

impl DryRunInput {
    /// Tries a provider. One that is really asked is on record, and not about whom.
    pub async fn run(
        self,
        state: &Management,
        caller: &Caller,
        Provider { source, kind, name, settings }: Provider<'_>,
    ) -> Result<Json<DryRun>> {
        let event = self.event.map(|event| Value::Object(event).to_string());
        let mut wrong = Fields::default();
        self.subject.check(&mut wrong);
        let fits = event.as_ref().is_none_or(|event| event.len() <= MAX_EVENT_BYTES);
        wrong.check(fits, "event", "must have at most 8 KiB");
        wrong.check(self.answer.is_none() || !self.send, "answer", "can't be given with send");
        let is_sent = self.send && settings.is_some();
        wrong.check(!is_sent, "send", "can't be true of one that is not enabled, or has no key");
        wrong.done()?;
        if self.send {
            let resource = match kind {
                ProviderKind::Custom => "custom_provider",
                ProviderKind::Profile => "profile_provider",
                ProviderKind::Destination => "destination",
                ProviderKind::Enrichment | ProviderKind::Unspecified => "enrichment",
            };
            let (action, id) = (format!("{resource}.dry_run"), format!("{source}/{name}"));
            let mut connection = state.connection().await?;
            Change { action: &action, resource, id: &id }.note(&mut connection, caller, json!({})).await?;
        }
        let settings = match settings {
            Some(Value::Object(settings)) => Some(proto::json::document(settings)),
            Some(_) => return Err(Code::Internal.into()),
            None => None,
        };
        let request = DryRunProviderRequest {
            org_id: caller.org_id.to_string(),
            name: name.to_owned(),
            settings,
            subject: Some(self.subject.into()),
            answer: self.answer,
            kind: kind.into(),
            source_id: Some(source.to_string()),
            event,
            send: self.send,
        };
        Ok(Json(state.core.dry_run_provider(request).await?.into()))
    }
}

impl From<DryRunProviderResponse> for DryRun {
    fn from(run: DryRunProviderResponse) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            method: given(run.method),
            url: given(run.url),
            headers: run.headers,
            body: given(run.body),
            id: run.id,
            reason: given(run.reason),
            status: run.status,
        }
    }
}

impl Visitor {
    fn check(&self, wrong: &mut Fields) {
        for (field, id) in [("anonymous_id", &self.anonymous_id), ("user_id", &self.user_id)] {
            let fits = |id: &String| id.len() <= MAX_ID_BYTES && !id.contains(char::is_control);
            let field = format!("subject.{field}");
            wrong.check(id.as_ref().is_none_or(fits), field, "must have at most 1024 bytes, none of control");
        }
        let kind = self.device_id.as_ref().map(|device| device.kind.as_str());
        if let Some(kind) = kind {
            wrong.one_of("subject.device_id.type", kind, &["idfa", "gaid"]);
        }
    }
}

impl From<Visitor> for Subject {
    fn from(visitor: Visitor) -> Self {
        let signals =
            |consent| ConsentSignals { json: Some(Value::Object(consent).to_string()), sec_gpc: false };
        Self {
            anonymous_id: visitor.anonymous_id,
            user_id: visitor.user_id,
            email: visitor.email,
            phone: visitor.phone,
            email_sha256: visitor.email_sha256,
            phone_sha256: visitor.phone_sha256,
            page_url: visitor.page_url,
            device_id: visitor.device_id.map(|Device { value, kind }| DeviceId { value, r#type: kind }),
            consent: visitor.consent.map(signals),
            ..Self::default()
        }
    }
}
