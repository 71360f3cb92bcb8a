//! The body of an object, cut for a store that takes large ones in parts.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::Fuse;

use super::error::{Place, StoreError};
use super::object::{Body, WriteError};

/// Cuts a body into parts of one size.
pub(super) struct Parts {
    /// Fused: it is asked again after its end, once for the last part and once for what should not follow it.
    body: Fuse<Body>,
    pub(super) part_bytes: u64,
    /// What all of it should have.
    size: u64,
    /// What is left of the last block.
    waiting: Bytes,
    taken: u64,
}

impl Parts {
    /// Parts of `part_bytes` of a body that should have `size` bytes.
    pub(super) fn new(body: Body, part_bytes: u64, size: u64) -> Self {
        Parts { body: body.fuse(), part_bytes, size, waiting: Bytes::new(), taken: 0 }
    }

    /// The next part: `part_bytes` long unless it is the last; `None` after that.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, WriteError> {
        let wanted = usize::try_from(self.part_bytes).unwrap_or(usize::MAX);
        let expected = self.size.saturating_sub(self.taken).min(self.part_bytes);
        // At once, and no more: growing by and by would copy it, and take up to twice as much.
        let mut part = BytesMut::with_capacity(usize::try_from(expected).unwrap_or(wanted));
        while part.len() < wanted {
            if self.waiting.is_empty() {
                let Some(block) = self.body.next().await else { break };
                self.waiting = block.map_err(WriteError::Body)?;
            }
            let length = self.waiting.len().min(wanted - part.len());
            part.extend_from_slice(&self.waiting.split_to(length));
        }
        self.taken += part.len() as u64;
        Ok((!part.is_empty()).then(|| part.freeze()))
    }

    /// Makes sure that the body had as many bytes as it should, and that its end was no error.
    pub(super) async fn ended(&mut self, at: &Place) -> Result<(), WriteError> {
        while self.next().await?.is_some() {}
        let (length, size) = (self.taken, self.size);
        if length == size {
            return Ok(());
        }
        let why = format!("the body had {length} bytes instead of {size}");
        Err(WriteError::Body(StoreError::other(at.clone(), why)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn a_body_is_cut_into_parts_of_one_size_and_counted() {
        let blocks = ["abc", "defg", "h"].map(|text| Ok(Bytes::from(text)));
        let mut parts = Parts {
            body: stream::iter(blocks).boxed().fuse(),
            part_bytes: 3,
            size: 8,
            waiting: Bytes::new(),
            taken: 0,
        };
        let mut cut = Vec::new();
        while let Some(part) = parts.next().await.unwrap() {
            cut.push(part);
        }
        assert_eq!(cut, ["abc", "def", "gh"]);
        parts.ended(&Place::store("s", "write")).await.unwrap();
        parts.size = 9;
        assert!(parts.ended(&Place::store("s", "write")).await.is_err());
    }
}
