//! Checking settings that come as JSON: all that is wrong with them at once, each with its field.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Most mistakes that are told: whoever has made more sends something else altogether.
const MAX_PROBLEMS: usize = 100;
/// Characters of an unknown field's name that are told.
const MAX_NAME: usize = 64;

/// A mistake in settings, with the field that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, such as `response_mapping.json_path`.
    pub field: String,
    /// Requirement that the field does not meet, for people. The value is never in it: it may be a secret
    /// that went astray.
    pub message: Cow<'static, str>,
}

/// Mistakes in the order they were found, the first `MAX_PROBLEMS` of them.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one mistake, unless there are too many already.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<Cow<'static, str>>) {
        if self.0.len() < MAX_PROBLEMS {
            self.0.push(Problem { field: field.into(), message: message.into() });
        }
    }

    /// Takes the value of a check, or adds one more mistake.
    pub fn take<T, M: Into<Cow<'static, str>>>(&mut self, field: String, checked: Result<T, M>) -> Option<T> {
        checked.map_err(|message| self.add(field, message)).ok()
    }

    /// The mistakes that were found.
    pub fn into_list(self) -> Vec<Problem> {
        self.0
    }
}

/// The fields of an object. Those that nobody asked for are mistakes in the end.
#[derive(Debug)]
pub struct Fields<'a> {
    path: String,
    object: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The object at `path`, which is empty for the settings themselves.
    pub fn of(path: impl Into<String>, value: &'a Value, problems: &mut Problems) -> Option<Self> {
        let path = path.into();
        let Some(object) = value.as_object() else {
            problems.add(path, "must be an object");
            return None;
        };
        Some(Self { path, object, known: Vec::new() })
    }

    /// The path of a field.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The value of a field; null counts as none.
    pub fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A text that may be left out, as `check` reads it.
    pub fn optional<T, M: Into<Cow<'static, str>>>(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
        check: impl FnOnce(&'a str) -> Result<T, M>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let Some(text) = value.as_str() else {
            problems.add(self.path(name), "must be a text");
            return None;
        };
        problems.take(self.path(name), check(text))
    }

    /// A text that must be there.
    pub fn required<T, M: Into<Cow<'static, str>>>(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
        check: impl FnOnce(&'a str) -> Result<T, M>,
    ) -> Option<T> {
        self.require(name, problems);
        self.optional(name, problems, check)
    }

    /// Checks that the field is there, and adds a mistake where it is not.
    pub fn require(&mut self, name: &'static str, problems: &mut Problems) -> bool {
        let is_there = self.value(name).is_some();
        if !is_there {
            problems.add(self.path(name), "is required");
        }
        is_there
    }

    /// A boolean that may be left out.
    pub fn boolean(&mut self, name: &'static str, problems: &mut Problems) -> Option<bool> {
        let value = self.value(name)?;
        problems.take(self.path(name), value.as_bool().ok_or("must be true or false"))
    }

    /// A list of at most `max` entries that may be left out; each entry comes with its path.
    pub fn list(
        &mut self,
        name: &'static str,
        max: usize,
        problems: &mut Problems,
    ) -> Vec<(String, &'a Value)> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let path = self.path(name);
        match value.as_array() {
            None => problems.add(path, "must be a list"),
            Some(list) if list.len() > max => problems.add(path, format!("must have at most {max} entries")),
            Some(list) => {
                return list.iter().enumerate().map(|(at, value)| (format!("{path}[{at}]"), value)).collect();
            }
        }
        Vec::new()
    }

    /// An object that may be left out.
    pub fn object(&mut self, name: &'static str, problems: &mut Problems) -> Option<Fields<'a>> {
        let value = self.value(name)?;
        Fields::of(self.path(name), value, problems)
    }

    /// Adds a mistake for each field that nobody has asked for.
    pub fn finish(self, problems: &mut Problems) {
        for name in self.object.keys().filter(|name| !self.known.contains(&name.as_str())) {
            let name: String = name.chars().take(MAX_NAME).collect();
            problems.add(self.path(&name), "is unknown");
        }
    }
}

/// A text of 1 to `max` characters, all of them letters, digits or in `others`.
pub fn name(text: &str, max: usize, others: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    if (1..=max).contains(&text.len()) && text.chars().all(fits) {
        return Ok(());
    }
    let others: Vec<String> = others.chars().map(String::from).collect();
    let others = if others.is_empty() { String::new() } else { format!(" and {}", others.join(" ")) };
    Err(format!("must be 1 to {max} letters, digits{others}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_is_told_at_once_with_its_path() {
        let settings = json!({
            "a": 1, "b": null, "c": {"d": "x", "e": 1}, "f": "true", "g": {}, "h": [1, 2], "i": [1],
        });
        let mut problems = Problems::default();
        let mut fields = Fields::of("", &settings, &mut problems).unwrap();
        assert_eq!(fields.optional("a", &mut problems, Ok::<_, &str>), None);
        assert_eq!(fields.required("b", &mut problems, Ok::<_, &str>), None);
        let mut inner = fields.object("c", &mut problems).unwrap();
        assert_eq!(inner.required("d", &mut problems, |_| Err::<(), _>("must be y")), None);
        inner.finish(&mut problems);
        assert_eq!(fields.boolean("f", &mut problems), None);
        assert!(
            fields.list("g", 1, &mut problems).is_empty() && fields.list("h", 1, &mut problems).is_empty()
        );
        assert_eq!(fields.list("i", 1, &mut problems), [("i[0]".to_owned(), &json!(1))]);
        fields.finish(&mut problems);
        assert!(Fields::of("", &json!([]), &mut Problems::default()).is_none());
        let found = problems.into_list();
        let found: Vec<(&str, &str)> =
            found.iter().map(|problem| (problem.field.as_str(), &*problem.message)).collect();
        assert_eq!(
            found,
            [
                ("a", "must be a text"),
                ("b", "is required"),
                ("c.d", "must be y"),
                ("c.e", "is unknown"),
                ("f", "must be true or false"),
                ("g", "must be a list"),
                ("h", "must have at most 1 entries"),
            ]
        );
    }

    #[test]
    fn an_answer_has_a_bound() {
        let many: Map<String, Value> =
            (0..1000).map(|n| (format!("{n}{}", "x".repeat(1000)), json!(1))).collect();
        let mut problems = Problems::default();
        let many = Value::Object(many);
        Fields::of("", &many, &mut problems).unwrap().finish(&mut problems);
        let problems = problems.into_list();
        assert_eq!(problems.len(), MAX_PROBLEMS);
        assert!(problems.iter().all(|problem| problem.field.len() <= MAX_NAME));
    }

    #[test]
    fn names() {
        assert_eq!(name("cdp_1", 5, "_"), Ok(()));
        for bad in ["", "cdp_12", "cdp-1", "cdp\n", "ä"] {
            assert_eq!(name(bad, 5, "_").unwrap_err(), "must be 1 to 5 letters, digits and _", "{bad}");
        }
    }
}
