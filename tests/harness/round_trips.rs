//! Round trips to the stores that requests caused, told from the core's own.

use crate::proxy::Exchange;

/// Words of the commands that the core sends on its own account: watching the stores, setting up connections,
/// looking for changed settings and repairs, reaping, writing down that keys are in use, beginning and ending
/// transactions.
const HOUSEKEEPING: [&str; 24] = [
    "datafly:server",
    "HELLO",
    "CLIENT",
    "INFO",
    "SET statement_timeout",
    "pg_postmaster_start_time",
    "transaction_read_only",
    "SET TIME ZONE",
    "SET CLIENT_ENCODING",
    "config_version",
    "redis_repairs",
    "pg_try_advisory_xact_lock",
    "- interval '",
    "last_seen_on < $1",
    "expiry_progress",
    "keep_used_proofs",
    "make_event_days",
    "drop_event_day",
    "OFFSET 100000",
    "event_heads head",
    "live_watches",
    "last_used_on",
    "BEGIN",
    "COMMIT",
];

/// The round trips among `exchanges` that a visitor's request caused.
pub fn caused(exchanges: Vec<Exchange>) -> Vec<Vec<String>> {
    let ours = |command: &String| !HOUSEKEEPING.iter().any(|word| command.contains(word));
    let commands = exchanges.into_iter().map(|exchange| exchange.commands.into_iter().filter(ours).collect());
    commands.filter(|commands: &Vec<String>| !commands.is_empty()).collect()
}
