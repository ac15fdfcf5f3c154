//! Hashes of keys and lock ids.

use unicode_normalization::UnicodeNormalization;

/// The short name under which a key or lock id appears in events and look-ups: 24 hexadecimal digits
/// over the NFC form. It hides the raw value from logs; it is not cryptographic.
///
/// Takes UTF-16 code units because it is defined over them; a lone surrogate counts as itself.
pub fn hash_key(units: &[u16]) -> String {
    let mut hash = [0u32; 3];
    let mut run = String::new();
    for decoded in char::decode_utf16(units.iter().copied()) {
        match decoded {
            Ok(c) => run.push(c),
            // Surrogates neither compose nor reorder, so each ends a run that normalises by itself.
            Err(lone) => {
                mix_text(&mut hash, &run);
                run.clear();
                mix(&mut hash, lone.unpaired_surrogate());
            }
        }
    }
    mix_text(&mut hash, &run);
    format!("{:08x}{:08x}{:08x}", hash[0], hash[1], hash[2])
}

fn mix_text(hash: &mut [u32; 3], text: &str) {
    if text.is_ascii() {
        text.bytes().for_each(|byte| mix(hash, byte.into()));
    } else {
        let mut units = [0; 2];
        for c in text.nfc() {
            for unit in c.encode_utf16(&mut units) {
                mix(hash, *unit);
            }
        }
    }
}

fn mix(hash: &mut [u32; 3], unit: u16) {
    const ROUNDS: [(u32, u32); 3] = [(5, 1), (7, 3), (11, 7)];
    for (value, (shift, factor)) in hash.iter_mut().zip(ROUNDS) {
        *value = (*value << shift).wrapping_sub(*value).wrapping_add(u32::from(unit).wrapping_mul(factor));
    }
}
