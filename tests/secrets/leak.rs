//! Finding any part of a key in a text, in whatever form.

use std::collections::HashSet;

use crate::support;

/// So many characters in a row of a key's text are no accident: 72 bits.
const CHARACTERS: usize = 12;
/// Hexadecimal digits, and octets.
const DIGITS: usize = 16;
const OCTETS: usize = 8;

/// The parts of keys that nobody may see.
pub struct Secrets {
    texts: Parts,
    digits: Parts,
    octets: Parts,
}

/// Texts of one length, and which two octets any of them begins with: nearly all else is passed over by those.
struct Parts {
    length: usize,
    all: HashSet<Vec<u8>>,
    begins: Vec<bool>,
}

impl Parts {
    fn new(length: usize) -> Self {
        Self { length, all: HashSet::new(), begins: vec![false; 1 << 16] }
    }

    fn add(&mut self, text: &[u8]) {
        for window in text.windows(self.length) {
            self.begins[begin(window)] = true;
            self.all.insert(window.to_vec());
        }
    }

    fn find(&self, text: &[u8]) -> Option<Vec<u8>> {
        let found = |w: &&[u8]| self.begins[begin(w)] && self.all.contains(*w);
        text.windows(self.length).find(found).map(<[u8]>::to_vec)
    }
}

fn begin(text: &[u8]) -> usize {
    usize::from(text[0]) << 8 | usize::from(text[1])
}

impl Secrets {
    /// Of keys in PEM as `openssl ec` and certkit write them (SEC 1): the number that is secret stands in them from
    /// the seventh octet on, in 32. What follows it is public.
    pub fn new(keys: &[&str]) -> Self {
        let mut secrets = Self {
            texts: Parts::new(CHARACTERS),
            digits: Parts::new(DIGITS),
            octets: Parts::new(OCTETS),
        };
        for pem in keys {
            assert!(pem.starts_with("-----BEGIN EC PRIVATE KEY-----"), "another kind of key");
            let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
            let octets = decode(&body);
            let number = &octets[7..39];
            secrets.octets.add(number);
            let hex: String = number.iter().map(|b| format!("{b:02x}")).collect();
            secrets.digits.add(hex.as_bytes());
            // The characters that the number alone makes.
            let text = &body[7 * 8 / 6 + 1..39 * 8 / 6];
            secrets.texts.add(text.as_bytes());
            for shift in 0..3 {
                // Base64 of the text and of the number, wherever they stand in what is encoded.
                for inner in [text.as_bytes(), number] {
                    let padded: Vec<u8> =
                        std::iter::repeat_n(0, shift).chain(inner.to_vec()).collect();
                    let encoded = support::base64(&padded);
                    let sound = &encoded[4..encoded.len() - 4];
                    secrets.texts.add(sound.as_bytes());
                }
            }
        }
        secrets
    }

    /// A part that the text shows, whatever breaks and escapes stand in it.
    pub fn find(&self, text: &[u8]) -> Option<String> {
        let joined: Vec<u8> = String::from_utf8_lossy(text)
            .replace("\\n", "")
            .bytes()
            .filter(|b| b.is_ascii_graphic())
            .map(|b| match b {
                b'-' => b'+',
                b'_' => b'/',
                b => b,
            })
            .collect();
        let joined_standard: Vec<u8> = joined
            .iter()
            .copied()
            .filter(|b| b.is_ascii_alphanumeric() || b"+/=".contains(b))
            .collect();
        let lower = joined.to_ascii_lowercase();
        let parts = self.texts.find(&joined).or_else(|| self.texts.find(&joined_standard));
        parts
            .or_else(|| self.digits.find(&lower))
            .or_else(|| self.octets.find(text))
            .map(|part| String::from_utf8_lossy(&part).into_owned())
    }
}

/// The octets of base64 in one line.
pub fn decode(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut octets = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for character in text.bytes().filter(|b| *b != b'=') {
        let value = ALPHABET.iter().position(|known| *known == character).expect("base64");
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    octets
}
