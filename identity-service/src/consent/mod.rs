//! Consent: one function decides, for every use of a visitor's data alike. A browser's signals are parsed once a
//! request; each kind of signal votes in a file of its own.

mod categories;
mod google;
mod gpc;
mod gpp;
mod mapping;
mod signals;
mod tcf;
mod unique;
mod us_privacy;

pub use mapping::{Category, ConsentMapping, Preset};
pub use signals::Signals;

/// The decision on a use of a visitor's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The use is allowed.
    Granted,
    /// The use is refused.
    Denied,
}

/// The meaning of the absence of consent signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentMode {
    /// Silence of all signals denies.
    Explicit,
    /// Silence of all signals grants.
    Implicit,
}

/// The vote of one kind of signal on a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vote {
    /// The signal is absent, or speaks of other needs.
    Silent,
    /// The signal allows the use.
    Grant,
    /// The signal refuses the use, or can't be read.
    Deny,
}

impl Vote {
    /// The vote of both: a denial wins, else a grant.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Deny, _) | (_, Self::Deny) => Self::Deny,
            (Self::Grant, _) | (_, Self::Grant) => Self::Grant,
            (Self::Silent, Self::Silent) => Self::Silent,
        }
    }
}
