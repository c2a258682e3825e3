//! Subject alternative names (RFC 5280, 4.2.1.6): the only names Go's TLS matches.

use std::{fmt, net::IpAddr};

use super::{
    der,
    hex::hex,
    shown::{listed, quoted},
};

/// One subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum San {
    /// A DNS name, possibly with a wildcard as its whole first label.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
    /// An e-mail address.
    Email(String),
    /// A URI, such as a SPIFFE id.
    Uri(String),
    /// Any other kind, kept as the DER of the whole `GeneralName` so that nothing is lost on renewal.
    Other(Vec<u8>),
}

/// Why a text is no subject alternative name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text} is neither an IP address nor a DNS name: {why}")]
pub struct SanError {
    text: String,
    why: &'static str,
}

impl San {
    /// Reads an IP address, a URI (with `://`), an e-mail address (with `@`) or a DNS name.
    pub fn parse(text: &str) -> Result<Self, SanError> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let error = |why| SanError { text: quoted(text).to_string(), why };
        if text.contains("://") || text.contains('@') {
            if !text.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(error("a URI or e-mail address has visible ASCII characters only"));
            }
            return Ok(match text.contains("://") {
                true => Self::Uri(text.to_owned()),
                false => Self::Email(text.to_owned()),
            });
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        match dns_name_fault(name) {
            Some(why) => Err(error(why)),
            None => Ok(Self::Dns(text.to_ascii_lowercase())),
        }
    }

    /// The DER of this name as a `GeneralName`.
    pub fn general_name(&self) -> Vec<u8> {
        match self {
            Self::Email(text) => der::tlv(0x81, text.as_bytes()),
            Self::Dns(text) => der::tlv(0x82, text.as_bytes()),
            Self::Uri(text) => der::tlv(0x86, text.as_bytes()),
            Self::Ip(IpAddr::V4(ip)) => der::tlv(0x87, &ip.octets()),
            Self::Ip(IpAddr::V6(ip)) => der::tlv(0x87, &ip.octets()),
            Self::Other(der) => der.clone(),
        }
    }
}

/// What is wrong with a text as an RFC 1123 host name (labels of letters, digits and inner hyphens),
/// or nothing.
pub fn dns_name_fault(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > 253 {
        return Some("it is longer than 253 characters");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Some("it has an empty label");
        }
        if label.len() > 63 {
            return Some("a label is longer than 63 characters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Some("a label begins or ends with a hyphen");
        }
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Some("only letters, digits, hyphens and dots are allowed");
        }
    }
    if name.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Some("it looks like an IP address but is not one");
    }
    None
}

/// Sorts DNS names and drops repeated names, as kubeadm does: DNS names by alphabet, then IP
/// addresses in the order given, then the rest.
pub fn normalize(sans: Vec<San>) -> Vec<San> {
    let mut dns: Vec<San> = Vec::new();
    let mut ips: Vec<San> = Vec::new();
    let mut rest: Vec<San> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for san in sans {
        if !seen.insert(san.clone()) {
            continue;
        }
        match san {
            San::Dns(_) => dns.push(san),
            San::Ip(_) => ips.push(san),
            San::Email(_) | San::Uri(_) | San::Other(_) => rest.push(san),
        }
    }
    dns.sort();
    dns.into_iter().chain(ips).chain(rest).collect()
}

/// For people: of names that anybody may have written, one does not look like two, and none steers the terminal.
impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(text) => write!(f, "DNS:{}", listed(text)),
            Self::Ip(ip) => write!(f, "IP:{ip}"),
            Self::Email(text) => write!(f, "email:{}", listed(text)),
            Self::Uri(text) => write!(f, "URI:{}", listed(text)),
            Self::Other(der) => write!(f, "other:{}", hex(der)),
        }
    }
}

/// Whether a name, as clients look for it, is among the subject alternative names (RFC 6125: a wildcard
/// stands for one label).
pub fn has_name(sans: &[San], name: &str) -> bool {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return sans.contains(&San::Ip(ip));
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    sans.iter().any(|san| match san {
        San::Dns(pattern) => {
            let pattern = pattern.to_ascii_lowercase();
            match pattern.strip_prefix("*.") {
                Some(rest) => name.split_once('.').is_some_and(|(_, tail)| tail == rest),
                None => pattern == name,
            }
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_names_and_uris_are_told_apart() {
        assert_eq!(San::parse("10.0.0.1"), Ok(San::Ip("10.0.0.1".parse().unwrap())));
        assert_eq!(San::parse("::1"), Ok(San::Ip("::1".parse().unwrap())));
        assert_eq!(San::parse("API.example.com"), Ok(San::Dns("api.example.com".into())));
        assert_eq!(San::parse("*.example.com"), Ok(San::Dns("*.example.com".into())));
        assert_eq!(San::parse("spiffe://a/b"), Ok(San::Uri("spiffe://a/b".into())));
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in ["", "a b", "a..b", "-a", "a-", "a\0", "../x", "1.2.3", "a.*.b", &"x".repeat(64)]
        {
            assert!(San::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn normalizing_sorts_names_and_keeps_address_order() {
        let sans = ["b", "10.0.0.2", "a", "10.0.0.1", "b"].map(|s| San::parse(s).unwrap());
        let shown: Vec<String> = normalize(sans.to_vec()).iter().map(San::to_string).collect();
        assert_eq!(shown, ["DNS:a", "DNS:b", "IP:10.0.0.2", "IP:10.0.0.1"]);
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let sans = [San::Dns("*.example.com".into()), San::Ip([10, 0, 0, 1].into())];
        assert!(has_name(&sans, "a.example.com") && has_name(&sans, "10.0.0.1"));
        assert!(!has_name(&sans, "a.b.example.com") && !has_name(&sans, "example.com"));
    }
}
