//! The entries of a page of a listing, read from its XML before the SDK sees it.
//!
//! A pass over millions of keys that did not change does little more than to read listings, and the SDK makes a value of every
//! element of an entry, wanted or not. So its place is taken where the answer is read: what is left for the SDK is the page without
//! its entries, in which it finds whether there is more, and how to ask for it. Requests, signatures, retries and errors stay its own.
//!
//! What this does not know at first sight (a comment, a CDATA section, an attribute, a number that is none) it does not interpret:
//! then the SDK gets the page as it came.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt};
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use memchr::{memchr, memchr2};

use super::bare_etag;
use crate::store::object::SourceVersion;

/// The outermost element.
const ROOT: &str = "ListBucketResult";

/// One entry, its key as it was sent.
pub(super) type Sent = (String, SourceVersion);

/// Takes the entries out of the page that a request is answered with.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries(Arc<Mutex<Option<Vec<Sent>>>>);

impl Entries {
    /// The entries; `None` when they were left to the SDK.
    pub(super) fn take(&self) -> Option<Vec<Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps the entries of `page`; what is left of it.
    fn keep(&self, page: Bytes) -> Bytes {
        let read = str::from_utf8(&page).ok().and_then(read);
        let (entries, rest) = match read {
            Some((entries, rest)) => (Some(entries), Bytes::from(rest)),
            None => (None, page),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = entries;
        rest
    }
}

impl Intercept for Entries {
    fn name(&self) -> &'static str {
        "Entries"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        // Of an attempt before this one.
        drop(self.take());
        if answer.status().as_u16() != 200 {
            return Ok(());
        }
        let (page, entries) = (answer.take_body(), self.clone());
        let rest = async move { Ok::<_, BoxError>(entries.keep(page.collect().await?.to_bytes())) };
        let frames = rest.into_stream().map_ok(http_body::Frame::data);
        *answer.body_mut() = SdkBody::from_body_1_x(StreamBody::new(frames));
        Ok(())
    }
}

/// The entries of a page, and the page without them; `None` where it is not what is known here.
fn read(page: &str) -> Option<(Vec<Sent>, String)> {
    let mut at = Tokens { text: page, at: 0 };
    at.root()?;
    let (mut entries, mut rest, mut kept) = (Vec::with_capacity(1_000), String::new(), 0);
    loop {
        at.space();
        let begin = at.at;
        match at.next()? {
            Token::Open("Contents") => {
                entries.push(at.entry()?);
                rest.push_str(page.get(kept..begin)?);
                kept = at.at;
            }
            Token::Open(name) => at.pass(name)?,
            Token::Empty(_) => {}
            Token::Close(ROOT) => break,
            Token::Close(_) => return None,
        }
    }
    rest.push_str(page.get(kept..)?);
    page.get(at.at..)?.trim().is_empty().then_some((entries, rest))
}

