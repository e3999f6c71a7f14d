//! Paths of values: names joined by dots, `[n]` for an item of a list, `["a.b"]` for a name with a dot.

use std::fmt;

/// Longest path in bytes.
const MAX_BYTES: usize = 256;
/// Most steps of a path.
const MAX_STEPS: usize = 16;

/// The roots that a path may begin with.
pub const ROOTS: [&str; 22] = [
    "type",
    "event",
    "name",
    "message_id",
    "timestamp",
    "original_timestamp",
    "received_at",
    "user_id",
    "anonymous_id",
    "canonical_id",
    "group_id",
    "properties",
    "traits",
    "context",
    "page",
    "ip",
    "user_agent",
    "consent",
    "vendor_ids",
    "partner_attrs",
    "match_keys",
    "settings",
];

/// A path from a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The root, one of [`ROOTS`].
    pub root: &'static str,
    /// The steps from there.
    pub steps: Vec<Step>,
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To a member of an object.
    Name(String),
    /// To an item of a list, from 0.
    Item(usize),
}

impl Path {
    /// Reads a path, or says what it must be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const SHAPE: &str = "must be a path, such as properties.value, items[0].price or properties[\"a.b\"]";
        if text.len() > MAX_BYTES {
            return Err("must have at most 256 bytes");
        }
        let (mut steps, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let (step, after) = next(rest, steps.is_empty()).ok_or(SHAPE)?;
            steps.push(step);
            rest = after;
        }
        if steps.len() > MAX_STEPS {
            return Err("must have at most 16 parts");
        }
        let mut steps = steps.into_iter();
        let Some(Step::Name(first)) = steps.next() else { return Err(SHAPE) };
        let root = ROOTS.iter().copied().find(|root| *root == first).ok_or(
            "must begin with one of the parts of an event, such as properties, traits, context, vendor_ids or \
             partner_attrs",
        )?;
        let steps: Vec<Step> = steps.collect();
        let needs_name = ["vendor_ids", "match_keys", "settings"].contains(&root);
        if needs_name && !matches!(steps.first(), Some(Step::Name(_))) {
            return Err("must name one of them, such as vendor_ids.fbp");
        }
        Ok(Self { root, steps })
    }

    /// A path of names alone, as records have it.
    pub fn of_names(root: &'static str, names: &[&str]) -> Self {
        Self { root, steps: names.iter().map(|name| Step::Name((*name).to_owned())).collect() }
    }

    /// The name of the first step; none where it is none.
    pub fn first_name(&self) -> Option<&str> {
        match self.steps.first() {
            Some(Step::Name(name)) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root)?;
        for step in &self.steps {
            match step {
                Step::Item(at) => write!(f, "[{at}]")?,
                Step::Name(name) if name.contains(['.', '[', ']', '"']) => {
                    write!(f, "[{}]", crate::json::quoted(name))?;
                }
                Step::Name(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

/// Takes the next step off a path's text.
fn next(text: &str, is_first: bool) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix("[\"") {
        let (name, rest) = rest.split_once("\"]")?;
        return (!is_first && !name.is_empty()).then(|| (Step::Name(name.to_owned()), rest));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (digits, rest) = rest.split_once(']')?;
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        return Some((Step::Item(Some(digits).filter(|_| is_number && !is_first)?.parse().ok()?), rest));
    }
    let text = if is_first { text } else { text.strip_prefix('.')? };
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let fits = !name.is_empty() && !name.contains(['"', ']']) && !name.contains(char::is_control);
    fits.then(|| (Step::Name(name.to_owned()), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_and_write_the_same() {
        for text in [
            "type",
            "properties.items[0].price",
            "partner_attrs.amperity.Persona",
            r#"properties["a.b"].c"#,
            "context.page.url",
            "vendor_ids.fbp",
            "match_keys.meta",
            "properties.Größe",
        ] {
            assert_eq!(Path::parse(text).map(|path| path.to_string()).as_deref(), Ok(text));
        }
        for no in [
            "",
            ".",
            "properties.",
            "properties..a",
            ".properties",
            "properties[",
            "properties[x]",
            "properties[-1]",
            "properties[0]a",
            r#"properties[""]"#,
            r#"["properties"]"#,
            "secrets.key",
            "vendor_ids",
            "settings",
            "properties.a\nb",
            "properties[99999999999999999999999]",
        ] {
            assert!(Path::parse(no).is_err(), "{no}");
        }
        assert!(Path::parse(&format!("properties{}", ".a".repeat(16))).is_err());
        assert!(Path::parse(&format!("properties.{}", "a".repeat(256))).is_err());
    }
}
