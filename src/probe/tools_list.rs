//! `tools/list`, page after page.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fault::Fault;
use super::limits;
use super::record::Record;
use super::rpc::{self, Meta};
use crate::model::Reason;

pub(super) const METHOD: &str = "tools/list";

#[derive(Serialize)]
struct ListParams<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    #[serde(rename = "_meta", skip_serializing_if = "Option::is_none")]
    meta: Option<Meta<'a>>,
}

/// The request for a page in bytes.
pub(super) fn encode(id: u64, cursor: Option<&str>, meta: Option<Meta<'_>>) -> Bytes {
    let params = (cursor.is_some() || meta.is_some()).then_some(ListParams { cursor, meta });
    rpc::encode(Some(id), METHOD, params)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    next_cursor: Option<String>,
    result_type: Option<String>,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
}

/// The list so far.
pub(super) struct ToolList<'e> {
    tools: usize,
    /// Expected and not seen yet.
    missing: BTreeSet<&'e str>,
    pages: usize,
    /// Hashes of the cursors seen: a cursor may be large, and there may be many.
    cursors: HashSet<u64>,
}

impl<'e> ToolList<'e> {
    /// Nothing is read yet; `expected` are names that have to come.
    pub(super) fn new(expected: &'e [String]) -> Self {
        Self {
            tools: 0,
            missing: expected.iter().map(String::as_str).collect(),
            pages: 0,
            cursors: HashSet::new(),
        }
    }

    /// The expected names that did not come, sorted.
    pub(super) fn missing(&self) -> Vec<String> {
        self.missing.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Number of tools read.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.tools).unwrap_or(u32::MAX)
    }

    /// Reads a page; answers the cursor of the next one.
    pub(super) fn read_page(
        &mut self,
        result: &RawValue,
        modern: bool,
        record: &mut Record,
    ) -> Result<Option<String>, Fault> {
        let page: Page<'_> = serde_json::from_str(result.get()).map_err(|error| {
            invalid_tools(&format!("the result of tools/list is malformed: {error}"))
        })?;
        if modern {
            match page.result_type.as_deref() {
                Some("complete") => {}
                Some("input_required") => {
                    return Err(Fault::new(
                        Reason::InputRequired,
                        "tools/list wants input from a user",
                    ));
                }
                _ => record.note("the result of tools/list lacks resultType \"complete\""),
            }
        }
        let tools = page
            .tools
            .ok_or_else(|| invalid_tools("the result of tools/list has no tools"))?;
        let tools: Vec<Tool> = serde_json::from_str(tools.get()).map_err(|error| {
            invalid_tools(&format!(
                "the tools are not a list of named objects: {error}"
            ))
        })?;
        self.tools += tools.len();
        if self.tools > limits::MAX_TOOLS {
            return Err(invalid_tools(&format!(
                "there are more than {} tools",
                limits::MAX_TOOLS
            )));
        }
        if !self.missing.is_empty() {
            for tool in &tools {
                self.missing.remove(tool.name.as_str());
            }
        }
        self.pages += 1;
        let Some(cursor) = page.next_cursor else {
            return Ok(None);
        };
        if cursor.is_empty() {
            record.note("the last page of tools/list has an empty nextCursor instead of none");
            return Ok(None);
        }
        if cursor.len() > limits::MAX_CURSOR {
            return Err(invalid_tools(&format!(
                "the cursor of the next page is larger than {} bytes",
                limits::MAX_CURSOR
            )));
        }
        let mut hash = DefaultHasher::new();
        cursor.hash(&mut hash);
        if !self.cursors.insert(hash.finish()) {
            return Err(Fault::new(
                Reason::PaginationLoop,
                format!(
                    "page {} of tools/list points back to an earlier page",
                    self.pages
                ),
            ));
        }
        if self.pages >= limits::MAX_PAGES {
            return Err(Fault::new(
                Reason::TooManyPages,
                format!("tools/list has more than {} pages", limits::MAX_PAGES),
            ));
        }
        Ok(Some(cursor))
    }
}

fn invalid_tools(message: &str) -> Fault {
    Fault::new(Reason::InvalidTools, message)
}
