//! A definition as it reads after one more turn through a server.
//!
//! `status IN ('a', 'b')` on a varchar column is shown by PostgreSQL as a cast of the array:
//! `(ARRAY['a'::character varying, …])::text[]`. Read in again, the cast goes to the elements (`parse_coerce.c`), and from then
//! on it is shown as `ARRAY[('a'::character varying)::text, …]`. Both mean the same, and a restored database always has the
//! second; so both sides of a comparison are brought to it. Likewise `- 1::int` is shown as `(- 1)` and comes back as the
//! constant `'-1'::integer`.

/// `text` with every cast of an array of expressions moved to its elements. Literals stay as they are.
pub(super) fn settled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        if let Some((cast, length)) = cast_array(rest) {
            out.push_str(&cast);
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        if let Some((constant, length)) = negated(rest) {
            out.push_str(&constant);
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        let length = token(rest);
        out.push_str(rest.get(..length).unwrap_or_default());
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

/// `(- 1)` at the start of `text` as the constant the parser folds it to (`doNegate` of gram.y), and how long it was.
fn negated(text: &str) -> Option<(String, usize)> {
    let inner = text.strip_prefix("(- ")?;
    let end = inner.find(')')?;
    let number = inner.get(..end)?;
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.len() - inner.len() + end + 1;
    match number.split_once('.') {
        Some((whole, fraction)) if digits(whole) && digits(fraction) => Some((format!("(-{number})"), length)),
        None if digits(number) => Some((format!("'-{number}'::integer"), length)),
        _ => None,
    }
}

const ARRAY: &str = "(ARRAY[";

/// `(ARRAY[a, b])::T[]` at the start of `text` as `ARRAY[(a)::T, (b)::T]`, and how long it was.
fn cast_array(text: &str) -> Option<(String, usize)> {
    let inner = text.strip_prefix(ARRAY)?;
    let mut elements = vec![String::new()];
    let (mut at, mut depth) = (0, 0u32);
    loop {
        let rest = inner.get(at..)?;
        let length = token(rest);
        let part = rest.get(..length)?;
        match part {
            "]" if depth == 0 => break,
            "," if depth == 0 => elements.push(String::new()),
            _ => {
                depth = match part {
                    "[" | "(" => depth + 1,
                    "]" | ")" => depth.checked_sub(1)?,
                    "" => return None,
                    _ => depth,
                };
                elements.last_mut()?.push_str(part);
            }
        }
        at += length;
    }
    let cast = inner.get(at..)?.strip_prefix("])::")?;
    let end = cast.find("[]")?;
    let name = cast.get(..end)?;
    // Nothing but a type's name may stand there: `text`, `character varying(5)`, `public."Odd"`.
    if !name.chars().all(|char| char.is_alphanumeric() || " _.\"(),".contains(char)) {
        return None;
    }
    let each = elements.iter().map(|element| format!("({})::{name}", settled(element.trim_start())));
    let whole = ARRAY.len() + at + "])::".len() + end + "[]".len();
    Some((format!("ARRAY[{}]", each.collect::<Vec<_>>().join(", ")), whole))
}

/// The length of what stands at the start: a quoted string or name as a whole, else one character.
fn token(text: &str) -> usize {
    let Some(first) = text.chars().next() else { return 0 };
    if first != '\'' && first != '"' {
        return first.len_utf8();
    }
    // A doubled quote ends one piece and begins the next, which comes to the same.
    text.get(1..).and_then(|rest| rest.find(first)).map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cast_of_an_array_moves_to_its_elements_and_nothing_else_does() {
        let check = |text: &str, expect: &str| assert_eq!(settled(text), expect);
        check(
            "CHECK (((s)::text = ANY ((ARRAY['a, b]'::character varying, 'it''s'::character varying])::text[])))",
            "CHECK (((s)::text = ANY (ARRAY[('a, b]'::character varying)::text, ('it''s'::character varying)::text])))",
        );
        check(
            "(ARRAY[f(a, b[1]), ('x' || c)])::character varying(5)[]",
            "ARRAY[(f(a, b[1]))::character varying(5), (('x' || c))::character varying(5)]",
        );
        check("((ARRAY[(ARRAY[a])::text[]])::x[])", "(ARRAY[(ARRAY[(a)::text])::x])");
        check(
            "SELECT (- 1) AS x, (- 1.5), '(- 1)', (- a), (- 2)",
            "SELECT '-1'::integer AS x, (-1.5), '(- 1)', (- a), '-2'::integer",
        );
        for same in [
            "ARRAY['a'::text, 'b'::text]",
            "'(ARRAY[a])::text[]'",
            "(ARRAY[a])::text",
            "(ARRAY[a, b",
            "\"(ARRAY[\" ü ('",
            "",
        ] {
            check(same, same);
        }
    }
}
