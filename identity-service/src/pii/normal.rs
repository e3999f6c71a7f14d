//! The normal forms that vendors ask for: trimmed and in lower case, and UID2's. Everything in clear is wiped
//! from memory where it is dropped.

use zeroize::Zeroizing;

use crate::identifiers::placeholder::is_placeholder;

/// A text in clear, wiped from memory where it is dropped.
pub type Clear = Zeroizing<String>;

/// Longest address, in bytes (RFC 5321: 64 before the @ and 255 behind it).
const MAX_EMAIL_BYTES: usize = 320;
/// Longest text of a phone number, in bytes.
const MAX_PHONE_BYTES: usize = 64;

/// An address in both forms.
pub struct Email {
    /// The address, trimmed and in lower case.
    pub lower: Clear,
    /// UID2's form, in which what Gmail ignores is left out; none where that leaves nothing.
    pub uid2: Option<Clear>,
}

/// The forms of an address; none where the text is no address.
pub fn email(text: &str) -> Option<Email> {
    let text = text.trim();
    let (local, domain) = text.split_once('@')?;
    let is_address = !local.is_empty()
        && !domain.is_empty()
        && !domain.contains('@')
        && text.len() <= MAX_EMAIL_BYTES
        && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let host = domain.split('.').next().unwrap_or_default();
    if is_placeholder(local) && is_placeholder(host) {
        return None;
    }
    is_address.then(|| Email { lower: Clear::new(text.to_lowercase()), uid2: uid2(local, domain) })
}

fn uid2(local: &str, domain: &str) -> Option<Clear> {
    let mut normal = Clear::new(String::with_capacity(local.len() + 1 + domain.len()));
    // Of this domain alone; googlemail.com is another to UID2.
    if domain.eq_ignore_ascii_case("gmail.com") {
        let name = local.split('+').next().unwrap_or_default();
        normal.extend(name.chars().filter(|c| *c != '.'));
    } else {
        normal.push_str(local);
    }
    if normal.is_empty() {
        return None;
    }
    normal.push('@');
    normal.push_str(domain);
    normal.make_ascii_lowercase();
    Some(normal)
}

/// Fewest digits of a text that may be a phone number at all.
const MIN_DIGITS: usize = 5;

/// A phone number in the forms that somebody asks for.
pub struct Phone {
    /// The text as it came, trimmed and in lower case.
    pub lower: Clear,
    /// The number in E.164, with its plus; none where the country is not said.
    pub e164: Option<Clear>,
    /// The digits of E.164 alone.
    pub digits: Option<Clear>,
    /// The ten digits of a number of North America, without the country's.
    pub ten: Option<Clear>,
}

/// The forms of a phone number; none where the text can't be one.
pub fn phone(text: &str) -> Option<Phone> {
    let text = text.trim();
    let signs =
        |c: char| c.is_ascii_digit() || matches!(c, ' ' | '\u{a0}' | '+' | '-' | '.' | '(' | ')' | '/');
    let is_number = text.len() <= MAX_PHONE_BYTES
        && text.chars().all(signs)
        && text.bytes().filter(u8::is_ascii_digit).count() >= MIN_DIGITS
        && !is_placeholder(text);
    if !is_number {
        return None;
    }
    let e164 = e164(text);
    let digits =
        e164.as_ref().and_then(|number| number.strip_prefix('+')).map(|text| Clear::new(text.to_owned()));
    let ten = digits.as_ref().and_then(|digits| digits.strip_prefix('1')).filter(|ten| ten.len() == 10);
    let ten = ten.map(|ten| Clear::new(ten.to_owned()));
    Some(Phone { lower: Clear::new(text.to_lowercase()), e164, digits, ten })
}

