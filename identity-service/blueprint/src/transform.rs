//! Transforms of values. Nothing that runs code.

use sha2::{Digest, Sha256};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339, macros::format_description};
use url::Url;

use crate::json::{Json, Node};

/// A transform of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transform {
    /// A text without the spaces around it.
    Trim,
    /// A text in lower case.
    Lowercase,
    /// A text in snake_case.
    SnakeCase,
    /// The digest of a text, trimmed and in lower case, as 64 hex digits.
    Sha256,
    /// A scalar as text.
    Text,
    /// A number, or a text that is one.
    Number,
    /// True or false, or a text or number that says so.
    Boolean,
    /// A time in RFC 3339, in UTC, to the millisecond.
    Iso8601,
    /// A time in milliseconds since the Unix epoch.
    EpochMs,
    /// A time in seconds since the Unix epoch.
    EpochS,
    /// The host of a URL.
    Host,
    /// The path of a URL.
    Path,
    /// A parameter of a URL's query, by name.
    Query(String),
    /// A list of scalars as one text with commas.
    Join,
}

impl Transform {
    /// Reads a transform by its name, or says what it must be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        Ok(match text {
            "trim" => Self::Trim,
            "lowercase" => Self::Lowercase,
            "snake_case" => Self::SnakeCase,
            "sha256" => Self::Sha256,
            "string" => Self::Text,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            "iso8601" => Self::Iso8601,
            "epoch_ms" => Self::EpochMs,
            "epoch_s" => Self::EpochS,
            "host" => Self::Host,
            "path" => Self::Path,
            "join" => Self::Join,
            _ => {
                let name = text.strip_prefix("query:").filter(|name| (1..=64).contains(&name.len()));
                Self::Query(name.map(str::to_owned).ok_or(
                    "must be trim, lowercase, snake_case, sha256, string, number, boolean, iso8601, epoch_ms, epoch_s, \
                     host, path, join or query: and a name",
                )?)
            }
        })
    }

    /// Makes another value of one; none where that can't be done.
    pub fn apply<'a>(&self, node: &Node<'a>) -> Option<Node<'a>> {
        match self {
            Self::Trim => node.as_text().map(|text| Node::text(text.trim().to_owned())),
            Self::Lowercase => node.as_text().map(|text| Node::text(text.to_lowercase())),
            Self::SnakeCase => node.as_text().map(|text| Node::text(snake_case(text))),
            Self::Sha256 => node.scalar_text().map(|text| Node::text(digest(text))),
            Self::Text => node.scalar_text().map(|text| Node::text(text.to_owned())),
            Self::Number => match &node.value {
                Json::Number => Some(node.clone()),
                Json::Text(text) => number(text.trim()),
                _ => None,
            },
            Self::Boolean => boolean(node),
            Self::Iso8601 => Some(Node::text(iso8601(time_of(node)?))),
            Self::EpochMs => {
                Some(Node::number((time_of(node)?.unix_timestamp_nanos() / 1_000_000).to_string()))
            }
            Self::EpochS => Some(Node::number(time_of(node)?.unix_timestamp().to_string())),
            Self::Host => url(node)?.host_str().map(|host| Node::text(host.to_owned())),
            Self::Path => Some(Node::text(url(node)?.path().to_owned())),
            Self::Query(name) => {
                let url = url(node)?;
                let found = url.query_pairs().find(|(own, value)| own == name && !value.is_empty())?;
                Some(Node::text(found.1.into_owned()))
            }
            Self::Join => {
                let Json::Array(items) = &node.value else { return None };
                let texts: Option<Vec<&str>> = items.iter().map(Node::scalar_text).collect();
                Some(Node::text(texts?.join(",")))
            }
        }
    }
}

impl std::fmt::Display for Transform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Trim => "trim",
            Self::Lowercase => "lowercase",
            Self::SnakeCase => "snake_case",
            Self::Sha256 => "sha256",
            Self::Text => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Iso8601 => "iso8601",
            Self::EpochMs => "epoch_ms",
            Self::EpochS => "epoch_s",
            Self::Host => "host",
            Self::Path => "path",
            Self::Join => "join",
            Self::Query(name) => return write!(f, "query:{name}"),
        })
    }
}

/// A text in snake_case: words in lower case, with `_` between them.
pub fn snake_case(text: &str) -> String {
    let mut made = String::with_capacity(text.len() + 4);
    let mut before: Option<char> = None;
    let mut letters = text.trim().chars().peekable();
    while let Some(letter) = letters.next() {
        if !letter.is_alphanumeric() {
            before = None;
            continue;
        }
        let ends_acronym = letters.peek().is_some_and(|next| next.is_lowercase());
        let begins = match before {
            None => true,
            Some(before) => {
                letter.is_uppercase() && (before.is_lowercase() || before.is_numeric() || ends_acronym)
            }
        };
        if begins && !made.is_empty() {
            made.push('_');
        }
        made.extend(letter.to_lowercase());
        before = Some(letter);
    }
    made
}

