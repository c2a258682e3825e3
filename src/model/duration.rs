//! Durations as people write them (`30d`, `12h`, `1y`) and thresholds (`30d` or `20%` of a life).

use std::{fmt, str::FromStr};

use super::shown::quoted;

/// A length of time in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span(pub i64);

/// A text that is no duration or threshold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0} is no duration; write a number with s, m, h, d, w or y, as in 30d, 12h, 1y")]
pub struct DurationError(String);

/// Units from large to small, in seconds. A year is 365 days, as kubeadm's `8760h` is.
const UNITS: [(char, i64); 6] =
    [('y', 31_536_000), ('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl Span {
    /// So many days.
    pub const fn days(days: i64) -> Self {
        Self(days * 86_400)
    }
}

impl FromStr for Span {
    type Err = DurationError;

    /// Reads `30d`, and sequences such as Go's `8760h0m0s`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || DurationError(quoted(text).to_string());
        let mut total: i64 = 0;
        let mut digits = String::new();
        let mut any = false;
        for c in text.chars() {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            let unit = UNITS.iter().find(|(u, _)| *u == c).ok_or_else(error)?.1;
            let count: i64 = digits.parse().map_err(|_| error())?;
            total = count.checked_mul(unit).and_then(|s| total.checked_add(s)).ok_or_else(error)?;
            digits.clear();
            any = true;
        }
        if !digits.is_empty() || !any {
            return Err(error());
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Span {
    /// The shortest exact form: `1y`, `30d`, `36h`, `1d12h` as `36h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, seconds) = UNITS
            .into_iter()
            .find(|(_, seconds)| self.0 != 0 && self.0 % seconds == 0)
            .unwrap_or(('s', 1));
        write!(f, "{}{unit}", self.0 / seconds)
    }
}

/// How near to its end something must be to count: a duration, or a share of the certificate's life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// This long before notAfter.
    Before(Span),
    /// When no more than this share of the life is left, 0 to 1.
    Share(f64),
}

impl Threshold {
    /// The threshold in seconds for a certificate with this length of life.
    pub fn seconds(self, life: Span) -> i64 {
        match self {
            Self::Before(span) => span.0,
            Self::Share(share) => (life.0 as f64 * share) as i64,
        }
    }
}

impl FromStr for Threshold {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(Self::Before);
        };
        match percent.parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::Share(percent / 100.0)),
            _ => Err(DurationError(quoted(text).to_string())),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(span) => span.fmt(f),
            Self::Share(share) => write!(f, "{}%", share * 100.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print() {
        for (text, seconds, shown) in [
            ("30d", 2_592_000, "30d"),
            ("1y", 31_536_000, "1y"),
            ("8760h0m0s", 31_536_000, "1y"),
            ("2w", 1_209_600, "2w"),
            ("36h", 129_600, "36h"),
            ("0s", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0, seconds);
            assert_eq!(span.to_string(), shown);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "d", "30", "30x", "-1d", "1d2", "999999999999999999999y", "9999999999999y"]
        {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
        for bad in ["101%", "-1%", "%", "NaN%"] {
            assert!(bad.parse::<Threshold>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_share_is_of_the_life() {
        let threshold: Threshold = "20%".parse().unwrap();
        assert_eq!(threshold.seconds(Span::days(100)), Span::days(20).0);
    }
}
