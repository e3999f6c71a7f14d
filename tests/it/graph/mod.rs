//! The identity graph: who is one person with whom, and what a merge, an un-merge or an erasure leaves.

mod erasure;
mod graph_model;
mod identities;
mod merges;
mod owners;
mod races;
mod support;
mod tombstones;
