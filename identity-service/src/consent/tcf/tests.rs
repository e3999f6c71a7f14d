//! TCF strings against the votes that they have to come to, and against a model of the rules.

use proptest::prelude::*;
use serde_json::json;

use super::{
    vectors::{MADE, MALFORMED, PUBLISHED},
    *,
};
use crate::consent::encoder::{Restriction, TcModel, Vendors};

const NOW: OffsetDateTime = datetime!(2026-06-01 00:00 UTC);

fn need(gvl_id: Option<u16>) -> ConsentNeed {
    ConsentNeed { gvl_id, ..ConsentNeed::MARKETING }
}

fn vote_at(text: &str, gvl_id: Option<u16>, now: OffsetDateTime) -> Vote {
    Tcf::of(text).vote(&need(gvl_id), now)
}

fn made(purpose: &str) -> &'static str {
    MADE.iter().find(|(own, ..)| *own == purpose).unwrap().1
}

#[test]
fn published_strings_are_read_field_by_field() {
    for published in PUBLISHED {
        let text = published.text;
        let read = TcString::read(text).unwrap_or_else(|| panic!("{text}"));
        let updated = OffsetDateTime::from_unix_timestamp(read.updated).unwrap();
        assert_eq!(updated.date(), published.updated, "{text}");
        assert!(read.created <= read.updated, "{text}");
        assert_eq!(
            (read.policy, read.is_service_specific, read.consents_to_access),
            (published.policy, published.is_service_specific, published.consents_to_access),
            "{text}"
        );
        let all = |holds: &dyn Fn(u16) -> bool| (0..=u16::MAX).filter(|id| holds(*id)).collect::<Vec<_>>();
        let consented = all(&|id| read.consents_to(id));
        let ends = (consented.first().copied().unwrap_or(0), consented.last().copied().unwrap_or(0));
        assert_eq!((ends.0, ends.1, consented.len()), published.consented, "{text}");
        assert_eq!(all(&|id| read.forbids_access(id)), published.forbidden, "{text}");
        let disclosed = read.discloses(0).map(|_| all(&|id| read.discloses(id) == Some(true)));
        assert_eq!(disclosed.as_deref(), published.disclosed, "{text}");
        for now in [updated, NOW] {
            assert_eq!(
                vote_at(text, None, now),
                Vote::Unreadable,
                "{text}: its rules are not valid any more"
            );
        }
    }
}

#[test]
fn every_string_votes_as_the_rules_say() {
    for (purpose, text, votes) in MADE {
        let own = [Some(91), Some(42), Some(1126), None].map(|vendor| vote_at(text, vendor, NOW));
        assert_eq!(own, *votes, "{purpose}: {text}");
    }
}

#[test]
fn what_has_not_the_form_of_a_string_is_unreadable() {
    let long = format!("{}.{}", made("in order"), "A".repeat(8 * 1024));
    for text in MALFORMED.iter().copied().chain([long.as_str(), "DBABMA~CPXxRfA", "\u{0}", "CQhQ\u{e9}"]) {
        assert_eq!(vote_at(text, None, NOW), Vote::Unreadable, "{text}");
    }
}

#[test]
fn who_never_asks_for_access_is_not_consented_to() {
    let silent = ConsentNeed { asks_for_access: false, ..need(Some(91)) };
    let vote = |purpose: &str| Tcf::of(made(purpose)).vote(&silent, NOW);
    assert_eq!(vote("in order"), Vote::Unreadable);
    assert_eq!(vote("no consent to access"), Vote::Deny);
    assert_eq!(Tcf::Absent.vote(&silent, NOW), Vote::Silent);
}

