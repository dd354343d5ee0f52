//! Spans as a collector sends them on: OTLP as JSON, for backends that want another form.

use serde_json::Value;

/// One span with what is around it.
#[derive(Clone)]
pub(super) struct Span {
    pub(super) resource: Value,
    pub(super) scope: Value,
    /// As it came.
    pub(super) span: Value,
}

/// All spans of a request.
pub(super) fn spans(request: &Value) -> Vec<Span> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    for of_resource in list(&request["resourceSpans"]) {
        for of_scope in list(&of_resource["scopeSpans"]) {
            for span in list(&of_scope["spans"]) {
                all.push(Span {
                    resource: of_resource["resource"]["attributes"].clone(),
                    scope: of_scope["scope"]["name"].clone(),
                    span,
                });
            }
        }
    }
    all
}

impl Span {
    pub(super) fn text(&self, key: &str) -> String {
        self.span[key].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn nanos(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap()
    }

    pub(super) fn service(&self) -> String {
        let pairs = pairs(&self.resource);
        let service = pairs.into_iter().find(|(key, _)| key == "service.name");
        service.map(|(_, value)| value).unwrap_or_default()
    }

    /// Its kind by the number's word.
    pub(super) fn kind(&self) -> &'static str {
        let words = ["", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
        words[usize::try_from(self.span["kind"].as_u64().unwrap_or_default()).unwrap()]
    }

    pub(super) fn is_error(&self) -> bool {
        self.span["status"]["code"] == 2
    }

    pub(super) fn message(&self) -> &str {
        self.span["status"]["message"].as_str().unwrap_or_default()
    }
}

/// Attributes, their values as text.
pub(super) fn pairs(attributes: &Value) -> Vec<(String, String)> {
    let one = |attribute: &Value| {
        let key = attribute["key"].as_str()?.to_owned();
        let value = attribute["value"].as_object()?.values().next()?;
        let text = value.as_str().map(str::to_owned);
        Some((key, text.unwrap_or_else(|| value.to_string())))
    };
    attributes
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(one)
        .collect()
}
