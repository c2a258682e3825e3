//! Names and addresses of a cluster: hosts, the API's endpoint, subnets. Parsing is validation.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::model::{
    catalogue,
    san::{San, dns_name_fault},
    shown::quoted,
};

/// A host's name, which is a node name, a certificate's common name and a folder's name: an RFC 1123
/// subdomain in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

/// A text that is no host name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text} is no host name: {why}")]
pub struct HostNameError {
    text: String,
    why: &'static str,
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let why = if text.bytes().any(|b| b.is_ascii_uppercase()) {
            Some("Kubernetes node names are in lower case")
        } else if text.ends_with('.') {
            Some("it ends with a dot")
        } else {
            dns_name_fault(text)
        };
        match why {
            Some(why) => Err(HostNameError { text: quoted(text).to_string(), why }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl HostName {
    /// `localhost`, for a host that nobody named.
    pub fn localhost() -> Self {
        Self("localhost".into())
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where `ssh` reaches a host: `HOST`, `USER@HOST` or `ssh://USER@HOST:PORT`. It can be nothing else on a command line:
/// no option, and not two words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshDestination(String);

/// A text that `ssh` must not be given as a destination.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text} is no destination of ssh: {why}")]
pub struct SshDestinationError {
    text: String,
    why: &'static str,
}

impl FromStr for SshDestination {
    type Err = SshDestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_usual = |c: char| c.is_ascii_alphanumeric() || "._-@:/[]%+\\".contains(c);
        let why = if text.is_empty() {
            Some("it is empty")
        } else if text.starts_with('-') {
            Some("it would be an option")
        } else if !text.chars().all(is_usual) {
            Some("write HOST, USER@HOST or ssh://USER@HOST:PORT")
        } else {
            None
        };
        match why {
            Some(why) => Err(SshDestinationError { text: quoted(text).to_string(), why }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl AsRef<str> for SshDestination {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SshDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A DNS name or an IP address.
    pub host: San,
    /// The port.
    pub port: u16,
}

/// The apiserver's port unless told otherwise.
pub const API_PORT: u16 = catalogue::API.port;

/// A text that is no endpoint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text} is no endpoint: {why}")]
pub struct EndpointError {
    text: String,
    why: String,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `HOST:PORT`, `HOST`, `ADDRESS:PORT`, `[ADDRESS]:PORT` or an address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |why: String| EndpointError { text: quoted(text).to_string(), why };
        if let Ok(ip) = text.parse::<IpAddr>() {
            if let Some((address, port)) = port_meant(text) {
                return Err(error(format!(
                    "put an IPv6 address in brackets: [{address}]:{port}, or [{text}] if that is the address"
                )));
            }
            return Ok(Self { host: San::Ip(ip), port: API_PORT });
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => {
                (host, rest.strip_prefix(':').or((rest.is_empty()).then_some("")))
            }
            None => match text.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return Err(error("put an IPv6 address in brackets: [ADDRESS]:PORT".into()));
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, Some("")),
            },
        };
        let port = match port {
            Some("") if !text.ends_with(':') => API_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(error("the port is not a number from 1 to 65535".into())),
            },
            None => return Err(error("write it as HOST:PORT".into())),
        };
        match San::parse(host) {
            Ok(San::Dns(name)) if name.starts_with("*.") => Err(error("it is a wildcard".into())),
            Ok(host @ (San::Dns(_) | San::Ip(_))) => Ok(Self { host, port }),
            Ok(_) => Err(error("write it as HOST:PORT, without https://".into())),
            Err(cause) => Err(error(cause.to_string())),
        }
    }
}

/// An IPv6 address that may as well be one with a port behind it: `fd00::1:6443`.
fn port_meant(text: &str) -> Option<(&str, &str)> {
    let (address, port) = text.rsplit_once(':')?;
    let looks_like_port = port.len() >= 3 && port.bytes().all(|b| b.is_ascii_digit());
    (looks_like_port && address.parse::<IpAddr>().is_ok()).then_some((address, port))
}

impl Endpoint {
    /// The host part as text, without brackets.
    pub fn host_text(&self) -> String {
        match &self.host {
            San::Ip(ip) => ip.to_string(),
            San::Dns(name) | San::Email(name) | San::Uri(name) => name.clone(),
            San::Other(_) => String::new(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            San::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            _ => write!(f, "{}:{}", self.host_text(), self.port),
        }
    }
}

/// A subnet in CIDR form, its address being the network's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no subnet.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text} is no subnet: {why}")]
pub struct SubnetError {
    text: String,
    why: String,
}

impl Subnet {
    /// kubeadm's and certkit's default service subnet.
    pub const DEFAULT: Self = Self { address: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), prefix: 12 };

    /// The network's own address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The network's first usable address.
    pub fn first_host(self) -> IpAddr {
        from_bits(bits(self.address) + 1, self.address.is_ipv4())
    }

    /// Whether the address lies in the subnet.
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && network(address, self.prefix) == bits(self.address)
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |why: &str| SubnetError { text: quoted(text).to_string(), why: why.to_owned() };
        let (address, prefix) =
            text.split_once('/').ok_or_else(|| error("write it as ADDRESS/PREFIX"))?;
        let address: IpAddr = address.parse().map_err(|_| error("the address is none"))?;
        let prefix: u8 = prefix.parse().map_err(|_| error("the prefix is no number"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        if prefix > width - 2 {
            return Err(error("it has no room for services; the prefix is too long"));
        }
        let first = network(address, prefix);
        if first != bits(address) {
            let proper = from_bits(first, address.is_ipv4());
            return Err(error(&format!("its network begins at {proper}; write {proper}/{prefix}")));
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn from_bits(bits: u128, v4: bool) -> IpAddr {
    match v4 {
        // Only the low 32 bits are ever set for IPv4.
        true => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        false => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

fn network(address: IpAddr, prefix: u8) -> u128 {
    let width = if address.is_ipv4() { 32 } else { 128 };
    let low = width - u32::from(prefix);
    bits(address).checked_shr(low).map_or(0, |high| high << low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        assert!("worker-1.rack2".parse::<HostName>().is_ok());
        for bad in ["", "../x", "a b", "A", "a\0", "a/b", ".", "..", "a.", &"x".repeat(300)] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn endpoints() {
        for (text, shown) in [
            ("api.example.com:443", "api.example.com:443"),
            ("api.example.com", "api.example.com:6443"),
            ("10.0.0.1", "10.0.0.1:6443"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("2001:db8::1", "[2001:db8::1]:6443"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        for bad in
            ["", ":1", "a:", "a:0", "a:65536", "https://a:1", "*.a:1", "[::1", "::1:x:", "a b:1"]
        {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn subnets() {
        let subnet: Subnet = "10.96.0.0/12".parse().unwrap();
        assert_eq!(subnet, Subnet::DEFAULT);
        assert_eq!(subnet.first_host(), "10.96.0.1".parse::<IpAddr>().unwrap());
        assert!(subnet.contains("10.111.255.255".parse().unwrap()));
        assert!(!subnet.contains("10.112.0.0".parse().unwrap()));
        let six: Subnet = "fd00::/108".parse().unwrap();
        assert_eq!(six.first_host(), "fd00::1".parse::<IpAddr>().unwrap());
        for bad in
            ["10.96.0.0", "10.96.0.1/12", "10.96.0.0/33", "10.96.0.0/32", "x/12", "10.96.0.0/"]
        {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
        assert!("0.0.0.0/0".parse::<Subnet>().is_ok());
    }
}
