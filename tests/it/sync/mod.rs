//! Gateway sync from offer to callback: what vendors answer, what consent allows, and what is forged.

mod breaker;
mod callback_laws;
mod callbacks;
mod chromium;
mod clients;
mod consent;
mod consent_strings;
mod habits;
mod journey;
mod load;
mod match_rate;
mod schedule;
mod shared_ids;
mod vendors;
mod week;
