//! Lengths of time as people read them at a glance.

use crate::model::{
    check::expiry::{Row, Status, Verdict},
    duration::Span,
};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// From seconds to decades in one or two units: `45s`, `2h5m`, `364d`, `1y30d`, `9y`. Kubernetes' own form,
/// a little finer where a unit more tells something.
pub fn length(span: Span) -> String {
    let seconds = span.0.unsigned_abs();
    let two = |large: u64, unit: char, small: u64, rest: char| match seconds % large / small {
        0 => format!("{}{unit}", seconds / large),
        more => format!("{}{unit}{more}{rest}", seconds / large),
    };
    match seconds {
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(MINUTE, 'm', 1, 's'),
        s if s < 2 * HOUR => format!("{}m", s / MINUTE),
        s if s < 10 * HOUR => two(HOUR, 'h', MINUTE, 'm'),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 10 * DAY => two(DAY, 'd', HOUR, 'h'),
        s if s < YEAR => format!("{}d", s / DAY),
        s if s < 2 * YEAR => two(YEAR, 'y', DAY, 'd'),
        s => format!("{}y", s / YEAR),
    }
}

/// What is left, or how long ago it ended.
pub fn left(span: Span) -> String {
    match span.0 {
        0.. => length(span),
        _ => format!("{} ago", length(span)),
    }
}

/// The cell `RESIDUAL TIME`.
pub fn residual(row: &Row, verdict: &Verdict) -> String {
    match (verdict.left, row.facts(), verdict.status) {
        (Some(span), _, Status::Expired) => format!("expired {}", left(span)),
        (Some(span), ..) => left(span),
        (None, ..) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_stay_readable_from_seconds_to_decades() {
        for (seconds, text) in [
            (0, "0s"),
            (45, "45s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (3599, "59m"),
            (7500, "2h5m"),
            (86_399, "23h"),
            (2 * 86_400 + 4 * 3600, "2d4h"),
            (364 * 86_400 + 84_644, "364d"),
            (365 * 86_400, "1y"),
            (395 * 86_400, "1y30d"),
            (3649 * 86_400, "9y"),
            (251_593_689_600, "7977y"),
        ] {
            assert_eq!(length(Span(seconds)), text);
        }
        assert_eq!(left(Span(-90_000)), "25h ago");
        assert_eq!(left(Span(i64::MIN)), "292471208677y ago");
    }
}
