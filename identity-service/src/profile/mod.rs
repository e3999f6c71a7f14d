//! Profile providers: CDPs whose attributes of a visitor are read, and what their settings must be.

pub mod amperity;
