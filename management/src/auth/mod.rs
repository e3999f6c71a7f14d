//! Who may log in, and what proves that someone has.

pub mod login;
pub mod sessions;
pub mod tokens;
