//! The callback of a vendor, and the ID in it.
#![no_main]

fuzz::target!(identity_service::laws::callbacks);
