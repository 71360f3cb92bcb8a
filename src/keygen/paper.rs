//! The escrow's page: an identity file that a person can print, lock away, and type back years later.
//!
//! The letters of the identity stand on it twice: whole, so that the file is used as it is, and in four short lines
//! with a check word each, so that whoever types them back learns *which* line is wrong. The alphabet is Bech32's
//! (BIP 173), which leaves out what is mistaken for something else: B, I, O and 1.

use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, Zeroizing};

use crate::keys::{Identity, Recipient, secret_text};

const ALPHABET: &[u8; 32] = b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
const PREFIX: &str = "AGE-SECRET-KEY-1";
const LETTERS: usize = 58;
const LINE_LETTERS: usize = 16;
const LINES: usize = LETTERS.div_ceil(LINE_LETTERS);

/// What is wrong with a page that was typed back. Never holds what was typed but for a letter that no key has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaperError {
    /// Neither a whole identity nor a numbered line.
    #[error("there is no line AGE-SECRET-KEY-1… and no numbered line on it")]
    Nothing,
    /// A numbered line is not there.
    #[error("line {0} is missing")]
    Missing(usize),
    /// A numbered line is there twice.
    #[error("line {0} is there twice")]
    Twice(usize),
    /// A character that no identity has.
    #[error("line {line} has `{letter}`, which no key has")]
    Letter {
        /// The number of the line.
        line: usize,
        /// The character.
        letter: char,
    },
    /// Too short or too long.
    #[error("line {line} has {found} letters and digits instead of {expected}")]
    Length {
        /// The number of the line.
        line: usize,
        /// What was typed.
        found: usize,
        /// What it has on the page.
        expected: usize,
    },
    /// The check word says that the line is not what was printed.
    #[error("line {0} does not fit its check word: a letter is wrong, or two are exchanged")]
    Check(usize),
    /// The whole does not fit the checksum every age identity ends with.
    #[error("the letters do not make an age identity: one is wrong")]
    Whole,
    /// The whole identity and the numbered lines differ.
    #[error("the line AGE-SECRET-KEY-1… and the numbered lines are of two different keys")]
    TwoKeys,
    /// The recipient on the page is another's.
    #[error("the key belongs to {found}, but the page says {said}")]
    OtherRecipient {
        /// Whose it is.
        found: String,
        /// What the page says.
        said: String,
    },
}

/// The page of the identity `line` (`AGE-SECRET-KEY-1…`), made on the day `made` (`2026-11-21`).
pub(super) fn page(line: &SecretString, recipient: &Recipient, made: &str) -> SecretString {
    let letters = line.expose_secret().get(PREFIX.len()..).unwrap_or_default();
    let mut numbered = Zeroizing::new(String::with_capacity(512));
    for (number, part) in parts(letters) {
        numbered.push_str(&format!("#     {number}:  "));
        for (at, letter) in part.chars().enumerate() {
            if at > 0 && at % 4 == 0 {
                numbered.push(' ');
            }
            numbered.push(letter);
        }
        let gap = " ".repeat((LINE_LETTERS - part.len()) * 5 / 4);
        numbered.push_str(&format!("{gap}  = {}\n", &*check_word(number, part)));
    }
    let head = format!(
        "# WARMSPARE ESCROW PAGE, made {made}\n\
         #\n\
         # Whoever holds this page can open every backup of the systems whose configuration names under `escrow`\n\
         #     {recipient}\n\
         # Print it, keep the paper away from both sites, then destroy this file (shred -u).\n\
         #\n\
         # As a file it is an identity file: name it as `identity` at the site that restores, or give it to age itself:\n\
         #     age -d -i PAGE secrets-0.age > EPOCH        docs/FORMAT.md says what that opens\n\
         # From paper, type these {LINES} lines into a file. B, I, O and 1 do not occur in them; 0 is the digit.\n\
         #\n"
    );
    let tail = "#\n\
         #     warmspare keygen --escrow --verify TYPED --out PAGE\n\
         # names a line that is mistyped and writes an identity file. Without warmspare: write AGE-SECRET-KEY-1 and after\n\
         # it the letters of the lines, without spaces and check words, as one line of a file; `age -d -i` takes that.\n\
         #\n";
    let identity = Identity::file_text(recipient, line);
    secret_text(&[&head, &numbered, tail, identity.expose_secret()])
}

