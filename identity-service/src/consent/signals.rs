//! The signals of one browser, parsed, and the consent function: any denial wins, else any grant, else the pipeline's
//! mode.

use serde_json::{Map, Value};

use super::{ConsentMode, Decision, Vote, categories, google, gpc, gpp, tcf, unique::Unique, us_privacy};
use crate::vendors::ConsentNeed;

/// The consent signals of a browser, parsed.
#[derive(Debug, Clone)]
pub struct Signals {
    /// The vote of the signals that say the same of every need.
    general: Vote,
    /// The members of the consent object, each named once; empty where `general` denies.
    members: Map<String, Value>,
}

impl Signals {
    /// Parses the consent object (JSON, verbatim; none where the browser sent none) and takes Sec-GPC beside it. A text
    /// that is no JSON object, or names a member twice, denies.
    pub fn parse(json: Option<&str>, sec_gpc: bool) -> Self {
        let denied = Self { general: Vote::Deny, members: Map::new() };
        if gpc::vote(sec_gpc) == Vote::Deny {
            return denied;
        }
        let members = match json.map(serde_json::from_str) {
            None => Map::new(),
            Some(Ok(Unique(Value::Object(members)))) => members,
            Some(_) => return denied,
        };
        let general = us_privacy::vote(&members).and(tcf::vote(&members)).and(gpp::vote(&members));
        if general == Vote::Deny { denied } else { Self { general, members } }
    }

    /// Decides for `need`. What the absence of signals means, `mode` says.
    pub fn decide(&self, need: &ConsentNeed, mode: ConsentMode) -> Decision {
        let vote = match self.general {
            Vote::Deny => Vote::Deny,
            general => {
                general.and(categories::vote(&self.members, need)).and(google::vote(&self.members, need))
            }
        };
        match (vote, mode) {
            (Vote::Deny, _) | (Vote::Silent, ConsentMode::Explicit) => Decision::Denied,
            (Vote::Grant, _) | (Vote::Silent, ConsentMode::Implicit) => Decision::Granted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ConsentMode::*, Decision::*, *};

    const ANALYTICS: ConsentNeed = ConsentNeed { category: "analytics", ..ConsentNeed::MARKETING };

    fn decide(signals: Option<&str>, sec_gpc: bool, need: &ConsentNeed, mode: ConsentMode) -> Decision {
        Signals::parse(signals, sec_gpc).decide(need, mode)
    }

    fn explicit(signals: &str) -> Decision {
        decide(Some(signals), false, &ConsentNeed::MARKETING, Explicit)
    }

    fn implicit(signals: &str) -> Decision {
        decide(Some(signals), false, &ConsentNeed::MARKETING, Implicit)
    }

    #[test]
    fn silence_is_the_mode() {
        for silent in [
            None,
            Some("{}"),
            Some(r#"{"analytics":true}"#),
            Some(r#"{"tcf":"","gpp":null,"us_privacy":""}"#),
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
            r#"{"categories":{"marketing":true}}"#,
            r#"{"google":{"ad_storage":"granted","ad_user_data":"denied"}}"#,
            r#"{"marketing":true,"us_privacy":"1YNN","analytics":false}"#,
            r#"{"marketing":true,"us_privacy":"1---"}"#,
        ] {
            assert_eq!(explicit(text), Granted, "{text}");
        }
        assert_eq!(
            decide(Some(r#"{"google":{"analytics_storage":"granted"}}"#), false, &ANALYTICS, Explicit),
            Granted
        );
    }

    #[test]
    fn any_denial_wins() {
        for text in [
            r#"{"marketing":false}"#,
            r#"{"marketing":"true"}"#,
            r#"{"marketing":1}"#,
            r#"{"marketing":null}"#,
            r#"{"marketing":[]}"#,
            r#"{"marketing":true,"categories":{"marketing":false}}"#,
            r#"{"marketing":true,"categories":[]}"#,
            r#"{"marketing":true,"google":{"ad_storage":"denied"}}"#,
            r#"{"marketing":true,"google":{"ad_storage":true}}"#,
            r#"{"marketing":true,"us_privacy":"1YYN"}"#,
            r#"{"marketing":true,"us_privacy":"1yyn"}"#,
            r#"{"marketing":true,"us_privacy":"2YNN"}"#,
            r#"{"marketing":true,"us_privacy":"1YN"}"#,
            r#"{"marketing":true,"us_privacy":7}"#,
            r#"{"marketing":true,"tcf":"CPXxRfAPXxRfAAfKABENB"}"#,
            r#"{"marketing":true,"gpp":"DBABMA"}"#,
            r#"{"marketing":false,"marketing":true}"#,
            r#"{"google":{"ad_storage":"denied"},"google":{},"marketing":true}"#,
            "null",
            "true",
            "[]",
            "not json",
        ] {
            assert_eq!(implicit(text), Denied, "{text}");
        }
        assert_eq!(
            decide(Some(r#"{"marketing":true}"#), true, &ConsentNeed::MARKETING, Implicit),
            Denied,
            "Sec-GPC"
        );
    }
}
