//! Digests of files: the algorithms an index names, their hexadecimal text, and a hasher that feeds several at once.

use std::fmt;
use std::str::FromStr;

use blake2::Blake2b;
use blake2::digest::consts::U32;
use md5::Md5;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha384, Sha512};

/// A SHA-256 digest: the address of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256(pub [u8; 32]);

/// A string that is not the hexadecimal form of a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a hexadecimal digest of the expected length")]
pub struct InvalidDigest;

impl Sha256 {
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The lower-case hexadecimal text, in ASCII.
    pub fn text(&self) -> [u8; 64] {
        let mut text = [0; 64];
        let encoded = const_hex::encode_to_slice(self.0, &mut text);
        debug_assert!(encoded.is_ok(), "a digest has half as many bytes as its text");
        text
    }
}

impl FromStr for Sha256 {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let mut out = [0; 32];
        // It takes a prefix too.
        if text.starts_with("0x") {
            return Err(InvalidDigest);
        }
        const_hex::decode_to_slice(text, &mut out).map_err(|_| InvalidDigest)?;
        Ok(Self(out))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes bytes as lower-case hexadecimal text.
pub fn hex(bytes: &[u8]) -> String {
    const_hex::encode(bytes)
}

/// A digest algorithm that we can verify, by the names of Python's `hashlib`.
///
/// Ordered from weakest to strongest, so that the greatest one present is the one to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Md5,
    /// `blake2b_256`, the 256-bit `BLAKE2b` of upload forms.
    Blake2b256,
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    /// The algorithm an index means by `name`, or `None` if we cannot verify it.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "md5" => Self::Md5,
            "blake2b_256" | "blake2_256" => Self::Blake2b256,
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            _ => return None,
        })
    }

    /// The length of the hexadecimal form, in characters.
    pub fn hex_length(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Blake2b256 | Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

/// The most digests of one file.
const MAX_DIGESTS: usize = 16;

/// The digests an index gives for one file: algorithm name to lower-case hexadecimal text, in the index's order.
///
/// A digest of an unknown algorithm stays in the list, so that it reaches the client. A digest of a known algorithm
/// must have that algorithm's length and alphabet, because clients refuse a whole page for one malformed digest.
///
/// It is one text, `sha256=…&md5=…`, because a large page has hundreds of thousands of them.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Hashes(Box<str>);

impl Hashes {
    /// Adds a digest, unless it is malformed, the list is full or has one of that algorithm. Returns whether it was
    /// added.
    pub fn insert(&mut self, algorithm: &str, value: &str) -> bool {
        let value = value.to_ascii_lowercase();
        let well_formed = !value.is_empty()
            && value.len() <= 256
            && value.bytes().all(|byte| byte.is_ascii_hexdigit())
            && Algorithm::from_name(algorithm).is_none_or(|known| known.hex_length() == value.len());
        let nameable = !algorithm.is_empty()
            && algorithm.len() <= 32
            && algorithm.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if !well_formed || !nameable || self.iter().count() == MAX_DIGESTS || self.get(algorithm).is_some() {
            return false;
        }
        let separator = if self.is_empty() { "" } else { "&" };
        self.0 = [&*self.0, separator, algorithm, "=", &value].concat().into();
        true
    }

    /// The hexadecimal text for an algorithm's name.
    pub fn get(&self, algorithm: &str) -> Option<&str> {
        self.0.split('&').find_map(|pair| pair.strip_prefix(algorithm)?.strip_prefix('='))
    }

    /// The SHA-256, if the index gave one.
    pub fn sha256(&self) -> Option<Sha256> {
        self.get("sha256").and_then(|text| text.parse().ok())
    }

    /// The strongest digest that we can verify.
    pub fn strongest(&self) -> Option<(Algorithm, &str)> {
        self.iter().filter_map(|(name, value)| Some((Algorithm::from_name(name)?, value))).max()
    }

    /// What has to be computed besides the SHA-256 to verify a file: nothing where that is given, since the processor
    /// computes it several times as fast as the others.
    pub fn besides_sha256(&self) -> Option<Algorithm> {
        if self.get("sha256").is_some() {
            return None;
        }
        self.strongest().map(|(algorithm, _)| algorithm)
    }

    /// All digests as (algorithm, hexadecimal text).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        // Neither an algorithm's name nor hexadecimal text has one of the two separators.
        self.0.split('&').filter_map(|pair| pair.split_once('='))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Hashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As a list of pairs.
impl Serialize for Hashes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Hashes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut hashes = Self::default();
        for (algorithm, value) in Vec::<(String, String)>::deserialize(deserializer)? {
            if !hashes.insert(&algorithm, &value) {
                return Err(D::Error::custom("not the digests of a file"));
            }
        }
        Ok(hashes)
    }
}

/// Hashes a stream of bytes: always with SHA-256, and with one more algorithm if the caller names one.
#[derive(Clone)]
pub struct Hasher {
    sha256: sha2::Sha256,
    second: Option<SecondHasher>,
}

#[derive(Clone)]
enum SecondHasher {
    Md5(Md5),
    Blake2b256(Box<Blake2b<U32>>),
    Sha384(Box<Sha384>),
    Sha512(Box<Sha512>),
}

