//! Objects of consent platforms, with what they mean.

use std::collections::BTreeMap;

use proptest::prelude::*;
use time::macros::datetime;

use super::{
    super::mapping::{ConsentMapping, Preset},
    ConsentMode::*,
    Decision::*,
    *,
};

const NOW: OffsetDateTime = datetime!(2026-06-01 00:00 UTC);
const ANALYTICS: ConsentNeed = ConsentNeed { category: "analytics", ..ConsentNeed::MARKETING };
const GOOGLE: ConsentNeed = ConsentNeed { google: true, ..ConsentNeed::MARKETING };

/// A TCF string that consents to the vendors 91 and 42, among others; one without any purpose; a GPP string in which
/// California is opted out of. All as JSON.
const GRANTED: &str = concat!(
    "\"CQhQy4AQhQy4ANwABBENCWFgAPLAAAAAAAYgIzQCgAFAAVABUADQALYAYQBSAMZAZIBGYAAAAAAA",
    ".IIzQCgAFAAVABUADQALYAYQBSAMZAZIBGYAA\""
);
const REFUSED: &str = "\"CQhQy4AQhQy4ANwABBENCWFgAHAAAAAAAIYgAtwAQAtgAAAA.IAtwAQAtgAAA\"";
const OPTED_OUT: &str = "\"DBABBg~BVVVVVVY\"";

fn rule(mode: ConsentMode, preset: Option<Preset>) -> ConsentRule {
    let mapping = preset.map(|preset| ConsentMapping { preset: Some(preset), codes: BTreeMap::new() });
    ConsentRule { mode, mapping }
}

fn decide(signals: Option<&str>, sec_gpc: bool, need: &ConsentNeed, mode: ConsentMode) -> Decision {
    Signals::parse(signals, sec_gpc).decide(need, &rule(mode, None), NOW)
}

fn explicit(signals: &str) -> Decision {
    decide(Some(signals), false, &ConsentNeed::MARKETING, Explicit)
}

fn implicit(signals: &str) -> Decision {
    decide(Some(signals), false, &ConsentNeed::MARKETING, Implicit)
}

fn refuses(signals: &str) -> bool {
    Signals::parse(Some(signals), false).refuses(&ConsentNeed::MARKETING, &rule(Implicit, None), NOW)
}

