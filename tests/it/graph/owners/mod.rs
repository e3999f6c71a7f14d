//! Owners of vendor IDs: what a person's devices are delivered with, by how each is tied to the person, end
//! to end over two cores, from Redis and, after `FLUSHALL`, from PostgreSQL.

mod claims;
mod consent;
mod delivery;
mod devices;
mod expiry;
mod readers;
mod support;
mod users;
mod ways;
