//! URLs, as far as they name a server.

/// The host of a URL, without brackets.
pub fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    (!host.is_empty()).then(|| host.to_owned())
}

/// The port that a URL says, if it says one.
pub fn port_of(url: &str) -> Option<u16> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    // What follows the last colon of a bracketed address is no port.
    authority.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_found_in_every_form() {
        for (url, host) in [
            ("https://10.0.0.11:6443", Some("10.0.0.11")),
            ("https://[2001:db8::1]:6443/", Some("2001:db8::1")),
            ("https://api.example.com/base?x", Some("api.example.com")),
            ("https://user@api:6443", Some("api")),
            ("https://", None),
        ] {
            assert_eq!(host_of(url).as_deref(), host, "{url}");
        }
    }

    #[test]
    fn a_port_is_one_that_is_said() {
        for (url, port) in [
            ("https://10.0.0.11:6443", Some(6443)),
            ("https://[2001:db8::1]:6443/", Some(6443)),
            ("https://api.example.com:443/base?x", Some(443)),
            ("https://api.example.com", None),
            ("https://[2001:db8::1]", None),
        ] {
            assert_eq!(port_of(url), port, "{url}");
        }
    }
}
