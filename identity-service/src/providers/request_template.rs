//! Templates of requests, as settings have them.

use serde_json::Value;

use super::template;

/// Most fields of a request, over all levels.
const MAX_FIELDS: usize = 100;
/// Most levels that a request may have.
const MAX_DEPTH: usize = 8;
/// Longest text in a request, in bytes.
const MAX_TEXT: usize = 1024;

/// Checks a template: an object of texts with variables, those in `more` among them, of numbers, booleans and, but for a
/// GET, of lists and objects.
pub fn check(template: &Value, is_get: bool, more: &[&str]) -> Result<(), String> {
    if !template.is_object() {
        return Err("must be an object".to_owned());
    }
    // What a GET sends are parameters of its URL, which have no levels.
    let depth = if is_get { 1 } else { MAX_DEPTH };
    let mut left = MAX_FIELDS;
    level(template, depth, more, &mut left)
}

fn level(value: &Value, depth: usize, more: &[&str], left: &mut usize) -> Result<(), String> {
    *left = left.checked_sub(1).ok_or_else(|| format!("must have at most {} fields", MAX_FIELDS - 1))?;
    let deeper = || depth.checked_sub(1).ok_or("must not be nested as deep");
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::String(text) if text.len() > MAX_TEXT => {
            Err(format!("must have texts of at most {MAX_TEXT} bytes"))
        }
        Value::String(text) => template::check(text, more),
        Value::Array(values) => {
            let depth = deeper()?;
            values.iter().try_for_each(|value| level(value, depth, more, left))
        }
        Value::Object(fields) => {
            let depth = deeper()?;
            let bounded = |name: &String| (1..=128).contains(&name.len());
            if !fields.keys().all(bounded) {
                return Err("must have names of 1 to 128 bytes".to_owned());
            }
            fields.values().try_for_each(|value| level(value, depth, more, left))
        }
    }
}
