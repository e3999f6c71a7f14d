//! Laws that hold for any input, whoever made it up: each module checks one kind of input, and has the seeds that are its
//! beginning. The unit tests check them on generated inputs, `make fuzz` on those that a fuzzer finds.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a law that fails is to stop the test"
)]

pub mod callbacks;
pub mod consent_strings;
pub mod templates;
