//! Visitors at the edge: what browsers and customers' servers bring, what of it counts, and what is refused.

mod concurrency;
mod consent;
mod contacts;
mod cookies;
mod document;
mod first_party_ids;
mod hostile;
mod hosts;
mod identity_tokens;
mod members;
mod privacy;
mod proofs;
mod refusals;
mod resets;
mod shapes;
mod signed_calls;
mod stamps;
mod withdrawals;
