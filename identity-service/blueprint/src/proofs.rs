//! Proofs of who a visitor is, which pages send for us alone: a hash of the user ID, and an identity token.

use std::borrow::Cow;

use crate::json::{Json, Node};

/// Names of the proofs, in a context.
const NAMES: [&str; 4] = ["userHash", "user_hash", "identityToken", "identity_token"];

/// An event without proofs; none where it has none.
pub fn of_event(json: &[u8]) -> Option<Vec<u8>> {
    let text = with_any(json)?;
    let Json::Object(members) = Node::parse(text)?.value else { return None };
    let members = members.into_iter().map(|(name, node)| {
        let node = if name == "context" { without(node) } else { node };
        (name, node)
    });
    Some(Node::object(members.collect()).raw.into_owned().into_bytes())
}

/// The context of a batch without proofs; none where it has none.
pub fn of_context(json: &[u8]) -> Option<Vec<u8>> {
    let text = with_any(json)?;
    Some(without(Node::parse(text)?).raw.into_owned().into_bytes())
}

fn with_any(json: &[u8]) -> Option<&str> {
    // An escape may hide a name.
    let text = std::str::from_utf8(json).ok()?;
    (text.contains('\\') || NAMES.iter().any(|name| text.contains(name))).then_some(text)
}

fn without(context: Node<'_>) -> Node<'_> {
    match context.value {
        Json::Object(members) => {
            let stays = |name: &Cow<'_, str>| !NAMES.contains(&name.as_ref());
            Node::object(members.into_iter().filter(|(name, _)| stays(name)).collect())
        }
        _ => context,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_taken_out_of_contexts_and_nothing_else_changes() {
        let of_event = |json: &str| of_event(json.as_bytes()).map(|json| String::from_utf8(json).unwrap());
        let event = r#"{"type":"track","context":{"userHash":"a","ip":"1","identity\u0054oken":"b.c.d"},"n":1.50,"userHash":"x"}"#;
        let left = r#"{"type":"track","context":{"ip":"1"},"n":1.50,"userHash":"x"}"#;
        assert_eq!(of_event(event).as_deref(), Some(left));
        assert_eq!(of_event(r#"{"context":{"ip":"1"}}"#), None);
        assert_eq!(of_event("userHash"), None);
        assert_eq!(of_context(br#"{"user_hash":1,"a":2}"#).as_deref(), Some(br#"{"a":2}"#.as_slice()));
    }
}
