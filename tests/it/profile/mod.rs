//! Profiles of customer data platforms, through the built binaries, with a store that behaves as Amperity's.

mod attributes;
mod browser;
mod context;
mod reasons;
mod set_up;
