//! The privacy signals that a vendor is told when a browser is sent to it, as the browser's site has said them.

use serde_json::{Map, Value};

use super::{gpp::applicable::Applicable, us_privacy};

/// Longest string that is forwarded, in bytes. Two of them and the rest fit in the 8 KiB of a URL that most servers
/// take; the longest in use have about 2 KiB.
const MAX_STRING_BYTES: usize = 3 * 1024;

/// Values to forward, each fit for a URL as it is; none where the signals don't have it, or not in its own alphabet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// True where the consent platform says that the GDPR applies, false where that it doesn't.
    pub gdpr: Option<bool>,
    /// The TCF string, unchanged.
    pub tcf: Option<&'a str>,
    /// The US Privacy string, unchanged.
    pub us_privacy: Option<&'a str>,
    /// The GPP string, unchanged.
    pub gpp: Option<&'a str>,
    /// IDs of the sections of the GPP string that are in force, with commas between them; `-1` where none is.
    pub gpp_sid: Option<String>,
}

impl<'a> Forwarded<'a> {
    /// Takes the values from a consent object. A string counts by its alphabet and length alone.
    pub fn of(object: &'a Map<String, Value>) -> Self {
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let string = |name: &str, marks: &[u8]| {
            text(name).filter(|text| text.len() <= MAX_STRING_BYTES && is_of(text, marks))
        };
        Self {
            gdpr: object.get("gdpr_applies").and_then(Value::as_bool),
            tcf: string("tcf", b"."),
            us_privacy: text("us_privacy").filter(|text| us_privacy::is_well_formed(text)),
            gpp: string("gpp", b".~"),
            gpp_sid: match Applicable::read(object) {
                Applicable::Nothing => Some("-1".to_owned()),
                Applicable::Sections(ids) => {
                    Some(ids.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(","))
                }
                Applicable::Unsaid | Applicable::Pending | Applicable::Unreadable => None,
            },
        }
    }
}

/// True where a text has letters and digits of base64url and these marks alone.
fn is_of(text: &str, marks: &[u8]) -> bool {
    text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_') || marks.contains(&c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::Signals, *};

    fn forwarded(object: &Value) -> (Option<bool>, [Option<String>; 4]) {
        let signals = Signals::parse(Some(&object.to_string()), false);
        let Forwarded { gdpr, tcf, us_privacy, gpp, gpp_sid } = signals.forwarded();
        (gdpr, [tcf.map(str::to_owned), us_privacy.map(str::to_owned), gpp.map(str::to_owned), gpp_sid])
    }

    #[test]
    fn what_is_stored_is_forwarded_unchanged() {
        let all = json!({
            "gdpr_applies": true, "tcf": "CPXx_f-AA.YAAA", "us_privacy": "1ynN", "gpp": "DBABMA~CPXx_f-AA.Y~1YNN",
            "gpp_sid": [7, 2], "marketing": true,
        });
        let text = |text: &str| Some(text.to_owned());
        let strings = [text("CPXx_f-AA.YAAA"), text("1ynN"), text("DBABMA~CPXx_f-AA.Y~1YNN"), text("2,7")];
        assert_eq!(forwarded(&all), (Some(true), strings));
        assert_eq!(forwarded(&json!({"gdpr_applies": false, "gpp_sid": "-1"})).0, Some(false));
        assert_eq!(forwarded(&json!({"gpp_sid": "-1"})).1[3], text("-1"));
        assert_eq!(forwarded(&json!({"marketing": true})), (None, [const { None }; 4]));
    }

    #[test]
    fn what_is_of_another_form_is_not_forwarded() {
        let long = "A".repeat(MAX_STRING_BYTES + 1);
        for bad in ["CP XX", "CP&uid=1", "CP+", "CP%20", "CP~", "CP=", "Cé", &long] {
            assert_eq!(
                forwarded(&json!({"tcf": bad, "us_privacy": bad})),
                (None, [const { None }; 4]),
                "{bad}"
            );
        }
        let others = json!({
            "gdpr_applies": 1, "tcf": ["CPXx"], "us_privacy": "1YN&", "gpp": "DBABMA~<", "gpp_sid": [7, "8&x=1"],
        });
        assert_eq!(forwarded(&others), (None, [const { None }; 4]));
        assert_eq!(forwarded(&json!({"gpp_sid": 0})), (None, [const { None }; 4]), "pending");
    }

    proptest! {
        #[test]
        fn nothing_but_these_alphabets_is_forwarded(
            text in prop_oneof![any::<String>(), "[A-Za-z0-9._~,&%=-]{0,12}"],
        ) {
            let object = json!({"tcf": text, "us_privacy": text, "gpp": text, "gpp_sid": text});
            for value in forwarded(&object).1.into_iter().flatten() {
                prop_assert!(value.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.~,".contains(&c)), "{}", value);
            }
        }
    }
}
