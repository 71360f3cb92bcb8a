//! The listing of a bucket of Google or Azure, asked for by ourselves: object_store fails all of it on one key that it cannot
//! spell, and changes others silently. Here such a key is an entry that is skipped, by its name.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt, stream};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use object_store::azure::{AzureAuthorizer, AzureCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::gcp::GcpCredentialProvider;

use super::xml::{Leaves, records};
use super::{Cloud, open};
use crate::store::error::{Place, StoreError};
use crate::store::object::{Cursor, Listed, Page, Skipped, SourceVersion};
use crate::store::s3::{bare_etag, decoded, encoded};

/// How long to wait before a page is asked for again; twice as long before each further time.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Who is asked, and as whom.
pub(super) enum Asked {
    /// `https://HOST/BUCKET`; anonymously without credentials.
    Gcs { url: String, credentials: Option<GcpCredentialProvider> },
    /// `https://HOST/CONTAINER`.
    Azure { url: String, credentials: AzureCredentialProvider, account: String },
}

/// A listing's way to its server.
pub(super) struct Lister {
    pub(super) asked: Asked,
    pub(super) http: HttpClient,
}

/// Every entry after `after`. A page that is not answered is asked for again.
pub(super) fn list(cloud: Cloud, after: Option<&str>) -> impl Stream<Item = Result<Listed, StoreError>> + Send + use<> {
    let start = after.map_or(Cursor::Start, |after| Cursor::After(after.to_owned()));
    let after = after.map(str::to_owned);
    stream::try_unfold((cloud, Some(start)), move |(cloud, cursor)| {
        let after = after.clone();
        async move {
            let Some(cursor) = cursor else { return Ok(None) };
            let page = patiently(&cloud, &cursor).await?;
            // Azure has no way to begin anywhere: what comes before is left out here.
            let beyond = move |listed: &Listed| match (listed, &after) {
                (Listed::Object { key, .. }, Some(after)) => key > after,
                (Listed::Skipped(skipped), Some(after)) => skipped.name > *after,
                (_, None) => true,
            };
            let listed: Vec<_> = page.listed.into_iter().filter(beyond).map(Ok).collect();
            Ok(Some((stream::iter(listed), (cloud, page.next))))
        }
    })
    .try_flatten()
}

async fn patiently(cloud: &Cloud, cursor: &Cursor) -> Result<Page, StoreError> {
    let mut wait = FIRST_WAIT;
    for _ in 0..open::RETRIES {
        match cloud.page(cursor, None).await {
            Err(StoreError::Unavailable { .. }) => tokio::time::sleep(wait).await,
            answer => return answer,
        }
        wait *= 2;
    }
    cloud.page(cursor, None).await
}

impl Cloud {
    /// One page of the listing, asked for once.
    pub(in crate::store) async fn page(&self, from: &Cursor, keys: Option<u16>) -> Result<Page, StoreError> {
        let document = self.asked_for(from, keys).await?;
        let (record, name, token) = match &self.lister.asked {
            Asked::Gcs { .. } => ("Contents", "Key", "NextContinuationToken"),
            Asked::Azure { .. } => ("Blob", "Name", "NextMarker"),
        };
        let wrong = |why: String| StoreError::other(Place::store(&self.name, "list"), why);
        let (found, mut beside) =
            records(&document, record).map_err(|why| wrong(format!("its listing is no XML: {why}")))?;
        let next = beside.remove(token).filter(|token| !token.is_empty()).map(Cursor::Token);
        // A page that is cut short without a way to go on must not pass for the end: the rest would look deleted.
        if next.is_none() && beside.get("IsTruncated").is_some_and(|word| word == "true") {
            return Err(wrong("the listing was cut short without a continuation token".to_owned()));
        }
        let is_encoded = beside.get("EncodingType").is_some_and(|word| word == "url");
        let listed = found.iter().map(|leaves| self.listed(leaves, name, is_encoded)).collect::<Result<Vec<_>, _>>();
        let mut listed = listed.map_err(wrong)?;
        listed
            .retain(|listed| !matches!(listed, Listed::Object { key, .. } if crate::store::abilities::is_canary(key)));
        Ok(Page { listed, next })
    }

