//! Server-proxied enrichment: vendors that give an ID to whoever has credentials, and what settings of
//! theirs, and of a customer's own provider, must be.

pub mod config;
pub mod custom;
