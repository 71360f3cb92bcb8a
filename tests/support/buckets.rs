//! Buckets to try things on, and short ways to fill and read them.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use secrecy::SecretString;
use warmspare::config::address::{BucketAddress, BucketUrl};
use warmspare::mirror::{PublishedParser, PublishedRow, manifest_path, published_lines};
use warmspare::store::{Attributes, Body, Bucket, Head, Listed, StoreError, WriteError};

/// A folder as a bucket.
pub fn folder(path: &Path) -> Bucket {
    Bucket::open(&BucketAddress::at("artifacts", BucketUrl::Folder(path.to_owned())), None).unwrap()
}

/// A bucket (or a prefix of it) of an S3 server.
pub fn s3(endpoint: &str, bucket: &str, prefix: &str, credentials: Option<&str>) -> Bucket {
    let url = BucketUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
    Bucket::open(&BucketAddress::at("artifacts", url).on_server(endpoint), credentials.map(SecretString::from)).unwrap()
}

/// A body of these bytes, in small blocks.
pub fn body(content: impl Into<Bytes>) -> Body {
    let content: Bytes = content.into();
    let blocks: Vec<_> = content.chunks(100_000).map(|block| Ok(content.slice_ref(block))).collect();
    stream::iter(blocks).boxed()
}

/// Writes it, and looks at what is there then.
pub async fn put(bucket: &Bucket, key: &str, content: impl Into<Bytes>) -> Result<Head, WriteError> {
    let content: Bytes = content.into();
    bucket.write(key, &Attributes::default(), content.len() as u64, body(content)).await?;
    Ok(bucket.head(key).await?)
}

pub async fn get(bucket: &Bucket, key: &str) -> Result<Bytes, StoreError> {
    let (_, body) = bucket.read(key, None).await?;
    Ok(body.try_collect::<Vec<_>>().await?.concat().into())
}

/// The keys after `after`, as listed.
pub async fn keys(bucket: &Bucket, after: Option<&str>) -> Vec<String> {
    let listed: Vec<Listed> = bucket.list(after).try_collect().await.unwrap();
    let key = |listed| match listed {
        Listed::Object { key, .. } => Some(key),
        Listed::Skipped(_) => None,
    };
    listed.into_iter().filter_map(key).collect()
}

/// Everything a bucket holds.
pub async fn contents(bucket: &Bucket) -> BTreeMap<String, Bytes> {
    let mut contents = BTreeMap::new();
    for key in keys(bucket, None).await {
        contents.insert(key.clone(), get(bucket, &key).await.unwrap());
    }
    contents
}

/// Bytes that look random and are the same every time.
pub fn noise(seed: u8, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// What a recovery point would say of the bucket whose mirror has this state.
pub fn published(state: &Path) -> Vec<PublishedRow> {
    let mut parser = PublishedParser::default();
    let blocks = published_lines(&manifest_path(state), true).unwrap();
    let rows: Vec<Vec<_>> = blocks.map(|block| parser.feed(&block.unwrap()).unwrap()).collect();
    parser.finish().unwrap();
    rows.concat()
}

/// Everything in a folder, read without any of our code.
pub fn read_plainly(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            let path = entry.path();
            match entry.file_type().unwrap().is_dir() {
                true if entry.file_name() == ".warmspare-tmp" => {}
                true => folders.push(path),
                false => {
                    let key = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                    found.insert(key, std::fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}
