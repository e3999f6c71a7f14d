//! Fields of the identity that are taken.

use super::validation;
use crate::vendors;

/// A field that a customer's own provider may fill: one of no vendor's, and none of ours.
pub fn free(name: &str) -> Result<(), String> {
    validation::name(name, 64, "_")?;
    if name.starts_with('_') {
        return Err("must not begin with _".to_owned());
    }
    if vendors::is_reserved(name) {
        return Err("is reserved for a built-in vendor".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields that begin with `_` are ours, and those of built-in vendors are taken in any case of letters.
    #[test]
    fn fields_of_others_are_taken() {
        assert_eq!(free("cdp_customer_id"), Ok(()));
        for bad in
            ["", "_v", "a b", "a:b", "a{b}", "ramp_id", "RAMP_ID", "pin_unauth", "gclid", "fbp", "a\n", "ä"]
        {
            assert!(free(bad).is_err(), "{bad}");
        }
        assert!(free(&"a".repeat(64)).is_ok() && free(&"a".repeat(65)).is_err());
    }
}
