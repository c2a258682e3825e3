//! What certkit does: requests in, reports out.

pub mod declared;
pub mod flags;
