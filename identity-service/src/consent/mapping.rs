//! The categories that a consent platform's codes stand for, as a pipeline's settings have them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A category of uses that a visitor decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Uses that the site can't do without.
    Essential,
    /// Conveniences, such as a language that is remembered.
    Functional,
    /// Measurement of how the site is used.
    Analytics,
    /// Advertising, on the site and elsewhere.
    #[serde(alias = "advertising")]
    Marketing,
    /// Content chosen for the visitor.
    Personalization,
}

impl Category {
    /// The category that is called so; `advertising` is another word for marketing.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "essential" => Self::Essential,
            "functional" => Self::Functional,
            "analytics" => Self::Analytics,
            "marketing" | "advertising" => Self::Marketing,
            "personalization" => Self::Personalization,
            _ => return None,
        })
    }

    /// Name of the category, as consent objects and vendors' needs have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Essential => "essential",
            Self::Functional => "functional",
            Self::Analytics => "analytics",
            Self::Marketing => "marketing",
            Self::Personalization => "personalization",
        }
    }
}

/// A consent platform whose codes are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// OneTrust's groups, `C0001` and on.
    Onetrust,
    /// Cookiebot's categories.
    Cookiebot,
    /// CookieYes's categories.
    Cookieyes,
    /// TrustArc's numbers.
    Trustarc,
    /// Categories of Segment's consent wrappers.
    Segment,
}

impl Preset {
    /// The codes of the platform, in lower case, each with a category that it stands for.
    fn codes(self) -> &'static [(&'static str, Category)] {
        use Category::{Analytics, Essential, Functional, Marketing};
        match self {
            Self::Onetrust => &[
                ("c0001", Essential),
                ("c0002", Analytics),
                ("c0003", Functional),
                ("c0004", Marketing),
                ("c0005", Marketing),
            ],
            Self::Cookiebot => &[
                ("necessary", Essential),
                ("preferences", Functional),
                ("statistics", Analytics),
                ("marketing", Marketing),
            ],
            Self::Cookieyes => &[
                ("necessary", Essential),
                ("functional", Functional),
                ("analytics", Analytics),
                ("performance", Analytics),
                ("advertisement", Marketing),
            ],
            Self::Trustarc => &[("1", Essential), ("2", Functional), ("3", Marketing)],
            Self::Segment => &[
                ("functional", Functional),
                ("marketingandanalytics", Analytics),
                ("marketingandanalytics", Marketing),
                ("advertising", Marketing),
            ],
        }
    }
}

/// A pipeline's mapping of codes to categories.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "Stored")]
pub struct ConsentMapping {
    /// The platform whose codes count where `codes` doesn't have them.
    pub preset: Option<Preset>,
    /// Codes of the customer's own, in lower case.
    pub codes: BTreeMap<String, Category>,
}

impl ConsentMapping {
    /// The categories that a code stands for, whatever its case: as the customer says, else as the platform does.
    pub fn categories(&self, code: &str) -> impl Iterator<Item = Category> {
        let code = code.to_lowercase();
        let own = self.codes.get(&code).copied();
        let preset = self.preset.filter(|_| own.is_none()).map_or(&[][..], Preset::codes);
        own.into_iter()
            .chain(preset.iter().filter(move |(known, _)| *known == code).map(|(_, category)| *category))
    }
}

/// A mapping as it is stored, with codes as they were typed.
#[derive(Deserialize)]
struct Stored {
    preset: Option<Preset>,
    #[serde(default)]
    codes: BTreeMap<String, Category>,
}

impl From<Stored> for ConsentMapping {
    fn from(Stored { preset, codes }: Stored) -> Self {
        Self {
            preset,
            codes: codes.into_iter().map(|(code, category)| (code.to_lowercase(), category)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn codes_are_read_without_regard_to_case() {
        let stored = json!({"preset": "onetrust", "codes": {"C0004": "marketing", "Ads": "advertising"}});
        let mapping: ConsentMapping = serde_json::from_value(stored).unwrap();
        assert_eq!(mapping.preset, Some(Preset::Onetrust));
        let marketing = |code: &str| (code.to_owned(), Category::Marketing);
        assert_eq!(mapping.codes, BTreeMap::from([marketing("c0004"), marketing("ads")]));
        let none: ConsentMapping = serde_json::from_value(json!({"preset": null})).unwrap();
        assert_eq!((none.preset, none.codes.len()), (None, 0));
        for odd in [json!({"preset": "OneTrust"}), json!({"codes": {"a": "ads"}}), json!([])] {
            assert!(serde_json::from_value::<ConsentMapping>(odd.clone()).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_category_is_read_by_its_name() {
        for category in ["essential", "functional", "analytics", "marketing", "personalization"] {
            assert_eq!(serde_json::from_value::<Category>(json!(category)).unwrap().name(), category);
        }
    }
}