/// A tag without attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Open(&'a str),
    Close(&'a str),
    Empty(&'a str),
}

/// Where a page is read.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        let rest = self.rest();
        if rest.starts_with('<') {
            return;
        }
        self.at += rest.len() - rest.trim_ascii_start().len();
    }

    /// The outermost tag, whatever namespace it names, and what stands before it.
    fn root(&mut self) -> Option<()> {
        self.space();
        if self.rest().starts_with("<?xml ") {
            self.at += self.rest().find("?>")? + 2;
            self.space();
        }
        let (tag, _) = self.rest().strip_prefix('<')?.split_once('>')?;
        self.at += tag.len() + 2;
        let attributes = tag.strip_prefix(ROOT)?;
        let is_open = attributes.is_empty() || attributes.starts_with([' ', '\n']);
        (is_open && !attributes.ends_with('/')).then_some(())
    }

    /// The next tag, if nothing stands before it.
    fn next(&mut self) -> Option<Token<'a>> {
        let rest = self.rest().strip_prefix('<')?;
        let tag = rest.get(..memchr(b'>', rest.as_bytes())?)?;
        self.at += tag.len() + 2;
        let token = match (tag.strip_prefix('/'), tag.strip_suffix('/')) {
            (Some(name), _) => Token::Close(name),
            (None, Some(name)) => Token::Empty(name),
            (None, None) => Token::Open(tag),
        };
        let (Token::Open(name) | Token::Close(name) | Token::Empty(name)) = token;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_name.then_some(token)
    }

    /// The text up to the next tag.
    fn words(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let length = memchr(b'<', rest.as_bytes())?;
        self.at += length;
        rest.get(..length)
    }

    /// Passes over the rest of the element `name`.
    fn pass(&mut self, name: &'a str) -> Option<()> {
        self.words()?;
        let mut within = match self.next()? {
            Token::Close(closed) => return (closed == name).then_some(()),
            Token::Open(inner) => vec![name, inner],
            Token::Empty(_) => vec![name],
        };
        while let Some(name) = within.last() {
            self.words()?;
            match self.next()? {
                Token::Open(inner) => within.push(inner),
                Token::Empty(_) => {}
                Token::Close(closed) if closed == *name => drop(within.pop()),
                Token::Close(_) => return None,
            }
        }
        Some(())
    }

    /// The text of the element between these two tags, if it is the next.
    fn value(&mut self, open: &str, close: &str) -> Option<Option<&'a str>> {
        if !self.rest().starts_with(open) {
            return Some(None);
        }
        self.at += open.len();
        let words = self.words()?;
        self.rest().starts_with(close).then_some(())?;
        self.at += close.len();
        Some(Some(words))
    }

    /// The rest of a `Contents` element. What it says twice is not understood.
    fn entry(&mut self) -> Option<Sent> {
        let (mut key, mut etag, mut size, mut modified) = (None, None, None, None);
        loop {
            self.space();
            let is_once = if let Some(text) = self.value("<Key>", "</Key>")? {
                key.replace(unescaped(text)?.into_owned()).is_none()
            } else if let Some(text) = self.value("<LastModified>", "</LastModified>")? {
                modified.replace(text.parse::<Timestamp>().ok()?.as_nanosecond()).is_none()
            } else if let Some(text) = self.value("<ETag>", "</ETag>")? {
                etag.replace(tag_of(text)?).is_none()
            } else if let Some(text) = self.value("<Size>", "</Size>")? {
                size.replace(text.parse::<u64>().ok()?).is_none()
            } else if self.value("<StorageClass>", "</StorageClass>")?.is_some() {
                true
            } else {
                match self.next()? {
                    Token::Open(name) => self.pass(name).is_some(),
                    Token::Empty(name) => !matches!(name, "Key" | "ETag" | "Size" | "LastModified"),
                    Token::Close("Contents") => break,
                    Token::Close(_) => false,
                }
            };
            is_once.then_some(())?;
        }
        let version = SourceVersion { etag: bare_etag(etag.as_deref()), size: size?, modified_ns: modified? };
        Some((key?, version))
    }
}

/// A tag, perhaps with the quotes around it.
fn tag_of(text: &str) -> Option<Cow<'_, str>> {
    let within = text.strip_prefix("&quot;").and_then(|text| text.strip_suffix("&quot;"));
    unescaped(within.unwrap_or(text))
}

/// Text as it is meant.
fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    // The end of a line is one character, whatever it was sent as.
    let Some(first) = memchr2(b'&', b'\r', text.as_bytes()) else { return Some(text.into()) };
    if text.contains('\r') {
        return None;
    }
    let (plain, mut rest) = text.split_at(first);
    let mut meant = String::with_capacity(text.len());
    meant.push_str(plain);
    while let Some(escaped) = rest.strip_prefix('&') {
        let (name, behind) = escaped.split_once(';')?;
        meant.push(match name {
            "quot" => '"',
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "apos" => '\'',
            number => numbered(number)?,
        });
        let next = behind.find('&').unwrap_or(behind.len());
        let (plain, more) = behind.split_at(next);
        meant.push_str(plain);
        rest = more;
    }
    Some(meant.into())
}

