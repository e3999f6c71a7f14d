//! JSON as mappings need it: names can be looked up, and what is copied is the text as it came, so that no number changes.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A JSON value with its own text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node<'a> {
    /// The value's text, as it came.
    pub raw: Cow<'a, str>,
    /// What it is.
    pub value: Json<'a>,
}

/// A JSON value, as far as mappings look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json<'a> {
    /// An object, its members in order; of two of one name the last counts.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
    /// A list.
    Array(Vec<Node<'a>>),
    /// A text.
    Text(Cow<'a, str>),
    /// A number, as it was written.
    Number,
    /// True or false.
    Boolean(bool),
    /// Nothing.
    Null,
}

impl<'a> Node<'a> {
    /// Reads a JSON text; none where it is none.
    pub fn parse(text: &'a str) -> Option<Self> {
        Self::of(serde_json::from_str(text).ok()?)
    }

    fn of(raw: &'a RawValue) -> Option<Self> {
        let text = raw.get();
        let value = match text.as_bytes().first()? {
            b'{' => {
                let members: Members<'a> = serde_json::from_str(text).ok()?;
                let read = members.0.into_iter().map(|(name, raw)| Some((name, Self::of(raw)?)));
                Json::Object(read.collect::<Option<_>>()?)
            }
            b'[' => {
                let items: Vec<&'a RawValue> = serde_json::from_str(text).ok()?;
                Json::Array(items.into_iter().map(Self::of).collect::<Option<_>>()?)
            }
            b'"' => Json::Text(serde_json::from_str::<Text<'a>>(text).ok()?.0),
            b't' => Json::Boolean(true),
            b'f' => Json::Boolean(false),
            b'n' => Json::Null,
            _ => Json::Number,
        };
        Some(Self { raw: Cow::Borrowed(text), value })
    }

    /// A text.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        let text = text.into();
        Self { raw: Cow::Owned(quoted(&text)), value: Json::Text(text) }
    }

    /// A number, by its text.
    pub fn number(text: String) -> Self {
        Self { raw: Cow::Owned(text), value: Json::Number }
    }

    /// True or false.
    pub fn boolean(value: bool) -> Self {
        Self { raw: Cow::Borrowed(if value { "true" } else { "false" }), value: Json::Boolean(value) }
    }

    /// An object of members.
    pub fn object(members: Vec<(Cow<'a, str>, Self)>) -> Self {
        let mut raw = String::from("{");
        for (name, node) in &members {
            push_member(&mut raw, name, &node.raw);
        }
        raw.push('}');
        Self { raw: Cow::Owned(raw), value: Json::Object(members) }
    }

    /// The member of that name, of an object.
    pub fn member(&self, name: &str) -> Option<&Self> {
        let Json::Object(members) = &self.value else { return None };
        members.iter().rev().find(|(own, _)| own == name).map(|(_, node)| node)
    }

    /// The item of that number, of a list.
    pub fn item(&self, at: usize) -> Option<&Self> {
        let Json::Array(items) = &self.value else { return None };
        items.get(at)
    }

    /// The text, of a text.
    pub fn as_text(&self) -> Option<&str> {
        if let Json::Text(text) = &self.value { Some(text) } else { None }
    }

    /// A text or number as text.
    pub fn scalar_text(&self) -> Option<&str> {
        match &self.value {
            Json::Text(text) => Some(text),
            Json::Number | Json::Boolean(_) => Some(&self.raw),
            Json::Object(_) | Json::Array(_) | Json::Null => None,
        }
    }

    /// True for what counts as nothing: null and an empty text.
    pub fn is_nothing(&self) -> bool {
        match &self.value {
            Json::Null => true,
            Json::Text(text) => text.is_empty(),
            _ => false,
        }
    }
}

/// Adds a member to an object's text, which begins with its brace.
pub fn push_member(object: &mut String, name: &str, raw: &str) {
    if object.len() > 1 {
        object.push(',');
    }
    object.push_str(&quoted(name));
    object.push(':');
    object.push_str(raw);
}

/// A text as JSON has it.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text that is borrowed where it can be.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of an object, in order.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            members.push((name.0, map.next_value()?));
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_as_they_came() {
        let text =
            r#"{"a":{"b":[1, 9007199254740993 ,129.90,{"c":"\u00e9"}]},"x":null,"a.b":true,"d":1,"d":2}"#;
        let node = Node::parse(text).unwrap();
        assert_eq!(node.raw, text);
        let list = node.member("a").and_then(|a| a.member("b")).unwrap();
        assert_eq!(list.item(1).unwrap().raw, "9007199254740993");
        assert_eq!(list.item(2).unwrap().scalar_text(), Some("129.90"));
        assert_eq!(list.item(3).unwrap().member("c").unwrap().as_text(), Some("é"));
        assert_eq!(node.member("d").unwrap().raw, "2");
        assert!(node.member("x").unwrap().is_nothing() && node.member("y").is_none());
        for no in ["", "{", "[1,]", "nul", r#"{"a":01}"#, "1 2", "\"\\x\""] {
            assert_eq!(Node::parse(no), None, "{no}");
        }
        let made =
            Node::object(vec![("a\"b".into(), Node::text("c\nd")), ("n".into(), Node::number("1".into()))]);
        assert_eq!(made.raw, r#"{"a\"b":"c\nd","n":1}"#);
    }
}
