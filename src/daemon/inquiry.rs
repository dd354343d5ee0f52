//! From a failure to a verdict: what the store knows, what the backend says, what the judge makes of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;

use crate::correlate::{self, Asking, Backend, Claim, Ticket};
use crate::model::{
    Asked, Case, Elsewhere, Judgement, Reason, ServiceName, StoredProbe, Target, TracesSettings,
    Window,
};
use crate::store::{ProbesAround, Reader};

/// Asks about incidents.
#[derive(Clone)]
pub struct Inquiry {
    /// The store's file.
    pub store: PathBuf,
    /// Every backend, with when and how far to look; the first is that of targets that name none.
    pub sources: Arc<[Source]>,
    /// Every target, to tell who shares a service.
    pub targets: Arc<[Arc<Target>]>,
}

/// A backend that can be asked, and when.
pub struct Source {
    /// The backend.
    pub backend: Arc<Backend>,
    /// When and how far to look.
    pub settings: TracesSettings,
}

impl Source {
    /// Every backend of a file. One of `before` that is the same goes on, and one of the same account keeps its limit.
    ///
    /// # Errors
    /// A sentence for the first that cannot be used.
    pub fn all(traces: &[TracesSettings], before: &[Self]) -> Result<Arc<[Self]>, String> {
        let mut made: Vec<Self> = Vec::with_capacity(traces.len());
        for settings in traces {
            let same = before
                .iter()
                .find(|source| source.backend.is_made_by(settings));
            let backend = match same {
                Some(source) => Arc::clone(&source.backend),
                None => {
                    let others: Vec<&Backend> = made
                        .iter()
                        .chain(before)
                        .map(|source| source.backend.as_ref())
                        .collect();
                    Arc::new(Backend::beside(settings, &others)?)
                }
            };
            made.push(Self {
                backend,
                settings: settings.clone(),
            });
        }
        Ok(made.into())
    }
}

/// Other hosts that are looked at: more say no more.
const MOST_ELSEWHERE: usize = 50;

/// Whether nothing at all came back: whoever refuses, shows a certificate or says that there is no such name has been reached.
fn is_lost(probe: &StoredProbe) -> bool {
    matches!(
        probe.reason,
        Some(
            Reason::ConnectTimeout | Reason::Unreachable | Reason::DnsTimeout | Reason::DnsFailure
        )
    )
}

/// A verdict with all that it rests on.
pub struct Finding {
    /// What was asked, and what was found.
    pub asked: Asked,
    /// What it means.
    pub judgement: Judgement,
    /// Not everything was asked, because the backend's limit is spent: when it can be, and what keeps the place.
    pub refused_until: Option<(SystemTime, Ticket)>,
}

impl Finding {
    /// What is known of one asking, judged: the same for the same evidence, whenever it is looked at.
    pub fn of(asked: Asked) -> Self {
        Self {
            judgement: correlate::judge(&asked.evidence),
            asked,
            refused_until: None,
        }
    }
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
    /// The backend that has the spans of a target.
    pub fn source(&self, target: &str) -> Option<&Source> {
        let target = self.targets.iter().find(|known| known.name == target);
        match target.and_then(|target| target.traces.as_ref()) {
            Some(name) => self
                .sources
                .iter()
                .find(|source| source.settings.name == *name),
            None => self.sources.first(),
        }
    }

    /// An inquiry about a target, once it has its turn.
    pub async fn turn(&self, target: &str, claim: Claim, ticket: Option<Ticket>) -> Asking {
        match self.source(target) {
            Some(source) => Asking::admitted(&source.backend, claim, ticket).await,
            None => Asking::by(claim),
        }
    }

    /// Asks and judges, as of now.
    ///
    /// # Errors
    /// A sentence when the store cannot be read.
    pub async fn about(&self, subject: Subject, asking: Asking) -> Result<Finding, String> {
        let this = self.clone();
        let case = tokio::task::spawn_blocking(move || this.case(subject))
            .await
            .map_err(|error| format!("cannot read the store: {error}"))??;
        let this = self.clone();
        let runtime = Handle::current();
        // A busy service's spans are megabytes of JSON: reading them must not hold up the probes.
        tokio::task::spawn_blocking(move || runtime.block_on(this.judge(case, asking)))
            .await
            .map_err(|error| format!("cannot judge: {error}"))?
    }

