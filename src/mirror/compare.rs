//! What a bucket lists beside what a recovery point recorded of it: the merge of two sorted sequences.

use futures_util::stream::{BoxStream, Peekable};
use futures_util::{Stream, StreamExt, TryStreamExt};

use super::error::MirrorError;
use super::published::PublishedRow;
use crate::error::Error;
use crate::store::{Bucket, Listed, SourceVersion, StoreError};

/// One key, by where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// In the bucket alone.
    Listed(String, SourceVersion),
    /// In the point alone.
    Recorded(PublishedRow),
    /// In both; whether the content is the same is not said.
    Both(PublishedRow, SourceVersion),
}

/// The merge under way.
pub struct Sides<R: Stream> {
    bucket: String,
    listed: Peekable<BoxStream<'static, Result<Listed, StoreError>>>,
    recorded: std::pin::Pin<Box<Peekable<R>>>,
    last: Option<String>,
}

impl<R> Sides<R>
where
    R: Stream<Item = Result<PublishedRow, Error>> + Send,
{
    /// Of everything that `bucket` lists, and `recorded`, which is sorted by key.
    pub fn new(bucket: &Bucket, recorded: R) -> Self {
        Sides::after(bucket, None, recorded)
    }

    /// The same, of what `bucket` lists after the key `after`; `recorded` has nothing before it either.
    pub fn after(bucket: &Bucket, after: Option<&str>, recorded: R) -> Self {
        let (listed, recorded) = (bucket.list(after).peekable(), Box::pin(recorded.peekable()));
        Sides { bucket: bucket.name().to_owned(), listed, recorded, last: None }
    }

    /// The next key of either.
    ///
    /// # Errors
    /// The first error of either, and [`MirrorError::Unsorted`]: of a listing out of order nothing can be said.
    pub async fn next(&mut self) -> Result<Option<Side>, Error> {
        let listed = loop {
            match std::pin::Pin::new(&mut self.listed).peek().await {
                Some(Ok(Listed::Skipped(_))) => drop(self.listed.next().await),
                Some(Ok(Listed::Object { key, .. })) => break Some(key.clone()),
                // At once: what it did not come to is not missing.
                Some(Err(_)) => {
                    self.listed.try_next().await?;
                }
                None => break None,
            }
        };
        if let (Some(before), Some(after)) = (&self.last, &listed)
            && before >= after
        {
            let (bucket, before, after) = (self.bucket.clone(), before.clone(), after.clone());
            return Err(MirrorError::Unsorted { bucket, before, after }.into());
        }
        let recorded = match self.recorded.as_mut().peek().await {
            Some(Ok(row)) => Some(row.key.clone()),
            Some(Err(_)) | None => None,
        };
        let takes_recorded = match (&listed, &recorded) {
            (Some(listed), Some(recorded)) => recorded <= listed,
            // What is left of one side ends, too, if the other ended in an error: it is taken first.
            _ => true,
        };
        let row = if takes_recorded { self.recorded.try_next().await? } else { None };
        let takes_listed = row.as_ref().is_none_or(|row| Some(&row.key) == listed.as_ref());
        let object = if takes_listed { self.listed.try_next().await? } else { None };
        Ok(match (object, row) {
            (Some(Listed::Object { key, version }), None) => {
                self.last = Some(key.clone());
                Some(Side::Listed(key, version))
            }
            (Some(Listed::Object { key, version }), Some(row)) => {
                self.last = Some(key);
                Some(Side::Both(row, version))
            }
            (_, Some(row)) => Some(Side::Recorded(row)),
            (_, None) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::store::folder::Folder;

    async fn words(files: &[&str], rows: Vec<Result<&str, ()>>) -> String {
        let folder = tempfile::tempdir().unwrap();
        for name in files {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let bucket = Bucket::Folder(Folder::open(folder.path()).unwrap());
        let row = |key: &str| PublishedRow {
            key: key.to_owned(),
            size: 1,
            blake3: blake3::hash(b"x"),
            modified_ns: 0,
            digest: None,
        };
        let failed = || MirrorError::Busy { path: "torn".into() }.into();
        let rows = rows.into_iter().map(|key| key.map(row).map_err(|()| failed()));
        let mut sides = Sides::new(&bucket, stream::iter(rows.collect::<Vec<Result<_, Error>>>()));
        let mut words = Vec::new();
        loop {
            match sides.next().await {
                Ok(Some(Side::Listed(key, _))) => words.push(format!("+{key}")),
                Ok(Some(Side::Recorded(row))) => words.push(format!("-{}", row.key)),
                Ok(Some(Side::Both(row, _))) => words.push(format!("={}", row.key)),
                Ok(None) => break,
                Err(_) => {
                    words.push("torn".to_owned());
                    break;
                }
            }
        }
        words.join(" ")
    }

    #[tokio::test]
    async fn every_key_is_on_one_side_or_on_both() {
        assert_eq!(words(&[], vec![]).await, "");
        assert_eq!(words(&["a", "c", "d"], vec![Ok("b"), Ok("c"), Ok("e")]).await, "+a -b =c +d -e");
        assert_eq!(words(&["a", "b"], vec![]).await, "+a +b");
        assert_eq!(words(&[], vec![Ok("a"), Ok("b")]).await, "-a -b");
    }

    #[tokio::test]
    async fn a_list_that_ends_in_an_error_makes_nothing_an_extra() {
        assert_eq!(words(&["a", "b", "c"], vec![Ok("a"), Err(())]).await, "=a torn");
    }
}
