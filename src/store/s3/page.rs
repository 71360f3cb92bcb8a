//! The entries of a page of a listing, read from its XML before the SDK sees it.
//!
//! A pass over millions of keys that did not change does little more than to read listings, and the SDK makes a value of every
//! element of an entry, wanted or not. So its place is taken where the answer is read: what is left for the SDK is the page without
//! its entries, in which it finds whether there is more, and how to ask for it. Requests, signatures, retries and errors stay its own.
//!
//! What this does not know at first sight (a comment, a CDATA section, an attribute, a number that is none) it does not interpret:
//! then the SDK gets the page as it came.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt};
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::bare_etag;
use crate::store::object::SourceVersion;

/// The outermost element.
const ROOT: &[u8] = b"ListBucketResult";
/// An entry.
const ENTRY: &[u8] = b"Contents";

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
    let mut reader = Reader::from_str(page);
    open(&mut reader)?;
    let (mut entries, mut rest, mut kept, mut words) = (Vec::with_capacity(1_000), String::new(), 0, String::new());
    loop {
        let begin = position(&reader)?;
        match reader.read_event().ok()? {
            Event::Start(tag) if tag.name().as_ref() == ENTRY => {
                is_bare(&tag).then_some(())?;
                entries.push(entry(&mut reader, &mut words)?);
                rest.push_str(page.get(kept..begin)?);
                kept = position(&reader)?;
            }
            Event::Start(tag) => {
                reader.read_to_end(tag.name()).ok()?;
            }
            Event::Empty(tag) if tag.name().as_ref() != ENTRY => {}
            Event::Text(text) if is_blank(&text) => {}
            Event::End(_) => break,
            _ => return None,
        }
    }
    rest.push_str(page.get(kept..)?);
    loop {
        match reader.read_event().ok()? {
            Event::Text(text) if is_blank(&text) => {}
            Event::Eof => return Some((entries, rest)),
            _ => return None,
        }
    }
}

/// Where `reader` is in its page.
fn position(reader: &Reader<&[u8]>) -> Option<usize> {
    usize::try_from(reader.buffer_position()).ok()
}

/// Passes the outermost tag, whatever namespace it names, and what stands before it.
fn open(reader: &mut Reader<&[u8]>) -> Option<()> {
    loop {
        match reader.read_event().ok()? {
            Event::Decl(_) => {}
            Event::Text(text) if is_blank(&text) => {}
            Event::Start(tag) => return (tag.name().as_ref() == ROOT).then_some(()),
            _ => return None,
        }
    }
}

fn is_blank(text: &[u8]) -> bool {
    text.trim_ascii().is_empty()
}

/// Whether a tag has no attributes.
fn is_bare(tag: &BytesStart<'_>) -> bool {
    tag.name().as_ref().len() == tag.len()
}

/// The rest of an entry. What it says twice is not understood. `words` is room for the text of an element.
fn entry(reader: &mut Reader<&[u8]>, words: &mut String) -> Option<Sent> {
    let (mut key, mut etag, mut size, mut modified) = (None, None, None, None);
    loop {
        let is_once = match reader.read_event().ok()? {
            Event::Start(tag) => {
                is_bare(&tag).then_some(())?;
                match tag.name().as_ref() {
                    b"Key" => key.replace(text(reader, words)?.to_owned()).is_none(),
                    b"ETag" => etag.replace(bare_etag(Some(text(reader, words)?))).is_none(),
                    b"Size" => size.replace(number(text(reader, words)?)?).is_none(),
                    b"LastModified" => {
                        modified.replace(text(reader, words)?.parse::<Timestamp>().ok()?.as_nanosecond()).is_none()
                    }
                    _ => reader.read_to_end(tag.name()).is_ok(),
                }
            }
            Event::Empty(tag) => !matches!(tag.name().as_ref(), b"Key" | b"ETag" | b"Size" | b"LastModified"),
            Event::Text(text) => is_blank(&text),
            Event::End(_) => break,
            _ => false,
        };
        is_once.then_some(())?;
    }
    Some((key?, SourceVersion { etag: etag.flatten(), size: size?, modified_ns: modified? }))
}

/// A number of digits alone: a sign would be taken for one.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The text of an element that has nothing else in it, as it is meant.
fn text<'a>(reader: &mut Reader<&[u8]>, words: &'a mut String) -> Option<&'a str> {
    words.clear();
    loop {
        match reader.read_event().ok()? {
            // The end of a line is one character, whatever it was sent as.
            Event::Text(text) if !text.contains(&b'\r') => words.push_str(str::from_utf8(&text).ok()?),
            Event::GeneralRef(reference) => words.push(character(&reference)?),
            Event::End(_) => return Some(words),
            _ => return None,
        }
    }
}

