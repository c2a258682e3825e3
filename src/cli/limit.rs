//! How long to wait for something, from the command line.

use std::time::Duration;

use crate::model::duration::{DurationError, Span};

/// Nobody waits longer; what is far beyond it (2^63 seconds) no clock can be asked for.
const LONGEST: Span = Span::days(3650);

/// Reads a duration that is a limit.
pub fn limit(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|error: DurationError| error.to_string())?;
    if span > LONGEST {
        return Err(format!("{span} is too long to wait; at most {LONGEST}"));
    }
    // A span that was read is not negative.
    Ok(Duration::from_secs(u64::try_from(span.0).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_one_that_ends() {
        assert_eq!(limit("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(limit("0s"), Ok(Duration::ZERO));
        for text in ["10y1s", "9223372036854775807s", "9223372036854775808s", "-1s", "", "s"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }
}
