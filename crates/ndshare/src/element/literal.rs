//! The few Python literals in which structures are described: text, integers, `None`, booleans, tuples, lists, dicts.

/// A literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Literal {
    None,
    Bool(bool),
    Int(u64),
    Text(String),
    Tuple(Vec<Literal>),
    List(Vec<Literal>),
    Dict(Vec<(Literal, Literal)>),
}

/// How deep literals may nest. NumPy's own dtypes nest a few levels; a text from elsewhere must not use up the stack.
pub(super) const MAX_DEPTH: usize = 32;

impl Literal {
    /// The literal that is all of `text`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader { rest: text };
        let literal = reader.literal(MAX_DEPTH)?;
        reader.skip_spaces();
        reader.rest.is_empty().then_some(literal)
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn int(&self) -> Option<usize> {
        if let Self::Int(number) = self { usize::try_from(*number).ok() } else { None }
    }

    pub(super) fn items(&self) -> Option<&[Self]> {
        match self {
            Self::Tuple(items) | Self::List(items) => Some(items),
            _ => None,
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip_spaces();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn literal(&mut self, depth: usize) -> Option<Literal> {
        let depth = depth.checked_sub(1)?;
        self.skip_spaces();
        match self.rest.chars().next()? {
            '\'' | '"' => self.string().map(Literal::Text),
            '0'..='9' => self.int(),
            '[' => self.sequence("[", "]", depth).map(|(items, _)| Literal::List(items)),
            '(' => self.sequence("(", ")", depth).map(|(items, is_tuple)| match <[Literal; 1]>::try_from(items) {
                // Parentheses around one thing are no tuple.
                Ok([only]) if !is_tuple => only,
                Ok(only) => Literal::Tuple(only.into()),
                Err(items) => Literal::Tuple(items),
            }),
            '{' => self.dict(depth),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Option<Literal> {
        let words = [("None", Literal::None), ("True", Literal::Bool(true)), ("False", Literal::Bool(false))];
        words.into_iter().find(|(word, _)| self.eat(word)).map(|(_, literal)| literal)
    }

    fn int(&mut self) -> Option<Literal> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().ok().map(Literal::Int)
    }

    /// The items between two brackets, and whether a comma stands behind the last or between any.
    fn sequence(&mut self, open: &str, close: &str, depth: usize) -> Option<(Vec<Literal>, bool)> {
        let (mut items, mut has_comma) = (Vec::new(), false);
        self.eat(open).then_some(())?;
        // BOUND: each round reads at least one character of the text.
        while !self.eat(close) {
            if !items.is_empty() && !has_comma {
                return None;
            }
            items.push(self.literal(depth)?);
            has_comma = self.eat(",");
        }
        let is_tuple = has_comma || items.len() != 1;
        Some((items, is_tuple))
    }

    fn dict(&mut self, depth: usize) -> Option<Literal> {
        let (mut pairs, mut has_comma) = (Vec::new(), true);
        self.eat("{").then_some(())?;
        // BOUND: each round reads at least one character of the text.
        while !self.eat("}") {
            has_comma.then_some(())?;
            let key = self.literal(depth)?;
            self.eat(":").then_some(())?;
            pairs.push((key, self.literal(depth)?));
            has_comma = self.eat(",");
        }
        Some(Literal::Dict(pairs))
    }

    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.chars();
        let quote = chars.next()?;
        let mut text = String::new();
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\\' => text.push(escaped(&mut chars)?),
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }
}

fn escaped(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let digits = match chars.next()? {
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        c @ ('\\' | '\'' | '"') => return Some(c),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return None,
    };
    let mut code = 0;
    for _ in 0..digits {
        code = code << 4 | chars.next()?.to_digit(16)?;
    }
    char::from_u32(code)
}

/// Text as a literal that Python reads.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\\' | '\'' => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || (0x7f..0xa0).contains(&(c as u32)) => out += &format!("\\x{:02x}", c as u32),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_as_python_reads_them() {
        let text = |text: &str| Literal::Text(text.to_owned());
        let cases = [
            ("'a'", text("a")),
            ("\"it's\"", text("it's")),
            (r"'\x41\n\'é\u00e9\U0001f600\\'", text("A\n'éé😀\\")),
            ("( 3 , )", Literal::Tuple(vec![Literal::Int(3)])),
            ("(3)", Literal::Int(3)),
            ("()", Literal::Tuple(vec![])),
            (
                "[(1, 2), None,]",
                Literal::List(vec![Literal::Tuple(vec![Literal::Int(1), Literal::Int(2)]), Literal::None]),
            ),
            (
                "{'a': True, 'b': [False]}",
                Literal::Dict(vec![
                    (text("a"), Literal::Bool(true)),
                    (text("b"), Literal::List(vec![Literal::Bool(false)])),
                ]),
            ),
        ];
        for (source, literal) in cases {
            assert_eq!(Literal::parse(source), Some(literal), "{source}");
        }
    }

    #[test]
    fn other_texts_are_none() {
        let deep = "[".repeat(10_000);
        let cases = [
            "",
            "'",
            "'a",
            "[1 2]",
            "[1",
            "(1, 2",
            "{1}",
            "{'a' 1}",
            "{'a': 1 'b': 2}",
            "1 2",
            "-1",
            "1.5",
            "x",
            "'\\q'",
            "'\\x4'",
            "'\\ud800'",
            "99999999999999999999999",
            "[,]",
            deep.as_str(),
        ];
        for source in cases {
            assert_eq!(Literal::parse(source), None, "{source:.20}");
        }
    }

    #[test]
    fn quoted_text_comes_back() {
        for text in ["", "a", "it's", "\"", "\\", "\n\t\u{7f}\u{9f}", "é😀"] {
            assert_eq!(Literal::parse(&quoted(text)), Some(Literal::Text(text.to_owned())));
        }
    }
}
