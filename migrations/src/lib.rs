//! The database of Signal Identity as a crate: migrations, diesel schema, row types, connection pool and the
//! sealed column. No HTTP, no gRPC, no Redis.

pub mod database;
pub mod migrate;
pub mod pool;
pub mod prepared;
pub mod rows;
pub mod schema;
pub mod sealed;
pub mod tls;

pub use diesel;
pub use diesel_async;
