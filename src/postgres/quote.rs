//! Names and literals as SQL needs them.

/// `name` as a quoted identifier. Always quoted, so that no list of reserved words is needed.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.name`, both quoted.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// `text` as a string literal that means the same whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// The longest name PostgreSQL keeps, in bytes (`NAMEDATALEN - 1`).
const NAME_BYTES_MAX: usize = 63;

/// `base` followed by `suffix`, within the 63 bytes of a name. Where `base` must be cut, eight hex digits of its hash
/// keep two long names apart; where even the suffix does not fit, it is replaced by its hash.
pub fn derived_name(base: &str, suffix: &str) -> String {
    let whole = format!("{base}{suffix}");
    if whole.len() <= NAME_BYTES_MAX {
        return whole;
    }
    let mark = |text: &str| format!("~{}", &blake3::hash(text.as_bytes()).to_hex().as_str()[..8]);
    let suffix = if suffix.len() > NAME_BYTES_MAX / 2 {
        format!("{}{}", cut(suffix, NAME_BYTES_MAX / 2 - 9), mark(suffix))
    } else {
        suffix.to_owned()
    };
    let room = NAME_BYTES_MAX - suffix.len();
    if base.len() <= room {
        return format!("{base}{suffix}");
    }
    format!("{}{}{suffix}", cut(base, room - 9), mark(base))
}

/// The longest prefix of `text` within `bytes` bytes that ends at a character's end.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_literals_cannot_be_left_early() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(qualified("public", "Odd Name"), "\"public\".\"Odd Name\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }

    #[test]
    fn a_derived_name_fits_and_stays_distinct() {
        assert_eq!(derived_name("builder", "__0001-0002"), "builder__0001-0002");
        let long = "ä".repeat(31);
        let (a, b) = (
            derived_name(&long, "__0000000001-0000000002"),
            derived_name(&format!("{long}x"), "__0000000001-0000000002"),
        );
        assert!(a.len() <= 63 && b.len() <= 63, "{a} {b}");
        assert!(a.ends_with("__0000000001-0000000002") && a != b);
        let odd = derived_name(&long, &"p".repeat(80));
        assert!(odd.len() <= 63 && odd != derived_name(&long, &"p".repeat(81)));
    }
}
