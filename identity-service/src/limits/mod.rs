//! Bounds on work that is going on: calls of the process and of one organisation, changes of one
//! organisation, and the rate of a pipeline key.

pub mod calls;
pub mod org_calls;
pub mod org_writes;
pub mod rate;
