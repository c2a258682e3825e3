//! Who of several replicas acts: whoever holds the Lease.
//!
//! The rule is client-go's (`tools/leaderelection` of Kubernetes 1.36): times in the Lease are for people, and nobody
//! compares them with a clock of its own. A holder is gone when the Lease has not changed for its term as a replica's own
//! clock counts it, so clocks that differ do no harm.

use std::time::Duration;

/// After how long a holder that does not renew is taken to be gone.
pub const LEASE_TERM: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long acts no more: earlier than others may begin.
pub const LEASE_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, and looked at.
pub const LEASE_PERIOD: Duration = Duration::from_secs(2);

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseMove {
    /// It is ours.
    Renew,
    /// Nobody holds it, or who did is gone.
    Take,
    /// Somebody else has it.
    Wait,
}

/// What a replica does that sees this holder, and has seen the Lease unchanged for so long.
pub fn lease_move(own: &str, holder: &str, unchanged: Duration, term: Duration) -> LeaseMove {
    match holder {
        // Given back.
        "" => LeaseMove::Take,
        holder if holder == own => LeaseMove::Renew,
        _ if unchanged >= term => LeaseMove::Take,
        _ => LeaseMove::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_is_taken_when_it_has_not_changed_for_its_term() {
        let lease_move = |holder, unchanged| lease_move("a", holder, unchanged, LEASE_TERM);
        assert_eq!(lease_move("", Duration::ZERO), LeaseMove::Take);
        assert_eq!(lease_move("a", Duration::ZERO), LeaseMove::Renew);
        assert_eq!(lease_move("b", LEASE_TERM - SECOND), LeaseMove::Wait);
        assert_eq!(lease_move("b", LEASE_TERM), LeaseMove::Take);
    }

    /// However two replicas' steps fall, and whatever their clocks say of the time of day: never do both act. Each counts
    /// its own seconds, one of them a tenth faster than the other.
    #[test]
    fn two_replicas_never_act_at_once() {
        for gone in 0..60_u32 {
            for step in 0..LEASE_PERIOD.as_millis() as u64 / 100 {
                // The first renews until it is cut off; the second looks every period, from another moment on.
                let cut_off = Duration::from_secs(gone.into());
                let acts_until = cut_off + LEASE_DEADLINE;
                let mut now = Duration::from_millis(step * 100);
                let mut seen_changing = now;
                let takes = loop {
                    if now <= cut_off {
                        seen_changing = now;
                    }
                    let unchanged = (now - seen_changing).mul_f64(1.1);
                    if lease_move("b", "a", unchanged, LEASE_TERM) == LeaseMove::Take {
                        break now;
                    }
                    now += LEASE_PERIOD;
                };
                // The look that first sees the last change comes at most a period after it, and never before.
                assert!(takes > acts_until, "{gone} {step}: {takes:?} {acts_until:?}");
            }
        }
    }
}
