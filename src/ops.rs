//! What commands do: observe the disk, plan, apply, report.
//!
//! Nothing here parses arguments or prints.

pub mod apply;
pub mod declared;
pub mod flags;
pub mod init;
pub mod observe;
pub mod read;
pub mod verify;
