//! Checks: from what was observed to findings, with the time as an argument.

pub mod expiry;
