//! Server-proxied enrichment, through the built binaries, with providers that behave as their contracts have it.

mod custom;
mod errors;
mod isolation;
mod presets;
mod sharing;
mod trust;
mod uid2;
mod vendors;
