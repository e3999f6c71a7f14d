//! The protocol by which Redis follows PostgreSQL.
//!
//! A key is ready, or holds a marker instead of its value: a *busy* marker (30 s) while a writer commits, a
//! *fill* marker (2 s) while a reader loads. Every marker has a nonce, and a value only ever replaces the
//! marker of its own nonce.
//!
//! A writer locks the rows, marks the keys, commits, and puts the values. Row locks make marks follow commit
//! order: a later writer has seen what an earlier one committed. So
//! - a put that finds another's busy marker leaves it: that writer's value includes this one's change;
//! - a put that finds a value or a fill marker deletes it: it may have been read before this commit;
//! - a writer that dies leaves its marker, which ends in 30 s, and the key is loaded anew.
//!
//! Each script touches one key, so a Redis Cluster serves as well.

mod invalidate;
mod read;
mod write;

use bb8_redis::redis::{Cmd, cmd};

pub use self::{
    invalidate::{Invalidated, Stale},
    read::{Cached, hash_state, strings},
};
use super::keys::Key;

/// Field of a hash that says whether it is ready. A field that begins with `_` is ours.
pub const VERSION_FIELD: &str = "_v";
/// Value of [`VERSION_FIELD`] in a hash that is ready.
pub const READY: &str = "1";
/// The beginnings of all markers; no value has them.
const BUSY: &str = "!busy:";
const FILL: &str = "!fill:";

/// A value to be written to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text of a text key.
    Text(String),
    /// Fields of a hash key; `_v` is added.
    Hash(Vec<(String, String)>),
    /// No value, as PostgreSQL knows none: the key goes.
    Nothing,
}

/// A key with its value and the value's life in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key that it belongs to.
    pub key: Key,
    /// The value that the key gets.
    pub value: Value,
    /// Life in milliseconds, after which the key is loaded anew. Less than 1 counts as 1.
    pub ttl_ms: i64,
}

/// A random name of one writer or reader.
#[derive(Debug, Clone)]
pub struct Nonce(String);

impl Nonce {
    /// Makes a nonce nobody else has.
    pub fn new() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }

    /// Returns the nonce as it is written, 32 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn busy(&self) -> String {
        busy(&self.0)
    }

    fn fill(&self) -> String {
        format!("{FILL}{}", self.0)
    }
}

impl Default for Nonce {
    fn default() -> Self {
        Self::new()
    }
}

fn busy(writer: &str) -> String {
    format!("{BUSY}{writer}")
}

fn eval(script: &str, key: &str) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(script).arg(1).arg(key);
    command
}