    /// The document that is answered.
    async fn asked_for(&self, from: &Cursor, keys: Option<u16>) -> Result<String, StoreError> {
        let at = || Place::store(&self.name, "list");
        let (url, mut query) = match &self.lister.asked {
            Asked::Gcs { url, .. } => (url, vec![("list-type", "2".to_owned()), ("encoding-type", "url".to_owned())]),
            Asked::Azure { url, .. } => (url, vec![("restype", "container".to_owned()), ("comp", "list".to_owned())]),
        };
        let is_gcs = matches!(self.lister.asked, Asked::Gcs { .. });
        if !self.prefix.is_empty() {
            query.push(("prefix", self.prefix.to_string()));
        }
        if let Some(keys) = keys {
            query.push((if is_gcs { "max-keys" } else { "maxresults" }, keys.to_string()));
        }
        match from {
            Cursor::Token(token) => query.push((if is_gcs { "continuation-token" } else { "marker" }, token.clone())),
            Cursor::After(after) if is_gcs => query.push(("start-after", format!("{}{after}", self.prefix))),
            Cursor::After(_) | Cursor::Start => {}
        }
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encoded(value, b""))).collect();
        let request = self.signed(&format!("{url}?{}", query.join("&"))).await?;
        let unanswered =
            |error: object_store::client::HttpError| StoreError::Unavailable { at: at(), source: error.into() };
        let answer = self.lister.http.execute(request).await.map_err(unanswered)?;
        let status = answer.status().as_u16();
        let body = answer.into_body().bytes().await.map_err(unanswered)?;
        let text = String::from_utf8_lossy(&body).into_owned();
        if status == 200 { Ok(text) } else { Err(refused(at(), status, &text)) }
    }

    /// A GET of `url` with what proves who asks.
    async fn signed(&self, url: &str) -> Result<HttpRequest, StoreError> {
        let at = || Place::store(&self.name, "list");
        let failed = |error: object_store::Error| super::answer::translate(at(), error);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url.parse().map_err(|error| StoreError::other(at(), format!("{error}: {url}")))?;
        match &self.lister.asked {
            Asked::Gcs { credentials: None, .. } => {}
            Asked::Gcs { credentials: Some(credentials), .. } => {
                let credential = credentials.get_credential().await.map_err(failed)?;
                if !credential.bearer.is_empty() {
                    // What it says of a token that is no header may quote it.
                    let value = format!("Bearer {}", credential.bearer).parse();
                    let mut value: object_store::HeaderValue =
                        value.map_err(|_| open::denied(&self.name, "its token cannot be sent"))?;
                    value.set_sensitive(true);
                    request.headers_mut().insert("authorization", value);
                }
            }
            Asked::Azure { credentials, account, .. } => {
                let credential = credentials.get_credential().await.map_err(failed)?;
                AzureAuthorizer::new(&credential, account).try_authorize(&mut request).map_err(failed)?;
            }
        }
        Ok(request)
    }

    fn listed(&self, leaves: &Leaves, name: &str, is_encoded: bool) -> Result<Listed, String> {
        let sent = leaves.get(name).ok_or_else(|| format!("an entry of its listing has no {name}"))?;
        let skipped = |name: &str, why: String| Ok(Listed::Skipped(Skipped { name: name.to_owned(), why }));
        let full = if is_encoded { decoded(sent) } else { Some(sent.clone()) };
        let Some(full) = full else { return skipped(sent, "its key is not UTF-8".to_owned()) };
        let key = match full.strip_prefix(&*self.prefix) {
            None | Some("") => return skipped(&full, "it is the marker of the prefix itself".to_owned()),
            Some(key) => key,
        };
        // With a hierarchy of names Azure lists its folders, too.
        if leaves.get("ResourceType").is_some_and(|kind| kind == "directory") {
            return skipped(key, "it is a folder of Azure's".to_owned());
        }
        if let Err(StoreError::BadKey { why, .. }) = self.path(key, "read") {
            return skipped(key, why);
        }
        Ok(Listed::Object { key: key.to_owned(), version: version(leaves, key)? })
    }
}

/// What Google (as S3 does) and Azure say of an object in a listing.
fn version(leaves: &Leaves, key: &str) -> Result<SourceVersion, String> {
    let leaf = |names: [&str; 2]| names.into_iter().find_map(|name| leaves.get(name)).map(String::as_str);
    let size = leaf(["Size", "Content-Length"]).and_then(|size| size.parse().ok());
    let size = size.ok_or_else(|| format!("{key:?} has no size in its listing"))?;
    let modified = leaf(["LastModified", "Last-Modified"]).unwrap_or_default();
    let modified = modified.parse::<Timestamp>().or_else(|_| rfc2822::parse(modified).map(|zoned| zoned.timestamp()));
    let modified = modified.map_err(|error| format!("{key:?} has no time in its listing: {error}"))?;
    let etag = bare_etag(leaf(["ETag", "Etag"]));
    Ok(SourceVersion { etag, size, modified_ns: modified.as_nanosecond() })
}

/// What a refusal of either means.
fn refused(at: Place, status: u16, text: &str) -> StoreError {
    let code =
        records(text, "").map_or_else(|_| String::new(), |(_, mut leaves)| leaves.remove("Code").unwrap_or_default());
    let why = format!("HTTP {status}, {code}");
    match status {
        401 | 403 => StoreError::Denied { at, why },
        404 => StoreError::NotFound { at },
        408 | 429 | 500.. => StoreError::Unavailable { at, source: why.into() },
        _ => StoreError::other(at, why),
    }
}

/// A client of the same kind that object_store uses.
pub(super) fn lister(asked: Asked, http: HttpClient) -> Arc<Lister> {
    Arc::new(Lister { asked, http })
}
