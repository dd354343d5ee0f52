//! A backend that takes spans and answers no program: a link for a person, and the reason.

use std::time::SystemTime;

use futures_util::future::{BoxFuture, ready};

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

    fn refuse<'a, T: Send + 'a>(&self) -> BoxFuture<'a, Result<T, Unavailable>> {
        let why = self.kind.cannot_be_asked().unwrap_or_default();
        Box::pin(ready(Err(Text::new(why))))
    }
}

impl Api for Unaskable {
    fn traces<'a>(
        &'a self,
        _ids: &'a [TraceId],
        _around: Window,
        _asking: &'a Asking,
    ) -> BoxFuture<'a, Result<Answer, Unavailable>> {
        self.refuse()
    }

    fn search<'a>(
        &'a self,
        _service: &'a ServiceName,
        _window: Window,
        _asking: &'a Asking,
    ) -> BoxFuture<'a, Result<Answer, Unavailable>> {
        self.refuse()
    }

    fn answers<'a>(&'a self, _asking: &'a Asking) -> BoxFuture<'a, Result<(), Unavailable>> {
        self.refuse()
    }

    fn link(&self, id: TraceId, _at: SystemTime) -> Option<String> {
        page(self.ui.as_deref(), id)
    }
}
