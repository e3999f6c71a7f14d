use proto::v1::{ErrorReason, WarningCode};

use super::*;
use crate::error::ApiError;

const BROWSER: Sender = Sender { signs: false, has_cookie: false };
const SERVER: Sender = Sender { signs: true, has_cookie: false };

fn parse(text: &str) -> Result<Event<'_>, EventError> {
    Event::parse(serde_json::from_str(text).unwrap(), BROWSER)
}

fn broken_at(text: &str, field: Option<&'static str>) {
    let error = parse(text).unwrap_err();
    let EventError::Unsound { member, .. } = error else { panic!("{error:?}") };
    assert_eq!(member, field, "{}", text.get(..text.len().min(200)).unwrap());
}

/// Members that an event leaves out, and all else of it.
fn left_out(text: &str) -> (Vec<(&'static str, &'static str)>, Event<'_>) {
    let mut event = parse(text).unwrap();
    (std::mem::take(&mut event.left_out).iter().map(|left| (left.member, left.why)).collect(), event)
}

#[test]
fn all_known_fields_are_read_in_both_spellings() {
    let hash = "ab".repeat(32);
    let text = |anonymous: &str, user: &str, message: &str, user_hash: &str, token: &str| {
        format!(
            r#"{{"type":"track","event":"Order","{anonymous}":"a-1","{user}":"u-1","{message}":"m-1",
            "timestamp":1e18,"properties":{{"n":[1,-2.5,true,null,{{"x":"y"}}]}},
            "traits":{{"email":"a@b.c","phone":"+44","email_sha256":"{hash}","phoneSha256":"{hash}","age":3}},
            "context":{{"page":{{"url":"https://x/?gclid=1","search":"?s","referrer":"r"}},"reset":true,"{user_hash}":"h","{token}":"t",
            "consent":{{"marketing": true, "gpp_sid":[7]}},"locale":"en","userAgent":5}}}}"#
        )
    };
    let camel = text("anonymousId", "userId", "messageId", "userHash", "identityToken");
    let event = parse(&camel).unwrap();
    assert_eq!(event.consent, Some(r#"{"marketing": true, "gpp_sid":[7]}"#));
    assert_eq!(event.anonymous_id.as_deref(), Some("a-1"));
    assert_eq!(event.user_id.as_deref(), Some("u-1"));
    assert_eq!(event.message_id.as_deref(), Some("m-1"));
    assert_eq!((event.user_hash.as_deref(), event.identity_token.as_deref()), (Some("h"), Some("t")));
    assert_eq!(event.page_url.as_deref(), Some("https://x/?gclid=1"));
    assert_eq!((event.page_search.as_deref(), event.referrer.as_deref()), (Some("?s"), Some("r")));
    assert_eq!(event.traits.email.as_deref(), Some("a@b.c"));
    assert_eq!(event.traits.phone.as_deref(), Some("+44"));
    assert_eq!(event.traits.email_sha256, event.traits.phone_sha256);
    assert!(event.reset);
    assert!(matches!(event.anonymous_id, Some(Cow::Borrowed(_))));
    assert_eq!(
        parse(&text("anonymous_id", "user_id", "message_id", "user_hash", "identity_token")).unwrap(),
        event
    );
}

#[test]
fn null_is_absent_and_escapes_are_undone() {
    let text = r#"{"type":null,"anonymousId":null,"userId":"\u00e9\ud83c\udf6a","traits":null,
        "context":{"page":null,"consent":null,"reset":null}}"#;
    let event = parse(text).unwrap();
    assert_eq!(event, Event { user_id: Some("é🍪".into()), ..Event::default() });
}

#[test]
fn what_is_not_an_object_with_members_is_no_event() {
    for text in ["null", "1", "true", r#""x""#, "[]", r#"[{"userId":"u"}]"#, "{}"] {
        broken_at(text, None);
    }
}

