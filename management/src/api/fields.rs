//! Checks of what a body says: all that is wrong with it at once, each by its path.

use serde_json::Value;
use serve::origin::is_unseen;

use super::error::{ApiError, Problem, Result};

/// Longest email address in characters (RFC 5321, 4.5.3.1.3).
pub const MAX_EMAIL_CHARS: usize = 254;

/// Collects what is wrong with a body.
#[derive(Debug, Default)]
pub struct Fields(Vec<Problem>);

impl Fields {
    /// Notes a problem unless `ok`.
    pub fn check(&mut self, ok: bool, field: impl Into<String>, message: impl Into<String>) {
        if !ok {
            self.add(field, message);
        }
    }

    /// Notes that `field` is not as it should be.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { field: field.into(), message: message.into() });
    }

    /// Takes back what was noted of `field`.
    pub fn forgive(&mut self, field: &str) {
        self.0.retain(|problem| problem.field != field);
    }

    /// Checks a text for people or names: `min` to `max` characters, none of them a control character or
    /// unseen, no space at its ends.
    pub fn text(&mut self, field: &str, value: &str, min: usize, max: usize) {
        let length = value.chars().count();
        self.check((min..=max).contains(&length), field, format!("must have {min} to {max} characters"));
        let plain = !value.contains(|c: char| c.is_control() || is_unseen(c));
        self.check(plain, field, "must not have control characters or characters that nobody sees");
        self.check(value.trim() == value, field, "must not begin or end with a space");
    }

    /// Checks that a value is one of a few words.
    pub fn one_of(&mut self, field: &str, value: &str, words: &[&str]) {
        self.check(words.contains(&value), field, format!("must be one of: {}", words.join(", ")));
    }

    /// Checks that no text anywhere in `value` holds a NUL, which PostgreSQL can't store.
    pub fn storable(&mut self, field: &str, value: &Value) {
        match value {
            Value::String(text) => {
                self.check(!text.contains('\0'), field, "must not have control characters");
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.storable(&format!("{field}[{index}]"), item);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    self.check(!name.contains('\0'), field, "must not have control characters");
                    let dot = if field.is_empty() { "" } else { "." };
                    self.storable(&format!("{field}{dot}{}", name.replace('\0', "")), member);
                }
            }
            _ => {}
        }
    }

    /// Refuses with all problems that were noted; passes where there is none.
    pub fn done(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.0)) }
    }
}

/// Tells whether a text has the form of an email address, as browsers check it (HTML, "valid email address"),
/// not whether mail gets there. ASCII alone: of other letters it would depend on the database's locale which
/// are the same in another case, and on the reader's eye which are the same at all.
pub fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    is_local_part(local) && domain.split('.').all(is_label) && text.len() <= MAX_EMAIL_CHARS
}

/// Tells whether a text may stand before the `@` of an email address.
fn is_local_part(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte))
}

/// Tells whether a text is a label of a host's name.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(check: impl FnOnce(&mut Fields)) -> Vec<String> {
        let mut fields = Fields::default();
        check(&mut fields);
        fields.0.into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn texts_are_bounded_and_plain() {
        assert!(wrong(|fields| fields.text("name", "Été 🍪", 1, 5)).is_empty());
        for bad in ["", "123456", "a\0", "a\nb", " a", "a ", "\u{200b}", "\u{202e}a", "a\u{feff}"] {
            assert_eq!(wrong(|fields| fields.text("name", bad, 1, 5)), ["name"], "{bad:?}");
        }
        assert!(wrong(|fields| fields.text("name", "👩\u{200d}🚀", 1, 5)).is_empty(), "joined");
    }

    #[test]
    fn an_address_is_one_for_every_reader_and_every_database() {
        for good in ["ada@shop.example", "Ada.King+1@x", "o'hara_%@a-b.co.uk", "a@127.0.0.1"] {
            assert!(is_email(good), "{good}");
        }
        let long = format!("a@{}", "b".repeat(64));
        for bad in [
            "",
            "ada",
            "@x",
            "ada@",
            "a@b@c",
            "a b@x",
            "a@x ",
            "a\0@x",
            "\"a b\"@x",
            "<a@x>",
            "a,b@x",
            "a;b@x",
            "a@.",
            "a@x..y",
            "a@x.",
            "a@-x",
            "a@x-",
            "a@[127.0.0.1]",
            "Été@x",
            "\u{212a}@x",
            "а@x",
            "a\u{200b}@x",
            "a@bücher.example",
            &long,
        ] {
            assert!(!is_email(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_nul_is_found_wherever_it_is() {
        let value = json!({"a": ["x", {"b": "\0"}]});
        assert_eq!(wrong(|fields| fields.storable("config", &value)), ["config.a[1].b"]);
        assert_eq!(wrong(|fields| fields.storable("config", &json!({"\0": 1}))), ["config"]);
        assert_eq!(wrong(|fields| fields.storable("", &json!({"a": {"b": "\0"}}))), ["a.b"]);
        assert!(wrong(|fields| fields.storable("config", &json!({"a": [1, null, true, "x"]}))).is_empty());
    }
}
