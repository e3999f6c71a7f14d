//! Placeholders: texts that stand where an ID should, and would make strangers one person. One rule for every kind of
//! identifier: anonymous IDs, user IDs, vendors' uids and click IDs.

use percent_encoding::percent_decode_str;

/// Times that a text is percent-decoded in search of a template: pages, vendors and proxies encode what is encoded.
const MAX_DECODINGS: usize = 4;
/// Longest name in a template, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Words for nobody, for nothing and for the ID itself, as scripts, tag managers, databases and spreadsheets leave them
/// behind; in lower case and without what separates words. No word that could be somebody's name.
const WORDS: &[&str] = &[
    "accountid",
    "advertisingid",
    "anon",
    "anonid",
    "anonymous",
    "anonymousid",
    "anonymoususer",
    "buyeruid",
    "clickid",
    "clientid",
    "contactid",
    "cookieid",
    "criteouserid",
    "customerid",
    "deleted",
    "deviceid",
    "distinctid",
    "email",
    "emailaddress",
    "empty",
    "externalid",
    "false",
    "guest",
    "guestid",
    "guestuser",
    "guid",
    "id",
    "infinity",
    "invalid",
    "loggedout",
    "memberid",
    "mmuuid",
    "n/a",
    "na",
    "nan",
    "nil",
    "noid",
    "none",
    "notauthenticated",
    "notavailable",
    "notloggedin",
    "notset",
    "nouser",
    "nouserid",
    "null",
    "nulluser",
    "objectnull",
    "objectobject",
    "objectundefined",
    "optedout",
    "optout",
    "partneruid",
    "personid",
    "placeholder",
    "pmuid",
    "profileid",
    "redacted",
    "sessionid",
    "subscriberid",
    "tdid",
    "true",
    "tuid",
    "uid",
    "unauthenticated",
    "undefined",
    "unidentified",
    "unknown",
    "unknownuser",
    "unset",
    "userid",
    "username",
    "uuid",
    "visitorid",
    "void",
    "zuid",
];

/// UUIDs that stand for none: that of all ones, and Snowplow's where cookies are blocked.
const UUIDS: &[&str] = &["ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-4000-a000-000000000000"];

/// True where `text` can't tell anybody from anybody else: a word for nothing, nothing but zeros, dashes or signs, or a
/// template that was not filled in, in any case of letters, quoted, in brackets or percent-encoded.
pub fn is_placeholder(text: &str) -> bool {
    // Nearly every real ID: letters and dashes with a digit among them, as no word has.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(is_plain)
        && text.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
    {
        return UUIDS.iter().any(|uuid| text.eq_ignore_ascii_case(uuid));
    }
    if says_nothing(text) {
        return true;
    }
    if !text.contains('%') {
        return false;
    }
    let mut text = text.to_owned();
    for _ in 0..MAX_DECODINGS {
        match percent_decode_str(&text).decode_utf8() {
            Ok(decoded) if decoded != text => text = decoded.into_owned(),
            _ => return false,
        }
        if says_nothing(&text) {
            return true;
        }
    }
    false
}

/// The words, as they are written, for those who compare digests of them.
pub fn words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().copied()
}

/// Signs that hold nothing between them: brackets, quotes, dashes and dots.
fn is_empty_sign(c: char) -> bool {
    matches!(c, '[' | ']' | '{' | '}' | '(' | ')' | '<' | '>' | '\'' | '"' | '`' | '-' | '.' | '_')
}

fn says_nothing(text: &str) -> bool {
    let text = text.trim();
    let bare = text.trim_matches(|c: char| c.is_ascii_punctuation() || c.is_whitespace());
    text.chars().all(|c| c.is_whitespace() || is_empty_sign(c))
        || !bare.is_empty() && bare.bytes().all(|byte| matches!(byte, b'0' | b'-' | b'.'))
        || text == "-1"
        || UUIDS.iter().any(|uuid| bare.eq_ignore_ascii_case(uuid))
        || is_word(bare)
        || is_template(text)
        || holds_template(text)
}