/// A number in E.164: `+` and 10 to 15 digits. Signs that people write between digits are left out. None
/// where the country is not said, which nobody could guess.
fn e164(text: &str) -> Option<Clear> {
    // +44 (0)20 …: the zero is not dialled from abroad.
    if !text.starts_with('+') || text.contains("(0)") {
        return None;
    }
    let mut normal = Clear::new(String::with_capacity(text.len()));
    normal.extend(text.chars().filter(|c| !matches!(c, ' ' | '\u{a0}' | '-' | '.' | '(' | ')' | '/')));
    let digits = normal.strip_prefix('+')?;
    let fits = (10..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    fits.then_some(normal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn forms(text: &str) -> Option<(String, Option<String>)> {
        email(text).map(|email| (email.lower.to_string(), email.uid2.map(|form| form.to_string())))
    }

    #[test]
    fn addresses() {
        let both = |lower: &str, uid2: &str| Some((lower.to_owned(), Some(uid2.to_owned())));
        assert_eq!(forms("  User@Example.COM "), both("user@example.com", "user@example.com"));
        assert_eq!(
            forms("Jane.Saoirse+Work@GMail.com"),
            both("jane.saoirse+work@gmail.com", "janesaoirse@gmail.com")
        );
        assert_eq!(forms("test.test+a@test.com"), both("test.test+a@test.com", "test.test+a@test.com"));
        assert_eq!(forms("a.b+c@googlemail.com"), both("a.b+c@googlemail.com", "a.b+c@googlemail.com"));
        for nothing in [".+@gmail.com", "+@gmail.com"] {
            assert_eq!(forms(nothing), Some((nothing.to_owned(), None)));
        }
        for none in ["", " ", "@", "a@", "@b", "@b.com", "+", "a@ba@z.com", "a b@c.com", "a@b\u{0}", "plain"]
        {
            assert_eq!(forms(none), None, "{none}");
        }
        assert_eq!(forms(&format!("{}@b.com", "a".repeat(320))), None);
        for nobody in ["undefined@undefined", "null@null.com", "{{email}}@{{domain}}"] {
            assert_eq!(forms(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn numbers() {
        let form = |text: &str| phone(text).and_then(|forms| forms.e164).map(|form| form.to_string());
        for same in ["+12345678901", " +1 (234) 567-8901 ", "+1.234.567.8901", "+1\u{a0}234/5678901"] {
            assert_eq!(form(same).as_deref(), Some("+12345678901"), "{same}");
        }
        let none = [
            "",
            "+",
            "12345678901",
            "0012345678901",
            "+123456789",
            "+1234567890123456",
            "+44 (0)20 7946 0000",
            "+1234567890a",
            "+१२३४५६७८९०१",
            "++12345678901",
            "+1 234 567 8901 ext 5",
        ];
        for none in none {
            assert_eq!(form(none), None, "{none}");
        }
    }

    #[test]
    fn a_number_has_the_forms_that_somebody_asks_for() {
        let forms = |text: &str| {
            let Phone { lower, e164, digits, ten } = phone(text).unwrap();
            let text = |form: Option<Clear>| form.map(|form| form.to_string());
            (lower.to_string(), text(e164), text(digits), text(ten))
        };
        let own = |text: &str| Some(text.to_owned());
        assert_eq!(
            forms(" +1 (202) 555-0143 "),
            ("+1 (202) 555-0143".to_owned(), own("+12025550143"), own("12025550143"), own("2025550143"))
        );
        assert_eq!(
            forms("+44 7700 900123"),
            ("+44 7700 900123".to_owned(), own("+447700900123"), own("447700900123"), None)
        );
        assert_eq!(forms("07700 900123"), ("07700 900123".to_owned(), None, None, None));
        for none in ["", "null", "00000000000", "call me 123456", "1234", "{{phone}}", &"1".repeat(65)] {
            assert!(phone(none).is_none(), "{none}");
        }
    }

    proptest! {
        #[test]
        fn normal_forms_are_normal(text in "[ +]{0,2}[A-Za-z0-9.+@é-]{0,12}@?(gmail.com|Example.org)? ?", any in any::<String>()) {
            for text in [&text, &any] {
                if let Some(Email { lower, uid2 }) = email(text) {
                    prop_assert_eq!(email(&lower).map(|again| again.lower), Some(lower));
                    if let Some(uid2) = uid2 {
                        prop_assert_eq!(email(&uid2).and_then(|again| again.uid2), Some(uid2));
                    }
                }
                if let Some(number) = phone(text).and_then(|forms| forms.e164) {
                    prop_assert_eq!(phone(&number).and_then(|forms| forms.e164), Some(number));
                }
            }
        }
    }
}
