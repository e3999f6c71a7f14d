//! Texts with `{{variables}}` of a visitor and of the event at hand.

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

/// Checks that each `{{…}}` names one of [`VARIABLES`] or of `more`, or is a path into the event.
pub fn check(text: &str, more: &[&str]) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (_, tail) = rest.split_at(at);
        let inside = tail.strip_prefix("{{").and_then(|tail| tail.split_once("}}"));
        match (inside, tail.starts_with("{{") || tail.starts_with("}}")) {
            (Some((name, _)), _)
                if !VARIABLES.iter().chain(more).any(|known| *known == name.trim())
                    && !is_of_event(name.trim()) =>
            {
                let all: Vec<&str> = VARIABLES.iter().chain(more).copied().collect();
                return Err(format!(
                    "must use no variables but {}, and paths below properties, traits and context",
                    all.join(", ")
                ));
            }
            (Some((_, tail)), _) => rest = tail,
            (None, true) => return Err("must close each {{ with }}".to_owned()),
            // A single brace is text.
            (None, false) => rest = tail.get(1..).unwrap_or_default(),
        }
    }
    Ok(())
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
}
