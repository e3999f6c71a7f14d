//! Input about a tenant of Amperity.

use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema, schema::Type},
};

use crate::api::member::{Member, given};

/// A tenant of Amperity, and what is read of it. What is left out stays as it is, null is none; of a new one the core
/// says what is required, all at once.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AmperityInput {
    /// True where the tenant is used, as a new one is.
    #[serde(default, deserialize_with = "given", skip_serializing)]
    #[schema(value_type = bool, required = false)]
    pub(super) enabled: Option<bool>,
    /// Streaming Ingest key (write access), 1 to 8,192 bytes, which a new one needs. Absent: it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "nothing")]
    #[schema(value_type = Option<String>, format = Password)]
    pub(super) api_key: Option<SecretString>,
    /// Profile API key (read access), 1 to 8,192 bytes, and another than `api_key`. Absent: it stays as it is.
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
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    event_stream_id: Option<String>,
    /// `source` of every event, as the stream's routing expression has it.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String)]
    source_value: Option<String>,
    /// The collection to look profiles up in, `apc-…`, which has to be there where `profile_api_key` is.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<String>)]
    profile_collection_id: Member<String>,
    /// Keys by which a profile is found, tried in order: a list of at most 20, or its JSON as a text.
    #[serde(default, skip_serializing_if = "Member::is_absent")]
    #[schema(value_type = Option<LinkingKeys>)]
    linking_keys: Member<LinkingKeys>,
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

/// Linking keys in either form. They are kept as a list, and the core says what is wrong with it.
#[derive(Serialize, Deserialize)]
#[serde(from = "Value")]
pub struct LinkingKeys(Value);

impl From<Value> for LinkingKeys {
    fn from(value: Value) -> Self {
        Self(match value {
            Value::String(text) if text.trim().is_empty() => json!([]),
            Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            value => value,
        })
    }
}

impl PartialSchema for LinkingKeys {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        OneOfBuilder::new().item(text).item(Vec::<LinkingKey>::schema()).into()
    }
}

impl ToSchema for LinkingKeys {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((LinkingKey::name().into_owned(), LinkingKey::schema()));
    }
}

/// A key that Amperity finds a profile by.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document: what is given is the core's to read")]
pub struct LinkingKey {
    /// `canonical_id`, `anonymous_id`, `user_id`, `email` or `phone`.
    source: String,
    /// Name of the key in the collection's `linking_keys`; several sources may have one.
    key: String,
    /// Hash that the value is sent as, `sha256`. Absent: as it is.
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
