//! What commands do: observe the disk, plan, apply, report.
//!
//! Nothing here parses arguments or prints.

pub mod adopt;
pub mod apply;
pub mod change;
pub mod config_file;
pub mod declared;
pub mod delivery;
pub mod deploy;
pub mod deployed;
pub mod expiry;
pub mod export;
pub mod flags;
pub mod fleet;
mod folders;
pub mod import;
pub mod init;
pub mod kubeconfig;
pub mod log;
pub mod machine;
pub mod observe;
pub mod owner;
pub mod password;
pub mod prune;
pub mod read;
pub mod receive;
pub mod recover;
pub mod renew;
pub mod rollback;
pub mod rotate;
pub mod rotate_ca;
pub mod session;
pub mod settled;
pub mod show;
pub mod sign;
pub mod status;
pub mod takeup;
pub mod trust;
pub mod verify;