/// True for a word of the list, whatever separates its parts, and for words of the list in a row: a first and a last
/// name that are both undefined.
fn is_word(bare: &str) -> bool {
    // No word has a digit, as nearly every real ID has.
    if bare.len() > MAX_NAME_BYTES || bare.bytes().any(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let lower = bare.to_ascii_lowercase();
    let is_separator = |c: char| c.is_whitespace() || matches!(c, '_' | '-' | '.' | ':' | ',');
    let joined: String = lower.chars().filter(|c| !is_separator(*c)).collect();
    let is_listed = |word: &str| WORDS.binary_search(&word).is_ok();
    is_listed(&joined)
        || !joined.is_empty() && lower.split(is_separator).filter(|part| !part.is_empty()).all(is_listed)
}

/// True where the whole text is a name between brackets of any style, or between signs that templates use as such:
/// `{gclid}`, `[UID]`, `<nil>`, `${userId}`, `%%USER_ID%%`, `__CLICKID__`, `*|EMAIL|*`. A UUID in braces is none.
fn is_template(text: &str) -> bool {
    let mut inner = text;
    let (mut pairs, mut underscores) = (0_usize, 0_usize);
    loop {
        let mut chars = inner.chars();
        let (Some(first), Some(last)) = (chars.next(), chars.next_back()) else { return false };
        if closes(first).is_some_and(|closing| closing == last) {
            pairs += 1;
            underscores += usize::from(first == '_');
            inner = chars.as_str();
        } else if is_sigil(first) && (pairs > 0 || closes(second(inner)).is_some()) {
            inner = inner.get(first.len_utf8()..).unwrap_or_default();
        } else {
            break;
        }
        inner = inner.trim();
    }
    // A single underscore on both sides is a name's own.
    (pairs > underscores || underscores > 1) && is_name(inner)
}

fn second(text: &str) -> char {
    text.chars().nth(1).unwrap_or_default()
}

/// The sign that ends what `opening` begins.
fn closes(opening: char) -> Option<char> {
    Some(match opening {
        '{' => '}',
        '[' => ']',
        '(' => ')',
        '<' => '>',
        '%' | '$' | '#' | '|' | '*' | '^' | '~' | '_' => opening,
        _ => return None,
    })
}

/// Signs that stand before or within an opening bracket: `${x}`, `<%= x %>`, `{!x}`.
fn is_sigil(c: char) -> bool {
    matches!(c, '$' | '#' | '@' | '%' | '!' | '=' | '&' | '?' | ':' | '-' | '~' | '^')
}

/// True for a letter, then letters, digits, `_`, `.`, `-` or spaces.
fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b' '))
        && uuid::Uuid::try_parse(text).is_err()
}

/// Brackets that no ID holds, so that a template is one also with text around it, or with a filter in it:
/// `user-{{user.id}}`, `{{ user.id | default: "" }}`.
const DOUBLE: &[(&str, &str)] =
    &[("{{", "}}"), ("${", "}"), ("#{", "}"), ("<%", "%>"), ("{%", "%}"), ("[[", "]]")];

