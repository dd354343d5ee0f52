//! What was said in one probe, as text.

use std::fmt::Write;

use crate::model::{ProbeResult, RemarkKind, Target, escaped};

/// The conversation of one probe with `target`, and how to repeat its last request; empty where none was taken down.
pub fn conversation(target: &Target, result: &ProbeResult) -> String {
    let Some(conversation) = &result.conversation else {
        return String::new();
    };
    let mut text = format!(
        "{}  {}  trace {}\n",
        escaped(&target.name),
        escaped(target.endpoint.shown()),
        result.trace_id
    );
    for remark in &conversation.entries {
        let mark = match remark.kind {
            RemarkKind::Note => '*',
            RemarkKind::Sent => '>',
            RemarkKind::Received => '<',
            RemarkKind::Deviation => '!',
        };
        let mut time = format!("{:9.1} ms", remark.at.as_secs_f64() * 1e3);
        for line in &remark.lines {
            // A line of nothing ends in no space.
            let line = format!("{time} {mark} {line}");
            let _ = writeln!(text, "{}", line.trim_end());
            time = " ".repeat(12);
        }
    }
    if let Some(curl) = &conversation.curl {
        let _ = writeln!(text, "the last request again:\n{curl}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::AdHoc;
    use crate::model::{Conversation, Remark};

    #[test]
    fn every_line_has_its_mark_and_every_entry_its_time() {
        let target = AdHoc::Url("http://a.example/mcp".to_owned())
            .target(None, &|_| None)
            .unwrap();
        let remark = |at, kind, lines: &[&str]| Remark {
            at: Duration::from_millis(at),
            kind,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let mut result = ProbeResult::passed();
        result.conversation = Some(Box::new(Conversation {
            entries: vec![
                remark(1, RemarkKind::Sent, &["POST /mcp", "", "{}"]),
                remark(2, RemarkKind::Deviation, &["odd"]),
            ],
            curl: Some("curl x".to_owned()),
        }));
        let text = conversation(&target, &result);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "      1.0 ms > POST /mcp",
                "             >",
                "             > {}",
                "      2.0 ms ! odd",
                "the last request again:",
                "curl x",
            ]
        );
    }
}
