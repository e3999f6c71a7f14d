//! Running the system: starting, stopping, logs, comparing the stores, and what a request costs.

mod canaries;
mod compare;
mod drain;
mod logs;
mod metrics;
mod redis_contract;
mod round_trips;
mod schema;
mod start_up;
mod tenants;
mod upgrade;
