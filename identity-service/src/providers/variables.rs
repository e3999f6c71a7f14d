//! Values of the variables that templates name: what is known of one visitor, and the event at hand.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::Value;

/// What templates may be filled with, for one call.
#[derive(Default)]
pub struct Variables {
    known: BTreeMap<&'static str, String>,
    event: Option<Value>,
}

impl Variables {
    /// The variables of a visitor's event, an object of `properties`, `traits` and `context`.
    pub fn of_event(event: Option<Value>) -> Self {
        Self { known: BTreeMap::new(), event }
    }

    /// Sets a variable. A value that is blank is none.
    pub fn set(&mut self, name: &'static str, value: Option<impl Into<String>>) {
        if let Some(value) = value.map(Into::into).filter(|value: &String| !value.trim().is_empty()) {
            self.known.insert(name, value);
        }
    }

    /// Forgets a variable.
    pub fn remove(&mut self, name: &str) {
        self.known.remove(name);
    }

    /// The value of a variable, or of a path into the event; none where there is no text, number or boolean.
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        if let Some(value) = self.known.get(name) {
            return Some(Cow::Borrowed(value));
        }
        let value = name.split('.').try_fold(self.event.as_ref()?, |value, member| value.get(member))?;
        match value {
            Value::String(text) if !text.trim().is_empty() => Some(Cow::Borrowed(text)),
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            Value::Bool(value) => Some(Cow::Owned(value.to_string())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_the_event_texts_numbers_and_booleans_count() {
        let event =
            json!({"properties": {"a": "x", "b": 1.5, "c": true, "d": [], "e": {"f": " "}, "g": null}});
        let mut variables = Variables::of_event(Some(event));
        variables.set("user_id", Some("u"));
        variables.set("page_url", Some(" "));
        variables.set("client_ip", None::<String>);
        let get = |name| variables.get(name).map(Cow::into_owned);
        assert_eq!(get("properties.a").as_deref(), Some("x"));
        assert_eq!(get("properties.b").as_deref(), Some("1.5"));
        assert_eq!(get("properties.c").as_deref(), Some("true"));
        assert_eq!(get("user_id").as_deref(), Some("u"));
        for absent in [
            "properties",
            "properties.d",
            "properties.e.f",
            "properties.g",
            "properties.a.b",
            "traits.a",
            "page_url",
            "client_ip",
            "anonymous_id",
        ] {
            assert_eq!(get(absent), None, "{absent}");
        }
    }
}
