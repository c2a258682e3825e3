//! The store on the real disk, and its protocol on one that fails.

mod failure;
mod guard;
mod on_disk;
mod power_cut;
mod scenario;
