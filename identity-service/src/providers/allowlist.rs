//! The attributes of a person that their page may see, by exact name (`browser_attribute_allowlist`).

use serde_json::{Map, Value};

use super::validation::{Fields, Problems};

/// The field of settings.
const FIELD: &str = "browser_attribute_allowlist";
/// Most attributes that a browser may see.
const MAX_ATTRIBUTES: usize = 100;
/// Longest name of an attribute, in bytes.
const MAX_NAME: usize = 128;

/// Checks the names, which are a list or separated by commas.
pub fn check(fields: &mut Fields<'_>, problems: &mut Problems) {
    let one = |name: &str| (1..=MAX_NAME).contains(&name.len()) && !name.contains(char::is_control);
    let fits = match fields.value(FIELD) {
        None => return,
        Some(Value::String(text)) => names(text).count() <= MAX_ATTRIBUTES && names(text).all(one),
        Some(Value::Array(names)) => {
            names.len() <= MAX_ATTRIBUTES && names.iter().all(|name| name.as_str().is_some_and(one))
        }
        Some(_) => false,
    };
    if !fits {
        problems
            .add(FIELD, format!("must be at most {MAX_ATTRIBUTES} names, in a list or with commas between"));
    }
}

/// Keeps what `settings` let a browser see of `attributes`.
pub fn keep(settings: &Value, attributes: &Map<String, Value>) -> Map<String, Value> {
    let allowed: Vec<&str> = match settings.get(FIELD) {
        Some(Value::String(text)) => names(text).collect(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let pair = |name: &str| attributes.get_key_value(name).map(|(name, value)| (name.clone(), value.clone()));
    allowed.into_iter().filter_map(pair).collect()
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_named_is_not_seen() {
        let attributes =
            json!({"Persona": "Value Hunter", "persona": 1, "Tier": {"deep": true}, "secret": "x"});
        let attributes = attributes.as_object().unwrap();
        let seen = |allowlist: Value| Value::Object(keep(&json!({ FIELD: allowlist }), attributes));
        assert_eq!(
            seen(json!(" Persona, Tier,,Other")),
            json!({"Persona": "Value Hunter", "Tier": {"deep": true}})
        );
        assert_eq!(seen(json!(["Persona", 1])), json!({"Persona": "Value Hunter"}));
        for nothing in [json!(null), json!(""), json!("*"), json!("Tier.deep"), json!({"Persona": true})] {
            assert_eq!(seen(nothing.clone()), json!({}), "{nothing}");
        }
    }
}
