//! Input about a tenant of Amperity.

use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use crate::api::member::{Member, given};

/// A tenant of Amperity, and what is read of it. What is left out stays as it is, null is none; of a new one the core
/// says what is required, all at once.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AmperityInput {
    /// True where the tenant is asked, as a new one is; then `profile_api_key` is needed.
    #[serde(default, deserialize_with = "given", skip_serializing)]
    #[schema(value_type = bool, required = false)]
    pub(super) enabled: Option<bool>,
    /// Streaming Ingest key (write access), 1 to 8,192 bytes. Absent: it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "nothing")]
    #[schema(value_type = Option<String>, format = Password)]
    pub(super) api_key: Option<SecretString>,
    /// Profile API key (read access), 1 to 8,192 bytes. Absent: it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "nothing")]
    #[schema(value_type = Option<String>, format = Password)]
    pub(super) profile_api_key: Option<SecretString>,
    /// The first part of the Amperity host, `acme` of acme.amperity.com.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    tenant_subdomain: Option<String>,
    /// Value of the header `Amperity-Tenant`; mostly the same.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    tenant_id: Option<String>,
    /// ID of the realtime event stream, `esm-…`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>)]
    event_stream_id: Member<String>,
    /// `source` of every event, as the stream's routing expression has it.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>)]
    source_value: Member<String>,
    /// The collection to look profiles up in, `apc-…`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    profile_collection_id: Option<String>,
    /// Keys by which a profile is found, tried in order. At most 20.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<LinkingKey>>)]
    linking_keys: Member<Vec<LinkingKey>>,
    /// Attributes that a browser may see: a list, or names with commas between. None: none.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Names>)]
    browser_attribute_allowlist: Member<Names>,
    /// True where attributes are asked for the context of the event.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<bool>)]
    context_enabled: Member<bool>,
    /// Values of the event that make its context. At most 20.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<Vec<ContextMapping>>)]
    context_mappings: Member<Vec<ContextMapping>>,
    /// The consent category that attributes need. Absent: none.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>)]
    consent_category: Member<String>,
    /// Base URL in place of `https://<tenant_subdomain>.amperity.com`.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>)]
    base_url: Member<String>,
}

/// Leaves keys out of the settings.
#[expect(clippy::ref_option, reason = "serde gives it so")]
fn nothing<S: Serializer>(_: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_none()
}

/// A key that Amperity finds a profile by.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkingKey {
    /// `canonical_id`, `anonymous_id`, `user_id`, `email` or `phone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    source: Option<String>,
    /// Name of the key in the collection's `linking_keys`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    key: Option<String>,
    /// Hash that the value is sent as, `sha256`. Absent: as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

/// A value of the context.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContextMapping {
    /// A path into the event, `properties.category`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    source: Option<String>,
    /// Name of the value for Amperity, `pageCategory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, value_type = String)]
    target: Option<String>,
}

/// Names, in either form. They are kept as a list.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Names {
    /// Names in one text with commas between.
    Text(String),
    /// Names in a list, one by one.
    List(Vec<String>),
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::List(names) => names.serialize(serializer),
            Self::Text(text) => {
                serializer.collect_seq(text.split(',').map(str::trim).filter(|name| !name.is_empty()))
            }
        }
    }
}
