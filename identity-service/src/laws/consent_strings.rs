//! Laws of consent: a TCF string is read as its specification says, bit by bit; a string that was cut grants nothing that
//! it did not; a consent object means the same however it is written; and any denial wins.

mod tcf;

use serde_json::{Map, Value, json};
use time::{OffsetDateTime, macros::datetime};

use crate::{
    consent::{self, ConsentMode, ConsentRule, Decision, Signals},
    vendors::{self, ConsentNeed},
};

/// The time at which decisions are made: strings of the repository's own are of age then.
const NOW: OffsetDateTime = datetime!(2026-06-01 00:00 UTC);
/// Cuts of a string that are tried.
const CUTS: usize = 8;

/// Checks the laws on an input: a byte for what the rest is, a TCF string, a GPP string, or a whole consent object.
pub fn hold(input: &[u8]) {
    let Some((kind, text)) = input.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    match kind % 3 {
        0 => {
            tcf::check(text);
            check_cuts("tcf", text);
        }
        1 => check_cuts("gpp", text),
        _ => check_object(text),
    }
}

/// Inputs to begin with: the vectors of the tests, alone and in objects.
pub fn seeds() -> Vec<Vec<u8>> {
    let tcf: Vec<String> = consent::tcf_vectors().map(str::to_owned).chain(tcf::made()).collect();
    let gpp = ["DBABM", "DBACNYA", "DBABTA"].iter().zip([&tcf[0], "CPXx", "1YNN"]);
    let mut gpp: Vec<String> = gpp.map(|(header, section)| format!("{header}~{section}")).collect();
    gpp.extend(
        ["DBABLA~BVVVVVVVVWA.YA", "DBABBg~BVoYYYI", "DBACTjw~1YYN~BSZZYgkA~BaRlkCSA.QA"].map(str::to_owned),
    );
    let objects = [
        json!({"marketing": true, "categories": {"C0004": false}, "google": {"ad_storage": "granted"}}),
        json!({"tcf": tcf[0], "gdprApplies": true, "gpp": gpp[3], "gppSid": [7, 2], "usPrivacy": "1YNN"}),
        json!({"gpc": true, "analytics": null, "gpp_sid": "-1"}),
    ];
    let kinds = [tcf, gpp, objects.map(|object| object.to_string()).to_vec()];
    let inputs = kinds.iter().zip(0..).flat_map(|(texts, kind)| texts.iter().map(move |text| (kind, text)));
    inputs.map(|(kind, text)| [&[kind], text.as_bytes()].concat()).collect()
}

/// What signals say of a need, however a pipeline reads silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Nothing,
    Grants,
    CannotBeRead,
    Refuses,
}

/// The word on a need at a time.
fn word(signals: &Signals, need: &ConsentNeed, now: OffsetDateTime) -> Word {
    let rule = |mode| ConsentRule { mode, mapping: None };
    let [explicit, implicit] = [ConsentMode::Explicit, ConsentMode::Implicit].map(|mode| {
        let decided = signals.decide(need, &rule(mode), now);
        assert!(decided == Decision::Granted || !signals.grants(need, &rule(mode), now), "a grant is denied");
        (decided, signals.refuses(need, &rule(mode), now))
    });
    assert_eq!(explicit.1, implicit.1, "the mode changes no refusal");
    match (explicit, implicit.0) {
        ((Decision::Denied, true), Decision::Denied) => Word::Refuses,
        ((Decision::Denied, false), Decision::Denied) => Word::CannotBeRead,
        ((Decision::Denied, false), Decision::Granted) => Word::Nothing,
        ((Decision::Granted, false), Decision::Granted) => Word::Grants,
        odd => panic!("no word: {odd:?}"),
    }
}

/// The needs of the vendors, and one of nobody in particular.
fn needs() -> impl Iterator<Item = ConsentNeed> {
    vendors::syncs().map(|vendor| vendor.need).chain([ConsentNeed::MARKETING])
}

/// The words of a string alone on all needs.
fn words(member: &str, text: &str) -> Vec<Word> {
    let signals = Signals::parse(Some(&json!({member: text}).to_string()), false);
    let forwarded = signals.forwarded();
    for (name, own) in [("tcf", forwarded.tcf), ("gpp", forwarded.gpp)] {
        assert!(
            own.is_none_or(|own| name == member && own == text),
            "{name} is forwarded as {own:?}: {text}"
        );
    }
    needs().map(|need| word(&signals, &need, NOW)).collect()
}

/// Checks that nothing is allowed by a string that was cut within a segment which the whole segment would not allow. Where
/// a segment ends, a string may end.
fn check_cuts(member: &str, text: &str) {
    words(member, text);
    for cut in 1..=CUTS {
        let at =
            text.floor_char_boundary(text.len() * cut / CUTS - usize::from(cut == CUTS && !text.is_empty()));
        let end = text[at..].find(['.', '~']).map_or(text.len(), |length| at + length);
        // A character that none is makes the rest no string, which the cut has not.
        if !text[at..end].bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c)) {
            continue;
        }
        let both = words(member, &text[..at]).into_iter().zip(words(member, &text[..end]));
        for (cut, whole) in both {
            assert!(cut != Word::Grants || whole == Word::Grants, "cut to {at} of {end} it grants: {text}");
        }
    }
}

/// Checks a consent object: what it says is independent of how it is written, and a denial beside it wins.
fn check_object(text: &str) {
    let said = |text: &str, sec_gpc| -> Vec<Word> {
        let signals = Signals::parse(Some(text), sec_gpc);
        needs().map(|need| word(&signals, &need, NOW)).collect()
    };
    let own = said(text, false);
    assert!(said(text, true).iter().all(|word| *word == Word::Refuses), "Sec-GPC is not heard: {text}");
    let Ok(Value::Object(members)) = serde_json::from_str::<Value>(text) else {
        assert!(!own.contains(&Word::Grants), "no object grants: {text}");
        return;
    };
    let is_repeated = own.iter().all(|word| matches!(word, Word::CannotBeRead | Word::Refuses));
    let rewritten = said(&Value::Object(members.clone()).to_string(), false);
    assert!(rewritten == own || is_repeated, "{rewritten:?} where it is written anew, else {own:?}: {text}");
    let refused = with(members, "us_privacy", "1YYN");
    assert!(
        said(&refused, false).iter().all(|word| *word == Word::Refuses),
        "an opt-out is not heard: {text}"
    );
}

fn with(mut members: Map<String, Value>, name: &str, value: &str) -> String {
    members.remove("usPrivacy");
    members.insert(name.to_owned(), Value::String(value.to_owned()));
    Value::Object(members).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_hold_for_the_vectors() {
        for seed in seeds() {
            hold(&seed);
        }
    }

    proptest! {
        #[test]
        fn they_hold_for_changed_vectors(
            seed in prop::sample::select(seeds()),
            at in any::<prop::sample::Index>(), byte in "[A-Za-z0-9_.~,:\"-]",
        ) {
            let mut changed = seed;
            let at = at.index(changed.len());
            changed[at] = byte.as_bytes()[0];
            hold(&changed);
        }
    }
}
