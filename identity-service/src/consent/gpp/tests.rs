//! GPP strings against the votes that they have to come to.

use proptest::prelude::*;
use serde_json::json;
use time::macros::datetime;

use super::{Vote::*, *};
use crate::consent::encoder::{self, BitText, TcModel};

const NOW: OffsetDateTime = datetime!(2026-06-01 00:00 UTC);

fn vote_of(object: &Value, vendor: Option<u16>) -> Vote {
    let need = ConsentNeed { gvl_id: vendor, ..ConsentNeed::MARKETING };
    Gpp::read(object.as_object().unwrap()).vote(&need, NOW)
}

fn vote(text: &str) -> Vote {
    vote_of(&json!({"gpp": text}), Some(91))
}

/// The vote where the platform says that these sections are in force.
fn vote_in(text: &str, sections: impl Into<Value>) -> Vote {
    vote_of(&json!({"gpp": text, "gpp_sid": sections.into()}), Some(91))
}

const EU_AND_US: &str = "DBACNY~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA~1YNN";
const CALIFORNIA_TO_CONNECTICUT: &str = "DBAETMz~1YNN~BVoAAACA~BVoAACA~BVYAACA";

#[test]
fn every_string_votes_as_its_sections_say() {
    for (text, expected) in [
        // Sections for the EU, made by rules that are not valid any more.
        ("DBABM~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA", Unreadable),
        ("DBABMA~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA", Unreadable),
        (EU_AND_US, Unreadable),
        ("DBACNYA~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA~1YNN", Unreadable),
        // Canada's is not read.
        ("DBABjw~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA~1YNN", Silent),
        // US Privacy.
        ("DBABTA~1YNN", Silent),
        ("DBABTA~1YYN", Deny),
        ("DBABTA~1nyn", Deny),
        // National.
        ("DBABLA~BVVVVVVVVWA.YA", Deny),
        ("DBABLA~BAAAAAAAAQA", Silent),
        ("DBABLA~BAAAAAAAAQA.QA", Silent),
        ("DBABLA~BVQqAAAAAgA.QA", Silent),
        ("DBABLA~BVVqAAAACqA.QA", Silent),
        ("DBABLA~CAAAAAAAAAWA.Q", Silent),
        ("DBABLA~BVQVAAAAAAGA.YA", Deny),
        ("DBABL~BVQVAAAAAg", Deny),
        ("DBABL~BVQqAAAAAg", Silent),
        ("DBABL~BVV6AAAAAg", Unreadable),
        ("DBABL~BVVpAAAAAg", Deny),
        ("DBABL~BVVqAAAAAg.YA", Deny),
        // States.
        ("DBABBg~BVVVVVVY", Deny),
        ("DBABBg~BVqqqqpY.YA", Deny),
        ("DBABBg~BVoYYYI", Silent),
        ("DBABBg~BVkAAACA", Deny),
        ("DBABRg~BVVVVWY", Deny),
        ("DBABRg~BVkAACA", Deny),
        ("DBABJg~BVVVVVg.YA", Deny),
        ("DBABFg~BVVVVVmA", Deny),
        ("DBABVg~BVVVVVVg.YA", Deny),
        ("DBABEY~BhVg.Q", Deny),
        ("DBABEY~YBABY.BhVg.Q", Deny),
        // Several.
        ("DBABrw~BAAAAAAAAABA.QA~BAAAAABA.QA", Silent),
        ("DBACTjw~1YYN~BSZZYgkA~BaRlkCSA.QA", Deny),
        ("DBADLO8~BSJgmkoZJSA.YA~BSFgmiU~BWJYJllA~BSFgmSZQ.YA", Deny),
        ("DBABrGA~DSJgmkoZJSA.YA~BlgWEYCY.QA~BSFgmiU~bSFgmJQ.YA~BWJYJllA~bSFgmSZQ.YA", Deny),
        ("DBACLMA~BAAAAAAAAAA.QA~BaAAAAA", Silent),
        (CALIFORNIA_TO_CONNECTICUT, Deny),
        // An unknown section behind California's.
        ("DBACBis~BVoAAACA~BAAA", Silent),
    ] {
        assert_eq!(vote(text), expected, "{text}");
    }
}

