//! The HTTP edge: translates what browsers, customers' servers and vendors send into one gRPC call each, and
//! the answer back. It has no store, no customer's secret and no domain rule. `main.rs` is the binary; fuzz targets use
//! the library.

mod body;
mod caller;
mod config;
mod cookies;
mod core_client;
mod error;
mod event;
mod finish_on_drop;
mod gzip;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod memory;
mod query;
mod routes;
mod run;
mod subjects;
mod throttle;
mod vendor_cookies;
mod without_delivery;

pub use routes::document;
pub use run::run;

#[cfg(test)]
mod tests;
