//! Texts measured and cut by the columns that they take on a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns of `text`.
pub(super) fn columns(text: &str) -> usize {
    text.width()
}

/// `text` in at most `room` columns; a longer one ends in `…`.
pub(super) fn cut(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(1);
    let mut short: String = text
        .chars()
        .take_while(|c| {
            let wide = c.width().unwrap_or_default();
            let fits = wide <= left;
            left = left.saturating_sub(wide);
            fits
        })
        .collect();
    if room > 0 {
        short.push('…');
    }
    short
}

/// `text` in exactly `room` columns.
pub(super) fn fitted(text: &str, room: usize) -> String {
    let mut text = cut(text, room);
    text.extend(std::iter::repeat_n(' ', room - columns(&text).min(room)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_the_room_that_it_is_given() {
        assert_eq!(cut("weather", 7), "weather");
        assert_eq!(cut("weather", 6), "weath…");
        assert_eq!(cut("weather", 0), "");
        assert_eq!(fitted("up", 4), "up  ");
        // Two columns each: half of one cannot be shown.
        assert_eq!(cut("天気予報", 4), "天…");
        assert_eq!(fitted("天気予報", 4), "天… ");
    }
}
