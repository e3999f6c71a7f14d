//! End to end: real processes, real stores, vendors over real HTTP. A folder is a part of the system or of its life, a
//! module one concern of that.
//!
//! Beside the parts that the workspace names itself there are two folders for what is no part: `visitors` has what
//! browsers and customers' servers send to the edge, whether it ends in a sync or not; `operations` has what a person on
//! call does and watches.

mod control_plane;
mod faults;
mod graph;
mod operations;
mod sync;
mod transport;
mod visitors;
