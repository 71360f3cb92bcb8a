//! The lists inside sealed objects: a snapshot's body, as text and as a frame, and the manifest of a bucket.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warmspare::mirror::PublishedParser;
use warmspare::vault::v1::body;

const TEXT_BYTES_MAX: u64 = 1 << 20;

/// What was read is written and read again: the same.
fn body_text(text: &str) {
    let Ok(streams) = body::decode(text) else { return };
    let again = body::decode(&body::encode(&streams)).expect("what was written is read");
    assert_eq!(again, streams);
}

/// However the text is cut into blocks, the rows are the same.
fn published(text: &[u8]) {
    let parsed = |blocks: &mut dyn Iterator<Item = &[u8]>| {
        let mut parser = PublishedParser::default();
        let mut rows = Vec::new();
        for block in blocks {
            rows.extend(parser.feed(block).ok()?);
        }
        parser.finish().ok().map(|()| rows)
    };
    assert_eq!(parsed(&mut std::iter::once(text)), parsed(&mut text.chunks(7)));
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        body_text(text);
    }
    drop(body::decode_frame(data, TEXT_BYTES_MAX));
    published(data);
});
