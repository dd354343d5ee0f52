//! Text that came from outside, made safe to show.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A string in which nothing can act on a terminal, a log or a page: control
/// characters and the invisible ones that reorder text are escaped, and its
/// length is bounded. Everything that a server says is kept only as this.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// Longest text kept, in characters. Enough for a sentence and a hint; a
    /// longer one is cut and ends in `…`.
    pub const MAX_CHARS: usize = 400;

    /// Escapes and cuts `raw`.
    pub fn new(raw: impl AsRef<str>) -> Self {
        let raw = raw.as_ref();
        let mut safe = String::with_capacity(raw.len().min(Self::MAX_CHARS));
        for (count, c) in raw.chars().enumerate() {
            if count == Self::MAX_CHARS {
                safe.push('…');
                break;
            }
            if is_unsafe(c) {
                safe.extend(c.escape_default());
            } else {
                safe.push(c);
            }
        }
        Self(safe)
    }

    /// The same text with every occurrence of a secret masked, also of one that was cut off at its end.
    pub fn redacted<'a>(raw: &str, secrets: impl Iterator<Item = &'a str>) -> Self {
        Self::new(Self::mask(raw, secrets))
    }

    /// `raw`, of any length and with everything alive in it, but without secrets.
    pub fn mask<'a>(raw: &str, secrets: impl Iterator<Item = &'a str>) -> String {
        let mut masked = raw.to_owned();
        for secret in secrets.filter(|secret| secret.len() >= SHORTEST_SECRET) {
            if masked.contains(secret) {
                masked = masked.replace(secret, "***");
            }
            let end = masked.trim_end_matches('…');
            let cut = (SHORTEST_SECRET..secret.len())
                .rev()
                .filter_map(|length| secret.get(..length))
                .find(|start| end.ends_with(start));
            if let Some(start) = cut {
                let kept = end.len() - start.len();
                masked.truncate(kept);
                masked.push_str("***");
            }
        }
        masked
    }

    /// `raw` of any length with everything escaped that could act on a terminal.
    pub fn escape(raw: &str) -> String {
        let mut safe = String::with_capacity(raw.len());
        for c in raw.chars() {
            if is_unsafe(c) {
                safe.extend(c.escape_default());
            } else {
                safe.push(c);
            }
        }
        safe
    }

    /// The safe text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A shorter value ("a", "1") would blank out ordinary words and protects nothing.
const SHORTEST_SECRET: usize = 4;

/// Control characters (C0, DEL, C1), line and paragraph separators, and the bidirectional, zero-width and otherwise
/// invisible characters by which shown text can lie ("Trojan Source") or hide what it says.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// `raw` with everything escaped that [`is_unsafe`], and not cut: for names and paths that a user wrote.
pub fn escaped(raw: &str) -> Cow<'_, str> {
    escaped_unless(raw, |_| false)
}

/// The same for a text of several lines, whose ends stay.
pub fn escaped_lines(raw: &str) -> Cow<'_, str> {
    escaped_unless(raw, |c| c == '\n')
}

fn escaped_unless(raw: &str, may_stay: impl Fn(char) -> bool) -> Cow<'_, str> {
    let acts = |c: char| is_unsafe(c) && !may_stay(c);
    if !raw.contains(acts) {
        return Cow::Borrowed(raw);
    }
    let mut safe = String::with_capacity(raw.len() * 2);
    for c in raw.chars() {
        if acts(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A sentence that says what went wrong.
impl std::error::Error for Text {}

impl From<&str> for Text {
    fn from(raw: &str) -> Self {
        Self::new(raw)
    }
}

impl From<String> for Text {
    fn from(raw: String) -> Self {
        Self::new(raw)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_what_acts_and_keeps_what_reads() {
        assert_eq!(Text::new("a\u{1b}[31mb").as_str(), "a\\u{1b}[31mb");
        assert_eq!(Text::new("line\nnext").as_str(), "line\\nnext");
        assert_eq!(Text::new("\u{202e}abc").as_str(), "\\u{202e}abc");
        assert_eq!(
            Text::new("Wetter – größer 天気").as_str(),
            "Wetter – größer 天気"
        );
    }

    #[test]
    fn everything_that_acts_or_hides_is_unsafe() {
        let bad = [
            '\u{0}', '\u{7}', '\u{1b}', '\n', '\r', '\t', '\u{7f}', '\u{85}', '\u{9b}', '\u{ad}',
            '\u{61c}',
        ]
        .into_iter()
        .chain('\u{200b}'..='\u{200f}')
        .chain('\u{2028}'..='\u{202e}')
        .chain('\u{2066}'..='\u{2069}')
        .chain([
            '\u{180e}',
            '\u{2060}',
            '\u{feff}',
            '\u{fffb}',
            '\u{e0041}',
            '\u{e0100}',
        ]);
        for c in bad {
            assert!(is_unsafe(c), "{c:?}");
            assert!(!escaped(&c.to_string()).contains(c), "{c:?}");
        }
        // A sentence, an emoji and a combining accent are only text.
        assert_eq!(
            escaped("größer\u{301} 天気 ✓ \u{1f600}"),
            "größer\u{301} 天気 ✓ \u{1f600}"
        );
    }

    #[test]
    fn what_is_not_cut_is_escaped_too() {
        assert_eq!(escaped("a\u{9b}1m\nb"), "a\\u{9b}1m\\nb");
        assert_eq!(escaped_lines("a\u{9b}1m\nb"), "a\\u{9b}1m\nb");
        let long = "x".repeat(Text::MAX_CHARS * 2);
        assert_eq!(escaped(&long), long);
    }

    #[test]
    fn text_that_is_read_back_is_made_safe_too() {
        let text: Text = serde_json::from_str("\"a\\u001bb\"").unwrap();
        assert_eq!(text.as_str(), "a\\u{1b}b");
        assert_eq!(serde_json::to_string(&text).unwrap(), r#""a\\u{1b}b""#);
    }

    #[test]
    fn a_secret_is_masked() {
        let text = Text::redacted("token tok-123 refused", ["tok-123", "e"].into_iter());
        assert_eq!(text.as_str(), "token *** refused");
        let cut = Text::redacted("it starts with: Bearer tok-1…", ["tok-123"].into_iter());
        assert_eq!(cut.as_str(), "it starts with: Bearer ***");
    }

    proptest! {
        #[test]
        fn never_holds_a_live_control_character(raw in any::<String>()) {
            let text = Text::new(&raw);
            prop_assert!(!text.as_str().chars().any(is_unsafe));
            prop_assert!(text.as_str().chars().count() <= Text::MAX_CHARS * 10 + 1);
        }
    }
}