/// The identity on a page that was typed back, as its line `AGE-SECRET-KEY-1…`, and whose it is.
///
/// # Errors
/// Says which line is wrong.
pub(super) fn read(text: &SecretString) -> Result<(SecretString, Recipient), PaperError> {
    let typed = Typed::of(text.expose_secret())?;
    let numbered = typed.joined()?;
    let letters = match (&typed.whole, &numbered) {
        (Some(whole), Some(numbered)) if whole != numbered => return Err(PaperError::TwoKeys),
        (Some(letters), _) | (None, Some(letters)) => letters,
        (None, None) => return Err(PaperError::Nothing),
    };
    let line = secret_text(&[PREFIX, letters]);
    let recipient = Identity::from_file_text(&line).map_err(|_| PaperError::Whole)?.recipient();
    match typed.recipient {
        Some(said) if said != recipient.to_string() => {
            Err(PaperError::OtherRecipient { found: recipient.to_string(), said })
        }
        _ => Ok((line, recipient)),
    }
}

/// The letters in numbered parts.
fn parts(letters: &str) -> impl Iterator<Item = (usize, &str)> {
    let part = |number: usize| {
        let from = (number - 1) * LINE_LETTERS;
        letters.get(from..letters.len().min(from + LINE_LETTERS)).map(|part| (number, part))
    };
    (1..=LINES).filter_map(part)
}

/// Four letters that another line, or the same with a slip, has once in a million.
fn check_word(number: usize, letters: &str) -> Zeroizing<String> {
    let text = Zeroizing::new(format!("warmspare escrow page 1\n{number}\n{letters}"));
    let mut hash = *blake3::hash(text.as_bytes()).as_bytes();
    let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 32)).copied().map(char::from);
    let word = Zeroizing::new(hash.iter().filter_map(letter).take(4).collect::<String>());
    hash.zeroize();
    word
}

/// What was found in a text that a person typed.
struct Typed {
    whole: Option<Zeroizing<String>>,
    lines: [Option<Zeroizing<String>>; LINES],
    recipient: Option<String>,
}

impl Typed {
    fn of(text: &str) -> Result<Self, PaperError> {
        let mut typed = Typed { whole: None, lines: [const { None }; LINES], recipient: None };
        for line in text.lines().map(|line| line.trim_start_matches(['#', ' ', '\t']).trim()) {
            if let Some(recipient) = line.strip_prefix("recipient:") {
                typed.recipient = Some(recipient.trim().to_owned());
            } else if let Some((number, rest)) = numbered(line) {
                let kept = typed.lines.get_mut(number - 1);
                let Some(kept) = kept else { continue };
                if kept.is_some() {
                    return Err(PaperError::Twice(number));
                }
                *kept = Some(checked(number, rest)?);
            } else if let Some(letters) = plain(line).strip_prefix(PREFIX).filter(|letters| letters.len() > 4) {
                typed.whole = Some(Zeroizing::new(letters.to_owned()));
            }
        }
        Ok(typed)
    }

    /// The numbered lines as one; `None` when there are none.
    fn joined(&self) -> Result<Option<Zeroizing<String>>, PaperError> {
        if self.lines.iter().all(Option::is_none) {
            return Ok(None);
        }
        let mut letters = Zeroizing::new(String::with_capacity(LETTERS));
        for (line, number) in self.lines.iter().zip(1..) {
            letters.push_str(line.as_ref().ok_or(PaperError::Missing(number))?);
        }
        Ok(Some(letters))
    }
}

/// `2: QPZR …` as its number and the rest.
fn numbered(line: &str) -> Option<(usize, &str)> {
    let (number, rest) = line.split_once(':')?;
    let number = number.trim().parse().ok()?;
    (1..=LINES).contains(&number).then_some((number, rest))
}

/// Capitals, without what stands between them.
fn plain(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).collect())
}

