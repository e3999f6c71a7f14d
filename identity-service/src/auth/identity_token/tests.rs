//! Tokens as they should be, and as they are forged.

use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::Sha256;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);
const SECRET: &str = "server-secret";

fn secrets() -> Vec<(SecretSlice<u8>, Option<OffsetDateTime>)> {
    vec![(SecretSlice::from(SECRET.as_bytes().to_vec()), None)]
}

fn raw(secret: &str, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// Claims of a token that is good for an hour, with these members in place of its own, and without those that are
/// null.
fn claims(other: &Value) -> Value {
    let mut claims = json!({"sub": "anna", "aud": "datafly", "exp": NOW.unix_timestamp() + 3600});
    for (name, value) in other.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn token(other: &Value) -> String {
    raw(SECRET, r#"{"alg":"HS256","typ":"JWT"}"#, &claims(other).to_string())
}

fn opened(token: &str) -> Option<IdentityToken> {
    open(&secrets(), token, "anna", NOW)
}

#[test]
fn it_vouches_for_what_its_members_name() {
    let exp = NOW.unix_timestamp() + 3600;
    let nothing = IdentityToken {
        email_sha256: None,
        phone_sha256: None,
        issued_at: NOW + Duration::hours(1) - Duration::days(1),
    };
    assert_eq!(opened(&token(&json!({}))), Some(nothing));
    let all = json!({"iat": exp - 3600, "nbf": exp - 3600, "email_sha256": "ab".repeat(32),
        "phone_sha256": "CD".repeat(32), "name": {"first": ["Anna"]}});
    let all = opened(&token(&all)).unwrap();
    assert_eq!(
        (all.email_sha256, all.phone_sha256, all.issued_at),
        (Some([0xab; 32]), Some([0xcd; 32]), NOW)
    );
    // Python's `time.time()` is no whole number.
    assert!(opened(&token(&json!({"exp": 0.25 + 1_795_258_800.0, "iat": 1_795_255_200.5}))).is_some());
    for header in [r#"{"alg":"HS256"}"#, r#"{"kid":"of-ours","typ":"at+jwt","alg":"HS256"}"#] {
        assert!(opened(&raw(SECRET, header, &claims(&json!({})).to_string())).is_some(), "{header}");
    }
    assert!(
        open(&[], &raw("", r#"{"alg":"HS256"}"#, &claims(&json!({})).to_string()), "anna", NOW).is_none()
    );
    assert!(open(&secrets(), &token(&json!({})), "bert", NOW).is_none());
}

#[test]
fn it_is_good_for_a_day_at_most_give_or_take_five_seconds() {
    let at = |seconds: i64| NOW.unix_timestamp() + seconds;
    for (exp, good) in
        [(-5, false), (-4, true), (86_400 + 5, true), (86_400 + 6, false), (i64::from(u32::MAX), false)]
    {
        assert_eq!(opened(&token(&json!({"exp": at(exp)}))).is_some(), good, "exp {exp}");
    }
    for (nbf, good) in [(-3600, true), (5, true), (6, false)] {
        assert_eq!(opened(&token(&json!({"nbf": at(nbf)}))).is_some(), good, "nbf {nbf}");
    }
}

#[test]
fn claims_that_are_missing_or_of_another_type_are_refused() {
    let exp = NOW.unix_timestamp() + 3600;
    for other in [
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": "Anna"}),
        json!({"sub": "anna "}),
        json!({"sub": ["anna"]}),
        json!({"sub": 7}),
        json!({"aud": null}),
        json!({"aud": ["datafly"]}),
        json!({"aud": "Datafly"}),
        json!({"aud": "other"}),
        json!({"exp": null}),
        json!({"exp": exp.to_string()}),
        json!({"exp": [exp]}),
        json!({"exp": true}),
        json!({"exp": 1e18}),
        json!({"exp": -1e300}),
        json!({"nbf": "0"}),
        json!({"nbf": 1e18}),
        json!({"iat": "0"}),
        json!({"email_sha256": ""}),
        json!({"email_sha256": "ab"}),
        json!({"email_sha256": "zz".repeat(32)}),
        json!({"phone_sha256": 5}),
    ] {
        assert_eq!(opened(&token(&other)), None, "{other}");
    }
    let plain = r#"{"alg":"HS256"}"#;
    for text in [
        format!(r#"{{"sub":"bert","sub":"anna","aud":"datafly","exp":{exp}}}"#),
        format!(r#"{{"sub":"anna","aud":"datafly","exp":{exp},"exp":{exp}}}"#),
        r#"{"sub":"anna","aud":"datafly","exp":1e400}"#.to_owned(),
        r#"{"sub":"anna","aud":"datafly","exp":NaN}"#.to_owned(),
        format!(r#"["anna","datafly",{exp}]"#),
        format!(r#"{{"sub":"anna","aud":"datafly","exp":{exp}}} {{}}"#),
        String::new(),
        "null".to_owned(),
    ] {
        assert_eq!(opened(&raw(SECRET, plain, &text)), None, "{text}");
    }
}

#[test]
fn no_other_algorithm_key_or_form_is_taken() {
    let good = claims(&json!({})).to_string();
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"typ":"JWT"}"#,
        "[]",
        "",
    ] {
        assert_eq!(opened(&raw(SECRET, header, &good)), None, "{header}");
    }
    let token = token(&json!({}));
    let (signed, tag) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    for forged in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        signed.to_owned(),
        format!("{signed}."),
        format!("{token}."),
        format!("{token}.{tag}"),
        format!(".{token}"),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{tag}"),
        format!("{header}..{tag}"),
        format!("{token}="),
        format!(" {token}"),
        format!("{signed}.{}", &tag[..42]),
        format!("{signed}.{}", &tag[..22]),
        raw("another", r#"{"alg":"HS256"}"#, &good),
        raw(SECRET, r#"{"alg":"HS256"}"#, &self::claims(&json!({"pad": "x".repeat(1600)})).to_string()),
    ] {
        assert_eq!(opened(&forged), None, "{forged}");
    }
    // The last character of a tag has two bits that say nothing: one token, one text.
    let other = token.strip_suffix(|_: char| true).unwrap();
    let texts = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_']);
    assert_eq!(texts.filter(|last| opened(&format!("{other}{last}")).is_some()).count(), 1);
}

#[test]
fn a_signature_of_a_body_and_a_user_hash_are_no_tokens() {
    let body = claims(&json!({})).to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let tag = mac.finalize().into_bytes();
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    assert_eq!(
        opened(&format!("{header}.{}.{}", URL_SAFE_NO_PAD.encode(&body), URL_SAFE_NO_PAD.encode(tag))),
        None
    );
    // The other way round: a token's MAC is over its own text, which begins neither a body nor a `user:`.
    assert!(!token(&json!({})).starts_with(['{', 'u']));
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in ".{0,300}", header in ".{0,40}", claims in ".{0,80}") {
        prop_assert_eq!(opened(&text), None);
        prop_assert_eq!(opened(&raw(SECRET, &header, &claims)), None);
    }

    #[test]
    fn any_flipped_bit_is_refused(at: prop::sample::Index, bit in 0_u8..7) {
        let token = token(&json!({}));
        let mut bytes = token.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let forged = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(opened(&forged), None);
    }

    #[test]
    fn times_of_any_size_are_judged_without_a_panic(exp: f64, nbf: f64, iat: f64) {
        let found = opened(&token(&json!({"exp": exp, "nbf": nbf, "iat": iat})));
        prop_assert!(found.is_none_or(|_| (exp - 1_795_255_200.0).abs() < 86_406.0));
    }
}
