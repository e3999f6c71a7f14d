//! The consent function of design section 7: any denial wins, else any grant, else the pipeline's mode.

use serde_json::Value;

use super::unique::Unique;
use crate::settings::ConsentMode;

/// May the visitor's data be used for this?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Granted,
    /// No.
    Denied,
}

/// Decides for `category`, from the stored consent object (JSON, verbatim; none where the browser sent none)
/// and Sec-GPC.
///
/// TCF and GPP strings are not read yet; where one is present it counts as one that can't be parsed: denied.
pub fn decide(signals: Option<&str>, sec_gpc: bool, category: &str, mode: ConsentMode) -> Decision {
    if sec_gpc {
        return Decision::Denied;
    }
    let mut votes = Votes::default();
    if let Some(text) = signals {
        match serde_json::from_str(text) {
            Ok(Unique(Value::Object(object))) => votes.read(&object, category),
            _ => votes.denied = true,
        }
    }
    match votes {
        Votes { denied: true, .. } => Decision::Denied,
        Votes { granted: true, .. } => Decision::Granted,
        Votes { .. } if mode == ConsentMode::Implicit => Decision::Granted,
        Votes { .. } => Decision::Denied,
    }
}

#[derive(Default)]
struct Votes {
    denied: bool,
    granted: bool,
}

impl Votes {
    fn read(&mut self, object: &serde_json::Map<String, Value>, category: &str) {
        // Present and not the boolean `true` is a denial: "true", 1 and null are no consent.
        self.boolean(object.get(category));
        match object.get("categories") {
            None | Some(Value::Null) => {}
            Some(Value::Object(categories)) => self.boolean(categories.get(category)),
            Some(_) => self.denied = true,
        }
        match object.get("google") {
            None | Some(Value::Null) => {}
            Some(Value::Object(google)) => self.google(google, category),
            Some(_) => self.denied = true,
        }
        match object.get("us_privacy") {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => self.us_privacy(text),
            Some(_) => self.denied = true,
        }
        for unread in ["tcf", "gpp"] {
            match object.get(unread) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) if text.is_empty() => {}
                Some(_) => self.denied = true,
            }
        }
    }

    fn boolean(&mut self, value: Option<&Value>) {
        match value {
            None => {}
            Some(Value::Bool(true)) => self.granted = true,
            Some(_) => self.denied = true,
        }
    }

    /// Google consent mode: ad_storage is marketing, analytics_storage is analytics.
    fn google(&mut self, google: &serde_json::Map<String, Value>, category: &str) {
        let name = match category {
            "marketing" => "ad_storage",
            "analytics" => "analytics_storage",
            _ => return,
        };
        match google.get(name) {
            None => {}
            Some(Value::String(text)) if text == "granted" => self.granted = true,
            Some(_) => self.denied = true,
        }
    }

    /// IAB US Privacy string: version 1, notice given, opted out of sale, LSPA; each `Y`, `N` or `-`.
    fn us_privacy(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let letters: Vec<char> = text.to_ascii_uppercase().chars().collect();
        match letters.as_slice() {
            ['1', rest @ ..] if rest.len() == 3 && rest.iter().all(|c| matches!(c, 'Y' | 'N' | '-')) => {
                self.denied |= rest.get(1) == Some(&'Y');
            }
            _ => self.denied = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ConsentMode::*, Decision::*, *};

    fn explicit(signals: &str) -> Decision {
        decide(Some(signals), false, "marketing", Explicit)
    }

    fn implicit(signals: &str) -> Decision {
        decide(Some(signals), false, "marketing", Implicit)
    }

    #[test]
    fn silence_is_the_mode() {
        for silent in [
            None,
            Some("{}"),
            Some(r#"{"analytics":true}"#),
            Some(r#"{"tcf":"","gpp":null,"us_privacy":""}"#),
        ] {
            let in_mode = |mode| decide(silent, false, "marketing", mode);
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
            decide(Some(r#"{"google":{"analytics_storage":"granted"}}"#), false, "analytics", Explicit),
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
        assert_eq!(decide(Some(r#"{"marketing":true}"#), true, "marketing", Implicit), Denied, "Sec-GPC");
    }
}