    async fn judge(&self, case: Case, asking: Asking) -> Result<Finding, String> {
        let now = SystemTime::now();
        let source = self.source_of(&case.target)?;
        let evidence = correlate::gather(&case, &source.backend, &asking, now).await;
        let last = source.settings.recheck.last().copied().unwrap_or_default();
        let refused_until = asking.refused_until();
        let mut finding = Finding::of(Asked {
            provisional: now < case.at + last,
            asked_at: now,
            backend: source.backend.told(),
            queries: asking.into_queries(),
            links: Vec::new(),
            target: case.target,
            incident: case.incident,
            at: case.at,
            evidence,
        });
        finding.asked.links = links(&finding, &source.backend);
        finding.refused_until = refused_until;
        Ok(finding)
    }

    fn source_of(&self, target: &str) -> Result<&Source, String> {
        self.source(target)
            .ok_or_else(|| format!("there is no trace backend to ask about {target}"))
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
        let looked_at = self.source_of(&subject.target)?.settings.window;
        let window = Window {
            from: subject.at - 2 * looked_at,
            to: subject.at + looked_at,
        };
        let own_traces = match &reader {
            Some(reader) => reader.traces(&subject.target, window)?,
            None => Default::default(),
        };
        let mut targets = self.targets.iter();
        let target = targets.find(|target| target.name == subject.target);
        Ok(Case {
            elsewhere: match &reader {
                Some(reader) => self.elsewhere(&subject, &history, reader)?,
                None => Elsewhere::Nowhere,
            },
            by_plain_proxy: target.is_some_and(|target| target.is_by_plain_proxy()),
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
            usual_lag: remembered.lag,
            window: looked_at,
        })
    }

    /// What the last probes of other hosts found, of those between the first failure and the last; before any, of the window
    /// before. Later our network may be whole again.
    fn elsewhere(
        &self,
        subject: &Subject,
        history: &ProbesAround,
        reader: &Reader,
    ) -> Result<Elsewhere, String> {
        let looked_at = self.source_of(&subject.target)?.settings.window;
        let window = match history.failed.last() {
            Some(last) => Window {
                from: subject.at,
                to: last.ended_at,
            },
            None => Window {
                from: subject.at - looked_at,
                to: subject.at,
            },
        };
        let of = |name: &str| self.targets.iter().find(|target| target.name == name);
        let Some(host) = of(&subject.target).and_then(|target| target.remote_host()) else {
            return Ok(Elsewhere::Nowhere);
        };
        let is_other = |target: &&Arc<Target>| target.remote_host().is_some_and(|of| of != host);
        let others = self.targets.iter().filter(is_other).take(MOST_ELSEWHERE);
        let (mut there, mut reached, mut lost) = (0, 0, 0);
        for other in others {
            there += 1;
            match reader.last_in(&other.name, window)? {
                Some(probe) if probe.ended_at > window.to => {}
                Some(probe) if is_lost(&probe) => lost += 1,
                Some(probe) if probe.state.works() || probe.state.failed() => reached += 1,
                // It could not be judged.
                _ => {}
            }
        }
        Ok(match (there, reached, lost) {
            (0, ..) => Elsewhere::Nowhere,
            (_, 0, 0) => Elsewhere::NotYet,
            (_, 0, _) => Elsewhere::Unreached,
            (_, reached, lost) if reached > lost => Elsewhere::Reached,
            _ => Elsewhere::Mixed,
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
        // A backend that knows projects only gives two targets of one project the same service.
        let Some(service) = self.source_of(name)?.backend.service(service) else {
            return Ok(None);
        };
        for other in self.targets.iter().filter(|target| target.name != name) {
            let theirs = self.service(&other.name, reader)?;
            let theirs = match self.source(&other.name) {
                Some(source) => source.backend.service(theirs.as_ref()),
                None => theirs,
            };
            if theirs.as_ref() == Some(&service) {
                return Ok(Some(other.name.clone()));
            }
        }
        Ok(None)
    }
}

/// Traces that a person is led to: the first failed probe's, and those of the spans that tell most.
const LINKS: usize = 3;

fn links(finding: &Finding, backend: &Backend) -> Vec<String> {
    let failed = finding.asked.evidence.failed.iter().take(1);
    let failed = failed.map(|probe| (probe.trace_id, probe.started_at));
    let telling = finding.judgement.telling.iter();
    let mut links = Vec::new();
    for (id, at) in failed.chain(telling.map(|span| (span.trace_id, span.start))) {
        match backend.link(id, at) {
            Some(link) if links.len() < LINKS && !links.contains(&link) => links.push(link),
            _ => {}
        }
    }
    links
}
