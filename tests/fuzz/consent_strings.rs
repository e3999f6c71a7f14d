//! Consent objects, and the strings in them.
#![no_main]

fuzz::target!(identity_service::laws::consent_strings);
