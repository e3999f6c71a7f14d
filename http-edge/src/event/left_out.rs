//! Members of an event that are of no use to identity. Each is named in a warning, and costs the event nothing else.

use proto::v1::WarningCode;

/// A member that was left out, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// Name of the member, as `traits.phone`.
    pub member: &'static str,
    /// The rest of a sentence that begins with the name.
    pub why: &'static str,
}

pub const NOT_TEXT: &str = "must be text";
pub const NOT_TEXT_OR_INTEGER: &str = "must be text or an integer";
pub const NOT_OBJECT: &str = "must be an object";
pub const NOT_SHA256: &str = "must be 64 hex digits";
pub const TOO_LONG: &str = "is over 1,024 bytes";
pub const URL_TOO_LONG: &str = "is over 4 KiB, and its path alone is";
pub const TOO_LONG_FROM_BROWSER: &str = "is over 128 bytes";
pub const CONTROL_CHARACTER: &str = "has a control character";
pub const TWO_VALUES: &str = "comes twice, with two values";
/// A logout that is not seen is worse than one too many.
pub const NOT_FLAG: &str = "must be true or false; anything but a way to say no counts as true";
pub const CONSENT_NOT_OBJECT: &str = "must be an object; until one comes it denies";
pub const CONSENT_TOO_LARGE: &str = "is over 8 KiB; until a smaller one comes it denies";
pub const CONSENT_TWO_VALUES: &str = "comes twice, with two values; until one comes it denies";

impl LeftOut {
    /// Code of the warning that names it.
    pub fn code(self) -> WarningCode {
        match self.why {
            CONSENT_NOT_OBJECT | CONSENT_TOO_LARGE | CONSENT_TWO_VALUES => WarningCode::ConsentNotUnderstood,
            _ => WarningCode::MemberLeftOut,
        }
    }
}

/// Adds a member to `all`, in which each stands once. That it has two values outweighs whatever else is said of it.
pub fn add(all: &mut Vec<LeftOut>, member: &'static str, why: &'static str) {
    match all.iter_mut().find(|left| left.member == member) {
        Some(left) if why == TWO_VALUES => left.why = why,
        Some(_) => {}
        None => all.push(LeftOut { member, why }),
    }
}
