//! Addresses and numbers that may not be sent as they are: wherever one shows in a payload, its digest takes its place.

use std::borrow::Cow;

use crate::{
    facts::Facts,
    format::Pii,
    json::{self, Json, Node},
    transform::{digest, snake_case},
};

/// Fewest digits of a phone number that is looked for within texts: shorter ones are in too many.
const MIN_PHONE_DIGITS: usize = 7;
/// Digits at a number's end by which it is known: what is before them may be written in more than one way.
const OWN_DIGITS: usize = 9;
/// Names of properties that hold an address.
const EMAIL_NAMES: [&str; 3] = ["email", "e_mail", "email_address"];
/// Words in names of properties that hold a number.
const PHONE_WORDS: [&str; 8] = ["phone", "telephone", "cellphone", "mobile", "cell", "tel", "msisdn", "fax"];

/// Takes the place of what may not be sent.
pub(crate) struct Scrubber {
    /// The event's own address, in lower case, with its digest.
    email: Option<(String, String)>,
    /// The last digits of the event's own number, with its digest.
    phone: Option<(String, String)>,
}

impl Scrubber {
    /// The scrubber of an event's payload; none where all may be sent.
    pub(crate) fn of(pii: Pii, facts: &Facts<'_>) -> Option<Self> {
        if pii == Pii::Plain {
            return None;
        }
        // A text that is no address at all is in too many others.
        let email =
            facts.trait_text(&["email"]).filter(|email| email.contains('@') && email.trim().len() > 3);
        let email = email.map(|email| (email.trim().to_lowercase(), digest(email)));
        let phone = facts.trait_text(&["phone"]).and_then(|phone| {
            let digits = digits_of(phone);
            let own = digits.get(digits.len().saturating_sub(OWN_DIGITS)..)?.to_owned();
            (digits.len() >= MIN_PHONE_DIGITS).then(|| (own, digest(phone)))
        });
        Some(Self { email, phone })
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
                    let shown = self.cleaned(name);
                    json::push_member(&mut text, shown.as_deref().unwrap_or(name), &self.node(name, member));
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

    /// The value of a member without what may not be sent; none where it has nothing of that.
    fn replaced(&self, name: &str, text: &str) -> Option<String> {
        if text.trim().is_empty() {
            return None;
        }
        let name = snake_case(name);
        let name = name.strip_prefix("prop_").unwrap_or(&name);
        let is_phone = name.split('_').any(|word| PHONE_WORDS.contains(&word))
            && digits_of(text).len() >= MIN_PHONE_DIGITS;
        if EMAIL_NAMES.contains(&name) || name == "phone" || is_phone {
            return Some(digest(text));
        }
        self.cleaned(text)
    }

    /// A text without what may not be sent; none where it has nothing of that.
    pub(crate) fn cleaned(&self, text: &str) -> Option<String> {
        let mut made = Cow::Borrowed(text);
        if let Some((email, digest)) = &self.email {
            replace(&mut made, |text| find_in_any_case(text, email).map(|range| (range, digest.clone())));
        }
        replace(&mut made, find_email);
        if let Some((own, digest)) = &self.phone {
            replace(&mut made, |text| find_phone(text, own).map(|range| (range, digest.clone())));
        }
        match made {
            Cow::Borrowed(_) => None,
            Cow::Owned(made) => Some(made),
        }
    }
}

/// The bytes of a text that something stands in.
type Span = std::ops::Range<usize>;

/// Replaces what `find` finds, one after the other; what took a place is not looked at again.
fn replace(text: &mut Cow<'_, str>, find: impl Fn(&str) -> Option<(Span, String)>) {
    let (mut made, mut rest) = (String::new(), text.as_ref());
    while let Some((span, digest)) = find(rest) {
        made.push_str(rest.get(..span.start).unwrap_or_default());
        made.push_str(&digest);
        rest = rest.get(span.end.max(1)..).unwrap_or_default();
    }
    if !made.is_empty() {
        made.push_str(rest);
        *text = Cow::Owned(made);
    }
}

fn digits_of(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Finds a text that is in lower case already.
fn find_in_any_case(text: &str, wanted: &str) -> Option<Span> {
    if wanted.is_empty() {
        return None;
    }
    text.char_indices().find_map(|(start, _)| {
        let mut wanted = wanted.chars();
        let mut next = wanted.next();
        for (at, letter) in text.get(start..)?.char_indices() {
            for letter in letter.to_lowercase() {
                if next? != letter {
                    return None;
                }
                next = wanted.next();
            }
            if next.is_none() {
                return Some(start..start + at + letter.len_utf8());
            }
        }
        None
    })
}

/// The first address in a text, as it is or as a URL has it, with its digest.
fn find_email(text: &str) -> Option<(Span, String)> {
    let mut from = 0;
    loop {
        let rest = text.get(from..)?;
        let at = rest.find(['@', '%']).map(|at| from + at)?;
        let sign =
            ["@", "%40"].into_iter().find(|sign| text.get(at..).is_some_and(|own| own.starts_with(sign)));
        if let Some(sign) = sign {
            let (start, end) = (start_of_local(text, at), end_of_domain(text, at + sign.len()));
            if let (Some(start), Some(end)) = (start, end) {
                let address = text.get(start..end).unwrap_or_default();
                let plain = percent_encoding::percent_decode_str(address).decode_utf8_lossy();
                return Some((start..end, digest(&plain)));
            }
        }
        from = at + 1;
    }
}

/// The start of what stands before an address's sign; none where nothing does.
fn start_of_local(text: &str, end: usize) -> Option<usize> {
    let is_local = |letter: char| letter.is_alphanumeric() || "._+-'!#$*^~".contains(letter);
    let mut start = end;
    while let Some(before) = text.get(..start).filter(|before| !before.is_empty()) {
        let code = before.len().checked_sub(3).and_then(|at| before.get(at..)?.strip_prefix('%'));
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        start -= match (code, before.chars().next_back()) {
            (Some(code), _) if code >= 0x80 || is_local(char::from(code)) => 3,
            (None, Some(letter)) if is_local(letter) => letter.len_utf8(),
            _ => break,
        };
    }
    (start < end).then_some(start)
}

/// The end of a domain that begins there; none where there is none.
fn end_of_domain(text: &str, start: usize) -> Option<usize> {
    let after = text.get(start..)?;
    let length = after.find(|letter: char| !letter.is_alphanumeric() && !".-".contains(letter));
    let domain = after.get(..length.unwrap_or(after.len()))?.trim_end_matches(['.', '-']);
    let (_, last) = domain.rsplit_once('.')?;
    let is_top = last.chars().count() >= 2 && last.chars().all(char::is_alphabetic);
    (is_top && domain.split('.').all(|label| !label.is_empty())).then_some(start + domain.len())
}

/// The first run of digits, however they are parted, that has a number's own in a row.
fn find_phone(text: &str, own: &str) -> Option<Span> {
    let mut from = 0;
    while let Some(at) = text.get(from..)?.find(|letter: char| letter.is_ascii_digit() || letter == '%') {
        let start = from + at;
        let (end, digits) = run_of_digits(text, start);
        if digits.contains(own) {
            let before = text.get(..start).unwrap_or_default();
            let sign = ["+", "%2B", "%2b", "("].into_iter().find(|sign| before.ends_with(sign));
            return Some(start - sign.map_or(0, str::len)..end);
        }
        from = end.max(start + 1);
    }
    None
}

/// The digits from there on with no more than signs between them, and the end of the last.
fn run_of_digits(text: &str, start: usize) -> (usize, String) {
    const CODED: [&str; 7] = ["%20", "%2B", "%2b", "%28", "%29", "%2D", "%2d"];
    let (mut end, mut digits, mut at) = (start, String::new(), start);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let letter = rest.chars().next().unwrap_or_default();
        if letter.is_ascii_digit() {
            digits.push(letter);
            end = at + 1;
        }
        at += match CODED.into_iter().find(|code| rest.starts_with(code)) {
            Some(code) => code.len(),
            None if letter.is_ascii_digit() || "+-. ()/\u{a0}".contains(letter) => letter.len_utf8(),
            None => break,
        };
    }
    (end, digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> String {
        let scrubber = Scrubber {
            email: Some(("jane@example.com".to_owned(), "<own>".to_owned())),
            phone: Some(("700900123".to_owned(), "<phone>".to_owned())),
        };
        scrubber.cleaned(text).unwrap_or_else(|| "=".to_owned())
    }

    #[test]
    fn an_address_is_found_wherever_it_stands() {
        let other = digest("bo+x@mail.example.org");
        for (text, expected) in [
            ("write to Jane@Example.COM, please", "write to <own>, please".to_owned()),
            ("\u{130}stanbul jane@example.com", "\u{130}stanbul <own>".to_owned()),
            (
                "https://shop.example/?email=bo%2Bx%40mail.example.org&a=1",
                format!("https://shop.example/?email={other}&a=1"),
            ),
            ("a=1%26e%3DBO+x@mail.example.org.", format!("a=1%26e%3D{other}.")),
            ("<bo+x@mail.example.org>;bo+x@mail.example.org", format!("<{other}>;{other}")),
        ] {
            assert_eq!(cleaned(text), expected);
        }
        for none in [
            "@example",
            "a@b",
            "a@1.5",
            "medium.example/@name",
            "100%40",
            "%40%40",
            "@@@@",
            "%",
            "x@.com",
            "",
        ] {
            assert_eq!(cleaned(none), "=", "{none}");
        }
    }

    #[test]
    fn a_number_is_found_however_it_is_written() {
        for (text, expected) in [
            ("call +44 (7700) 900-123!", "call <phone>!"),
            ("07700900123", "<phone>"),
            ("tel=%2B447700%20900123&x=1", "tel=<phone>&x=1"),
            ("447700900123", "<phone>"),
        ] {
            assert_eq!(cleaned(text), expected);
        }
        assert_eq!(cleaned("order 900123, 7 of 9"), "=");
    }

    #[test]
    fn a_name_tells_what_its_value_is() {
        let scrubber = Scrubber { email: None, phone: None };
        for name in
            ["phoneNumber", "mobile_phone", "billing_phone", "cell", "prop_customerPhone", "Telephone"]
        {
            assert_eq!(scrubber.replaced(name, "0301234567"), Some(digest("0301234567")), "{name}");
        }
        assert_eq!(scrubber.replaced("email", "jane"), Some(digest("jane")));
        for (name, value) in [
            ("phone_model", "Pixel 9"),
            ("telemetry", "1234567"),
            ("hotel", "1234567"),
            ("email_campaign", "spring"),
        ] {
            assert_eq!(scrubber.replaced(name, value), None, "{name}");
        }
        let payload = r#"{"jane@example.com":1,"a":["x jane@example.com"],"n":1.50}"#;
        let scrubbed = scrubber.scrub(payload);
        assert!(!scrubbed.contains('@') && scrubbed.ends_with(r#""n":1.50}"#), "{scrubbed}");
    }
}
