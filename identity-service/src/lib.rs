//! The identity core: resolves browsers to canonical identities, collects vendor IDs for them, and serves
//! both over gRPC. `main.rs` is the binary; tests and benches use the library.

pub mod auth;
mod clock;
mod collect;
mod compare;
mod config;
mod consent;
mod core;
mod egress;
mod enrich;
mod error;
mod grpc;
pub mod identifiers;
mod json;
mod people;
mod pii;
mod problems;
mod profile;
mod resolve;
mod run;
mod sealing;
mod settings;
pub mod storage;
pub mod sync;

pub use compare::compare;
pub use run::{migrate, run};
