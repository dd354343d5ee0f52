//! What each reason means: the tables of `probes/README.md`, which are built in, so that the program and the page
//! cannot differ.

use super::{Layer, Reason};

/// Where reasons are explained, to people and to us.
const PAGE: &str = include_str!("../../probes/README.md");

/// One row of the page's tables of reasons: `` | `code` | layers | what it means | look first at | ``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The reason.
    pub reason: Reason,
    /// The layers that can fail with it, in the order of time; empty for what is bound to none.
    pub layers: Vec<Layer>,
    /// What it means.
    pub meaning: &'static str,
    /// What to look at first.
    pub look_first: &'static str,
}

impl Explanation {
    /// All of them, in the page's order.
    pub fn all() -> Vec<Self> {
        let reasons = PAGE.split_once("\n## Reasons\n");
        let section = reasons.map_or("", |(_, rest)| rest.split("\n## ").next().unwrap_or(rest));
        section.lines().filter_map(Self::read).collect()
    }

    /// A row; other lines are none.
    fn read(line: &'static str) -> Option<Self> {
        let cells: Vec<_> = line
            .strip_prefix("| `")?
            .strip_suffix(" |")?
            .split(" | ")
            .collect();
        let [code, layers, meaning, look_first] = cells[..] else {
            return None;
        };
        let code = code.strip_suffix('`')?;
        let layers = match layers {
            "any" => Vec::new(),
            letters => letters.split(' ').map(layer).collect::<Option<_>>()?,
        };
        Some(Self {
            reason: Reason::ALL.iter().copied().find(|r| r.as_str() == code)?,
            layers,
            meaning,
            look_first,
        })
    }
}

/// The layer that a letter of the page stands for.
fn layer(letter: &str) -> Option<Layer> {
    Layer::ALL
        .into_iter()
        .find(|layer| letter_of(*layer) == letter)
}

fn letter_of(layer: Layer) -> &'static str {
    match layer {
        Layer::Transport => "T",
        Layer::Http => "H",
        Layer::Initialize => "I",
        Layer::ToolsList => "L",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_one_row_with_a_meaning_and_a_first_look() {
        let all = Explanation::all();
        for reason in Reason::ALL {
            let rows: Vec<_> = all.iter().filter(|row| row.reason == *reason).collect();
            let [row] = rows[..] else {
                panic!(
                    "{reason}: probes/README.md has to have one row | `{reason}` | T H I L or any | meaning | look first at |, not {}",
                    rows.len()
                );
            };
            for cell in [row.meaning, row.look_first] {
                assert!(cell.trim().len() >= 3, "{reason}: an empty cell");
            }
            assert!(row.layers.is_sorted(), "{reason}");
        }
    }

    #[test]
    fn the_page_explains_no_reason_that_there_is_not() {
        let rows = PAGE.split_once("\n## Reasons\n").unwrap().1.lines();
        let rows = rows.filter(|line| line.starts_with("| `"));
        for row in rows {
            assert!(Explanation::read(row).is_some(), "{row}");
        }
    }

    #[test]
    fn the_page_says_which_letter_is_which_layer() {
        for layer in Layer::ALL {
            let said = format!("{} `{}`", letter_of(layer), layer.as_str());
            let is = format!("{} is `{}`", letter_of(layer), layer.as_str());
            assert!(PAGE.contains(&said) || PAGE.contains(&is), "{said}");
        }
    }
}
