//! `mcpprobe explain`: what a reason means, and what to look at first.

use super::{Exit, Trouble, terminal};
use crate::cli::{ExplainArgs, Format};
use crate::config;
use crate::model::{Explanation, Reason};
use crate::report;

pub(super) fn run(args: &ExplainArgs) -> Result<Exit, Trouble> {
    let mut shown = Explanation::all();
    if let Some(code) = &args.reason {
        shown.retain(|explanation| explanation.reason.as_str() == code);
        if shown.is_empty() {
            return Err(unknown(code).into());
        }
    }
    let text = match (args.format, &shown[..]) {
        (Format::Json, all) => report::json::document(&report::json::explain(all)),
        (Format::Table, [one]) => report::explain::one(one, terminal::look()),
        (Format::Table, all) => report::explain::list(all, terminal::look()),
    };
    terminal::print(&text);
    Ok(Exit::Ok)
}

fn unknown(code: &str) -> String {
    let known: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let near = config::nearest(code, &known).map(|near| format!("did you mean `{near}`? "));
    format!(
        "there is no reason {code}; {}`mcpprobe explain` lists all",
        near.unwrap_or_default()
    )
}