/// The digest of a text, trimmed and in lower case.
pub fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.trim().to_lowercase()))
}

/// The time that a value says: RFC 3339, or a number of seconds or milliseconds since the Unix epoch.
pub fn time_of(node: &Node<'_>) -> Option<OffsetDateTime> {
    /// Numbers from here on are milliseconds: seconds would be of the year 5138.
    const MILLISECONDS_FROM: f64 = 1e11;
    /// The end of the year 9999, and about as far back.
    const LATEST_SECONDS: f64 = 253_402_300_799.0;
    match &node.value {
        Json::Text(text) => OffsetDateTime::parse(text.trim(), &Rfc3339).ok(),
        Json::Number => {
            let number: f64 = node.raw.parse().ok()?;
            let seconds = if number.abs() < MILLISECONDS_FROM { number } else { number / 1000.0 };
            if seconds.abs() > LATEST_SECONDS {
                return None;
            }
            #[expect(clippy::cast_possible_truncation, reason = "what is out of bounds is no time")]
            let nanos = (seconds * 1000.0).round() as i128 * 1_000_000;
            OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()
        }
        _ => None,
    }
}

/// A time in RFC 3339, in UTC, to the millisecond.
pub fn iso8601(at: OffsetDateTime) -> String {
    let shape = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    at.to_offset(UtcOffset::UTC).format(shape).unwrap_or_default()
}

fn url(node: &Node<'_>) -> Option<Url> {
    Url::parse(node.as_text()?.trim()).ok()
}

fn number<'a>(text: &str) -> Option<Node<'a>> {
    let node = Node::parse(text)?;
    matches!(node.value, Json::Number).then(|| Node::number(text.to_owned()))
}

fn boolean<'a>(node: &Node<'_>) -> Option<Node<'a>> {
    let said = match &node.value {
        Json::Boolean(value) => *value,
        Json::Text(text) => match text.trim().to_lowercase().as_str() {
            "true" | "yes" | "1" => true,
            "false" | "no" | "0" => false,
            _ => return None,
        },
        Json::Number => match node.raw.as_ref() {
            "1" => true,
            "0" => false,
            _ => return None,
        },
        _ => return None,
    };
    Some(Node::boolean(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(transform: &str, json: &str) -> Option<String> {
        let node = Node::parse(json).unwrap();
        Some(Transform::parse(transform).unwrap().apply(&node)?.raw.into_owned())
    }

    #[test]
    fn each_does_what_it_says() {
        for (transform, json, expected) in [
            ("trim", r#"" a ""#, r#""a""#),
            ("lowercase", r#""AbC""#, r#""abc""#),
            ("snake_case", r#""Product Viewed""#, r#""product_viewed""#),
            ("snake_case", r#""viewItemList""#, r#""view_item_list""#),
            ("snake_case", r#""HTTPServer2Go ""#, r#""http_server2_go""#),
            (
                "sha256",
                r#"" Jane@Example.COM ""#,
                r#""8c87b489ce35cf2e2f39f80e282cb2e804932a56a213983eeeb428407d43b52d""#,
            ),
            ("string", "1.50", r#""1.50""#),
            ("number", r#"" 1.50 ""#, "1.50"),
            ("number", "9007199254740993", "9007199254740993"),
            ("boolean", r#""Yes""#, "true"),
            ("boolean", "0", "false"),
            ("iso8601", r#""2026-11-30T10:00:00+02:00""#, r#""2026-11-30T08:00:00.000Z""#),
            ("iso8601", "1764489600123", r#""2025-11-30T08:00:00.123Z""#),
            ("epoch_ms", r#""2026-11-30T08:00:00.5Z""#, "1796025600500"),
            ("epoch_s", "1764489600123", "1764489600"),
            ("host", r#""https://Shop.example.com:444/a?b=1""#, r#""shop.example.com""#),
            ("path", r#""https://shop.example.com/a/b?c=1#d""#, r#""/a/b""#),
            ("query:utm_source", r#""https://x.example/?utm_source=news%20letter&a=1""#, r#""news letter""#),
            ("join", r#"["a",1,true]"#, r#""a,1,true""#),
        ] {
            assert_eq!(done(transform, json).as_deref(), Some(expected), "{transform} {json}");
            assert_eq!(Transform::parse(transform).unwrap().to_string(), transform);
        }
        for (transform, json) in [
            ("trim", "1"),
            ("number", r#""1,5""#),
            ("number", r#""0x10""#),
            ("boolean", r#""perhaps""#),
            ("boolean", "2"),
            ("iso8601", r#""tomorrow""#),
            ("iso8601", "1e300"),
            ("host", r#""/a""#),
            ("query:a", r#""https://x.example/?a=&b=1""#),
            ("join", "[{}]"),
            ("sha256", "{}"),
        ] {
            assert_eq!(done(transform, json), None, "{transform} {json}");
        }
        assert!(Transform::parse("eval").is_err() && Transform::parse("query:").is_err());
    }
}
