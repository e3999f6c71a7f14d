//! A second reader of TCF strings, which spells out every bit and every vendor: the two agree on each string, and on the
//! one that is written anew from what was read.

use std::collections::BTreeSet;

use serde_json::json;
use time::{Duration, OffsetDateTime, macros::datetime};

use super::{NOW, Word, word};
use crate::{
    consent::{
        Signals,
        encoder::{ALPHABET, Restriction, TcModel, Vendors},
    },
    vendors::ConsentNeed,
};

/// Longest string that is read, in bytes.
const MAX_BYTES: usize = 8 * 1024;
/// Vendors of a string, beside those that are always asked for, whose consent is compared.
const COMPARED: usize = 12;

/// Strings that are in order at [`NOW`], or nearly.
pub fn made() -> Vec<String> {
    let granting = TcModel::granting(NOW);
    let few = Vendors::Field(BTreeSet::from([1, 42, 91, 1126]));
    let forbidden = Restriction { purpose: 1, kind: 0, ranges: vec![(91, 91), (1000, 1200)] };
    let models = [
        TcModel { consented: few.clone(), disclosed: Some(few.clone()), ..granting.clone() },
        TcModel { disclosed: None, restrictions: vec![forbidden], ..granting.clone() },
        TcModel { legitimate: few, publisher_first: true, ..granting.clone() },
        TcModel { consents_to_access: false, ..granting },
    ];
    models.iter().map(TcModel::text).collect()
}

/// Checks that a string says what the second reader finds in it, and says it again where it is written anew.
pub fn check(text: &str) {
    let model = if text.len() <= MAX_BYTES { model(text) } else { None };
    let Some(model) = model else {
        let own = word(&signals(text), &ConsentNeed::MARKETING, NOW);
        // An empty text is none.
        let expected = if text.is_empty() { Word::Nothing } else { Word::CannotBeRead };
        assert_eq!(own, expected, "what is no string: {text}");
        return;
    };
    let anew = model.text();
    let strings = [Some(text), Some(&*anew).filter(|anew| anew.len() <= MAX_BYTES)];
    for string in strings.into_iter().flatten() {
        let signals = signals(string);
        for now in [NOW, model.updated, model.updated + Duration::days(396)] {
            for gvl_id in asked(&model) {
                let need = ConsentNeed { gvl_id, ..ConsentNeed::MARKETING };
                let expected = expected(&model, gvl_id, now);
                assert_eq!(word(&signals, &need, now), expected, "{gvl_id:?} at {now}: {string} of {text}");
            }
        }
    }
}

fn signals(text: &str) -> Signals {
    Signals::parse(Some(&json!({"tcf": text}).to_string()), false)
}

/// Vendors that are asked for: some of the list's own, and those at the ends of what the string names.
fn asked(model: &TcModel) -> Vec<Option<u16>> {
    let sets = [Some(&model.consented), model.disclosed.as_ref()].into_iter().flatten();
    let mut ends = BTreeSet::new();
    for set in sets {
        match set {
            Vendors::Field(ids) => ends.extend(ids.iter().take(COMPARED).copied()),
            Vendors::Ranges { ranges, .. } => {
                ends.extend(ranges.iter().take(COMPARED).flat_map(|(a, b)| [*a, *b]));
            }
        }
    }
    let forbidden = model.restrictions.iter().flat_map(|own| own.ranges.iter().take(2));
    ends.extend(forbidden.take(COMPARED).flat_map(|(a, b)| [*a, *b]));
    let near = ends.iter().flat_map(|id| [id.saturating_sub(1), *id, id.saturating_add(1)]).map(Some);
    near.chain([None, Some(0), Some(91), Some(u16::MAX)]).collect()
}