fn checked(number: usize, typed: &str) -> Result<Zeroizing<String>, PaperError> {
    let (letters, word) = typed.split_once('=').map_or((typed, None), |(letters, word)| (letters, Some(word)));
    let letters = plain(letters);
    if let Some(letter) = letters.chars().find(|&c| !ALPHABET.iter().any(|&known| char::from(known) == c)) {
        return Err(PaperError::Letter { line: number, letter });
    }
    let expected = LINE_LETTERS.min(LETTERS - (number - 1) * LINE_LETTERS);
    if letters.len() != expected {
        return Err(PaperError::Length { line: number, found: letters.len(), expected });
    }
    // Somebody in a hurry may leave the check words out; the checksum of the whole is there still.
    if word.is_some_and(|word| *plain(word) != *check_word(number, &letters)) {
        return Err(PaperError::Check(number));
    }
    Ok(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed() -> (SecretString, Recipient, String) {
        let (line, recipient) = Identity::mint().unwrap();
        let text = page(&line, &recipient, "2026-11-21").expose_secret().to_owned();
        (line, recipient, text)
    }

    fn read_back(text: &str) -> Result<(String, Recipient), PaperError> {
        read(&SecretString::from(text)).map(|(line, recipient)| (line.expose_secret().to_owned(), recipient))
    }

    /// The numbered lines as a person types them: small letters, no marks.
    fn typed(page: &str) -> Vec<String> {
        let lines = page.lines().filter_map(|line| numbered(line.trim_start_matches(['#', ' '])));
        lines.map(|(number, rest)| format!("{number}:{}", rest.to_lowercase())).collect()
    }

    #[test]
    fn the_page_as_printed_and_as_typed_is_the_same_key() {
        let (line, recipient, page) = printed();
        let expected = Ok((line.expose_secret().to_owned(), recipient.clone()));
        assert_eq!(read_back(&page), expected);
        assert_eq!(read_back(&typed(&page).join("\n")), expected);
        let bare: Vec<String> = typed(&page).iter().map(|line| line.split('=').next().unwrap().to_owned()).collect();
        assert_eq!(read_back(&bare.join("\n")), expected, "without check words");
        assert_eq!(read_back(line.expose_secret()), expected, "the whole line alone");
        assert_eq!(Identity::from_file_text(&SecretString::from(page.clone())).unwrap().recipient(), recipient);
        assert!(page.lines().all(|line| line.len() <= 120), "{page}");
    }

    #[test]
    fn every_slip_in_a_line_is_found_and_the_line_is_named() {
        let (_, _, page) = printed();
        let lines = typed(&page);
        for (at, line) in lines.iter().enumerate() {
            let letters = line.find('=').unwrap();
            for position in (2..letters).filter(|&position| line.as_bytes()[position] != b' ') {
                let other = if line.as_bytes()[position] == b'q' { "p" } else { "q" };
                let mut slipped = lines.clone();
                slipped[at].replace_range(position..=position, other);
                assert_eq!(read_back(&slipped.join("\n")), Err(PaperError::Check(at + 1)));
            }
        }
        assert_eq!(read_back(&lines[1..].join("\n")), Err(PaperError::Missing(1)));
        assert_eq!(read_back(&[&lines[0], &lines[0]].map(String::as_str).join("\n")), Err(PaperError::Twice(1)));
        let wrong = lines.join("\n").replacen("2:", "2: o", 1);
        assert_eq!(read_back(&wrong), Err(PaperError::Letter { line: 2, letter: 'O' }));
        let long = lines.join("\n").replacen("3:", "3: q", 1);
        assert_eq!(read_back(&long), Err(PaperError::Length { line: 3, found: 17, expected: 16 }));
        assert_eq!(read_back("a shopping list"), Err(PaperError::Nothing));
    }

    #[test]
    fn parts_of_two_pages_are_not_mixed() {
        let ((_, _, one), (other, _, two)) = (printed(), printed());
        let mixed = format!("{}\n{}", typed(&one).join("\n"), other.expose_secret());
        assert_eq!(read_back(&mixed), Err(PaperError::TwoKeys));
        let mut exchanged = typed(&one);
        exchanged[2].clone_from(&typed(&two)[2]);
        assert_eq!(read_back(&exchanged.join("\n")), Err(PaperError::Whole));
        let recipient = one.lines().find(|line| line.starts_with("# recipient:")).unwrap();
        let foreign = format!("{recipient}\n{}", typed(&two).join("\n"));
        assert!(matches!(read_back(&foreign), Err(PaperError::OtherRecipient { .. })));
    }
}