fn character(reference: &BytesRef<'_>) -> Option<char> {
    match reference.resolve_char_ref().ok()? {
        None => resolve_predefined_entity(str::from_utf8(reference).ok()?)?.parse().ok(),
        character => character,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use aws_sdk_s3::error::DisplayErrorContext;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestCaseError, TestRunner};

    use super::*;
    use crate::config::address::{BucketAddress, BucketUrl};
    use crate::store::s3::S3;

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
        let check = |text: &str, meant: Option<&str>| {
            let read = read(&CEPH.replacen("a%2Bb/&amp;c", text, 1));
            assert_eq!(read.map(|(entries, _)| entries[0].0.clone()).as_deref(), meant, "{text}");
        };
        check("plain é", Some("plain é"));
        check(" a ", Some(" a "));
        check("&lt;&gt;&amp;&quot;&apos;&#65;&#x41;b", Some("<>&\"'AAb"));
        check("&amp;amp;", Some("&amp;"));
        for text in ["&", "&;", "&amp", "a&b;", "&#+65;", "&#xD800;", "&#;"] {
            check(text, None);
        }
    }

    /// An element as servers write it; now and then another one.
    fn element(name: &'static str, usual: &'static str, odd: &'static str) -> impl Strategy<Value = String> {
        let text = prop_oneof![30 => usual, 1 => odd].prop_map(move |value| format!("<{name}>{value}</{name}>"));
        prop_oneof![60 => text, 1 => Just(String::new()), 1 => Just(format!("<{name}/>"))]
    }

    fn entry() -> impl Strategy<Value = String> {
        let parts = (
            element(
                "Key",
                "[a-z%+ é/\"'\\n]{0,6}(&(amp|lt|quot|apos|#x20|#9);)?[a-z ]{0,2}",
                "a&nbsp;|a&|<a/>|\r\n|<![CDATA[a]]>",
            ),
            element(
                "LastModified",
                "20[0-2][0-9]-0[1-9]-[0-2][1-8]T[0-1][0-9]:00:[0-5]0(\\.[0-9]{1,3})?Z",
                "yesterday|2026-01-01T00:00:00(\\+01:00)?",
            ),
            element("ETag", "&quot;[0-9a-f]{4}(-2)?&quot;|\"[0-9a-f]{4}\"|[0-9a-f]{0,4}", "&quot;|\"|'a'"),
            element("Size", "[0-9]{1,6}", "[-+][0-9]|0x1|| 1"),
            element("Owner", "(<ID>o</ID>)?", "<ID>o|o"),
            prop_oneof![20 => "[\n ]{0,2}", 1 => "<!-- c -->|<Size>1</Size>|a"],
        );
        let parts = parts.prop_map(|(key, modified, etag, size, owner, rest)| [key, modified, etag, size, owner, rest]);
        parts.prop_shuffle().prop_map(|parts| format!("<Contents>{}</Contents>", parts.concat()))
    }

    /// Answers every request with the page that is set.
    fn serve(page: Arc<Mutex<String>>) -> String {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", server.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in server.incoming() {
                let mut stream = stream.unwrap();
                let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
                while request.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                let page = page.lock().unwrap().clone();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", page.len());
                stream.write_all((head + &page).as_bytes()).unwrap();
            }
        });
        endpoint
    }

    /// Whatever is read here the SDK reads likewise; what it does not understand is not read here either.
    #[test]
    fn a_page_is_read_as_the_sdk_reads_it() {
        let page = Arc::new(Mutex::new(String::new()));
        let url = BucketUrl::S3 { bucket: "b".to_owned(), prefix: String::new() };
        let address = BucketAddress::at("artifacts", url).on_server(&serve(Arc::clone(&page)));
        let s3 = S3::open(&address, "b", "", Some("a:b".into())).unwrap().once();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
        let read_here = Cell::new(0);
        let entries = proptest::collection::vec(entry(), 0..4);
        let outcome = runner.run(&entries, |entries| {
            let text = format!("<ListBucketResult><Name>b</Name>{}</ListBucketResult>", entries.concat());
            page.lock().unwrap().clone_from(&text);
            let Some((found, _)) = read(&text) else { return Ok(()) };
            read_here.set(read_here.get() + found.len());
            let by_sdk = runtime.block_on(s3.client.list_objects_v2().bucket("b").send());
            let by_sdk =
                by_sdk.map_err(|error| TestCaseError::fail(format!("{text}: {}", DisplayErrorContext(error))))?;
            let by_sdk: Vec<Sent> = by_sdk.contents().iter().map(crate::store::s3::list::sent).collect();
            prop_assert_eq!(found, by_sdk, "{}", text);
            Ok(())
        });
        outcome.unwrap();
        assert!(read_here.get() > 100, "{read_here:?}");
    }
}
