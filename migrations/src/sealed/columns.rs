//! Places of sealed values: all there is to re-encrypt. A test compares the list with the database.

use uuid::Uuid;

use super::Place;

/// A sealed column. Its table has `id` and `org_id`, both UUIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Name of the table.
    pub table: &'static str,
    /// Name of the column.
    pub column: &'static str,
}

/// Secrets that customers' servers sign with.
pub const SERVER_SECRETS: Column = Column { table: "server_secrets", column: "sealed" };
/// Credentials of enrichment vendors.
pub const ENRICHMENT_SETTINGS: Column = Column { table: "enrichment_settings", column: "sealed" };
/// Secrets that settings refer to by name.
pub const SECRETS: Column = Column { table: "secrets", column: "sealed" };
/// Keys of profile providers.
pub const PROFILE_PROVIDERS: Column = Column { table: "profile_providers", column: "sealed" };
/// Keys of tombstones.
pub const TOMBSTONE_KEYS: Column = Column { table: "tombstone_keys", column: "sealed" };

/// Tokens that vendors gave to refresh an ID with.
pub const ENRICHMENTS: Column = Column { table: "enrichments", column: "sealed" };
/// Credentials of destinations.
pub const DESTINATIONS: Column = Column { table: "destinations", column: "sealed" };
/// Events that a destination has not taken. The log's own are sealed with keys that are derived, and are gone soon.
pub const DELIVERIES: Column = Column { table: "deliveries", column: "sealed" };

/// The sealed columns of the whole database.
pub const ALL: [Column; 8] = [
    SERVER_SECRETS,
    ENRICHMENT_SETTINGS,
    SECRETS,
    PROFILE_PROVIDERS,
    TOMBSTONE_KEYS,
    ENRICHMENTS,
    DESTINATIONS,
    DELIVERIES,
];

impl Column {
    /// The place that a value in that row is bound to.
    pub fn place(&self, org: Uuid, row: Uuid) -> Place<'static> {
        Place { org, table: self.table, row, column: self.column }
    }
}
