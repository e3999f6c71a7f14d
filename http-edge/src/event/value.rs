//! A value that is wanted as text, whatever JSON type it has.

use std::borrow::Cow;

use serde::de::Error;
use serve::origin::is_unseen;

use super::{
    checked::{Checked, without_nul},
    event_error::cause_of,
};

/// A value by what it can be used as.
#[derive(Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Null, or text in which nothing can be seen.
    Absent,
    /// Text, borrowed where it has no escapes.
    Text(Cow<'a, str>),
    /// An integer, in its own digits.
    Integer(&'a str),
    /// A value of another type, which is sound.
    Other,
}

/// Reads `raw`, the JSON of one value. An error is a value that is not sound, as [`Checked`] says it.
pub fn read<E: Error>(raw: &str) -> Result<Value<'_>, E> {
    match raw.as_bytes() {
        [b'"', ..] => text(raw),
        b"null" => Ok(Value::Absent),
        [b'-' | b'0'..=b'9', ..] if !raw.contains(['.', 'e', 'E']) => Ok(Value::Integer(raw)),
        _ => check(raw).map(|()| Value::Other),
    }
}

fn text<E: Error>(raw: &str) -> Result<Value<'_>, E> {
    let text = match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
        _ => {
            let text: String = serde_json::from_str(raw).map_err(unsound)?;
            without_nul::<E>(&text)?;
            Cow::Owned(text)
        }
    };
    Ok(if is_blank(&text) { Value::Absent } else { Value::Text(text) })
}

/// True where nothing of `text` can be seen.
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || is_unseen(c))
}

/// Checks that `raw` is sound.
pub fn check<E: Error>(raw: &str) -> Result<(), E> {
    serde_json::from_str(raw).map(|Checked| ()).map_err(unsound)
}

/// The error for the reader around, by the part of its text that a cause is known by.
#[expect(clippy::needless_pass_by_value, reason = "as map_err has it")]
fn unsound<E: Error>(error: serde_json::Error) -> E {
    E::custom(cause_of(&error).map_or("unsound", |(part, _)| part))
}

/// True for `[]`, by which PHP writes an object without members.
pub fn is_empty_list(raw: &str) -> bool {
    raw.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|inner| inner.trim().is_empty())
}
