//! Text that is updated in place: what has to be written so that events scroll by above a frame that stays. Pure.
//!
//! The terminal is left as it was after every update, cursor and all, so that nothing has to be undone at the end,
//! whatever that end is. Every character is written over, none is cleared first: nothing flickers.

use super::columns::columns;

const HIDE_CURSOR: &str = "\u{1b}[?25l";
const SHOW_CURSOR: &str = "\u{1b}[?25h";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// What was drawn last and is still there; the cursor stands at its end.
#[derive(Debug, Default)]
pub struct Screen {
    /// Columns of each line of the frame.
    drawn: Vec<usize>,
}

impl Screen {
    /// What to write, at once, to add `events` and replace the last frame by `frame`, on a terminal of `width` columns.
    pub fn update(&mut self, events: &[String], frame: &str, width: usize) -> String {
        let mut text = format!("{HIDE_CURSOR}\r");
        // A terminal that has become narrower has broken our lines.
        let rows: usize = self
            .drawn
            .iter()
            .map(|columns| columns.div_ceil(width.max(1)).max(1))
            .sum();
        if rows > 1 {
            text.push_str(&format!("\u{1b}[{}A", rows - 1));
        }
        for event in events {
            text.push_str(&format!("{event}{CLEAR_LINE}\n"));
        }
        let lines: Vec<_> = frame
            .lines()
            .map(|line| format!("{line}{CLEAR_LINE}"))
            .collect();
        text.push_str(&lines.join("\n"));
        text.push_str(CLEAR_BELOW);
        text.push_str(SHOW_CURSOR);
        self.drawn = frame.lines().map(shown_columns).collect();
        text
    }

    /// Somebody else has written to the terminal: what was drawn is theirs now.
    pub fn forget(&mut self) {
        self.drawn.clear();
    }
}

/// Columns of a line, without its colours.
fn shown_columns(line: &str) -> usize {
    let mut parts = line.split("\u{1b}[");
    let first = parts.next().map_or(0, columns);
    let others = parts.filter_map(|part| part.split_once('m'));
    first + others.map(|(_, text)| columns(text)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that understands what we write, and breaks lines as they are written.
    struct Terminal {
        width: usize,
        lines: Vec<String>,
        row: usize,
        column: usize,
    }

    impl Terminal {
        fn new(width: usize) -> Self {
            Self {
                width,
                lines: vec![String::new()],
                row: 0,
                column: 0,
            }
        }

        fn show(&mut self, text: &str) {
            let mut rest = text;
            while let Some(c) = rest.chars().next() {
                if let Some(code) = rest.strip_prefix("\u{1b}[") {
                    let end = code.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    self.obey(&code[..end], &code[end..=end]);
                    rest = &code[end + 1..];
                    continue;
                }
                match c {
                    '\r' => self.column = 0,
                    '\n' => self.down(),
                    c => {
                        if self.column == self.width {
                            self.down();
                        }
                        let line = &mut self.lines[self.row];
                        let mut cells: Vec<char> = line.chars().collect();
                        cells.resize(cells.len().max(self.column + 1), ' ');
                        cells[self.column] = c;
                        *line = cells.into_iter().collect();
                        self.column += 1;
                    }
                }
                rest = &rest[c.len_utf8()..];
            }
        }

        fn down(&mut self) {
            self.row += 1;
            self.column = 0;
            self.lines
                .resize(self.lines.len().max(self.row + 1), String::new());
        }

        fn obey(&mut self, number: &str, code: &str) {
            match code {
                "A" => self.row -= number.parse::<usize>().unwrap().min(self.row),
                "K" => {
                    let kept = self.lines[self.row].chars().take(self.column);
                    self.lines[self.row] = kept.collect();
                }
                "J" => {
                    self.obey("", "K");
                    self.lines.truncate(self.row + 1);
                }
                "m" | "h" | "l" => {}
                _ => panic!("a code that no test knows: {number}{code}"),
            }
        }
    }

    fn events(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn events_scroll_above_a_frame_that_stays() {
        let (mut screen, mut terminal) = (Screen::default(), Terminal::new(20));
        terminal.show("$ mcpprobe watch\n");
        terminal.show(&screen.update(&events(&["begun"]), "2 up\na up\nb up", 20));
        terminal.show(&screen.update(&[], "1 up\nb down and why\na up", 20));
        let long = "an event that is longer than a row";
        terminal.show(&screen.update(
            &events(&[long, "c"]),
            "1 up\nb \u{1b}[31mdown\u{1b}[39m",
            20,
        ));
        let shown = [
            "$ mcpprobe watch",
            "begun",
            "an event that is lon",
            "ger than a row",
            "c",
            "1 up",
            "b down",
        ];
        assert_eq!(terminal.lines, shown);
    }

    #[test]
    fn a_terminal_that_has_become_narrower_is_written_over_too() {
        let mut screen = Screen::default();
        let wide = screen.update(&[], "1234567890 up\n\u{1b}[31m1234\u{1b}[39m5678", 80);
        assert!(!wide.contains('A'), "nothing was there before: {wide:?}");
        // Now three rows: 10 + 3, and 8 columns.
        let narrow = screen.update(&[], "1 up", 10);
        assert!(
            narrow.starts_with("\u{1b}[?25l\r\u{1b}[2A1 up"),
            "{narrow:?}"
        );
    }

    #[test]
    fn what_others_wrote_is_not_written_over() {
        let mut screen = Screen::default();
        screen.update(&[], "a\nb\nc", 80);
        screen.forget();
        assert!(!screen.update(&[], "a\nb\nc", 80).contains("\u{1b}[2A"));
    }

    #[test]
    fn every_update_leaves_the_cursor_shown() {
        let text = Screen::default().update(&events(&["e"]), "a\nb", 80);
        assert!(text.starts_with(HIDE_CURSOR) && text.ends_with(SHOW_CURSOR));
    }
}
