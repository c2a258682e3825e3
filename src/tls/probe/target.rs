//! Which listener to read: `HOST:PORT[,sni=NAME]`.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use rustls::pki_types::DnsName;

/// A listener, and the name to ask it for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// A DNS name or an address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The name to ask for when it is not the host: a listener may hold several certificates.
    pub sni: Option<String>,
}

/// Why a text names no listener.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` is no HOST:PORT[,sni=NAME]: {why}", .text.escape_default())]
pub struct TargetError {
    text: String,
    why: String,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|why| TargetError { text: text.to_owned(), why })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port)?,
            false => write!(f, "{}:{}", self.host, self.port)?,
        }
        match &self.sni {
            Some(name) => write!(f, ",sni={name}"),
            None => Ok(()),
        }
    }
}

fn parse(text: &str) -> Result<Target, String> {
    let (listener, option) = match text.split_once(',') {
        Some((listener, option)) => (listener, Some(option)),
        None => (text, None),
    };
    if let Some((scheme, _)) = listener.split_once("://") {
        return Err(format!("leave out `{}://`", scheme.escape_default()));
    }
    let (host, port) = match listener.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("the bracket is not closed")?;
            if host.split('%').next().is_none_or(|ip| ip.parse::<Ipv6Addr>().is_err()) {
                return Err("in brackets there must be an IPv6 address".into());
            }
            (host, after.strip_prefix(':').ok_or("the port is missing")?)
        }
        None => {
            if listener.matches(':').count() > 1 {
                return Err(bracket_advice(listener));
            }
            let (host, port) = listener.split_once(':').ok_or("the port is missing")?;
            if host.is_empty() {
                return Err("the host is missing".into());
            }
            if host.parse::<IpAddr>().is_err() {
                check_name(host)?;
            }
            (host, port)
        }
    };
    let sni = option.map(parse_option).transpose()?;
    Ok(Target { host: host.to_owned(), port: parse_port(port)?, sni })
}

/// An IPv6 address without brackets: `::1:6443` is an address as a whole, too, so nobody can tell
/// where the port begins.
fn bracket_advice(listener: &str) -> String {
    match listener.rsplit_once(':') {
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && parse_port(port).is_ok() => {
            format!("an IPv6 address needs brackets: write [{host}]:{port}")
        }
        _ if listener.parse::<Ipv6Addr>().is_ok() => {
            format!("an IPv6 address needs brackets and a port: write [{listener}]:PORT")
        }
        _ => "there is more than one colon; an IPv6 address needs brackets: [ADDRESS]:PORT".into(),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(format!("the port `{}` is not between 1 and 65535", text.escape_default())),
    }
}

fn parse_option(option: &str) -> Result<String, String> {
    let name = option.strip_prefix("sni=").ok_or_else(|| {
        format!("the only option is sni=NAME, and this is `{}`", option.escape_default())
    })?;
    if name.parse::<IpAddr>().is_ok() {
        return Err("a server name is a DNS name, never an address (RFC 6066, section 3)".into());
    }
    check_name(name)?;
    Ok(name.to_owned())
}

fn check_name(name: &str) -> Result<(), String> {
    match DnsName::try_from(name) {
        Ok(_) => Ok(()),
        Err(_) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            Err(format!("`{name}` looks like an IP address but is not one"))
        }
        Err(_) => Err(format!("`{}` is no DNS name", name.escape_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, port: u16, sni: Option<&str>) -> Target {
        Target { host: host.into(), port, sni: sni.map(Into::into) }
    }

    #[test]
    fn names_and_addresses_are_read_and_shown_alike() {
        for (text, expected) in [
            ("cp1:6443", target("cp1", 6443, None)),
            ("10.0.0.1:2379", target("10.0.0.1", 2379, None)),
            ("[fd00::1]:10250", target("fd00::1", 10250, None)),
            ("[fe80::1%eth0]:10250", target("fe80::1%eth0", 10250, None)),
            ("my_host.example.com:1", target("my_host.example.com", 1, None)),
            ("10.0.0.1:443,sni=api.example.com", target("10.0.0.1", 443, Some("api.example.com"))),
            ("[::1]:65535,sni=kubernetes", target("::1", 65535, Some("kubernetes"))),
        ] {
            assert_eq!(text.parse(), Ok(expected.clone()), "{text}");
            assert_eq!(expected.to_string(), text);
        }
    }

    #[test]
    fn each_mistake_is_said_precisely() {
        for (text, why) in [
            ("", "the port is missing"),
            ("cp1", "the port is missing"),
            ("[::1]", "the port is missing"),
            ("[::1", "the bracket is not closed"),
            ("[cp1]:6443", "in brackets there must be an IPv6 address"),
            (":6443", "the host is missing"),
            ("cp1:", "the port `` is not between 1 and 65535"),
            ("cp1:0", "the port `0` is not between 1 and 65535"),
            ("cp1:+80", "the port `+80` is not between 1 and 65535"),
            ("cp1:65536", "the port `65536` is not between 1 and 65535"),
            ("fd00::1:6443", "an IPv6 address needs brackets: write [fd00::1]:6443"),
            ("fd00::abcd", "an IPv6 address needs brackets and a port: write [fd00::abcd]:PORT"),
            (
                "a:b:c",
                "there is more than one colon; an IPv6 address needs brackets: [ADDRESS]:PORT",
            ),
            ("https://cp1:6443", "leave out `https://`"),
            ("10.0.0.256:1", "`10.0.0.256` looks like an IP address but is not one"),
            ("a b:1", "`a b` is no DNS name"),
            ("a\0:1", "`a\\u{0}` is no DNS name"),
            ("cp1:1,name=x", "the only option is sni=NAME, and this is `name=x`"),
            ("cp1:1,", "the only option is sni=NAME, and this is ``"),
            ("cp1:1,sni=", "`` is no DNS name"),
            (
                "cp1:1,sni=::1",
                "a server name is a DNS name, never an address (RFC 6066, section 3)",
            ),
            ("cp1:1,sni=a,sni=b", "`a,sni=b` is no DNS name"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert_eq!(error.why, why, "{text}");
        }
    }
}
