//! Tenants beside each other: rates, what they cost once they are passed, and what a flood does to the
//! others. How fast anybody is served meanwhile is measured by `make bench`, never asserted here.

mod addresses;
mod neighbours;
mod rates;
mod support;
