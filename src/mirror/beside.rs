//! What stands beside an object's content: read from the source, told apart by a digest, brought to the target.
//!
//! Headers and user metadata are part of a version, so a listing shows that they changed. Tags are not, and some stores
//! show neither; the digest in the manifest is what the rolling audit compares.

use super::attic::Attic;
use crate::store::{Attributes, Bucket, Head, Original, ReadOnly, StoreError, Tags};

/// How many bytes of BLAKE3 tell two apart.
const DIGEST_BYTES: usize = 16;

/// What stands beside one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Beside {
    pub(super) attributes: Attributes,
    pub(super) tags: Tags,
}

/// A digest of what stands beside an object: 16 bytes of the BLAKE3 of all names and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BesideDigest([u8; DIGEST_BYTES]);

impl BesideDigest {
    /// Reads the 32 digits that [`Display`](std::fmt::Display) writes.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: &[u8; 2 * DIGEST_BYTES] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; DIGEST_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let text = std::str::from_utf8(pair).ok().filter(|text| !text.starts_with('+'))?;
            *byte = u8::from_str_radix(text, 16).ok()?;
        }
        Some(BesideDigest(bytes))
    }
}

impl std::fmt::Display for BesideDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Beside {
    /// What stands beside the object that was answered with `head`. Its tags are asked for if it has some, or, because
    /// a store need not say how many, if `surely`.
    pub(super) async fn of(source: &ReadOnly, key: &str, head: &Head, surely: bool) -> Result<Self, StoreError> {
        let asked = source.keeps().tags && (surely || head.tags.is_some_and(|count| count > 0));
        let tags = if asked { source.tags(key, head.id.as_deref()).await? } else { Tags::new() };
        Ok(Beside { attributes: head.attributes.clone(), tags })
    }

    pub(super) fn digest(&self) -> BesideDigest {
        let mut hasher = blake3::Hasher::new();
        let mut field = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        };
        let Attributes { content_type, cache_control, content_disposition, .. } = &self.attributes;
        let Attributes { content_encoding, content_language, expires, metadata, mode, .. } = &self.attributes;
        let headers = [content_type, cache_control, content_disposition, content_encoding, content_language, expires];
        for header in headers {
            // An empty one and none are not the same.
            field(header.as_ref().map_or("-", |_| "+"));
            field(header.as_deref().unwrap_or_default());
        }
        for pairs in [metadata, &self.tags] {
            field(&pairs.len().to_string());
            pairs.iter().for_each(|(name, value)| [name, value].map(String::as_str).into_iter().for_each(&mut field));
        }
        field(&mode.map(|mode| mode.to_string()).unwrap_or_default());
        let mut digest = [0; DIGEST_BYTES];
        hasher.finalize_xof().fill(&mut digest);
        BesideDigest(digest)
    }

    /// Makes sure that the object `at` of the target has this beside it, without sending its content. Whether anything
    /// had to be done, and the target's tag afterwards.
    ///
    /// # Errors
    /// [`StoreError::Changed`] or [`StoreError::NotFound`] when the target has another object there, or none.
    pub(super) async fn settle(
        &self,
        target: &Bucket,
        attic: &Attic,
        at: Original<'_>,
    ) -> Result<(bool, Option<String>), StoreError> {
        let keeps = target.keeps();
        let found = target.head(at.key).await?;
        if !at.is(&found.version) {
            return Err(StoreError::Changed { at: crate::store::Place::key(target.name(), at.key, "look up") });
        }
        if !keeps.of(&self.attributes).are_in(&found.attributes) {
            attic.keep_older(target, at.key, Some(&found)).await?;
            let made = target.copy(at, at.key, &self.attributes, &self.tags).await?;
            return Ok((true, made.version.etag));
        }
        if keeps.tags && target.tags(at.key, None).await? != self.tags {
            target.write_tags(at.key, &self.tags).await?;
            return Ok((true, found.version.etag));
        }
        Ok((false, found.version.etag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside(metadata: &[(&str, &str)], tags: &[(&str, &str)]) -> Beside {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Beside { attributes: Attributes { metadata: map(metadata), ..Attributes::default() }, tags: map(tags) }
    }

    #[test]
    fn whatever_differs_has_another_digest() {
        let mut all = vec![
            beside(&[], &[]),
            beside(&[("a", "b")], &[]),
            beside(&[], &[("a", "b")]),
            beside(&[("ab", "")], &[]),
            beside(&[("a", "b"), ("c", "d")], &[]),
            beside(&[("a", "b")], &[("c", "d")]),
        ];
        let mut odd = beside(&[], &[]);
        odd.attributes.expires = Some(String::new());
        all.push(odd.clone());
        odd.attributes.content_language = odd.attributes.expires.take();
        all.push(odd);
        all.push(Beside { attributes: Attributes { mode: Some(0o644), ..Attributes::default() }, tags: Tags::new() });
        for (n, one) in all.iter().enumerate() {
            assert_eq!(BesideDigest::from_hex(&one.digest().to_string()), Some(one.digest()));
            assert!(all.iter().skip(n + 1).all(|other| other.digest() != one.digest()), "{one:?}");
        }
        assert_eq!([BesideDigest::from_hex(""), BesideDigest::from_hex(&"+1".repeat(16))], [None, None]);
    }
}
