//! Addresses and numbers that may not be sent as they are: wherever one shows in a payload, its digest takes its place.

use crate::{
    facts::Facts,
    format::Pii,
    json::{self, Json, Node},
    transform::digest,
};

/// Shortest phone number that is looked for within texts, in bytes: shorter ones are in too many.
const MIN_PHONE_BYTES: usize = 7;
/// Names of properties that hold an address or a number, in lower case.
const NAMES: [&str; 8] =
    ["email", "e_mail", "email_address", "phone", "phone_number", "mobile", "telephone", "tel"];

/// Takes the place of what may not be sent.
pub(crate) struct Scrubber {
    /// What may not be sent, in lower case, with its digest.
    secrets: Vec<(String, String)>,
}

impl Scrubber {
    /// The scrubber of an event's payload; none where all may be sent.
    pub(crate) fn of(pii: Pii, facts: &Facts<'_>) -> Option<Self> {
        if pii == Pii::Plain {
            return None;
        }
        let mut secrets = Vec::new();
        if let Some(email) = facts.trait_text(&["email"]) {
            let plain = email.trim().to_lowercase();
            secrets.push((plain.replace('@', "%40"), digest(email)));
            secrets.push((plain, digest(email)));
        }
        if let Some(phone) =
            facts.trait_text(&["phone"]).filter(|phone| phone.trim().len() >= MIN_PHONE_BYTES)
        {
            let plain = phone.trim().to_lowercase();
            secrets.push((plain.replace('+', "%2b"), digest(phone)));
            secrets.push((plain, digest(phone)));
        }
        secrets.retain(|(plain, _)| !plain.is_empty());
        Some(Self { secrets })
    }

    /// A payload with digests in place of what may not be sent.
    pub(crate) fn scrub(&self, payload: &str) -> String {
        Node::parse(payload).map_or_else(|| payload.to_owned(), |node| self.node("", &node))
    }

    fn node(&self, name: &str, node: &Node<'_>) -> String {
        match &node.value {
            Json::Object(members) => {
                let mut text = String::from("{");
                for (name, member) in members {
                    json::push_member(&mut text, name, &self.node(name, member));
                }
                text + "}"
            }
            Json::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| self.node(name, item)).collect();
                format!("[{}]", items.join(","))
            }
            Json::Text(text) => match self.replaced(name, text) {
                Some(replaced) => json::quoted(&replaced),
                None => node.raw.clone().into_owned(),
            },
            Json::Number => match self.replaced(name, &node.raw) {
                Some(replaced) => json::quoted(&replaced),
                None => node.raw.clone().into_owned(),
            },
            Json::Boolean(_) | Json::Null => node.raw.clone().into_owned(),
        }
    }

    /// The text without what may not be sent; none where it has nothing of that.
    fn replaced(&self, name: &str, text: &str) -> Option<String> {
        let name = name.to_lowercase();
        let name = name.strip_prefix("prop_").unwrap_or(&name);
        if is_email(text) || (NAMES.contains(&name) && !text.trim().is_empty()) {
            return Some(digest(text));
        }
        let mut replaced = text.to_owned();
        for (plain, digest) in &self.secrets {
            // What is lower case elsewhere too, byte by byte: the places are then the same.
            let lower = replaced.to_lowercase();
            if lower.len() != replaced.len() || !lower.contains(plain.as_str()) {
                continue;
            }
            let mut at = 0;
            let mut made = String::with_capacity(replaced.len());
            for (found, _) in lower.match_indices(plain.as_str()) {
                made.push_str(replaced.get(at..found).unwrap_or_default());
                made.push_str(digest);
                at = found + plain.len();
            }
            made.push_str(replaced.get(at..).unwrap_or_default());
            replaced = made;
        }
        (replaced != text).then_some(replaced)
    }
}

/// True for a text that is an address.
fn is_email(text: &str) -> bool {
    let text = text.trim();
    let Some((local, domain)) = text.split_once('@') else { return false };
    let is_word =
        |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || "/?&=@".contains(c));
    is_word(local) && is_word(domain) && domain.contains('.')
}