fn numbered(name: &str) -> Option<char> {
    let number = name.strip_prefix('#')?;
    let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |digits| (digits, 16));
    // A sign would be taken for one.
    digits.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(())?;
    char::from_u32(u32::from_str_radix(digits, radix).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEPH: &str = concat!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
        "<Name>b</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated>",
        "<Contents><Key>a%2Bb/&amp;c</Key><LastModified>2026-01-01T00:00:00.250Z</LastModified>",
        "<ETag>&quot;0123-2&quot;</ETag><Size>17</Size><StorageClass>STANDARD</StorageClass>",
        "<Owner><ID>o</ID><DisplayName>A &lt;B&gt;</DisplayName></Owner><Type>Normal</Type></Contents>",
        "<NextContinuationToken>a%2Bb</NextContinuationToken><EncodingType>url</EncodingType><KeyCount>1</KeyCount>",
        "<Marker></Marker></ListBucketResult>",
    );

    fn version(etag: &str, size: u64, modified_ns: i128) -> SourceVersion {
        SourceVersion { etag: Some(etag.to_owned()), size, modified_ns }
    }

    #[test]
    fn a_page_of_ceph_and_one_of_aws() {
        let (entries, rest) = read(CEPH).unwrap();
        assert_eq!(entries, [("a%2Bb/&c".to_owned(), version("0123-2", 17, 1_767_225_600_250_000_000))]);
        let (begin, end) = (CEPH.find("<Contents>").unwrap(), CEPH.find("<NextC").unwrap());
        assert_eq!(rest, [&CEPH[..begin], &CEPH[end..]].concat());

        // From the AWS S3 API Reference, ListObjectsV2.
        let aws = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n  \
            <Name>bucket</Name>\n  <Prefix/>\n  <KeyCount>2</KeyCount>\n  <MaxKeys>1000</MaxKeys>\n  <IsTruncated>false</IsTruncated>\n  \
            <Contents>\n    <Key>my-image.jpg</Key>\n    <LastModified>2009-10-12T17:50:30.000Z</LastModified>\n    \
            <ETag>\"fba9dede5f27731c9771645a39863328\"</ETag>\n    <ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>\n    \
            <Size>434234</Size>\n    <StorageClass>STANDARD</StorageClass>\n    <RestoreStatus><IsRestoreInProgress>false\
            </IsRestoreInProgress></RestoreStatus>\n  </Contents>\n  <Contents><Key>z</Key><LastModified>2009-10-12T17:50:30Z\
            </LastModified><ETag></ETag><Size>0</Size><Owner/></Contents>\n</ListBucketResult>\n";
        let (entries, rest) = read(aws).unwrap();
        let first = version("fba9dede5f27731c9771645a39863328", 434_234, 1_255_369_830_000_000_000);
        let last = SourceVersion { etag: None, size: 0, ..first.clone() };
        assert_eq!(entries, [("my-image.jpg".to_owned(), first), ("z".to_owned(), last)]);
        assert!(rest.ends_with("<IsTruncated>false</IsTruncated>\n  \n  \n</ListBucketResult>\n"), "{rest}");
    }

    #[test]
    fn what_is_not_known_at_first_sight_is_left_to_the_sdk() {
        for (from, to) in [
            ("ListBucketResult", "ListBucketsResult"),
            ("<Size>17</Size>", "<Size>-1</Size>"),
            ("<Size>17</Size>", "<Size></Size>"),
            ("<Size>17</Size>", "<Size/>"),
            ("<Size>17</Size>", ""),
            ("<Size>17</Size>", "<Size>17</Size><Size>18</Size>"),
            ("<Key>a%2Bb/&amp;c</Key>", "<Key><![CDATA[</Key>]]></Key>"),
            ("<Key>a%2Bb/&amp;c</Key>", "<Key>a<!-- b --></Key>"),
            ("<Key>a%2Bb/&amp;c</Key>", "<Key lang=\"x\">a</Key>"),
            ("<Key>a%2Bb/&amp;c</Key>", "<Key>&unknown;</Key>"),
            ("<Key>a%2Bb/&amp;c</Key>", "<Key>a\r\n</Key>"),
            ("<Key>a%2Bb/&amp;c</Key>", ""),
            ("2026-01-01T00:00:00.250Z", "yesterday"),
            ("<ID>o</ID>", "<ID>o</Owner>"),
            ("<Owner>", "words <Owner>"),
            ("</Contents>", ""),
            ("</ListBucketResult>", ""),
            ("</ListBucketResult>", "</ListBucketResult><Contents></Contents>"),
        ] {
            let page = CEPH.replacen(from, to, 2);
            assert_ne!(page, CEPH);
            assert_eq!(read(&page), None, "{from} as {to}");
        }
        assert!(read("").is_none());
        assert!((0..CEPH.len()).all(|end| read(&CEPH[..end]).is_none()));
    }

    #[test]
    fn text_is_unescaped_as_xml_has_it() {
        let check = |text: &str, meant: Option<&str>| assert_eq!(unescaped(text).as_deref(), meant, "{text}");
        check("plain é", Some("plain é"));
        check("&lt;&gt;&amp;&quot;&apos;&#65;&#x41;b", Some("<>&\"'AAb"));
        check("&amp;amp;", Some("&amp;"));
        for text in ["&", "&;", "&amp", "a&b;", "&#+65;", "&#xD800;", "&#;"] {
            check(text, None);
        }
    }
}
