//! Consent: one function decides, for every use of a visitor's data alike. A browser's signals are parsed once a
//! request; each kind of signal votes in a file of its own.

mod bits;
mod categories;
#[cfg(any(test, fuzzing))]
pub mod encoder;
mod forwarded;
mod google;
mod gpc;
mod gpp;
mod mapping;
mod signals;
mod tcf;
mod unique;
mod us_privacy;

pub use forwarded::Forwarded;
pub use mapping::{Category, ConsentMapping};
pub use signals::Signals;
#[cfg(any(test, fuzzing))]
pub use tcf::vectors::texts as tcf_vectors;

/// The decision on a use of a visitor's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The use is allowed.
    Granted,
    /// The use is refused.
    Denied,
}

/// The meaning of the absence of consent signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConsentMode {
    /// Silence of all signals denies.
    Explicit,
    /// Silence of all signals grants.
    Implicit,
}

/// A pipeline's rule for reading signals.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConsentRule {
    /// The meaning of the absence of consent signals.
    pub mode: ConsentMode,
    /// The categories that the consent platform's codes stand for.
    pub mapping: Option<ConsentMapping>,
}

impl ConsentRule {
    /// The rule without any pipeline: silence denies, and categories have their names alone.
    pub const NONE: Self = Self { mode: ConsentMode::Explicit, mapping: None };

    /// The categories that a code stands for: a category's name, to the letter, for itself, any other as the mapping says.
    pub fn categories(&self, code: &str) -> impl Iterator<Item = Category> {
        let named = Category::of_name(code);
        let mapped =
            self.mapping.as_ref().filter(|_| named.is_none()).map(|mapping| mapping.categories(code));
        named.into_iter().chain(mapped.into_iter().flatten())
    }
}

/// The vote of one kind of signal on a need, the weaker first: of several the strongest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Vote {
    /// The signal is absent, or speaks of other needs.
    Silent,
    /// The signal allows the use.
    Grant,
    /// The signal can't be read, or is not understood, which denies; it is no word of the visitor's.
    Unreadable,
    /// The visitor refuses the use.
    Deny,
}
