//! Who may log in, and what proves that someone has.

pub mod hashing;
pub mod login;
pub mod new_password;
pub mod password;
pub mod refresh;
pub mod sessions;
pub mod throttle;
pub mod tokens;