#[test]
fn a_string_that_is_too_old_or_of_the_future_is_unreadable() {
    let made_at = datetime!(2026-03-18 00:00 UTC);
    let age = |days| vote_at(made("in order"), Some(91), made_at + Duration::days(days));
    assert_eq!(
        (age(-3), age(-1), age(0), age(394)),
        (Vote::Unreadable, Vote::Grant, Vote::Grant, Vote::Grant)
    );
    assert_eq!((age(396), age(425), age(4000)), (Vote::Unreadable, Vote::Unreadable, Vote::Unreadable));
    let refused = made("no consent to access");
    assert_eq!(vote_at(refused, Some(91), NOW), Vote::Deny);
    assert_eq!(vote_at(refused, Some(91), NOW + Duration::days(400)), Vote::Unreadable, "an old refusal");
}

#[test]
fn a_string_counts_where_the_regulation_applies() {
    let vote = |object: serde_json::Value| Tcf::read(object.as_object().unwrap()).vote(&need(Some(91)), NOW);
    let refused = made("no consent to access");
    assert_eq!(vote(json!({"tcf": refused})), Vote::Deny);
    assert_eq!(vote(json!({"tcf": refused, "gdpr_applies": true})), Vote::Deny);
    assert_eq!(vote(json!({"tcf": refused, "gdpr_applies": "false"})), Vote::Deny);
    assert_eq!(vote(json!({"tcf": refused, "gdpr_applies": false})), Vote::Silent);
    assert_eq!(vote(json!({"tcf": 2, "gdpr_applies": false})), Vote::Silent);
    assert_eq!(vote(json!({"tcf": 2})), Vote::Unreadable);
    assert_eq!(vote(json!({})), Vote::Silent);
}

#[test]
fn a_cut_string_grants_nothing_and_refuses_nothing() {
    for purpose in ["in order", "91 needs consent, and has it", "another segment first"] {
        let text = made(purpose);
        for end in 0..text.len() {
            // What is cut behind the core still says what the visitor refuses.
            let own = vote_at(&text[..end], Some(91), NOW);
            let is_padding = text[end..].bytes().all(|c| c == b'A');
            assert!(own == Vote::Unreadable || own == Vote::Grant && is_padding, "{own:?}: {}", &text[..end]);
        }
    }
}

#[test]
fn a_flipped_bit_that_matters_takes_the_grant() {
    let text = TcModel::granting(NOW).text();
    assert_eq!(vote_at(&text, Some(91), NOW), Vote::Grant);
    let flipped = |bit: usize| {
        let mut text = text.clone().into_bytes();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".as_bytes();
        let value = alphabet.iter().position(|c| *c == text[bit / 6]).unwrap();
        text[bit / 6] = alphabet[value ^ (1 << (5 - bit % 6))];
        vote_at(std::str::from_utf8(&text).unwrap(), Some(91), NOW)
    };
    let bits = [(0, "version"), (5, "version"), (43, "time"), (135, "policy"), (138, "scope")];
    for (bit, what) in bits {
        assert_eq!(flipped(bit), Vote::Unreadable, "{what}");
    }
    assert_eq!(flipped(152), Vote::Deny, "access");
    for harmless in [80, 92, 140, 155, 176, 201] {
        assert_eq!(flipped(harmless), Vote::Grant, "bit {harmless}");
    }
}

#[test]
fn the_longest_strings_are_answered() {
    // As many ranges of everybody as 8 KiB hold.
    let everybody = Vendors::Ranges { max: u16::MAX, ranges: vec![(1, u16::MAX); 1400] };
    let model = TcModel { consented: everybody, ..TcModel::granting(NOW) };
    assert!(model.text().len() > 7 * 1024);
    assert_eq!(vote_at(&model.text(), Some(1126), NOW), Vote::Grant);
}

fn vendors() -> impl Strategy<Value = Vendors> {
    let range = (1u16..=60, 0u16..=8).prop_map(|(start, length)| (start, start + length));
    prop_oneof![
        prop::collection::btree_set(1u16..=60, 0..40).prop_map(Vendors::Field),
        prop::collection::vec(range, 0..8).prop_map(|ranges| Vendors::Ranges { max: 70, ranges }),
    ]
}

