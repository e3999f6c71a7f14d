//! End to end: real processes, real stores, vendors over real HTTP. A folder is a part of the system or of
//! its life, a module one concern of that.
//!
//! Two folders hold what is no part by itself: `visitors` has all that browsers and customers' servers send
//! to the edge, except for gateway sync, and what becomes of it; `operations` has what a person on call does
//! and watches, and what the system costs.

mod architecture;
mod control_plane;
mod delivery;
mod enrich;
mod faults;
mod graph;
mod operations;
mod profile;
mod sync;
mod transport;
mod visitors;