/// The rules, over what was read.
fn expected(model: &TcModel, vendor: Option<u16>, now: OffsetDateTime) -> Word {
    let is_of_age = (now - Duration::days(395)..=now + Duration::days(2)).contains(&model.updated);
    if !model.is_service_specific || model.policy < 4 || !is_of_age {
        return Word::CannotBeRead;
    }
    if !model.consents_to_access {
        return Word::Refuses;
    }
    let Some(vendor) = vendor else { return Word::Grants };
    let is_forbidden = model.restrictions.iter().any(|own| {
        own.purpose == 1 && own.kind != 1 && own.ranges.iter().any(|(a, b)| (*a..=*b).contains(&vendor))
    });
    if !model.consented.contains(vendor) || is_forbidden {
        return Word::Refuses;
    }
    let is_disclosed = match &model.disclosed {
        Some(disclosed) => disclosed.contains(vendor),
        None => model.created < datetime!(2026-03-01 00:00 UTC),
    };
    if is_disclosed { Word::Grants } else { Word::CannotBeRead }
}

/// Reads a string; none where it has not the form of one.
fn model(text: &str) -> Option<TcModel> {
    let segments: Option<Vec<Vec<bool>>> = text.split('.').map(bits).collect();
    let segments = segments?;
    let mut model = core(&segments[0])?;
    for segment in &segments[1..] {
        let mut rest = &**segment;
        if take(&mut rest, 3)? == 1 && model.disclosed.replace(vendors(&mut rest)?).is_some() {
            return None;
        }
    }
    Some(model)
}

fn bits(segment: &str) -> Option<Vec<bool>> {
    let value = |c: u8| ALPHABET.iter().position(|own| *own == c);
    let values: Option<Vec<usize>> = segment.bytes().map(value).collect();
    let values = values.filter(|values| !values.is_empty())?;
    Some(values.iter().flat_map(|value| (0..6).rev().map(move |bit| value >> bit & 1 == 1)).collect())
}

fn take(bits: &mut &[bool], count: usize) -> Option<u64> {
    let (taken, rest) = bits.split_at_checked(count)?;
    *bits = rest;
    Some(taken.iter().fold(0, |number, bit| number << 1 | u64::from(*bit)))
}

fn core(mut bits: &[bool]) -> Option<TcModel> {
    let bits = &mut bits;
    if take(bits, 6)? != 2 {
        return None;
    }
    let time =
        |deciseconds: u64| OffsetDateTime::from_unix_timestamp(i64::try_from(deciseconds / 10).ok()?).ok();
    let (created, updated) = (time(take(bits, 36)?)?, time(take(bits, 36)?)?);
    take(bits, 54)?;
    let policy = short(bits, 6)?;
    let is_service_specific = take(bits, 1)? == 1;
    take(bits, 13)?;
    let consents_to_access = take(bits, 1)? == 1;
    take(bits, 60)?;
    let (consented, legitimate) = (vendors(bits)?, vendors(bits)?);
    let mut restrictions = Vec::new();
    for _ in 0..take(bits, 12)? {
        let (purpose, kind) = (short(bits, 6)?, short(bits, 2)?);
        restrictions.push(Restriction { purpose, kind, ranges: ranges(bits, u16::MAX)? });
    }
    Some(TcModel {
        created,
        updated,
        policy,
        is_service_specific,
        consents_to_access,
        consented,
        legitimate,
        restrictions,
        disclosed: None,
        publisher_first: false,
    })
}

fn short(bits: &mut &[bool], count: usize) -> Option<u16> {
    u16::try_from(take(bits, count)?).ok()
}

fn vendors(bits: &mut &[bool]) -> Option<Vendors> {
    let max = short(bits, 16)?;
    if take(bits, 1)? == 1 {
        return Some(Vendors::Ranges { max, ranges: ranges(bits, max)? });
    }
    let (field, rest) = bits.split_at_checked(max.into())?;
    *bits = rest;
    Some(Vendors::Field((1..=max).zip(field).filter(|(_, is_in)| **is_in).map(|(id, _)| id).collect()))
}

fn ranges(bits: &mut &[bool], max: u16) -> Option<Vec<(u16, u16)>> {
    let mut ranges = Vec::new();
    for _ in 0..take(bits, 12)? {
        let is_range = take(bits, 1)? == 1;
        let start = short(bits, 16)?;
        let end = if is_range { short(bits, 16)? } else { start };
        if start == 0 || start > end || end > max {
            return None;
        }
        ranges.push((start, end));
    }
    Some(ranges)
}