/// The digests that a [`Hasher`] computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    pub sha256: Sha256,
    /// The second algorithm and its digest in lower-case hexadecimal, if the caller named one.
    pub second: Option<(Algorithm, String)>,
}

impl Hasher {
    /// A hasher for SHA-256 and, if it is a different algorithm, `also`.
    pub fn new(also: Option<Algorithm>) -> Self {
        let second = match also {
            None | Some(Algorithm::Sha256) => None,
            Some(Algorithm::Md5) => Some(SecondHasher::Md5(Md5::new())),
            Some(Algorithm::Blake2b256) => Some(SecondHasher::Blake2b256(Box::default())),
            Some(Algorithm::Sha384) => Some(SecondHasher::Sha384(Box::default())),
            Some(Algorithm::Sha512) => Some(SecondHasher::Sha512(Box::default())),
        };
        Self { sha256: sha2::Sha256::new(), second }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        match &mut self.second {
            None => {}
            Some(SecondHasher::Md5(hasher)) => hasher.update(bytes),
            Some(SecondHasher::Blake2b256(hasher)) => hasher.update(bytes),
            Some(SecondHasher::Sha384(hasher)) => hasher.update(bytes),
            Some(SecondHasher::Sha512(hasher)) => hasher.update(bytes),
        }
    }

    /// The digests of all bytes so far.
    pub fn finish(self) -> Hashed {
        let second = self.second.map(|hasher| match hasher {
            SecondHasher::Md5(hasher) => (Algorithm::Md5, hex(&hasher.finalize())),
            SecondHasher::Blake2b256(hasher) => (Algorithm::Blake2b256, hex(&hasher.finalize())),
            SecondHasher::Sha384(hasher) => (Algorithm::Sha384, hex(&hasher.finalize())),
            SecondHasher::Sha512(hasher) => (Algorithm::Sha512, hex(&hasher.finalize())),
        });
        Hashed { sha256: Sha256(self.sha256.finalize().into()), second }
    }
}

impl Hashed {
    /// Whether these digests agree with the index's; `None` if the index names no algorithm that was computed.
    pub fn agrees_with(&self, hashes: &Hashes) -> Option<bool> {
        let sha256 = hashes.sha256().map(|expected| expected == self.sha256);
        let second = self.second.as_ref().and_then(|(algorithm, value)| {
            let expected = hashes.iter().find(|(name, _)| Algorithm::from_name(name) == Some(*algorithm))?;
            Some(expected.1 == value)
        });
        match (sha256, second) {
            (None, None) => None,
            (first, second) => Some(first.unwrap_or(true) && second.unwrap_or(true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_digests_are_left_out_and_unknown_algorithms_kept() {
        let mut hashes = Hashes::default();
        assert!(!hashes.insert("sha256", "beef"));
        assert!(!hashes.insert("sha256", &"g".repeat(64)));
        assert!(!hashes.insert("sha256", &format!("{}\u{e9}", "a".repeat(62))));
        assert!(hashes.insert("sha256", &"AB".repeat(32)));
        assert!(!hashes.insert("sha256", &"cd".repeat(32)), "the first value stays");
        assert!(hashes.insert("shake_999", "abcd"));
        assert_eq!(hashes.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["sha256", "shake_999"]);
        assert_eq!(hashes.sha256(), Some(Sha256([0xab; 32])));
    }

    #[test]
    fn a_sha256_is_read_in_either_case_and_written_in_lower_case() {
        for digits in ["09afAF".repeat(11)[..64].to_owned(), "AF".repeat(32), "af".repeat(32)] {
            assert_eq!(digits.parse::<Sha256>().map(|read| read.to_string()), Ok(digits.to_ascii_lowercase()));
        }
        let plain = "a".repeat(63);
        let wrong = [format!("{plain}g"), format!("{plain}aa"), format!("{}é", "a".repeat(62)), format!("0x{plain}a")];
        for wrong in ["", &plain].into_iter().chain(wrong.iter().map(String::as_str)) {
            assert_eq!(wrong.parse::<Sha256>(), Err(InvalidDigest), "{wrong}");
        }
    }

    #[test]
    fn a_hasher_agrees_only_with_the_bytes_it_saw() {
        let mut hasher = Hasher::new(Some(Algorithm::Sha512));
        hasher.update(b"wheel");
        hasher.update(b"port");
        let hashed = hasher.finish();
        assert_eq!(hashed.sha256, Sha256::of(b"wheelport"));

        let mut right = Hashes::default();
        right.insert("sha512", &hex(&Sha512::digest(b"wheelport")));
        assert_eq!(hashed.agrees_with(&right), Some(true));

        let mut wrong = right.clone();
        wrong.insert("sha256", &Sha256::of(b"other").to_string());
        assert_eq!(hashed.agrees_with(&wrong), Some(false));
        assert_eq!(hashed.agrees_with(&Hashes::default()), None);

        assert_eq!(right.besides_sha256(), Some(Algorithm::Sha512));
        assert_eq!(wrong.besides_sha256(), None, "a SHA-256 is enough");
    }
}
