//! The large objects of a database against those of its snapshot.
//!
//! Both sides come in the order of their numbers, so one pass over both names each that differs, however many there are,
//! with a few rows in memory.

use std::cmp::Ordering;

use bytes::{Bytes, BytesMut};

use super::database::Difference;
use crate::capture::layout;
use crate::error::Error;
use crate::postgres::copy::Rows;
use crate::postgres::{Session, large_objects};
use crate::stream::{Source, SourceStream, StreamName};

/// Differences named; more are only counted.
const NAMED_MAX: usize = 100;
/// What the rows of contents are called behind `large object`.
const CONTENTS: &str = " contents";

/// Compares the large objects the session sees with the snapshot's.
///
/// # Errors
/// When the server or the snapshot cannot be read. A difference is no error.
pub(super) async fn compare<S: Source>(session: &Session, source: &S) -> Result<Vec<Difference>, Error> {
    let mut found = Found::default();
    let (described, contents) = (layout::large_objects(), layout::large_object_contents());
    compare_stream(captured(source, &described).await?, large_objects::describe(session).await?, "", &mut found)
        .await?;
    let rows = large_objects::contents(session).await?;
    compare_stream(captured(source, &contents).await?, rows, CONTENTS, &mut found).await?;
    Ok(found.differences())
}

async fn captured<S: Source>(source: &S, name: &StreamName) -> Result<Option<S::Stream>, Error> {
    if layout::has(source, name) { Ok(Some(source.read(name).await?)) } else { Ok(None) }
}

#[derive(Default)]
struct Found {
    named: Vec<Difference>,
    more: u64,
}

impl Found {
    fn add(&mut self, what: &str, expected: Option<&[u8]>, found: Option<&[u8]>) {
        let number = expected.or(found).and_then(number).map_or_else(String::new, |(number, _)| number.to_string());
        let kind = format!("large object{what}");
        // Several pieces of one object are one difference.
        if self.named.last().is_some_and(|last| last.kind == kind && last.object == number) {
            return;
        }
        if self.named.len() >= NAMED_MAX {
            self.more += 1;
            return;
        }
        let words = |row: Option<&[u8]>| row.map(|row| if what == CONTENTS { piece(row) } else { shown(row) });
        self.named.push(Difference { kind, object: number, expected: words(expected), found: words(found) });
    }

    fn differences(mut self) -> Vec<Difference> {
        if self.more > 0 {
            let expected = Some(format!("at least {} more of them are different", self.more));
            self.named.push(Difference {
                kind: "large objects".into(),
                object: "in all".into(),
                expected,
                found: None,
            });
        }
        self.named
    }
}

fn shown(row: &[u8]) -> String {
    String::from_utf8_lossy(row).trim_end().replace('\t', " ")
}

/// A piece of an object in words; its bytes are nobody's business here.
fn piece(row: &[u8]) -> String {
    let position = number(row).map_or(0, |(_, position)| position);
    format!("from byte {position} on BLAKE3 {}", blake3::hash(row).to_hex())
}

/// Number of the object and, in the contents, the position in it.
fn number(row: &[u8]) -> Option<(u32, u64)> {
    let text = |part: Option<&[u8]>| part.and_then(|part| std::str::from_utf8(part).ok()).map(str::to_owned);
    let mut parts = row.split(|byte| *byte == b'\t');
    let number = text(parts.next())?.parse().ok()?;
    Some((number, text(parts.next()).and_then(|position| position.parse().ok()).unwrap_or(0)))
}

async fn compare_stream<S: SourceStream>(
    captured: Option<S>,
    rows: Rows<'_>,
    what: &str,
    found: &mut Found,
) -> Result<(), Error> {
    let (mut here, mut there) = (Lines::new(captured), Lines::new(Some(rows)));
    let (mut expected, mut actual) = (here.next().await?, there.next().await?);
    loop {
        let order = match (&expected, &actual) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => number(one).cmp(&number(other)),
        };
        match order {
            Ordering::Equal if expected == actual => {}
            Ordering::Equal => found.add(what, expected.as_deref(), actual.as_deref()),
            Ordering::Less => found.add(what, expected.as_deref(), None),
            Ordering::Greater => found.add(what, None, actual.as_deref()),
        }
        if order != Ordering::Greater {
            expected = here.next().await?;
        }
        if order != Ordering::Less {
            actual = there.next().await?;
        }
    }
}

/// What bytes come from: a stream of the snapshot, or a COPY.
trait Parts {
    async fn part(&mut self) -> Result<Option<Bytes>, Error>;
}

impl<S: SourceStream> Parts for S {
    async fn part(&mut self) -> Result<Option<Bytes>, Error> {
        SourceStream::next(self).await
    }
}

impl Parts for Rows<'_> {
    async fn part(&mut self) -> Result<Option<Bytes>, Error> {
        Ok(Rows::next(self).await?)
    }
}

/// Cuts bytes into lines.
struct Lines<P> {
    parts: Option<P>,
    waiting: BytesMut,
}

impl<P: Parts> Lines<P> {
    fn new(parts: Option<P>) -> Self {
        Lines { parts, waiting: BytesMut::new() }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let mut looked = 0;
        loop {
            let unseen = self.waiting.get(looked..).unwrap_or_default();
            if let Some(end) = unseen.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.waiting.split_to(looked + end + 1).freeze()));
            }
            looked = self.waiting.len();
            match &mut self.parts {
                Some(parts) => match parts.part().await? {
                    Some(part) => self.waiting.extend_from_slice(&part),
                    None => self.parts = None,
                },
                None if self.waiting.is_empty() => return Ok(None),
                None => return Ok(Some(self.waiting.split().freeze())),
            }
        }
    }
}
