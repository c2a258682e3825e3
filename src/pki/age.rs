//! Sealing for recipients in the age format, version 1 (<https://age-encryption.org/v1>): for X25519 recipients, and in
//! this direction only. Opening is the `age` program's, where the identities are.

use std::io::{self, Write};
use std::str::FromStr;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bech32::{Bech32, primitives::decode::CheckedHrpstring};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral},
    hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

/// What the payload is cut into.
const CHUNK: usize = 64 << 10;

/// Octets of the authentication tag of each chunk.
const TAG: usize = 16;

/// Whom something is encrypted to: an X25519 public key, written `age1...`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipient {
    key: [u8; 32],
    text: String,
}

/// Why a text is no recipient. It is not repeated: it might be an identity, which is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// The secret half of one.
    #[error("it is an identity, which is secret; a recipient begins with `age1`")]
    Identity,
    /// Something else.
    #[error("it is no X25519 recipient: those are `age1` and 58 letters and digits")]
    Other,
}

impl FromStr for Recipient {
    type Err = RecipientError;

    fn from_str(text: &str) -> Result<Self, RecipientError> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err(RecipientError::Identity);
        }
        // As age itself has it: capitals are for identities.
        if !text.starts_with("age1") {
            return Err(RecipientError::Other);
        }
        let checked = CheckedHrpstring::new::<Bech32>(text).map_err(|_| RecipientError::Other)?;
        if checked.hrp().as_str() != "age" {
            return Err(RecipientError::Other);
        }
        let key: Vec<u8> = checked.byte_iter().collect();
        let key = key.try_into().map_err(|_| RecipientError::Other)?;
        Ok(Self { key, text: text.to_owned() })
    }
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is written into it is sealed; [`Sealed::finish`] ends it, and without that nobody takes it for whole.
pub struct Sealed<W> {
    out: W,
    key: LessSafeKey,
    chunks: u64,
    /// The octets of the chunk that is not written yet, with room for its tag.
    waiting: Zeroizing<Vec<u8>>,
}

/// Begins a sealed stream: writes its header.
pub fn seal<W: Write>(mut out: W, recipients: &[Recipient]) -> io::Result<Sealed<W>> {
    let random = SystemRandom::new();
    let mut file_key = Zeroizing::new([0; 16]);
    random.fill(&mut *file_key).map_err(|_| io::Error::other("no randomness is to be had"))?;
    let mut header = String::from("age-encryption.org/v1\n");
    for recipient in recipients {
        header += &stanza(recipient, &file_key, &random)?;
    }
    header += "---";
    let mac_key = derive(&[], &*file_key, b"header");
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*mac_key), header.as_bytes());
    header += &format!(" {}\n", STANDARD_NO_PAD.encode(mac));
    out.write_all(header.as_bytes())?;
    let mut nonce = [0; 16];
    random.fill(&mut nonce).map_err(|_| io::Error::other("no randomness is to be had"))?;
    out.write_all(&nonce)?;
    let key = cipher(&derive(&nonce, &*file_key, b"payload"));
    Ok(Sealed { out, key, chunks: 0, waiting: Zeroizing::new(Vec::with_capacity(CHUNK + TAG)) })
}

/// The file's key, wrapped for one recipient.
fn stanza(recipient: &Recipient, file_key: &[u8; 16], random: &SystemRandom) -> io::Result<String> {
    let unusable = |_| io::Error::other("a recipient's key is not one that can be encrypted to");
    let own = EphemeralPrivateKey::generate(&X25519, random).map_err(unusable)?;
    let share = own.compute_public_key().map_err(unusable)?;
    let theirs = UnparsedPublicKey::new(&X25519, &recipient.key);
    let mut wrapped = file_key.to_vec();
    agree_ephemeral(own, &theirs, |shared| {
        let salt = [share.as_ref(), &recipient.key].concat();
        let key = cipher(&derive(&salt, shared, b"age-encryption.org/v1/X25519"));
        // Each key wraps once, so that its nonce never repeats.
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        key.seal_in_place_append_tag(nonce, Aad::empty(), &mut wrapped)
    })
    .map_err(unusable)?
    .map_err(unusable)?;
    let (share, wrapped) = (STANDARD_NO_PAD.encode(share), STANDARD_NO_PAD.encode(wrapped));
    Ok(format!("-> X25519 {share}\n{wrapped}\n"))
}

/// HKDF with SHA-256.
fn derive(salt: &[u8], secret: &[u8], purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let mut key = Zeroizing::new([0; 32]);
    // 32 octets are what one round gives: never too many.
    let filled = extracted.expand(&[purpose], hkdf::HKDF_SHA256).and_then(|k| k.fill(&mut *key));
    filled.expect("32 octets"); // infallible
    key
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    // The key always has the cipher's length.
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 octets"); // infallible
    LessSafeKey::new(key)
}

impl<W: Write> Sealed<W> {
    /// Writes the chunk that waits. The nonce counts chunks, and ends with whether it is the last one.
    fn put(&mut self, last: bool) -> io::Result<()> {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.chunks.to_be_bytes());
        nonce[11] = u8::from(last);
        self.chunks += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut *self.waiting);
        sealed.map_err(|_| io::Error::other("it cannot be encrypted"))?;
        self.out.write_all(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    /// Writes the last chunk; gives what it all was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(true)?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        // A full chunk waits until it is known not to be the last one.
        if self.waiting.len() == CHUNK && !octets.is_empty() {
            self.put(false)?;
        }
        let taken = octets.len().min(CHUNK - self.waiting.len());
        self.waiting.extend_from_slice(&octets[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recipient of the specification's examples.
    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn a_recipient_is_told_from_what_is_none() {
        let recipient: Recipient = RECIPIENT.parse().unwrap();
        assert_eq!(recipient.to_string(), RECIPIENT);
        for wrong in [
            "",
            "age1",
            &RECIPIENT[..RECIPIENT.len() - 1],
            &RECIPIENT.replace("ql3", "ql4"),
            &RECIPIENT.to_uppercase(),
            "ssh-ed25519 AAAA",
        ] {
            assert_eq!(wrong.parse::<Recipient>(), Err(RecipientError::Other), "{wrong}");
        }
        let identity = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
        assert_eq!(identity.parse::<Recipient>(), Err(RecipientError::Identity));
    }

    #[test]
    fn a_stream_is_as_long_as_its_chunks_and_their_tags() {
        let recipients = [RECIPIENT.parse().unwrap()];
        let length = |octets: usize| {
            let mut sealed = seal(Vec::new(), &recipients).unwrap();
            sealed.write_all(&vec![7; octets]).unwrap();
            sealed.finish().unwrap().len()
        };
        let empty = length(0);
        assert_eq!(length(1), empty + 1);
        assert_eq!(length(CHUNK), empty + CHUNK);
        assert_eq!(length(CHUNK + 1), empty + CHUNK + 1 + TAG);
        assert_eq!(length(3 * CHUNK), empty + 3 * CHUNK + 2 * TAG);
    }

    #[test]
    fn a_key_that_agrees_with_nobody_is_refused() {
        let recipient = Recipient { key: [0; 32], text: String::new() };
        assert!(seal(Vec::new(), &[recipient]).is_err());
    }
}
