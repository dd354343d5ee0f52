//! Reasons explained to people: one, or all in a line each.

use super::columns::{columns, cut};
use super::table::{Look, wrapped};
use crate::model::{Explanation, Layer};

/// One reason.
pub fn one(explanation: &Explanation, look: Look) -> String {
    const INDENT: usize = 12;
    let room = look
        .width
        .map_or(usize::MAX, |width| width.saturating_sub(INDENT).max(30));
    let mut text = format!("{}\n", explanation.reason);
    let layers: Vec<_> = explanation.layers.iter().map(|l| l.as_str()).collect();
    let layers = if layers.is_empty() {
        "any".to_owned()
    } else {
        layers.join(", ")
    };
    for (head, cell) in [
        ("layers", layers.as_str()),
        ("means", explanation.meaning),
        ("look first", explanation.look_first),
    ] {
        let cell = wrapped(cell, room).replace('\n', &format!("\n{:INDENT$}", ""));
        text.push_str(&format!("{head:INDENT$}{cell}\n"));
    }
    text
}

/// All reasons, each below the first layer that can fail with it.
pub fn list(all: &[Explanation], look: Look) -> String {
    let widest = all.iter().map(|e| columns(e.reason.as_str())).max();
    let widest = widest.unwrap_or_default();
    let mut text = String::new();
    for layer in Layer::ALL.into_iter().map(Some).chain([None]) {
        let of_layer: Vec<_> = all
            .iter()
            .filter(|explanation| explanation.layers.first().copied() == layer)
            .collect();
        if of_layer.is_empty() {
            continue;
        }
        text.push_str(layer.map_or("any layer", Layer::as_str));
        text.push('\n');
        for explanation in of_layer {
            let line = format!("  {:widest$}  {}", explanation.reason, explanation.meaning);
            text.push_str(&cut(&line, look.width.unwrap_or(usize::MAX)));
            text.push('\n');
        }
        text.push('\n');
    }
    text.push_str("`mcpprobe explain REASON` says what to look at first.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Look = Look {
        colour: false,
        width: None,
    };

    #[test]
    fn a_list_has_a_line_for_each_reason_below_its_layer() {
        let all = Explanation::all();
        let text = list(&all, PIPE);
        let heads = ["transport", "http", "initialize", "any layer"];
        let places: Vec<_> = heads
            .iter()
            .map(|head| text.lines().position(|line| line == *head).unwrap())
            .collect();
        assert!(places.is_sorted(), "{text}");
        for Explanation {
            reason, meaning, ..
        } in &all
        {
            let lines = text.lines().filter(|line| {
                line.trim_start().starts_with(&format!("{reason} ")) && line.ends_with(meaning)
            });
            assert_eq!(lines.count(), 1, "{reason}");
        }
        let narrow = Look {
            width: Some(40),
            ..PIPE
        };
        assert!(list(&all, narrow).lines().take(3).all(|l| columns(l) <= 40));
    }

    #[test]
    fn one_reason_is_told_whole_at_every_width() {
        for explanation in Explanation::all() {
            let whole = one(&explanation, PIPE);
            assert!(whole.contains(explanation.meaning) && whole.contains(explanation.look_first));
            let narrow = Look {
                width: Some(50),
                ..PIPE
            };
            let words = |text: &str| {
                text.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            assert_eq!(words(&one(&explanation, narrow)), words(&whole));
        }
    }
}