#[test]
fn what_is_of_no_use_is_left_out_and_named() {
    use super::left_out::*;
    let long = "a".repeat(1025);
    for (text, member, why) in [
        (r#"{"userId":{"a":1}}"#, "userId", NOT_TEXT_OR_INTEGER),
        (r#"{"user_id":true}"#, "userId", NOT_TEXT_OR_INTEGER),
        (r#"{"anonymous_id":["a"]}"#, "anonymousId", NOT_TEXT_OR_INTEGER),
        (r#"{"anonymousId":1.0}"#, "anonymousId", NOT_TEXT_OR_INTEGER),
        (r#"{"anonymousId":1e3}"#, "anonymousId", NOT_TEXT_OR_INTEGER),
        (r#"{"messageId":1.5}"#, "messageId", NOT_TEXT_OR_INTEGER),
        (r#"{"timestamp":1795255200}"#, "timestamp", NOT_TEXT),
        (r#"{"traits":"x"}"#, "traits", NOT_OBJECT),
        (r#"{"traits":[{"email":"a@b.c"}]}"#, "traits", NOT_OBJECT),
        (r#"{"traits":{"email":1}}"#, "traits.email", NOT_TEXT),
        (r#"{"traits":{"phone":[]}}"#, "traits.phone", NOT_TEXT_OR_INTEGER),
        (r#"{"traits":{"email_sha256":"abc"}}"#, "traits.email_sha256", NOT_SHA256),
        (
            &format!(r#"{{"traits":{{"phone_sha256":"{}"}}}}"#, "g".repeat(64)),
            "traits.phone_sha256",
            NOT_SHA256,
        ),
        (&format!(r#"{{"traits":{{"email":"{long}"}}}}"#), "traits.email", TOO_LONG),
        (&format!(r#"{{"messageId":"{long}"}}"#), "messageId", TOO_LONG),
        (&format!(r#"{{"context":{{"userHash":"{long}"}}}}"#), "context.userHash", TOO_LONG),
        (r#"{"context":7}"#, "context", NOT_OBJECT),
        (r#"{"context":{"page":"https://x"}}"#, "context.page", NOT_OBJECT),
        (r#"{"context":{"page":{"url":1}}}"#, "context.page.url", NOT_TEXT),
        (r#"{"context":{"page":{"referrer":{}}}}"#, "context.page.referrer", NOT_TEXT),
        (r#"{"userId":"u","user_id":"v"}"#, "userId", TWO_VALUES),
        (r#"{"userId":"u","userId":"v","userId":"u"}"#, "userId", TWO_VALUES),
        (r#"{"userId":"u","userId":{},"userId":"v"}"#, "userId", TWO_VALUES),
    ] {
        assert_eq!(left_out(text), (vec![(member, why)], Event::default()), "{text}");
    }
    let both = r#"{"userId":{},"user_id":"u","traits":{"email":5,"email":"a@b.c"}}"#;
    let (named, event) = left_out(both);
    assert_eq!(named, [("userId", NOT_TEXT_OR_INTEGER), ("traits.email", NOT_TEXT)]);
    assert_eq!((event.user_id.as_deref(), event.traits.email.as_deref()), (Some("u"), Some("a@b.c")));
    // However often a member is wrong, it is named once.
    let often = format!(r#"{{"traits":{{{}"age":1}}}}"#, r#""email":1.5,"#.repeat(1000));
    assert_eq!(left_out(&often).0.len(), 1);
}

#[test]
fn integers_are_ids_and_blank_is_absent() {
    let text = r#"{"userId":4711,"anonymousId":-1,"messageId":123456789012345678901234567890,
        "traits":{"phone":12025550143}}"#;
    let (named, event) = left_out(text);
    assert!(named.is_empty(), "{named:?}");
    assert_eq!(event.user_id.as_deref(), Some("4711"));
    assert_eq!(event.anonymous_id.as_deref(), Some("-1"));
    assert_eq!(event.message_id.as_deref(), Some("123456789012345678901234567890"));
    assert_eq!(event.traits.phone.as_deref(), Some("12025550143"));
    for blank in ["null", r#""""#, r#"" \t\u00a0""#, r#""\u200b""#] {
        let text = format!(
            r#"{{"userId":{blank},"anonymousId":{blank},"messageId":{blank},"timestamp":{blank},"traits":{{
            "email":{blank},"phone":{blank},"email_sha256":{blank},"phone_sha256":{blank}}},"context":{{
            "page":{{"url":{blank},"search":{blank},"referrer":{blank}}},"consent":{blank},"reset":{blank},"userHash":{blank},
            "identityToken":{blank}}}}}"#
        );
        assert_eq!(left_out(&text), (Vec::new(), Event::default()), "{text}");
    }
    assert_eq!(left_out(r#"{"userId":4711,"user_id":"4711"}"#).0, []);
}

#[test]
fn an_empty_list_is_an_empty_object_and_what_identity_does_not_use_is_anything() {
    for empty in ["[]", "[ ]", "{}", "null", r#""""#] {
        let text = format!(
            r#"{{"userId":"u","traits":{empty},"properties":{empty},"context":{{"page":{empty},"reset":{empty}}}}}"#
        );
        let event = Event { user_id: Some("u".into()), ..Event::default() };
        assert_eq!(left_out(&text), (Vec::new(), event.clone()), "{text}");
        assert_eq!(left_out(&format!(r#"{{"userId":"u","context":{empty}}}"#)), (Vec::new(), event));
    }
    for any in ["7", "1.5", "true", "[1]", r#""x""#, r#"{"a":[]}"#, "null"] {
        let text = format!(
            r#"{{"userId":"u","type":{any},"event":{any},"name":{any},"properties":{any},"integrations":{any},
            "context":{{"app":{any},"page":{{"title":{any}}}}},"traits":{{"age":{any}}}}}"#
        );
        assert_eq!(left_out(&text), (Vec::new(), Event { user_id: Some("u".into()), ..Event::default() }));
    }
}

#[test]
fn an_identifier_that_cannot_be_used_costs_the_event_where_nothing_else_names_anybody() {
    let cookie = Sender { has_cookie: true, ..BROWSER };
    let (long, longer) = ("a".repeat(129), "a".repeat(1025));
    let lost = |text: &str, sender| match Event::parse(serde_json::from_str(text).unwrap(), sender) {
        Err(EventError::Unidentified(left)) => Some((left.member, left.why)),
        other => {
            assert_eq!(other.unwrap().left_out.len(), 1, "{text}");
            None
        }
    };
    let too_long = ("anonymousId", left_out::TOO_LONG_FROM_BROWSER);
    let named_long = format!(r#"{{"anonymousId":"{long}"}}"#);
    assert_eq!(lost(&named_long, BROWSER), Some(too_long));
    assert_eq!(lost(&named_long, cookie), None);
    assert_eq!(lost(&format!(r#"{{"anonymousId":"{long}","userId":"u"}}"#), BROWSER), None);
    let server = ("userId", left_out::TOO_LONG);
    assert_eq!(lost(&format!(r#"{{"userId":"{longer}"}}"#), SERVER), Some(server));
    assert_eq!(lost(&format!(r#"{{"userId":"{longer}","anonymousId":"a"}}"#), SERVER), None);
    assert!(Event::parse(serde_json::from_str(&named_long).unwrap(), SERVER).unwrap().left_out.is_empty());
    let control = ("anonymousId", left_out::CONTROL_CHARACTER);
    assert_eq!(lost(r#"{"anonymousId":"a\nb"}"#, BROWSER), Some(control));
    assert_eq!(lost(r#"{"anonymousId":"a\nb","userId":"u"}"#, BROWSER), None);
    // Who is named by nothing at all may be given an ID; a server's event has to name somebody.
    for text in [r#"{"anonymousId":{}}"#, r#"{"userId":"u","user_id":"v"}"#, r#"{"userId":1.5}"#] {
        assert_eq!(lost(text, BROWSER), None, "{text}");
        assert!(lost(text, SERVER).is_some(), "{text}");
    }
}

#[test]
fn a_logout_is_seen_however_it_is_said() {
    for (value, resets, named) in [
        ("true", true, 0),
        ("false", false, 0),
        ("null", false, 0),
        ("0", false, 1),
        ("{}", false, 0),
        (r#""False""#, false, 1),
        (r#""no""#, false, 1),
        ("1", true, 1),
        (r#""true""#, true, 1),
        (r#""logout""#, true, 1),
        ("[true]", true, 1),
    ] {
        let text = format!(r#"{{"context":{{"reset":{value}}}}}"#);
        let (left, event) = left_out(&text);
        assert_eq!((event.reset, left.len()), (resets, named), "{value}");
    }
}

#[test]
fn nul_lone_surrogates_and_big_numbers_are_found_everywhere() {
    for bad in [r#""a\u0000b""#, r#""\ud800""#, r#""\udc00x""#, "1e400", "-1e999"] {
        broken_at(&format!(r#"{{"userId":"u","properties":{{"a":[{{"b":{bad}}}]}}}}"#), None);
        broken_at(&format!(r#"{{"userId":"u","anything":{bad}}}"#), None);
        broken_at(&format!(r#"{{"context":{{"consent":{{"tcf":{bad}}}}}}}"#), Some("context.consent"));
    }
    for bad in [r#""\u0000""#, r#""\ud800""#] {
        broken_at(&format!(r#"{{"userId":{bad}}}"#), Some("userId"));
        broken_at(&format!(r"{{{bad}:1}}"), None);
        broken_at(&format!(r#"{{"properties":{{"x":{{{bad}:1}}}}}}"#), None);
    }
}

#[test]
fn nesting_ends_at_127() {
    // The event itself is the first level.
    let nested = |levels: usize| format!(r#"{{"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(parse(&nested(126)).is_ok());
    broken_at(&nested(127), None);
    broken_at(&nested(15_000), None);
    broken_at(
        &format!(r#"{{"context":{{"consent":{}{}}}}}"#, "[".repeat(200), "]".repeat(200)),
        Some("context.consent"),
    );
}

#[test]
fn the_cause_is_said_without_quoting_the_event() {
    for (text, cause) in [
        (r#"{"x":"a\u0000b"}"#.to_owned(), "A text has a NUL."),
        (r#"{"x":"\ud800"}"#.to_owned(), "A text has a lone surrogate."),
        (r#"{"x":1e400}"#.to_owned(), "A number is out of range."),
        (format!(r#"{{"x":{}{}}}"#, "[".repeat(128), "]".repeat(128)), "It is nested too deep."),
    ] {
        assert_eq!(parse(&text).unwrap_err(), EventError::Unsound { member: None, cause: Some(cause) });
    }
    let told = ApiError::from(parse(r#"{"userId":"\ud800NUL"}"#).unwrap_err());
    assert_eq!(
        serde_json::to_value(told).unwrap()["message"],
        "The event is not valid. A text has a lone surrogate. Field: userId."
    );
}

#[test]
fn sizes_are_bounded() {
    let of = |bytes: usize| format!(r#"{{"x":"{}"}}"#, "a".repeat(bytes - 8));
    assert!(parse(&of(MAX_EVENT_BYTES)).is_ok());
    assert_eq!(parse(&of(MAX_EVENT_BYTES + 1)).unwrap_err(), EventError::TooLarge);
}

#[test]
fn consent_that_is_none_is_handed_on_for_the_core_to_deny() {
    use super::left_out::*;
    let large = format!(r#"{{"tcf":"{}"}}"#, "a".repeat(8192));
    for (consent, handed_on, why) in [
        (r#"{"marketing":true}"#, r#"{"marketing":true}"#, None),
        ("[ ]", "{}", None),
        (r#""true""#, r#""true""#, Some(CONSENT_NOT_OBJECT)),
        ("1", "1", Some(CONSENT_NOT_OBJECT)),
        ("false", "false", Some(CONSENT_NOT_OBJECT)),
        ("[1]", "[1]", Some(CONSENT_NOT_OBJECT)),
        (&large, r#""over 8 KiB""#, Some(CONSENT_TOO_LARGE)),
        (r#"{"marketing":true},"consent":{"marketing":false}"#, r#""two values""#, Some(CONSENT_TWO_VALUES)),
        (r#"{"marketing":true},"consent":{"marketing":true}"#, r#"{"marketing":true}"#, None),
    ] {
        let text = format!(r#"{{"context":{{"consent":{consent}}}}}"#);
        let event = parse(&text).unwrap();
        assert_eq!(event.consent, Some(handed_on), "{consent}");
        let named: Vec<_> = event.left_out.iter().map(|left| (left.code(), left.why)).collect();
        let expected: Vec<_> = why.iter().map(|why| (WarningCode::ConsentNotUnderstood, *why)).collect();
        assert_eq!(named, expected, "{consent}");
    }
}

#[test]
fn a_batch_is_split_without_looking_into_its_events() {
    let body = br#" {"org_id":"x","batch":[{"a":"\ud800"}, 1e400 ,null,"\u0000"],"sentAt":[{}]} "#;
    let events: Vec<_> = split(body).unwrap().events.iter().map(|raw| raw.get()).collect();
    assert_eq!(events, [r#"{"a":"\ud800"}"#, "1e400", "null", r#""\u0000""#]);
    let many = |count: usize| format!(r#"{{"batch":[{}]}}"#, vec!["1"; count].join(","));
    assert_eq!(split(many(500).as_bytes()).unwrap().events.len(), 500);
    assert_eq!(split(many(501).as_bytes()).err(), Some(ErrorReason::PayloadTooLarge));
}

/// The event at `index` of a batch, with the batch's own context.
fn merged(body: &str, index: usize) -> Event<'_> {
    let body = split(body.as_bytes()).unwrap();
    let mut event = Event::parse(body.events[index], BROWSER).unwrap();
    event.fill(&body.shared.unwrap());
    event
}

#[test]
fn a_batch_s_own_context_is_what_its_events_lack() {
    let body = r#"{"sentAt":{},"context":{"consent":{"marketing":false},"reset":true,"userHash":"h","identityToken":"t",
        "page":{"url":"u","referrer":"r"},"traits":{"email":"a@b.c","phone":"+44"}},"batch":[{"userId":"u"},
        {"userId":"v","traits":{"phone":"+1"},"context":{"consent":{"marketing":true},"page":{"url":"own"},
        "traits":{"email":"own","phone":"+2"}}}]}"#;
    let first = merged(body, 0);
    assert_eq!((first.page_url.as_deref(), first.referrer.as_deref()), (Some("u"), Some("r")));
    assert_eq!((first.traits.email.as_deref(), first.traits.phone.as_deref()), (Some("a@b.c"), Some("+44")));
    assert_eq!(first.consent, Some(r#"{"marketing":false}"#));
    assert!(!first.reset && first.user_hash.is_none() && first.identity_token.is_none(), "of items alone");
    let second = merged(body, 1);
    assert_eq!((second.page_url.as_deref(), second.referrer.as_deref()), (Some("own"), Some("r")));
    assert_eq!((second.traits.email.as_deref(), second.traits.phone.as_deref()), (Some("own"), Some("+1")));
    assert_eq!(second.consent, Some(r#"{"marketing":true}"#));
    for blank in ["null", "[]", r#""""#, "{}"] {
        let event = Event { user_id: Some("u".into()), ..Event::default() };
        assert_eq!(merged(&format!(r#"{{"batch":[{{"userId":"u"}}],"context":{blank}}}"#), 0), event);
    }
    let twice = r#"{"context":{"page":{"url":"u"}},"batch":[{"userId":"u"}],"context":{"consent":{}}}"#;
    let event = merged(twice, 0);
    assert_eq!((event.page_url.as_deref(), event.consent), (Some("u"), Some("{}")));
    let large = format!(r#"{{"batch":[{{}}],"context":{{"x":"{}"}}}}"#, "a".repeat(MAX_EVENT_BYTES));
    assert_eq!(split(large.as_bytes()).err(), Some(ErrorReason::EventTooLarge));
}

#[test]
fn who_wants_no_syncs_says_so_beside_the_batch_or_the_event() {
    for (more, wants) in [
        ("", true),
        (r#","syncs":true"#, true),
        (r#","syncs":null"#, true),
        (r#","syncs":false,"syncs":1"#, false),
    ] {
        let body = format!(r#"{{"batch":[{{"syncs":false}}]{more}}}"#);
        assert_eq!(split(body.as_bytes()).unwrap().wants_syncs, Some(wants), "{more}");
        let event = format!(r#"{{"userId":"u"{more}}}"#);
        assert_eq!(parse(&event).unwrap().no_syncs, !wants, "{more}");
    }
}

#[test]
fn a_body_that_is_no_batch_is_refused_whole() {
    for (body, reason) in [
        (&b""[..], ErrorReason::InvalidJson),
        (b"{}", ErrorReason::EmptyBatch),
        (br#"{"batch":[]}"#, ErrorReason::EmptyBatch),
        (br#"{"batch":null}"#, ErrorReason::EmptyBatch),
        (br#"{"batch":{}}"#, ErrorReason::InvalidJson),
        (br#"[{"userId":"u"}]"#, ErrorReason::InvalidJson),
        (b"\xef\xbb\xbf{\"batch\":[{}]}", ErrorReason::InvalidJson),
        (br#"{"batch":[{}]} x"#, ErrorReason::InvalidJson),
        (br#"{"batch":[{}]}{}"#, ErrorReason::InvalidJson),
        (br#"{"batch":[{}], /* no */ "a":1}"#, ErrorReason::InvalidJson),
        (br"{'batch':[{}]}", ErrorReason::InvalidJson),
        (b"{\"batch\":[{\"a\":\"\xff\"}]}", ErrorReason::InvalidJson),
        (br#"{"batch":[{}"#, ErrorReason::InvalidJson),
        (br#"{"batch":[{}],"batch":[{}]}"#, ErrorReason::InvalidJson),
        (br#"{"batch":[{}],"context":{"page":{"title":"\u0000"}}}"#, ErrorReason::InvalidJson),
    ] {
        assert_eq!(split(body).err(), Some(reason), "{}", String::from_utf8_lossy(body));
    }
    let deep = format!(r#"{{"batch":[{}{}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(Event::parse(split(deep.as_bytes()).unwrap().events[0], BROWSER).is_err());
    for body in [&b""[..], b"[]", b"\"x\"", b"{} {}", b"\xef\xbb\xbf{}"] {
        assert_eq!(single(body).err(), Some(ErrorReason::InvalidJson));
    }
    assert_eq!(single(br#"{"userId":"u"}"#).unwrap().events.len(), 1);
}
