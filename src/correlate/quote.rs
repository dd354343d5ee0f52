//! What a user has named, in another's query language: whatever is in it, it stays one literal.

/// A literal of NRQL or APL: in single quotes, with backslashes before what would end or change it.
pub(super) fn single_quoted(text: &str) -> String {
    quoted(text, '\'')
}

/// A value of Datadog's search: in double quotes, in which nothing is a wildcard but what follows no backslash.
pub(super) fn double_quoted(text: &str) -> String {
    quoted(text, '"')
}

fn quoted(text: &str, mark: char) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push(mark);
    for c in text.chars() {
        match c {
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            '\\' => literal.push_str("\\\\"),
            c if c == mark => literal.extend(['\\', c]),
            c => literal.push(c),
        }
    }
    literal.push(mark);
    literal
}

/// Several, between commas.
pub(super) fn all_single_quoted(texts: impl Iterator<Item = String>) -> String {
    let literals: Vec<_> = texts.map(|text| single_quoted(&text)).collect();
    literals.join(", ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads the literal that `text` starts with; what it says, and what follows it.
    pub(crate) fn read(text: &str) -> (String, &str) {
        let mut said = String::new();
        let mut chars = text.char_indices();
        let (_, mark) = chars.next().unwrap();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => said.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                }),
                c if c == mark => return (said, &text[at + c.len_utf8()..]),
                '\n' | '\r' => panic!("a line end in a literal: {text:?}"),
                c => said.push(c),
            }
        }
        panic!("a literal without an end: {text:?}");
    }

    /// Names that somebody could choose in order to be asked about something else.
    pub(crate) fn any_name() -> impl Strategy<Value = String> {
        let evil = "[a-z'\"\\\\\n\r\t*?:()\\[\\]{} |=!<>~%_,;/`#@.-]{0,24}";
        prop_oneof![any::<String>(), evil.prop_map(String::from)]
    }

    proptest! {
        #[test]
        fn a_literal_says_what_was_put_in_and_ends_there(name in any_name()) {
            for literal in [single_quoted(&name), double_quoted(&name)] {
                prop_assert_eq!(read(&literal), (name.clone(), ""));
            }
        }
    }
}