fn holds_template(text: &str) -> bool {
    DOUBLE.iter().any(|(opening, closing)| {
        text.split_once(opening).and_then(|(_, rest)| rest.split_once(closing)).is_some_and(|(inner, _)| {
            let name = inner.trim_start_matches(|c: char| c.is_whitespace() || c == '{' || is_sigil(c));
            name.is_empty() || name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_words_are_in_order_and_as_they_are_compared() {
        assert!(WORDS.is_sorted(), "a binary search needs that");
        for word in WORDS {
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'/'), "{word}");
        }
    }

    #[test]
    fn what_scripts_leave_behind_is_a_placeholder() {
        for text in [
            "",
            " ",
            "null",
            "NULL",
            " nil ",
            "None",
            "undefined",
            "unknown",
            "n/a",
            "N/A",
            "na",
            "NaN",
            "void",
            "false",
            "True",
            "invalid",
            "anonymous",
            "guest",
            "anon",
            "not_authenticated",
            "id",
            "email",
            "userid",
            "user_id",
            "userId",
            "USER-ID",
            "anonymousId",
            "anonymous_id",
            "distinct_id",
            "not set",
            "(not set)",
            "-1",
            "0",
            "000",
            "0.0",
            "---",
            "...",
            "'null'",
            "\"null\"",
            "''",
            "[object Object]",
            "[]",
            "{}",
            "[ ]",
            "()",
            "<>",
            "[null]",
            "(none)",
            "<nil>",
            "<null>",
            "undefined undefined",
            "null-null",
            "$UID",
            "@userId",
            ":user_id",
            "#N/A",
            "00000000-0000-0000-0000-000000000000",
            "{00000000-0000-0000-0000-000000000000}",
            "00000000-0000-4000-A000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn a_template_that_was_not_filled_in_is_a_placeholder() {
        for text in [
            "{gclid}",
            "{{gclid}}",
            "{{user.id}}",
            "{{ user.id }}",
            "{{{user.id}}}",
            "${userId}",
            "$(userId)",
            "#{user.id}",
            "@{user}",
            "%%USER_ID%%",
            "%USER_ID%",
            "%{user_id}",
            "[UID]",
            "[[uid]]",
            "<user id>",
            "(shop customer)",
            "__CLICKID__",
            "__CALLBACK_PARAM__",
            "*|EMAIL|*",
            "|*EMAIL*|",
            "{!User.Id}",
            "<%= user.id %>",
            "{% user %}",
            "%7Bgclid%7D",
            "%257Bgclid%257D",
            "%7B%7Buser.id%7D%7D",
            "%24%7BuserId%7D",
            "%5BUID%5D",
            "$user$",
            "##ID##",
            "user-{{user.id}}",
            "{{user.id}}@shop.example",
            "{{ user.id | default: '' }}",
            "a${b}c",
            "<%- id %>9",
            "{{}}",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn what_may_be_somebody_is_none() {
        for text in [
            "admin",
            "anna",
            "nina",
            "Nullmann",
            "guest-42",
            "user",
            "id42",
            "1",
            "10",
            "0x1",
            "01",
            "-2",
            "a",
            "A-1",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "[42]",
            "{4711}",
            "(555) 1234",
            "_anna_",
            "*",
            "?",
            ":",
            "anna@shop.example",
            "100%",
            "50%off%",
            "a%7Bb",
            "IwAR2F4-dbP0l7Mn1IawQQGCINEz7PYXQvwjNwB_qa2ofr",
            "auth0|5f7c8ec7c33c6c004bbafe82",
            "google-oauth2|1",
            "GA1.2.3.4",
            "fb.1.2.3",
            "ünknown",
            "日本",
            "=abc1=",
            "na1",
            "__Secure_1",
            "x__y__",
            "E.C.P.v3fQ2RHacdks",
            "+12025550143",
        ] {
            assert!(!is_placeholder(text), "{text}");
        }
    }

    proptest! {
        /// The rule does not depend on case, on spaces around, on quotes, or on being percent-encoded.
        #[test]
        fn it_holds_in_every_dress(
            word in prop::sample::select(WORDS), upper in any::<bool>(), spaces in "[ \t]{0,2}", quote in "['\"]?",
            encode in 0..3_usize, (open, close) in prop::sample::select(vec![
                ("", ""), ("{", "}"), ("{{", "}}"), ("[", "]"), ("(", ")"), ("<", ">"), ("${", "}"), ("%%", "%%"), ("__", "__"),
            ]),
        ) {
            let word = if upper { word.to_uppercase() } else { word.to_owned() };
            let mut text = format!("{spaces}{quote}{open}{word}{close}{quote}{spaces}");
            for _ in 0..encode {
                text = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string();
            }
            prop_assert!(is_placeholder(&text), "{}", text);
        }

        /// IDs as databases, hashes and libraries make them are never taken for placeholders.
        #[test]
        fn no_real_id_is_taken_for_one(
            uuid in any::<u128>(), number in 1..u64::MAX, hex in "[1-9a-f][0-9a-f]{15,63}", token in "[A-Za-z0-9]{6,10}[1-9]",
            braces in any::<bool>(),
        ) {
            let uuid = uuid::Builder::from_random_bytes(uuid.to_be_bytes()).into_uuid().to_string();
            let uuid = if braces { format!("{{{uuid}}}") } else { uuid };
            for id in [uuid, number.to_string(), hex, token] {
                prop_assert!(!is_placeholder(&id), "{}", id);
            }
        }

        #[test]
        fn any_text_is_judged(text in any::<String>()) {
            let _ = is_placeholder(&text);
        }
    }
}
