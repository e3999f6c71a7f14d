//! The management service and the catalogue: settings, people, credentials, logins, and who may do what.

mod audience;
mod catalog;
mod catalog_over_http;
mod credentials;
mod csp;
mod custom_providers;
mod document;
mod dry_run;
mod hosts;
mod jwt;
mod key_use;
mod keys;
mod logins;
mod loopback;
mod namesakes;
mod people_over_http;
mod permissions;
mod pipelines;
mod provider_status;
mod reaper;
mod reencrypt;
mod scripted;
mod sources;
mod support;
mod tokens;
mod users;
