//! One line of a manifest: fields between tabs, and in a field no tab, newline or other control character.

use std::fmt::Write;

/// Appends `field` in a form that fits between tabs: `\t`, `\n`, `\\`, and `\xHH` for other control characters.
pub(super) fn escape_into(line: &mut String, field: &str) {
    for character in field.chars() {
        match character {
            '\\' => line.push_str("\\\\"),
            '\t' => line.push_str("\\t"),
            '\n' => line.push_str("\\n"),
            // Writing to a String does not fail.
            '\0'..='\x1f' | '\x7f' => drop(write!(line, "\\x{:02x}", u32::from(character))),
            _ => line.push(character),
        }
    }
}

/// Undoes [`escape_into`]; `None` for what it never wrote.
pub(super) fn unescape(field: &str) -> Option<String> {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        text.push_str(plain);
        let (character, length) = match escaped.as_bytes().first()? {
            b'\\' => ('\\', 1),
            b't' => ('\t', 1),
            b'n' => ('\n', 1),
            b'x' => (char::from(u8::from_str_radix(escaped.get(1..3)?, 16).ok().filter(u8::is_ascii_control)?), 3),
            _ => return None,
        };
        text.push(character);
        rest = escaped.get(length..)?;
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_survives_a_line() {
        for key in ["", "plain", "a\tb\nc", "back\\slash\\n", "\u{0}\u{1}\u{7f}\r", "ünï©ode/∞", "\\x41"] {
            let mut line = String::new();
            escape_into(&mut line, key);
            assert!(!line.chars().any(char::is_control), "{line:?}");
            assert_eq!(unescape(&line).as_deref(), Some(key));
        }
    }

    #[test]
    fn what_was_never_written_is_refused() {
        for line in ["\\", "\\q", "\\x4", "\\xzz", "\\x41", "\\x€"] {
            assert_eq!(unescape(line), None, "{line}");
        }
    }
}
