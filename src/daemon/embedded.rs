//! The embedded trace backend of a `watch`: its store, its ears, and what it answers.

use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use tokio::runtime::Handle;

use super::alarm::answer_correlate;
use super::{Inquiry, api};
use crate::model::{BackendSettings, EmbeddedSettings, TracesSettings};
use crate::report;
use crate::telemetry::{Local, Warn};
use crate::traces::{
    ForwardSettings, ListenSettings, Question, Receiver, Reply, Store, StoreSettings,
};

/// A backend at work, until it is dropped: then everything that has come in is written.
pub struct Embedded {
    settings: EmbeddedSettings,
    // In this order: who listens hands over what it has before the store ends.
    receiver: Receiver,
    _store: Store,
}

/// Who is asked about somebody else's alert; a reload puts another one here.
pub type Enquirer = Arc<RwLock<Option<Inquiry>>>;

/// `POST /api/correlate`. Blocks: in a thread of its own, within a runtime.
fn correlate(enquirer: &Enquirer, question: &Question, now: SystemTime) -> Option<api::Reply> {
    if question.path.trim_end_matches('/') != "/api/correlate" {
        return None;
    }
    let inquiry = enquirer.read().ok().and_then(|inquiry| inquiry.clone());
    let answered = match inquiry {
        Some(inquiry) => {
            Handle::current().block_on(answer_correlate(&inquiry, &question.body, now))
        }
        None => Err("this watch has not begun yet".to_owned()),
    };
    Some(match answered {
        Ok(body) => api::Reply { status: 200, body },
        Err(why) => api::Reply {
            status: 400,
            body: report::jaeger::error(400, &why),
        },
    })
}

/// The embedded backend among all that a file names.
pub fn embedded(traces: &[TracesSettings]) -> Option<&EmbeddedSettings> {
    traces.iter().find_map(|traces| match &traces.backend {
        BackendSettings::Embedded(embedded) => Some(embedded),
        BackendSettings::Remote(_) => None,
    })
}

impl Embedded {
    /// Opens the store and listens. Whatever does not work is told to `warn`, and stops no probing.
    pub fn start(
        settings: &EmbeddedSettings,
        own_resource: Vec<(String, String)>,
        enquirer: &Enquirer,
        warn: &Warn,
    ) -> Option<Self> {
        let store = Store::open(
            StoreSettings {
                path: settings.path.clone(),
                keep: settings.keep,
                max_size: settings.max_size,
                keep_content: settings.keep_content,
            },
            Arc::clone(warn),
        );
        let store = store
            .inspect_err(|error| warn(&format!("no traces are received: {error}")))
            .ok()?;
        let reader = store.reader();
        let enquirer = Arc::clone(enquirer);
        let answers = move |question: &Question| {
            let now = SystemTime::now();
            let reply = match question.is_post {
                true => correlate(&enquirer, question, now)?,
                false => api::answer(&reader, &question.path, &question.query, now)?,
            };
            Some(Reply {
                status: reply.status,
                body: reply.body.to_string(),
            })
        };
        let forward = settings.forward.clone().map(|forward| ForwardSettings {
            url: forward.url,
            headers: forward.headers,
        });
        let receiver = Receiver::start(
            ListenSettings {
                http: settings.otlp_http,
                grpc: settings.otlp_grpc,
                token: settings.token.clone(),
                forward,
                own_resource,
                answers: Some(Arc::new(answers)),
            },
            store.intake(),
            Arc::clone(warn),
        );
        for trouble in &receiver.troubles {
            warn(trouble);
        }
        Some(Self {
            settings: settings.clone(),
            receiver,
            _store: store,
        })
    }

    /// Where our own spans go in.
    pub fn local(&self) -> Local {
        let own = self.receiver.own_spans();
        Box::new(move |spans| own.put(spans))
    }

    /// Where it listens, in a sentence; `None` where it does not.
    pub fn listening(&self) -> Option<String> {
        let at = [("HTTP", self.receiver.http), ("gRPC", self.receiver.grpc)];
        let at: Vec<_> = at
            .into_iter()
            .filter_map(|(protocol, address)| Some(format!("{} ({protocol})", address?)))
            .collect();
        (!at.is_empty()).then(|| {
            format!(
                "receiving traces at {}: set OTEL_EXPORTER_OTLP_ENDPOINT of your servers to it",
                at.join(" and ")
            )
        })
    }

    /// Whether it is what these settings make.
    pub fn is_made_by(&self, settings: &EmbeddedSettings) -> bool {
        self.settings == *settings
    }
}
