//! The digest of a secret that clients present: all that is kept of it, and the one way to compare it.
//!
//! It has no `==`, whose time could tell how far a comparison came.

use subtle::{Choice, ConstantTimeEq};
use wheelport_index::Sha256;

/// The digest of a secret; comparing digests takes the same time whatever is presented.
#[derive(Clone)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// The secret in the text of a file, without the space around it. `None` if there is nothing else.
    pub fn of(text: &str) -> Option<Self> {
        let secret = text.trim();
        (!secret.is_empty()).then(|| Self(Sha256::of(secret.as_bytes()).0))
    }

    /// Of a secret of which only the digest is known.
    pub(super) fn known(digest: &Sha256) -> Self {
        Self(digest.0)
    }

    /// Whether the secret with this digest is presented.
    pub(super) fn is_digest(&self, presented: &Sha256) -> Choice {
        self.0.ct_eq(&presented.0)
    }

    /// Whether these bytes are the secret.
    pub fn is_presented(&self, presented: &[u8]) -> bool {
        self.is_digest(&Sha256::of(presented)).into()
    }
}

impl ConstantTimeEq for SecretDigest {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl std::fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretDigest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is one `NeverCompared` for every type, and another for those with `==`: the name of its function is
    /// ambiguous for them, and the test does not compile.
    trait NeverCompared<Marker> {
        fn holds() -> bool {
            true
        }
    }
    impl<T> NeverCompared<()> for T {}
    struct Comparable;
    impl<T: PartialEq> NeverCompared<Comparable> for T {}

    #[test]
    fn a_digest_is_compared_in_constant_time_or_not_at_all() {
        assert!(<SecretDigest as NeverCompared<_>>::holds());
        let known = SecretDigest::of(" hunter2\n").expect("a secret");
        assert!(known.is_presented(b"hunter2"));
        for other in ["", "hunter", "hunter22", "Hunter2", " hunter2"] {
            assert!(!known.is_presented(other.as_bytes()), "{other:?}");
        }
        let digest = Sha256::of(b"hunter2");
        for at in 0..digest.0.len() {
            let mut near = digest;
            near.0[at] ^= 1;
            assert!(!bool::from(known.is_digest(&near)), "byte {at} counts");
            assert!(!bool::from(known.ct_eq(&SecretDigest::known(&near))), "byte {at} counts");
        }
        assert!(bool::from(known.ct_eq(&SecretDigest::known(&digest))));
        assert!(SecretDigest::of(" \n").is_none());
        assert_eq!(format!("{known:?}"), "SecretDigest");
    }
}
