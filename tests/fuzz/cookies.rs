//! Cookie headers.
#![no_main]

fuzz::target!(http_edge::laws::cookies);
