//! The limits on where this service may go on a customer's behalf.

pub mod openings;
pub mod target;
