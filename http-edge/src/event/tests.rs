use super::*;

fn parse(text: &str) -> Result<Event<'_>, EventError> {
    Event::parse(serde_json::from_str(text).unwrap())
}

fn broken_at(text: &str, field: Option<&'static str>) {
    let error = parse(text).unwrap_err();
    let seen = (error.reason, error.field);
    assert_eq!(seen, (ErrorReason::InvalidEvent, field), "{}", text.get(..text.len().min(200)).unwrap());
}

#[test]
fn all_known_fields_are_read_in_both_spellings() {
    let hash = "ab".repeat(32);
    let text = |anonymous: &str, user: &str, message: &str, user_hash: &str, token: &str| {
        format!(
            r#"{{"type":"track","event":"Order","{anonymous}":"a-1","{user}":"u-1","{message}":"m-1",
            "timestamp":1e18,"properties":{{"n":[1,-2.5,true,null,{{"x":"y"}}]}},
            "traits":{{"email":"a@b.c","phone":"+44","email_sha256":"{hash}","phoneSha256":"{hash}","age":3}},
            "context":{{"page":{{"url":"https://x/?gclid=1","referrer":"r"}},"reset":true,"{user_hash}":"h","{token}":"t",
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
    assert_eq!(event.referrer.as_deref(), Some("r"));
    assert_eq!(event.email.as_deref(), Some("a@b.c"));
    assert_eq!(event.phone.as_deref(), Some("+44"));
    assert_eq!(event.email_sha256, event.phone_sha256);
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
fn wrong_types_are_named() {
    for (text, field) in [
        (r#"{"anonymousId":5}"#, "anonymousId"),
        (r#"{"anonymous_id":["a"]}"#, "anonymousId"),
        (r#"{"userId":{}}"#, "userId"),
        (r#"{"userId":true}"#, "userId"),
        (r#"{"messageId":1.5}"#, "messageId"),
        (r#"{"type":1}"#, "type"),
        (r#"{"traits":"x"}"#, "traits"),
        (r#"{"traits":{"email":1}}"#, "traits.email"),
        (r#"{"properties":[]}"#, "properties"),
        (r#"{"context":1}"#, "context"),
        (r#"{"context":{"page":"https://x"}}"#, "context.page"),
        (r#"{"context":{"page":{"url":1}}}"#, "context.page.url"),
        (r#"{"context":{"reset":"yes"}}"#, "context.reset"),
        (r#"{"traits":{"email_sha256":"abc"}}"#, "traits.email_sha256"),
        (&format!(r#"{{"traits":{{"phone_sha256":"{}"}}}}"#, "g".repeat(64)), "traits.phone_sha256"),
    ] {
        broken_at(text, Some(field));
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
fn one_member_has_one_value() {
    assert!(parse(r#"{"userId":"u","user_id":"u","anonymousId":null,"anonymous_id":"a"}"#).is_ok());
    broken_at(r#"{"userId":"u","user_id":"v"}"#, Some("userId"));
    broken_at(r#"{"userId":"u","userId":"v"}"#, Some("userId"));
}

#[test]
fn the_cause_is_said_without_quoting_the_event() {
    for (text, cause) in [
        (r#"{"x":"a\u0000b"}"#.to_owned(), "A text has a NUL."),
        (r#"{"x":"\ud800"}"#.to_owned(), "A text has a lone surrogate."),
        (r#"{"x":1e400}"#.to_owned(), "A number is out of range."),
        (format!(r#"{{"x":{}{}}}"#, "[".repeat(128), "]".repeat(128)), "It is nested too deep."),
    ] {
        assert_eq!(parse(&text).unwrap_err().cause, Some(cause), "{text}");
    }
    assert_eq!(parse(r#"{"userId":{"NUL":"surrogate"}}"#).unwrap_err().cause, None);
}

#[test]
fn sizes_are_bounded() {
    let of = |bytes: usize| format!(r#"{{"x":"{}"}}"#, "a".repeat(bytes - 8));
    assert!(parse(&of(MAX_EVENT_BYTES)).is_ok());
    assert_eq!(parse(&of(MAX_EVENT_BYTES + 1)).unwrap_err().reason, ErrorReason::EventTooLarge);
    let id = |bytes: usize| format!(r#"{{"userId":"{}"}}"#, "a".repeat(bytes));
    assert!(parse(&id(1024)).is_ok());
    let error = EventError { reason: ErrorReason::InvalidIdentifier, field: Some("userId"), cause: None };
    assert_eq!(parse(&id(1025)), Err(error));
    let url = format!(r#"{{"context":{{"page":{{"url":"{}"}}}}}}"#, "a".repeat(4097));
    assert_eq!(parse(&url).unwrap().page_url, None);
    let consent = format!(r#"{{"context":{{"consent":{{"tcf":"{}"}}}}}}"#, "a".repeat(8192));
    broken_at(&consent, Some("context.consent"));
}

#[test]
fn consent_of_any_type_is_handed_on_for_the_core_to_deny() {
    for consent in [r#""true""#, "1", "[]", "false"] {
        let text = format!(r#"{{"context":{{"consent":{consent}}}}}"#);
        assert_eq!(parse(&text).unwrap().consent, Some(consent));
    }
}

#[test]
fn a_batch_is_split_without_looking_into_its_events() {
    let body = br#" {"org_id":"x","batch":[{"a":"\ud800"}, 1e400 ,null,"\u0000"],"sentAt":[{}]} "#;
    let events: Vec<_> = split(body).unwrap().iter().map(|raw| raw.get()).collect();
    assert_eq!(events, [r#"{"a":"\ud800"}"#, "1e400", "null", r#""\u0000""#]);
    let many = |count: usize| format!(r#"{{"batch":[{}]}}"#, vec!["1"; count].join(","));
    assert_eq!(split(many(500).as_bytes()).unwrap().len(), 500);
    assert_eq!(split(many(501).as_bytes()).unwrap_err(), ErrorReason::PayloadTooLarge);
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
    ] {
        assert_eq!(split(body).unwrap_err(), reason, "{}", String::from_utf8_lossy(body));
    }
    let deep = format!(r#"{{"batch":[{}{}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(Event::parse(split(deep.as_bytes()).unwrap()[0]).is_err());
    for body in [&b""[..], b"[]", b"\"x\"", b"{} {}", b"\xef\xbb\xbf{}"] {
        assert_eq!(single(body).unwrap_err(), ErrorReason::InvalidJson);
    }
    assert_eq!(single(br#"{"userId":"u"}"#).unwrap().len(), 1);
}
