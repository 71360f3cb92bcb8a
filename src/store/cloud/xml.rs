//! The records of a listing in XML, and what stands beside them. Names keep every character, blanks at their ends too, which the
//! usual readers of XML take away.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::Event;

/// The leaves of one element: name → text.
pub(super) type Leaves = HashMap<String, String>;

/// Every element called `record` as its leaves, and the leaves that are in none. A leaf with `Encoded="true"` is percent-encoded
/// by its sender and decoded here.
///
/// # Errors
/// What is wrong with the document, in words.
pub(super) fn records(document: &str, record: &str) -> Result<(Vec<Leaves>, Leaves), String> {
    let mut reader = Reader::from_str(document);
    let (mut found, mut beside) = (Vec::new(), Leaves::new());
    let mut current: Option<Leaves> = None;
    let (mut open, mut text, mut encoded) = (Vec::<String>::new(), String::new(), false);
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(element) => {
                let name = String::from_utf8_lossy(element.local_name().as_ref()).into_owned();
                if name == record {
                    current = Some(Leaves::new());
                }
                encoded = element.attributes().flatten().any(|attribute| {
                    attribute.key.as_ref() == b"Encoded" && attribute.value.as_ref().eq_ignore_ascii_case(b"true")
                });
                open.push(name);
                text.clear();
            }
            Event::Text(part) => text.push_str(&part.decode().map_err(|error| error.to_string())?),
            Event::CData(part) => text.push_str(&part.decode().map_err(|error| error.to_string())?),
            Event::GeneralRef(reference) => text.push(character(&reference)?),
            Event::End(_) => {
                let name = open.pop().unwrap_or_default();
                if name == record {
                    found.extend(current.take());
                } else {
                    let text = if encoded { percent_decoded(&text) } else { Some(text.clone()) };
                    let text = text.ok_or_else(|| format!("{name} is not UTF-8"))?;
                    current.as_mut().unwrap_or(&mut beside).entry(name).or_insert(text);
                }
                text.clear();
                encoded = false;
            }
            Event::Eof if open.is_empty() => return Ok((found, beside)),
            Event::Eof => return Err("it ends in the middle".to_owned()),
            _ => {}
        }
    }
}

fn character(reference: &quick_xml::events::BytesRef<'_>) -> Result<char, String> {
    if let Some(character) = reference.resolve_char_ref().map_err(|error| error.to_string())? {
        return Ok(character);
    }
    match reference.decode().map_err(|error| error.to_string())?.as_ref() {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        other => Err(format!("it has the entity {other:?}, which is none of XML's")),
    }
}

/// Undoes percent-encoding; `None` when it is no text.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (first, tail.get(..2).and_then(hex)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_every_character() {
        let document = "<?xml version=\"1.0\"?><List><Blobs>\n <Blob><Name> a&amp;b&#x20;</Name><Properties><Etag>0x1</Etag>\
                        </Properties></Blob>\n<Blob><Name Encoded=\"true\">%EF%BF%BF+</Name><Tags/></Blob></Blobs>\
                        <NextMarker>m</NextMarker></List>";
        let (found, beside) = records(document, "Blob").unwrap();
        assert_eq!((found[0]["Name"].as_str(), found[0]["Etag"].as_str()), (" a&b ", "0x1"));
        assert_eq!((found[1]["Name"].as_str(), found.len()), ("\u{ffff}+", 2));
        assert_eq!(beside["NextMarker"], "m");
    }

    #[test]
    fn half_a_listing_is_none() {
        for document in ["<List><Blob><Name>a</Name></Blob>", "<a></b>", "<a>&nbsp;</a>"] {
            assert!(records(document, "Blob").is_err(), "{document}");
        }
    }
}
