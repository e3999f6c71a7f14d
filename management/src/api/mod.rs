//! Parts that all routes share: callers and what they may do, bodies, pages, versions, errors, and the API's
//! document.

pub mod audit;
pub mod body;
pub mod caller;
pub mod code;
pub mod document;
pub mod error;
pub mod fields;
pub mod limit;
pub mod member;
pub mod org_lock;
pub mod page;
pub mod permission;
pub mod query;
pub mod versioned;
