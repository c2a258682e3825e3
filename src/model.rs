//! What a cluster PKI is and what follows from it: pure data and pure functions.
//!
//! Nothing here reads a clock, a random source, a file or the command line: the time, the randomness
//! and what was observed are arguments.

pub mod adopt;
pub mod algorithm;
pub mod authority;
pub mod carrier;
pub mod catalogue;
pub mod check;
pub mod cluster;
pub mod code;
pub mod delivery;
pub mod der;
pub mod duration;
pub mod election;
pub mod hex;
pub mod layout;
pub mod name;
pub mod near;
pub mod observed;
pub mod owned;
pub mod owner;
pub mod part;
pub mod plan;
pub mod profile;
pub mod request;
pub mod resolve;
pub mod san;
pub mod settings;
pub mod shown;
pub mod stage;
pub mod stale;
pub mod takeup;
pub mod talk;
pub mod timestamp;
pub mod trust;
pub mod url;
pub mod usage;
