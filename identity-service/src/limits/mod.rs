//! Bounds on work that is going on: calls of the process and of one organisation, changes of one
//! organisation, the rate of a pipeline key, and that of an address's new identities.

pub mod calls;
pub mod new_identities;
pub mod org_calls;
pub mod org_writes;
pub mod rate;
pub mod stranger_syncs;