fn model() -> impl Strategy<Value = TcModel> {
    let ranges = prop::collection::vec((1u16..=60, 0u16..=8).prop_map(|(a, b)| (a, a + b)), 0..4);
    let restriction = (1u16..=3, 0u16..=3, ranges).prop_map(|(purpose, kind, ranges)| Restriction {
        purpose,
        kind,
        ranges,
    });
    let ages = (0i64..=420, 0i64..=200);
    let header = (ages, 3u16..=6, prop::bool::weighted(0.9), prop::bool::weighted(0.9));
    let sets = (vendors(), vendors(), prop::collection::vec(restriction, 0..4), prop::option::of(vendors()));
    (header, sets, any::<bool>()).prop_map(|(header, sets, publisher_first)| {
        let ((age, younger), policy, is_service_specific, consents_to_access) = header;
        let (consented, legitimate, restrictions, disclosed) = sets;
        let updated = NOW - Duration::days(age);
        TcModel {
            created: updated - Duration::days(younger),
            updated,
            policy,
            is_service_specific,
            consents_to_access,
            consented,
            legitimate,
            restrictions,
            disclosed,
            publisher_first,
        }
    })
}

/// The rules, over the model.
fn expected(model: &TcModel, vendor: Option<u16>) -> Vote {
    let age = NOW - model.updated;
    if !model.is_service_specific || model.policy < 4 || age > Duration::days(395) {
        return Vote::Unreadable;
    }
    let Some(vendor) = vendor else {
        return if model.consents_to_access { Vote::Grant } else { Vote::Deny };
    };
    let is_forbidden = model.restrictions.iter().any(|own| {
        own.purpose == 1 && own.kind != 1 && own.ranges.iter().any(|(a, b)| (*a..=*b).contains(&vendor))
    });
    if !model.consents_to_access || !model.consented.contains(vendor) || is_forbidden {
        return Vote::Deny;
    }
    let is_disclosed = match &model.disclosed {
        Some(disclosed) => disclosed.contains(vendor),
        None => model.created < datetime!(2026-03-01 00:00 UTC),
    };
    if is_disclosed { Vote::Grant } else { Vote::Unreadable }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_was_encoded_is_decided_by_the_rules(model in model(), vendor in prop::option::of(1u16..=72)) {
        prop_assert_eq!(vote_at(&model.text(), vendor, NOW), expected(&model, vendor));
    }

    #[test]
    fn a_cut_string_never_comes_to_a_grant(model in model(), vendor in 1u16..=72, at in any::<prop::sample::Index>()) {
        let text = TcModel { created: NOW.min(model.updated + Duration::days(200)), ..model }.text();
        let cut = &text[..at.index(text.len())];
        if vote_at(&text, Some(vendor), NOW) != Vote::Grant {
            // Before the deadline a string without its last segment is one of its own.
            let is_older = TcString::read(&text).is_some_and(|own| own.created < DISCLOSURE_SINCE.unix_timestamp());
            prop_assert!(is_older || vote_at(cut, Some(vendor), NOW) != Vote::Grant, "{}", cut);
        }
    }

    #[test]
    fn a_flipped_bit_is_voted_on(
        model in model(), vendor in 1u16..=72, at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let mut text = model.text().into_bytes();
        let at = at.index(text.len());
        text[at] ^= 1 << bit;
        prop_assert_ne!(vote_at(&String::from_utf8_lossy(&text), Some(vendor), NOW), Vote::Silent);
    }

    #[test]
    fn any_text_is_voted_on_and_grants_nothing(text in any::<String>(), vendor in any::<Option<u16>>()) {
        prop_assert_eq!(vote_at(&text, vendor, NOW), Vote::Unreadable);
    }

    #[test]
    fn any_text_of_the_alphabet_is_voted_on(text in "C[A-Za-z0-9_.-]{0,300}", vendor in any::<Option<u16>>()) {
        prop_assert_ne!(vote_at(&text, vendor, NOW), Vote::Silent);
    }
}
