//! Keys and certificates: reading, making, signing and judging them.
//!
//! Everything here works on bytes in memory; files are `store`'s. The crates behind it are each named
//! in one place: rustls-pemfile in [`pem`], ring and aws-lc-rs in `crypto`, ring and bech32 in [`age`], rcgen in [`issue`],
//! x509-parser in [`inspect`], rustls-webpki in [`chain`], p12-keystore in
//! [`keystore`].

pub mod age;
pub mod chain;
mod crypto;
mod der;
pub mod inspect;
pub mod issue;
pub mod key;
pub mod keystore;
mod oid;
pub mod pem;
pub mod pkcs7;
