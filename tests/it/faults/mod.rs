//! Parts that fail: stores, cores, clocks and clients go away, lie or break off, and all heals by itself.

mod cancellation;
// libfaketime is loaded in the way of Linux.
#[cfg(target_os = "linux")]
mod clock;
mod control_plane;
mod core_lost;
mod crash_points;
mod ended_sessions;
mod postgres;
// The limit on files is set in the way of Linux.
#[cfg(target_os = "linux")]
mod postgres_disk;
mod postgres_failover;
mod redis;
mod redis_junk;
mod redis_refuses;
mod redis_split;
mod stores;
