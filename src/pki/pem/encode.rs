//! Writing PEM. By hand, because a secret must pass through one buffer only, which is wiped.

use zeroize::Zeroizing;

/// The PEM of one block, 64 characters a line as openssl and Go write it.
pub fn encode(label: &str, der: &[u8]) -> String {
    let mut out = String::with_capacity(encoded_length(label, der));
    write(label, der, &mut out);
    out
}

/// The same for secrets: the text is made in one piece that is wiped when dropped.
pub fn encode_secret(label: &str, der: &[u8]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(encoded_length(label, der)));
    write(label, der, &mut out);
    out
}

const COLUMNS: usize = 64;

fn encoded_length(label: &str, der: &[u8]) -> usize {
    let body = der.len().div_ceil(3) * 4;
    2 * label.len() + 32 + body + body.div_ceil(COLUMNS)
}

/// Writes into `out`, whose capacity suffices: a secret must not be left behind in a buffer outgrown.
fn write(label: &str, der: &[u8], out: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    for line in der.chunks(COLUMNS / 4 * 3) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0, |bits, b| bits << 8 | u32::from(*b))
                << (8 * (3 - group.len()));
            for position in 0..4 {
                match position <= group.len() {
                    true => {
                        let index = (bits >> (18 - 6 * position)) & 63;
                        out.push(char::from(ALPHABET[index as usize]));
                    }
                    false => out.push('='),
                }
            }
        }
        out.push('\n');
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
}
