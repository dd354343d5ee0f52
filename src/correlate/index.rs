//! Spans as documents of an index: what Elasticsearch and OpenSearch are asked alike, and how an answer of theirs is
//! known to be whole.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::asking::Asking;
use super::backend::{Answer, BackendSpan, Unavailable};
use super::document::Document;
use super::http::{Http, Reply};
use crate::model::{RemoteSettings, Text};

/// For one query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Documents of one answer: more than this an index gives only page by page (`index.max_result_window`).
const MOST: usize = 10_000;

/// The indices of spans.
pub(super) struct Index {
    http: Http,
    /// One name or more, with stars.
    name: String,
}

impl Index {
    pub(super) fn new(settings: &RemoteSettings, usual: &str) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(settings, QUERY_TIMEOUT, None)?,
            name: settings.option("index").unwrap_or(usual).to_owned(),
        })
    }

    /// The documents that all of `filter` are true of, each read by `read`; `what` is shown.
    pub(super) async fn spans(
        &self,
        filter: Value,
        what: &str,
        read: impl Fn(&Document) -> Result<BackendSpan, Unavailable>,
        asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        let url = self.http.below(&[&self.name, "_search"])?;
        let body = json!({
            "size": MOST,
            "track_total_hits": true,
            "query": {"bool": {"filter": filter}},
        });
        let reply = self.http.post_json(url, &body, what, asking).await?;
        let found = whole(&reply)?;
        let documents = found.hits.hits.iter();
        let spans: Result<Vec<_>, _> = documents
            .map(|hit| read(&Document::of(&hit.source)))
            .collect();
        let spans = spans?;
        let cut = (found.hits.total.value > spans.len()).then(|| {
            Text::new(format!(
                "{} of {} documents",
                spans.len(),
                found.hits.total.value
            ))
        });
        Ok(Answer {
            spans,
            cut,
            ..Answer::default()
        })
    }

    /// Whether there is such an index and it can be searched.
    pub(super) async fn answers(&self, asking: &Asking) -> Result<(), Unavailable> {
        let url = self.http.below(&[&self.name, "_search"])?;
        let body = json!({"size": 0, "track_total_hits": true});
        let reply = self.http.post_json(url, &body, "anything", asking).await?;
        whole(&reply).map(drop)
    }
}

#[derive(Deserialize)]
struct Found {
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
    #[serde(rename = "_clusters")]
    clusters: Option<Clusters>,
    hits: Hits,
}

#[derive(Deserialize)]
struct Shards {
    total: u64,
    failed: u64,
}

/// Of a search across clusters.
#[derive(Deserialize)]
struct Clusters {
    total: u64,
    successful: u64,
}

#[derive(Deserialize)]
struct Hits {
    total: Total,
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Total {
    value: usize,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_source")]
    source: Value,
}

/// An answer with 200 may be of some shards only, and of no index at all when a star matches none.
fn whole(reply: &Reply) -> Result<Found, Unavailable> {
    if !reply.status.is_success() {
        return Err(refusal(reply));
    }
    let found: Found = reply.json()?;
    if found.timed_out {
        return Err(Text::new("a part of an answer: the search timed out"));
    }
    if found.shards.failed > 0 {
        return Err(Text::new(format!(
            "a part of an answer: {} of {} shards failed",
            found.shards.failed, found.shards.total
        )));
    }
    if let Some(clusters) = &found.clusters
        && clusters.successful < clusters.total
    {
        return Err(Text::new(format!(
            "a part of an answer: {} of {} clusters",
            clusters.successful, clusters.total
        )));
    }
    if found.shards.total == 0 {
        return Err(Text::new("there is no index of that name"));
    }
    Ok(found)
}

fn refusal(reply: &Reply) -> Unavailable {
    #[derive(Deserialize)]
    struct Refused {
        error: Reason,
    }
    #[derive(Deserialize)]
    struct Reason {
        reason: String,
    }
    match serde_json::from_slice::<Refused>(&reply.body) {
        Ok(refused) => reply.refusal(&refused.error.reason),
        Err(_) => reply.plain_refusal(),
    }
}
