//! Texts with `{{variables}}` of a visitor and of the event at hand.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::validation;

/// Variables that a template may ask for.
pub const VARIABLES: [&str; 8] = [
    "anonymous_id",
    "canonical_id",
    "user_id",
    "sha256_email",
    "sha256_phone",
    "page_url",
    "user_agent",
    "client_ip",
];

/// Parts of the event at hand, of which a template may ask for members: `properties.x`, `context.x.y`.
const EVENT_PARTS: [&str; 3] = ["properties", "traits", "context"];
/// Longest path into the event, in bytes.
const MAX_PATH: usize = 256;

/// True where a variable is a path into the event.
fn is_of_event(name: &str) -> bool {
    let Some((part, path)) = name.split_once('.') else { return false };
    let is_member = |member: &str| validation::name(member, 64, "_-$").is_ok();
    EVENT_PARTS.contains(&part) && path.len() <= MAX_PATH && path.split('.').all(is_member)
}

/// A text with variables, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

impl Template {
    /// Reads a text in which each `{{…}}` names one of [`VARIABLES`] or of `more`, or is a path into the event.
    pub fn parse(text: &str, more: &[&str]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut plain = String::new();
        while let Some(at) = rest.find(['{', '}']) {
            let (before, tail) = rest.split_at(at);
            plain.push_str(before);
            let inside = tail.strip_prefix("{{").and_then(|tail| tail.split_once("}}"));
            match (inside, tail.starts_with("{{") || tail.starts_with("}}")) {
                (Some((name, after)), _) => {
                    let name = name.trim();
                    if !VARIABLES.iter().chain(more).any(|known| *known == name) && !is_of_event(name) {
                        return Err(unknown(more));
                    }
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Variable(name.to_owned()));
                    rest = after;
                }
                (None, true) => return Err("must close each {{ with }}".to_owned()),
                // A single brace is text.
                (None, false) => {
                    let (brace, after) = tail.split_at(1);
                    plain.push_str(brace);
                    rest = after;
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// A text without variables.
    pub fn plain(text: &str) -> Self {
        Self(vec![Part::Text(text.to_owned())])
    }

    /// The variables that it names, each as often as it does.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The text with the value of each variable in its place, written by `write`; none where a variable has none. A
    /// value is never looked at for variables itself.
    pub fn render<'a>(
        &self,
        value: impl Fn(&str) -> Option<Cow<'a, str>>,
        write: impl Fn(&str, &mut String),
    ) -> Option<Zeroizing<String>> {
        let mut text = Zeroizing::new(String::new());
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Variable(name) => write(&value(name)?, &mut text),
            }
        }
        Some(text)
    }
}

fn unknown(more: &[&str]) -> String {
    let all: Vec<&str> = VARIABLES.iter().chain(more).copied().collect();
    format!("must use no variables but {}, and paths below properties, traits and context", all.join(", "))
}

/// Checks that the text is one that [`Template::parse`] takes.
pub fn check(text: &str, more: &[&str]) -> Result<(), String> {
    Template::parse(text, more).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_of_a_visitor() {
        for good in [
            "",
            "x",
            "{{anonymous_id}}",
            "a{{ client_ip }}b{{user_agent}}",
            "{x}",
            "{\"a\":1}",
            "{{api_key}}",
            "{{properties.order_id}}{{ traits.plan }}{{context.page.referrer}}",
            "{{context.a-b.$c.d_1}}",
        ] {
            assert_eq!(check(good, &["api_key"]), Ok(()), "{good}");
        }
        for bad in [
            "{{email}}",
            "{{properties}}",
            "{{properties.}}",
            "{{context.a..b}}",
            "{{context.a b}}",
            "{{event.name}}",
            "{{properties.x[0]}}",
            "{{}}",
            "{{ }}",
            "{{anonymous_id",
            "anonymous_id}}",
            "{{anonymous_id}",
            "{{Anonymous_ID}}",
            "{{client_secret}}",
            "{{{anonymous_id}}}",
            "{{anonymous_id|upper}}",
            "{{canonical_id}}}}",
            "{{\nuser_id\n}}x{{",
        ] {
            assert!(check(bad, &["api_key"]).is_err(), "{bad}");
        }
        for variable in VARIABLES {
            assert_eq!(check(&format!("{{{{{variable}}}}}"), &[]), Ok(()));
        }
    }

    #[test]
    fn values_stand_where_their_variables_do_and_are_no_templates_themselves() {
        let template = Template::parse("a{{ user_id }}{b}{{user_id}}", &[]).unwrap();
        assert_eq!(template.variables().collect::<Vec<_>>(), ["user_id"; 2]);
        let push = |value: &str, text: &mut String| text.push_str(value);
        let rendered = template.render(|_| Some(Cow::Borrowed("{{anonymous_id}}")), push).unwrap();
        assert_eq!(*rendered, "a{{anonymous_id}}{b}{{anonymous_id}}");
        assert!(template.render(|_| None, push).is_none());
        let plain = Template::parse("", &[]).unwrap().render(|_| None, push).unwrap();
        assert_eq!(*plain, "");
    }
}
