//! Points in time, to the second, in UTC. The one module that names the `time` crate.

use std::{fmt, str::FromStr};

use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use super::{duration::Span, shown::quoted};

/// Seconds since 1970-01-01T00:00:00Z, between the years 0 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

/// A text that is no RFC 3339 time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0} is no RFC 3339 time; write it as 2027-01-31T12:00:00Z")]
pub struct TimestampError(String);

impl Timestamp {
    /// 9999-12-31T23:59:59Z, RFC 5280's "no well-defined expiration date" (4.1.2.5).
    pub const MAX: Self = Self(253_402_300_799);
    /// 0000-01-01T00:00:00Z.
    pub const MIN: Self = Self(-62_167_219_200);

    /// The time so many seconds after 1970-01-01T00:00:00Z, held between [`Self::MIN`] and [`Self::MAX`].
    pub fn from_unix(seconds: i64) -> Self {
        Self(seconds.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn unix(self) -> i64 {
        self.0
    }

    /// This much later, at most [`Self::MAX`].
    pub fn plus(self, span: Span) -> Self {
        Self::from_unix(self.0.saturating_add(span.0))
    }

    /// This much earlier, at least [`Self::MIN`].
    pub fn minus(self, span: Span) -> Self {
        Self::from_unix(self.0.saturating_sub(span.0))
    }

    /// The time from `earlier` to this one, negative if `earlier` is later.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0 - earlier.0)
    }

    /// The same as the `time` crate's type, in UTC (rcgen panics on other offsets near 2050).
    pub fn to_offset_date_time(self) -> OffsetDateTime {
        // Construction holds the value within the years 0 to 9999, all of which the type can say.
        OffsetDateTime::from_unix_timestamp(self.0).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// As kubeadm prints dates: `Nov 21, 2027 17:11 UTC`.
    pub fn to_kubeadm(self) -> String {
        let format = format_description!("[month repr:short] [day], [year] [hour]:[minute] UTC");
        self.to_offset_date_time().format(format).unwrap_or_else(|_| self.to_string())
    }

    /// A form for file names: `20271121T171100Z`.
    pub fn to_compact(self) -> String {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        self.to_offset_date_time().format(format).unwrap_or_else(|_| self.0.to_string())
    }

    /// Reads the form for file names.
    pub fn from_compact(text: &str) -> Option<Self> {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let time = time::PrimitiveDateTime::parse(text, format).ok()?;
        Some(Self::from_unix(time.assume_utc().unix_timestamp()))
    }

    /// The form in which the kubelet dates its files: `2027-11-21-17-11-00`.
    pub fn to_dashes(self) -> String {
        let format = format_description!("[year]-[month]-[day]-[hour]-[minute]-[second]");
        self.to_offset_date_time().format(format).unwrap_or_else(|_| self.0.to_string())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_offset_date_time().format(&Rfc3339).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // In UTC it may lie beyond the years that the type can say.
        let time = OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp);
        time.filter(|seconds| (Self::MIN.0..=Self::MAX.0).contains(seconds))
            .map(Self)
            .ok_or_else(|| TimestampError(quoted(text).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        let t: Timestamp = "2027-11-21T18:11:00+01:00".parse().unwrap();
        assert_eq!(t.to_string(), "2027-11-21T17:11:00Z");
        assert_eq!(t.to_kubeadm(), "Nov 21, 2027 17:11 UTC");
        assert_eq!(t.to_compact(), "20271121T171100Z");
        assert_eq!(Timestamp::from_compact("20271121T171100Z"), Some(t));
        assert_eq!(Timestamp::from_compact("20271321T171100Z"), None);
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59Z");
        assert!("tomorrow".parse::<Timestamp>().is_err());
        assert!("9999-12-31T23:59:59-23:59".parse::<Timestamp>().is_err());
        assert!("0000-01-01T00:00:00+00:01".parse::<Timestamp>().is_err());
        assert_eq!("9999-12-31T23:59:59Z".parse(), Ok(Timestamp::MAX));
    }

    #[test]
    fn arithmetic_stays_in_range() {
        assert_eq!(Timestamp::MAX.plus(Span::days(1)), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.minus(Span(i64::MAX)), Timestamp::MIN);
    }
}