#[test]
fn a_section_for_the_eu_votes_on_vendors() {
    let text = "DBADNZg~CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgAVQAQAVAAAAA~1YNN~BVoAAACA";
    let votes = [Some(91), Some(42), None].map(|vendor| vote_of(&json!({"gpp": text}), vendor));
    assert_eq!(votes, [Deny, Unreadable, Grant], "91 has no consent, 42 was not disclosed");
    let granting = format!("{}~{}", encoder::gpp_header(&[2]), TcModel::granting(NOW).text());
    assert_eq!(vote(&granting), Grant);
    assert_eq!(vote_in(&granting, 2), Grant);
    assert_eq!(vote_in(&granting, -1), Silent);
    let elsewhere = |object: Value| vote_of(&object, Some(91));
    assert_eq!(elsewhere(json!({"gpp": granting, "gdpr_applies": false})), Silent);
    // Two words of the platform's that can't both be true: what the string refuses counts.
    assert_eq!(elsewhere(json!({"gpp": EU_AND_US, "gpp_sid": 2, "gdpr_applies": false})), Unreadable);
    let both = format!("{}~{}~1YYN", encoder::gpp_header(&[2, 6]), TcModel::granting(NOW).text());
    assert_eq!((vote(&both), vote_in(&both, 2), vote_in(&both, "6")), (Deny, Grant, Deny));
}

#[test]
fn sections_count_where_they_are_in_force() {
    for (text, sections, expected) in [
        (CALIFORNIA_TO_CONNECTICUT, json!([8]), Silent),
        (CALIFORNIA_TO_CONNECTICUT, json!("8"), Silent),
        (CALIFORNIA_TO_CONNECTICUT, json!("8,12"), Deny),
        (CALIFORNIA_TO_CONNECTICUT, json!([12]), Deny),
        (CALIFORNIA_TO_CONNECTICUT, json!([7]), Unreadable),
        (CALIFORNIA_TO_CONNECTICUT, json!([12, 7]), Deny),
        (CALIFORNIA_TO_CONNECTICUT, json!(-1), Silent),
        (CALIFORNIA_TO_CONNECTICUT, json!([0]), Unreadable),
        (CALIFORNIA_TO_CONNECTICUT, json!("usca"), Unreadable),
        (EU_AND_US, json!([6]), Silent),
        ("DBABjw~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA~1YNN", json!([5]), Unreadable),
        ("DBACBis~BVoAAACA~BAAA", json!([40]), Unreadable),
        ("DBACBis~BVoAAACA~BAAA", json!([8]), Silent),
    ] {
        assert_eq!(vote_in(text, sections.clone()), expected, "{text} {sections}");
    }
    // The platform's word alone, where there is no string yet.
    let alone = |sections: Value| vote_of(&json!({"gpp_sid": sections}), Some(91));
    assert_eq!((alone(json!(0)), alone(json!([7])), alone(json!(-1))), (Unreadable, Silent, Silent));
}

#[test]
fn every_section_s_opt_outs_deny() {
    // ID, first bits of the opt-outs, and whether sub-section 1 is that of Global Privacy Control.
    let mut sections = vec![
        (7, vec![18, 20, 22], true),
        (8, vec![12, 14], true),
        (9, vec![12, 14], false),
        (10, vec![12, 14], true),
        (11, vec![14, 16], false),
        (12, vec![12, 14], true),
        (13, vec![12, 14], false),
        (18, vec![14, 16], true),
        (24, vec![16, 18], true),
    ];
    sections.extend([14, 15, 16, 17, 19, 20, 21, 22, 23].map(|id| (id, vec![12, 14], true)));
    sections.extend([25, 26, 27].map(|id| (id, vec![16, 18], false)));
    assert_eq!(sections.len(), 21);
    for (id, opt_outs, has_gpc) in sections {
        let header = encoder::gpp_header(&[id]);
        let end = opt_outs[opt_outs.len() - 1] + 2;
        let core = |values: &[(usize, u64)]| {
            let mut bits = BitText::default();
            bits.add(1, 6);
            for at in (6..end).step_by(2) {
                let own = values.iter().find(|(own, _)| *own == at);
                bits.add(own.map_or(2, |(_, value)| *value), 2);
            }
            bits.text()
        };
        let in_section = |core: &str| vote(&format!("{header}~{core}"));
        for at in &opt_outs {
            let values = [0, 1, 2, 3].map(|value| in_section(&core(&[(*at, value)])));
            assert_eq!(values, [Silent, Deny, Silent, Unreadable], "section {id}, bit {at}");
        }
        let elsewhere: Vec<_> =
            (6..end).step_by(2).filter(|at| !opt_outs.contains(at)).map(|at| (at, 1)).collect();
        assert_eq!(in_section(&core(&elsewhere)), Silent, "section {id}: notices are no opt-outs");
        let gpc = in_section(&format!("{}.YA", core(&[])));
        assert_eq!(gpc, if has_gpc { Deny } else { Silent }, "section {id}: GPC");
        assert_eq!(in_section(&format!("{}.QA", core(&[]))), Silent, "section {id}: no GPC");
        assert_eq!(in_section(&format!("{}.", core(&[]))), Unreadable, "section {id}: cut at the dot");
        let short = core(&[]);
        assert_eq!(in_section(&short[..end.div_ceil(6) - 1]), Unreadable, "section {id}: cut");
    }
}

