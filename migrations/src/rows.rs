//! Row types of the settings: what management writes and the core reads.

use diesel::prelude::*;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::schema;

/// An organisation, or its sibling for the data of test keys.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::orgs, check_for_backend(diesel::pg::Pg))]
pub struct Org {
    /// The organisation's ID, in every row and Redis key of its data.
    pub id: Uuid,
    /// The organisation's name, of 1 to 200 characters.
    pub name: String,
    /// The organisation whose test data it holds; on a sibling alone.
    pub test_of: Option<Uuid>,
}

/// A person who may use the management API.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::users, check_for_backend(diesel::pg::Pg))]
pub struct User {
    /// The user's ID, which is `sub` in tokens.
    pub id: Uuid,
    /// The organisation it belongs to.
    pub org_id: Uuid,
    /// The email, unique in the organisation whatever its case.
    pub email: String,
    /// The user's name, for display.
    pub name: String,
    /// The role: `owner`, `admin`, `editor` or `viewer`.
    pub role: String,
    /// The password's Argon2id hash, as a PHC string.
    pub password_hash: String,
}

/// A site or app that sends events.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::sources, check_for_backend(diesel::pg::Pg))]
pub struct Source {
    /// The source's own ID.
    pub id: Uuid,
    /// The organisation it belongs to.
    pub org_id: Uuid,
    /// The source's name, for display.
    pub name: String,
    /// Origins that may call: `host[:port]`, https implied; `http://…` for loopback. An empty list refuses
    /// all.
    pub domains: Vec<String>,
    /// `verified` or `claimed`: the tie to a person that suffices for a browser to be shown that person's
    /// values.
    pub browser_identity: String,
    /// True where calls without a signature are refused.
    pub require_signature: bool,
    /// True where signed calls without a timestamp are refused.
    pub require_timestamp: bool,
    /// Words that are no identifiers, beside those that nobody's are: at most 50, trimmed and in lower case.
    pub placeholders: Vec<String>,
}

/// A host of the customer's that points at the edge.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::collect_hosts, check_for_backend(diesel::pg::Pg))]
pub struct CollectHost {
    /// The host's own ID.
    pub id: Uuid,
    /// The organisation it belongs to.
    pub org_id: Uuid,
    /// The source it collects for.
    pub source_id: Uuid,
    /// Scheme and authority, without a path.
    pub url: String,
    /// The Domain attribute of `_dfid`; none for a host-only cookie.
    pub cookie_domain: Option<String>,
}

/// A pipeline key.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::pipeline_keys, check_for_backend(diesel::pg::Pg))]
pub struct PipelineKey {
    /// The key's own ID.
    pub id: Uuid,
    /// The organisation it belongs to.
    pub org_id: Uuid,
    /// The source it opens.
    pub source_id: Uuid,
    /// The environment, `live` or `test`.
    pub environment: String,
    /// The key itself, which is public; none of a key of before migration 14.
    pub key: Option<String>,
    /// SHA-256 of a key of before, see [`hash_pipeline_key`]; none where the key itself is there.
    pub key_hash: Option<Vec<u8>>,
    /// The key's first characters, to recognise it by.
    pub hint: String,
    /// Time from which on the key is refused.
    pub revoked_at: Option<OffsetDateTime>,
}

/// The secret that a customer's server signs with, sealed.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::server_secrets, check_for_backend(diesel::pg::Pg))]
pub struct ServerSecret {
    /// The secret's ID, part of what the seal is bound to.
    pub id: Uuid,
    /// The organisation it belongs to.
    pub org_id: Uuid,
    /// The source it signs for.
    pub source_id: Uuid,
    /// The secret, sealed as [`crate::sealed`] says.
    pub sealed: Vec<u8>,
    /// End of an old secret that passes beside its successor, set on rotation.
    pub expires_at: Option<OffsetDateTime>,
}

/// A key of an organisation's tombstones, sealed.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = schema::tombstone_keys, check_for_backend(diesel::pg::Pg))]
pub struct TombstoneKey {
    /// The key's ID, part of what the seal is bound to.
    pub id: Uuid,
    /// The organisation whose tombstones they are.
    pub org_id: Uuid,
    /// The key, sealed as [`crate::sealed`] says.
    pub sealed: Vec<u8>,
}

/// The configuration of a source.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::pipelines, check_for_backend(diesel::pg::Pg))]
pub struct Pipeline {
    /// The pipeline's own ID.
    pub id: Uuid,
    /// The organisation it belongs to.
    pub org_id: Uuid,
    /// The source it configures, one to one.
    pub source_id: Uuid,
    /// `explicit` or `implicit`: what the absence of consent signals means.
    pub consent_mode: String,
    /// True where withdrawn consent removes stored vendor IDs.
    pub purge_on_withdrawal: bool,
    /// Events a second that each key may bring to one core, 1 to 1,000,000; none for the core's default.
    pub rate_limit_rps: Option<i32>,
    /// The categories that a consent platform's codes stand for, `{preset, codes}`.
    pub consent_mapping: Option<serde_json::Value>,
}

/// A pipeline's gateway sync with one vendor.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::identity_sources, check_for_backend(diesel::pg::Pg))]
pub struct IdentitySource {
    /// The organisation it belongs to.
    pub org_id: Uuid,
    /// The pipeline it is enabled on.
    pub pipeline_id: Uuid,
    /// Name in the core's vendor table.
    pub vendor: String,
    /// The customer's public tag or pixel ID, 1 to 256 characters.
    pub partner_id: String,
    /// Days for which an ID is kept, 1 to 400.
    pub ttl_days: i32,
    /// True where the vendor is offered; false keeps the row but offers nothing.
    pub enabled: bool,
    /// Replaces the vendor table's endpoint.
    pub endpoint: Option<String>,
    /// True where browsers are kept out whose engine can't do redirects through third parties.
    pub supported_browsers_only: bool,
}

/// A pipeline's choice to collect a vendor's click IDs and generate its IDs, or not to.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::generated_ids, check_for_backend(diesel::pg::Pg))]
pub struct GeneratedIds {
    /// The organisation it belongs to.
    pub org_id: Uuid,
    /// The pipeline that chooses.
    pub pipeline_id: Uuid,
    /// Name in the core's tables.
    pub vendor: String,
    /// True where IDs are collected and generated, as they are where there is no such row.
    pub enabled: bool,
}

/// SHA-256 of a pipeline key as it is sent, prefix included.
pub fn hash_pipeline_key(key: &str) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(key.as_bytes()).into()
}
