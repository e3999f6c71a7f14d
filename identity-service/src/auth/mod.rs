//! Who is asking: service tokens of internal services, and the keys, origins and signatures of requests to a
//! collect host.

pub mod collect;
pub mod last_use;
pub mod origin;
pub mod places;
pub mod rate;
pub mod service_token;
pub mod signature;
