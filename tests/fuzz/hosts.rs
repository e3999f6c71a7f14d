//! Hosts, origins and URLs of pages.
#![no_main]

fuzz::target!(serve::laws);
