//! What is told of a provider of the customer's own.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A provider. What is required the core says, all at once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomProvider {
    /// Where it is there, the name in the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// An https URL without credentials; `{{anonymous_id}}` and other variables may stand in its path and query.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    pub(super) endpoint: Option<String>,
    /// `GET` or `POST`, which it is where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authentication: Option<Authentication>,
    /// What is sent: JSON with variables, of GET the parameters. Absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_template: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = ResponseMapping)]
    pub(super) response_mapping: Option<ResponseMapping>,
    /// How long an ID is kept, `30d`: 1s to 400d.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    ttl: Option<String>,
    /// How long an answer may take, `2s`, which it is where it is absent: 100ms to 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
}

/// How a provider knows us.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Authentication {
    /// `bearer`, `header`, `basic` or `none`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    kind: Option<String>,
    /// `secret:` and the name of a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_secret_ref: Option<String>,
    /// Of `header`: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// Of `basic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
}

/// What becomes of an answer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseMapping {
    /// The field of the identity that it fills: no vendor's, and no other provider's of the organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    pub(super) redis_field: Option<String>,
    /// Where in the answer the ID is: an RFC 9535 query that denotes one value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    json_path: Option<String>,
}

/// A name in a path: `[A-Za-z0-9_-]{1,64}`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct ProviderName(pub(super) String);

impl TryFrom<String> for ProviderName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let is_name = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        if is_name { Ok(Self(text)) } else { Err("not a name of a provider") }
    }
}
