//! PostgreSQL: statements about visitors, one file an idea. Each filters by organisation.

pub mod clusters;
pub mod commits;
pub mod consent;
pub mod create;
pub mod custom_providers;
pub mod deliveries;
pub mod enrichments;
pub mod erased;
pub mod erasure;
pub mod graph;
pub mod history;
pub mod identities;
pub mod keys;
pub mod pii;
pub mod proofs;
pub mod provider_states;
pub mod refused_hosts;
pub mod repairs;
pub mod resets;
pub mod rows;
pub mod syncs;
pub mod tombstone_keys;
pub mod vendor_ids;
