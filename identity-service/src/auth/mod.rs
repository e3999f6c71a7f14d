//! Authentication: service tokens of internal services, and the keys, origins and signatures of requests to a
//! collect host.

pub mod identity_token;
pub mod pipeline_key;
pub mod sealed_token;
pub mod service_token;
pub mod signature;
pub mod tenant;

pub use tenant::Tenant;