#[test]
fn a_section_s_own_header_has_a_version() {
    let with_header = |id: u64, version: u64| {
        let header = BitText::default().add(id, 6).add(version, 6).add(0, 12).text();
        let core = BitText::default().add(1, 6).add(0, 10).add(1, 2).add(2, 2).text();
        vote(&format!("{}~{header}.{core}", encoder::gpp_header(&[24])))
    };
    assert_eq!((with_header(24, 1), with_header(24, 2)), (Deny, Unreadable));
    assert_eq!(vote("DBABEY~YBABY"), Unreadable, "a header without a core");
}

#[test]
fn what_is_malformed_is_unreadable() {
    for text in [
        "DBABLA~",
        "DBABLA~YA",
        "DBABLA",
        "DBACNYA",
        "DBABLA..",
        "DBABzw~1YYNBVQVAAAAAg",
        "DBABMA~BAAAAAAAAgA.QA",
        "DBABMA~1YNN",
        "DBACNYA~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA",
        "DBACNYA~xxx~1YNN~",
        "DBABTA~1YNN~",
        "DBGBM~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA",
        "DCACTA~1YAB",
        "1YNN",
        "~1YNN",
        "~",
        "DBABTA~2YNN",
        "DBABTA~1YN",
        "DBABTA~1YNNX",
        "DBABLA~1YNN",
        "DBAB9QgSY~x",
        "DB__Y~1YNN",
        "DBABKqqqqqqqqqqqqqqqqqqqg~1YNN",
        "DBABBgA~xlgWEYCZAA",
        "DBABBg~BVoYYYI.Q=",
        "DBABBg~BVoYYYI ",
    ] {
        assert_eq!(vote(text), Unreadable, "{text}");
    }
    assert_eq!(vote(&format!("DBABTA~1YNN{}", "A".repeat(MAX_BYTES))), Unreadable);
    assert_eq!(vote_of(&json!({"gpp": ["DBABTA~1YNN"]}), None), Unreadable);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_text_is_voted_on_and_grants_nothing(
        text in prop_oneof![any::<String>(), "DB[A-Za-z0-9_.~-]{0,200}"],
        sections in prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), any::<String>().prop_map(Value::from)],
    ) {
        let mut object = json!({"gpp": text, "gpp_sid": sections});
        if sections.is_null() {
            object.as_object_mut().unwrap().remove("gpp_sid");
        }
        prop_assert_ne!(vote_of(&object, Some(91)), Grant);
    }

    #[test]
    fn headers_are_read_back(ids in prop::collection::btree_set(1u16..=3000, 1..=64)) {
        let ids: Vec<u16> = ids.into_iter().collect();
        prop_assert_eq!(header::section_ids(&encoder::gpp_header(&ids)), Some(ids));
    }

    #[test]
    fn a_cut_string_is_no_string(ids in prop::collection::btree_set(8u16..=17, 1..=6), at in any::<prop::sample::Index>()) {
        let ids: Vec<u16> = ids.into_iter().collect();
        let mut text = encoder::gpp_header(&ids);
        for _ in &ids {
            text.push_str("~BVVVVVVY.YA");
        }
        prop_assert_eq!(vote(&text), Deny);
        let last = text.rfind('~').unwrap();
        prop_assert_eq!(vote(&text[..at.index(last)]), Unreadable);
    }
}
