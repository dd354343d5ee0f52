//! From a failure to a verdict: what the store knows, what the backend says, what the judge makes of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;

use crate::correlate::{self, Jaeger};
use crate::model::{Case, Evidence, Judgement, ServiceName, Target, TracesSettings, Window};
use crate::store::Reader;

/// Asks about incidents.
#[derive(Clone)]
pub struct Inquiry {
    /// The store's file.
    pub store: PathBuf,
    /// The backend.
    pub jaeger: Arc<Jaeger>,
    /// When and how far to look.
    pub settings: TracesSettings,
    /// Every target, to tell who shares a service.
    pub targets: Arc<[Arc<Target>]>,
}

/// A verdict with all that it rests on.
pub struct Finding {
    /// What was asked about.
    pub case: Case,
    /// What was found.
    pub evidence: Evidence,
    /// What it means.
    pub judgement: Judgement,
    /// What was asked.
    pub queries: Vec<String>,
    /// The backend will have more to say later.
    pub provisional: bool,
}

/// What is asked about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Name of the target.
    pub target: String,
    /// The incident, if it is one of ours.
    pub incident: Option<String>,
    /// The first failed probe's start, or somebody else's time.
    pub at: SystemTime,
}

impl Inquiry {
    /// Asks and judges, as of now.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub async fn about(&self, subject: Subject) -> Result<Finding, String> {
        let this = self.clone();
        let case = tokio::task::spawn_blocking(move || this.case(subject))
            .await
            .map_err(|error| format!("cannot read the store: {error}"))??;
        let this = self.clone();
        let runtime = Handle::current();
        // A busy service's spans are megabytes of JSON: reading them must not hold up the probes.
        tokio::task::spawn_blocking(move || runtime.block_on(this.judge(case)))
            .await
            .map_err(|error| format!("cannot judge: {error}"))
    }

    async fn judge(&self, case: Case) -> Finding {
        let now = SystemTime::now();
        let jaeger = self.jaeger.fresh();
        let evidence = correlate::gather(&case, &jaeger, now).await;
        let judgement = correlate::judge(&evidence);
        let last = self.settings.recheck.last().copied().unwrap_or_default();
        Finding {
            provisional: now < case.at + last,
            queries: jaeger.take_queries(),
            case,
            evidence,
            judgement,
        }
    }

    /// Reads what the store knows. Blocks.
    fn case(&self, subject: Subject) -> Result<Case, String> {
        // Somebody else's alert may come before any `watch` has made a store.
        let reader = Reader::open_if_made(&self.store)?;
        let service = self.service(&subject.target, reader.as_ref())?;
        let remembered = match &reader {
            Some(reader) => reader.remembered(&subject.target)?,
            None => Default::default(),
        };
        let mut history = match &reader {
            Some(reader) => reader.probes_around(&subject.target, subject.at)?,
            None => Default::default(),
        };
        if subject.incident.is_none() {
            history.failed.clear();
            history.recovered_at = None;
        }
        let window = Window {
            from: subject.at - 2 * self.settings.window,
            to: subject.at + self.settings.window,
        };
        let own_traces = match &reader {
            Some(reader) => reader.traces(&subject.target, window)?,
            None => Default::default(),
        };
        Ok(Case {
            service_shared_with: self.shared_with(
                &subject.target,
                service.as_ref(),
                reader.as_ref(),
            )?,
            target: subject.target,
            incident: subject.incident,
            at: subject.at,
            failed: history.failed,
            passed: history.passed,
            recovered_at: history.recovered_at,
            own_traces,
            service,
            ever_instrumented: remembered.instrumented,
            window: self.settings.window,
        })
    }

    /// By the configuration, or as it was learnt.
    fn service(&self, name: &str, reader: Option<&Reader>) -> Result<Option<ServiceName>, String> {
        let configured = self.targets.iter().find(|target| target.name == name);
        if let Some(service) = configured.and_then(|target| target.service.clone()) {
            return Ok(Some(service));
        }
        let learnt = match reader {
            Some(reader) => reader.remembered(name)?.service,
            None => None,
        };
        Ok(learnt.map(|name| ServiceName {
            name,
            attributes: Default::default(),
        }))
    }

    fn shared_with(
        &self,
        name: &str,
        service: Option<&ServiceName>,
        reader: Option<&Reader>,
    ) -> Result<Option<String>, String> {
        let Some(service) = service else {
            return Ok(None);
        };
        for other in self.targets.iter().filter(|target| target.name != name) {
            if self.service(&other.name, reader)?.as_ref() == Some(service) {
                return Ok(Some(other.name.clone()));
            }
        }
        Ok(None)
    }
}
