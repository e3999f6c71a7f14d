//! The identity core: resolves browsers to canonical identities, collects vendor IDs for them, and serves
//! both over gRPC. `main.rs` is the binary; tests and benches use the library.

mod app;
pub mod auth;
mod clock;
mod config;
mod consent;
mod consistency;
mod delivery;
mod enrich;
mod error;
mod first_party_ids;
mod graph;
mod grpc;
pub mod identifiers;
mod identity_admin;

#[cfg(any(test, fuzzing))]
pub mod laws;
mod limits;
mod pii;
mod profile;
mod providers;
mod resolve;
mod run;
mod settings;
pub mod storage;
pub mod sync;
pub mod vendor_ids;
pub mod vendors;

pub use run::{compare, migrate, run};
