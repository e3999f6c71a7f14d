//! Bounds on how many there may be: nothing that anybody makes is without one.

use super::error::{ApiError, Code, Result};

/// Refuses one more where there are `most` already.
pub fn limit(there_are: i64, most: i64) -> Result<()> {
    if there_are < most {
        return Ok(());
    }
    Err(ApiError::with_message(Code::LimitReached, format!("There are {most}, which is as many as may be.")))
}
