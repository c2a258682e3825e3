//! What commands that change something are asked in the same way.

use std::time::Duration;

use super::limit;
use crate::model::timestamp::Timestamp;

/// Whom it waits for.
#[derive(Debug, clap::Args)]
pub struct LockArgs {
    /// How long to wait for another certkit that is changing DIR
    #[arg(long = "lock-timeout", value_name = "DURATION", default_value = "10s", value_parser = limit)]
    pub timeout: Duration,
}

/// What it keeps.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// How many backups to keep
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub backups: usize,
}

/// Whether it is only said.
#[derive(Debug, clap::Args)]
pub struct RehearsalArgs {
    /// Print what would be done and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: plan as of this RFC 3339 time
    #[arg(long, value_name = "TIME", requires = "dry_run")]
    pub at: Option<Timestamp>,
}
