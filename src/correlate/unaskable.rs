//! A backend that takes spans and answers no program: a link for a person, and the reason.

use std::time::SystemTime;

use async_trait::async_trait;

use super::asking::Asking;
use super::backend::{Answer, Api, Unavailable, page};
use crate::model::{BackendKind, RemoteSettings, ServiceName, Text, TraceId, Window};

/// Highflame Observatory, or Lightstep.
pub(super) struct Unaskable {
    kind: BackendKind,
    ui: Option<String>,
}

impl Unaskable {
    pub(super) fn new(settings: &RemoteSettings) -> Self {
        Self {
            kind: settings.kind,
            ui: settings.option("ui").map(str::to_owned),
        }
    }

    fn why_not(&self) -> Unavailable {
        Text::new(self.kind.cannot_be_asked().unwrap_or_default())
    }
}

#[async_trait]
impl Api for Unaskable {
    async fn traces(
        &self,
        _ids: &[TraceId],
        _around: Window,
        _asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        Err(self.why_not())
    }

    async fn search(
        &self,
        _service: &ServiceName,
        _window: Window,
        _asking: &Asking,
    ) -> Result<Answer, Unavailable> {
        Err(self.why_not())
    }

    async fn answers(&self, _asking: &Asking) -> Result<(), Unavailable> {
        Err(self.why_not())
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        page(self.ui.as_deref(), id)
    }
}