#[test]
fn silence_is_the_mode() {
    for silent in [
        None,
        Some("{}"),
        Some("null"),
        Some("[]"),
        Some(r#"{"analytics":true}"#),
        Some(r#"{"tcf":"","gpp":null,"us_privacy":""}"#),
        Some(r#"{"marketing":null,"categories":[],"google":{}}"#),
        Some(r#"{"gdpr_applies":true}"#),
        Some(r#"{"gpc":false}"#),
        Some(r#"{"gdpr_applies":false,"tcf":"CPXxRfAPXxRfAAfKABENB"}"#),
        Some(r#"{"google":{"ad_personalization":"denied"}}"#),
    ] {
        let in_mode = |mode| decide(silent, false, &ConsentNeed::MARKETING, mode);
        assert_eq!(in_mode(Explicit), Denied, "{silent:?}");
        assert_eq!(in_mode(Implicit), Granted, "{silent:?}");
    }
}

#[test]
fn grants() {
    for text in [
        r#"{"marketing":true}"#,
        r#"{"advertising":true}"#,
        r#"{"categories":{"marketing":true}}"#,
        r#"{"categoryPreferences":{"advertising":true}}"#,
        r#"{"google":{"ad_storage":"granted","ad_user_data":"denied"}}"#,
        r#"{"marketing":true,"us_privacy":"1YNN","analytics":false}"#,
        r#"{"marketing":true,"us_privacy":"1---","categories":{"C0001":true},"x":1}"#,
    ] {
        assert_eq!(explicit(text), Granted, "{text}");
    }
    let analytics = r#"{"google":{"analytics_storage":"granted"}}"#;
    assert_eq!(decide(Some(analytics), false, &ANALYTICS, Explicit), Granted);
}

#[test]
fn any_denial_wins() {
    for (text, is_made) in [
        (r#"{"marketing":false}"#, true),
        (r#"{"advertising":false,"marketing":true}"#, true),
        (r#"{"marketing":true,"categories":{"marketing":false}}"#, true),
        (r#"{"marketing":true,"categoryPreferences":{"advertising":false}}"#, true),
        (r#"{"marketing":true,"google":{"ad_storage":"denied"}}"#, true),
        (r#"{"marketing":true,"us_privacy":"1YYN"}"#, true),
        (r#"{"marketing":true,"us_privacy":"1yyn"}"#, true),
        (r#"{"marketing":true,"gpc":true}"#, true),
        (r#"{"marketing":"true"}"#, false),
        (r#"{"marketing":1}"#, false),
        (r#"{"marketing":true,"categories":["marketing"]}"#, false),
        (r#"{"marketing":true,"google":{"ad_storage":true}}"#, false),
        (r#"{"marketing":true,"google":"granted"}"#, false),
        (r#"{"marketing":true,"us_privacy":"2YNN"}"#, false),
        (r#"{"marketing":true,"us_privacy":"1YN"}"#, false),
        (r#"{"marketing":true,"us_privacy":7}"#, false),
        (r#"{"marketing":true,"gpc":"1"}"#, false),
        (r#"{"marketing":true,"tcf":"CPXxRfAPXxRfAAfKABENB"}"#, false),
        (r#"{"marketing":true,"tcf":"C","gdpr_applies":true}"#, false),
        (r#"{"marketing":true,"gpp":"DBABMA"}"#, false),
        (r#"{"marketing":false,"marketing":true}"#, false),
        (r#"{"google":{"ad_storage":"denied"},"google":{},"marketing":true}"#, false),
        ("true", false),
        ("[1]", false),
        ("not json", false),
    ] {
        assert_eq!(implicit(text), Denied, "{text}");
        assert_eq!(refuses(text), is_made, "{text}");
    }
    assert_eq!(
        decide(Some(r#"{"marketing":true}"#), true, &ConsentNeed::MARKETING, Implicit),
        Denied,
        "Sec-GPC"
    );
    assert_eq!(decide(None, true, &ANALYTICS, Implicit), Denied, "Sec-GPC");
}

#[test]
fn google_s_user_data_denies_google_s_advertising_ids_alone() {
    let denied = r#"{"google":{"ad_storage":"granted","ad_user_data":"denied"}}"#;
    assert_eq!(decide(Some(denied), false, &GOOGLE, Implicit), Denied);
    assert_eq!(decide(Some(denied), false, &ConsentNeed::MARKETING, Explicit), Granted);
    let granted = r#"{"google":{"ad_user_data":"granted"}}"#;
    assert_eq!(decide(Some(granted), false, &GOOGLE, Explicit), Denied, "it grants nothing by itself");
    // The sample of the specification: analytics are granted, advertising is not.
    let sample =
        r#"{"google":{"ad_storage":"denied","analytics_storage":"granted","ad_user_data":"denied"}}"#;
    assert_eq!(decide(Some(sample), false, &ANALYTICS, Explicit), Granted);
    assert_eq!(decide(Some(sample), false, &GOOGLE, Implicit), Denied);
}

#[test]
fn what_is_not_understood_denies_and_is_told() {
    let none = rule(Implicit, None);
    for (text, names) in [
        (r#"{"categories":{"C0004":true}}"#, &["C0004"][..]),
        (r#"{"categoryPreferences":{"Advertising":true,"Other":false}}"#, &["Advertising", "Other"]),
        (r#"["marketing"]"#, &[]),
        (r#"{"cmp":"OneTrust","google":{"ads":true}}"#, &["cmp", "google"]),
    ] {
        let signals = Signals::parse(Some(text), false);
        assert_eq!(signals.decide(&ConsentNeed::MARKETING, &none, NOW), Denied, "{text}");
        assert!(!signals.refuses(&ConsentNeed::MARKETING, &none, NOW), "{text}");
        assert_eq!(
            signals.unknown_names(&none).as_deref(),
            Some(&names.iter().map(ToString::to_string).collect::<Vec<_>>()[..])
        );
    }
    for known in [r#"{"categories":{"C0004":true},"analytics":true}"#, "{}", r#"{"gdpr_applies":true,"x":1}"#]
    {
        assert_eq!(Signals::parse(Some(known), false).unknown_names(&none), None, "{known}");
    }
}

#[test]
fn strings_vote_beside_the_other_signals() {
    let votes = |members: &str| {
        let text =
            members.replace("GRANTED", GRANTED).replace("REFUSED", REFUSED).replace("OPTED_OUT", OPTED_OUT);
        (explicit(&text), implicit(&text), refuses(&text))
    };
    let (granted, silent) = ((Granted, Granted, false), (Denied, Granted, false));
    let (refused, unreadable) = ((Denied, Denied, true), (Denied, Denied, false));
    for (members, expected) in [
        (r#"{"tcf":GRANTED}"#, granted),
        (r#"{"tcf":GRANTED,"gdpr_applies":true,"us_privacy":"1YNN"}"#, granted),
        (r#"{"tcf":GRANTED,"marketing":false}"#, refused),
        (r#"{"tcf":GRANTED,"google":{"ad_storage":"pending"}}"#, unreadable),
        (r#"{"tcf":GRANTED,"gpp":OPTED_OUT}"#, refused),
        (r#"{"tcf":GRANTED,"gpp":OPTED_OUT,"gpp_sid":[-1]}"#, granted),
        (r#"{"tcf":GRANTED,"gpp_sid":[0]}"#, unreadable),
        (r#"{"tcf":REFUSED,"marketing":true}"#, refused),
        (r#"{"tcf":REFUSED,"gdpr_applies":false}"#, silent),
        (r#"{"tcf":REFUSED,"gdprApplies":false,"marketing":true}"#, granted),
        (r#"{"tcf":REFUSED,"gdpr_applies":0}"#, refused),
        (r#"{"tcf":REFUSED,"gdpr_applies":false,"gdprApplies":false}"#, unreadable),
        (r#"{"tcf":[GRANTED],"marketing":true}"#, unreadable),
        (r#"{"gpp":OPTED_OUT,"gppSid":"8","marketing":true}"#, refused),
        (r#"{"gpp":"DBABBg~BVoYYYI"}"#, silent),
        (r#"{"gpp":"DBABBg~BVoYYYI","marketing":true}"#, granted),
        (r#"{"gpp_sid":[7],"marketing":true}"#, granted),
        (r#"{"usPrivacy":"1YYN","marketing":true}"#, refused),
    ] {
        assert_eq!(votes(members), expected, "{members}");
    }
}

#[test]
fn a_vendor_s_own_consent_counts_where_it_is_on_the_list() {
    let signals = Signals::parse(Some(&format!(r#"{{"tcf":{GRANTED}}}"#)), false);
    for (gvl_id, expected) in [(91, Granted), (42, Granted), (92, Denied), (755, Denied)] {
        let need = ConsentNeed::marketing_of(gvl_id);
        assert_eq!(signals.decide(&need, &rule(Implicit, None), NOW), expected, "{gvl_id}");
    }
}

#[test]
fn codes_count_as_the_pipeline_maps_them() {
    let in_preset = |preset, text: &str, need: &ConsentNeed| {
        Signals::parse(Some(text), false).decide(need, &rule(Explicit, Some(preset)), NOW)
    };
    let marketing = ConsentNeed::MARKETING;
    for (preset, text, is_marketing, is_analytics) in [
        (Preset::Onetrust, r#"{"categories":{"C0004":true,"C0002":true}}"#, Granted, Granted),
        (Preset::Onetrust, r#"{"categories":{"c0004":true,"C0005":false,"C0002":false}}"#, Denied, Denied),
        (Preset::Onetrust, r#"{"categories":{"C0004":true,"C0005":null}}"#, Granted, Denied),
        (Preset::Cookiebot, r#"{"categories":{"statistics":true,"marketing":false}}"#, Denied, Granted),
        (Preset::Cookieyes, r#"{"categories":{"advertisement":true,"performance":true}}"#, Granted, Granted),
        (Preset::Trustarc, r#"{"categories":{"1":true,"2":true,"3":true}}"#, Granted, Denied),
        (Preset::Segment, r#"{"categoryPreferences":{"marketingAndAnalytics":true}}"#, Granted, Granted),
    ] {
        assert_eq!(in_preset(preset, text, &marketing), is_marketing, "{text}");
        assert_eq!(in_preset(preset, text, &ANALYTICS), is_analytics, "{text}");
    }
    // A code of the customer's own goes before the preset's.
    let codes =
        BTreeMap::from([("c0004".to_owned(), Category::Functional), ("ads".to_owned(), Category::Marketing)]);
    let own = ConsentRule {
        mode: Explicit,
        mapping: Some(ConsentMapping { preset: Some(Preset::Onetrust), codes }),
    };
    let own = |text: &str| Signals::parse(Some(text), false).decide(&marketing, &own, NOW);
    assert_eq!(own(r#"{"categories":{"C0004":true}}"#), Denied);
    assert_eq!(own(r#"{"categories":{"ADS":true,"C0004":false}}"#), Granted);
}

proptest! {
    /// Laws of the function: more can't be said against a denial, a denial of the visitor's is one, and nothing panics.
    #[test]
    fn a_denial_stays_one_whatever_stands_beside_it(
        members in prop::collection::btree_map(
            prop::sample::select(vec![
                "marketing", "analytics", "categories", "google", "tcf", "gpp", "gpp_sid", "gpc", "us_privacy", "x",
                "gdpr_applies",
            ]),
            prop::sample::select(vec![
                "true", "false", "null", "1", "\"\"", "\"1YYN\"", "\"1YNN\"", "[]", "{}", r#"{"marketing":true}"#,
                GRANTED, REFUSED, OPTED_OUT, "[0]", "[8]", r#"{"marketing":false,"C0004":true}"#, r#"{"ad_storage":"denied"}"#, r#"{"ad_storage":"granted"}"#,
            ]),
            0..6,
        ),
        mapped in any::<bool>(),
    ) {
        let text = |members: &BTreeMap<&str, &str>| {
            let members: Vec<String> = members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
            format!("{{{}}}", members.join(","))
        };
        let need = ConsentNeed::MARKETING;
        for mode in [Explicit, Implicit] {
            let rule = rule(mode, mapped.then_some(Preset::Onetrust));
            let decided = Signals::parse(Some(&text(&members)), false);
            if decided.refuses(&need, &rule, NOW) {
                prop_assert_eq!(decided.decide(&need, &rule, NOW), Denied);
                let mut more = members.clone();
                more.insert("advertising", "true");
                more.insert("functional", "true");
                prop_assert!(Signals::parse(Some(&text(&more)), false).refuses(&need, &rule, NOW));
            }
            prop_assert_eq!(Signals::parse(Some(&text(&members)), true).decide(&need, &rule, NOW), Denied);
        }
    }

    #[test]
    fn any_text_is_decided(text in any::<String>(), gpc in any::<bool>()) {
        let signals = Signals::parse(Some(&text), gpc);
        let _ = (signals.decide(&GOOGLE, &ConsentRule::NONE, NOW), signals.unknown_names(&ConsentRule::NONE));
    }
}
