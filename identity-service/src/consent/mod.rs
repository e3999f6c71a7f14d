//! Consent: one function decides, for every use of a visitor's data alike. A browser's signals are parsed once a
//! request; each kind of signal votes in a file of its own.

mod categories;
mod google;
mod gpc;
mod gpp;
mod signals;
mod tcf;
mod unique;
mod us_privacy;

pub use signals::Signals;

/// Whether the visitor's data may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The use is allowed.
    Granted,
    /// The use is refused.
    Denied,
}

/// What the absence of consent signals means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentMode {
    /// Silence denies.
    Explicit,
    /// Silence grants.
    Implicit,
}

/// What one kind of signal says of a need.
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
