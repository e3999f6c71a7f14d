//! Templates, JSON paths, and URLs that are rendered.
#![no_main]

fuzz::target!(identity_service::laws::templates);
