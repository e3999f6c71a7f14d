//! Input about a provider of the customer's own.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::member::{Member, given};

/// A provider of the customer's own. What is left out stays as it is; of a new one the core says what is required, all
/// at once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomProvider {
    /// Name of the provider; where it is there, the one in the path.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    name: Option<String>,
    /// An https URL without credentials; `{{anonymous_id}}` and other variables may stand in its path and
    /// query.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    endpoint: Option<String>,
    /// Method of the request, `GET` or `POST`. Null, or absent in a new one: `POST`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>)]
    method: Member<String>,
    /// Authentication at the provider. Null, or absent in a new one: none.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Authentication>)]
    authentication: Member<Authentication>,
    /// Content of the request: JSON with variables, of GET the parameters. Null, or absent in a new one: nothing.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Map<String, Value>>)]
    request_template: Member<Map<String, Value>>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = ResponseMapping)]
    response_mapping: Option<ResponseMapping>,
    /// Time for which an ID is kept, such as `30d`: 1s to 400d.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    ttl: Option<String>,
    /// Time that an answer may take, 100ms to 10s. Null, or absent in a new one: `2s`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>)]
    timeout: Member<String>,
}

/// Authentication by which a provider knows us.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Authentication {
    /// `bearer`, `header`, `basic` or `none`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    kind: Option<String>,
    /// `secret:` and the name of a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_secret_ref: Option<String>,
    /// Name of the header, where the type is `header`.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// Name of the user, where the type is `basic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
}

/// Mapping of an answer to an ID.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseMapping {
    /// The field of the identity that it fills: no vendor's, and no other provider's of the organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    redis_field: Option<String>,
    /// Query that finds the ID in the answer: an RFC 9535 query that denotes one value.
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
        let is_name = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if is_name { Ok(Self(text)) } else { Err("not a name of a provider") }
    }
}
