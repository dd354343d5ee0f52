//! Our own: its file as a `watch` left it that took spans for so long.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mcpprobe::correlate::{Asking, Backend, gather, judge};
use mcpprobe::model::{Judgement, TracesSettings, Verdict};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prost::Message;

use super::SCENES;
use super::scene::{self, Scene};
use crate::traces::rig::{DAY, Options, PROTOBUF, Rig, attribute, nanos, request, text};

/// The scenes are of one day for ever.
const KEEP: Duration = DAY.saturating_mul(36_500);

/// The same span as OTLP.
fn otlp(span: &scene::Span) -> Span {
    let kind = ["", "internal", "server", "client"]
        .iter()
        .position(|kind| *kind == span.kind);
    Span {
        trace_id: span.trace.0.to_vec(),
        span_id: span.id.0.to_vec(),
        parent_span_id: span.parent.map(|id| id.0.to_vec()).unwrap_or_default(),
        name: span.name.to_owned(),
        kind: kind.map_or(1, |kind| i32::try_from(kind).unwrap()),
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.start + span.duration),
        attributes: span
            .attributes
            .iter()
            .map(|(key, value)| attribute(key, text(value)))
            .collect(),
        status: span.error.map(|message| Status {
            message: message.to_owned(),
            code: 2,
        }),
        ..Span::default()
    }
}

fn requests(scene: Scene) -> Vec<ExportTraceServiceRequest> {
    let mut senders: BTreeMap<_, Vec<Span>> = BTreeMap::new();
    for span in scene.spans() {
        let sender = (span.service, span.scope);
        senders.entry(sender).or_default().push(otlp(&span));
    }
    let of_sender = |((service, scope), spans): ((&str, &str), Vec<Span>)| {
        let mut request = request(service, spans);
        request.resource_spans[0].scope_spans[0].scope = Some(InstrumentationScope {
            name: scope.to_owned(),
            ..InstrumentationScope::default()
        });
        request
    };
    senders.into_iter().map(of_sender).collect()
}

/// Somebody was there to take spans from an hour before the failure on, until then.
fn listened(path: &Path, until: SystemTime) {
    let file = rusqlite::Connection::open(path).unwrap();
    let from = nanos(scene::first_failure() - Duration::from_secs(3_600));
    file.execute(
        "UPDATE run SET started = ?1, seen = ?2",
        [from, nanos(until)],
    )
    .unwrap();
    file.execute(
        "UPDATE fact SET value = ?1 WHERE key = 'kept_since'",
        [from],
    )
    .unwrap();
}

fn settings(path: &Path) -> TracesSettings {
    let file = format!(
        "[traces]\nbackend = \"embedded\"\npath = \"{}\"\n",
        path.display()
    );
    let (folder, now) = (Path::new("/tmp"), SystemTime::now());
    match mcpprobe::config::parse(&file, "servers.toml", folder, &|_| None, now) {
        Ok(loaded) => loaded.config.traces[0].clone(),
        Err(complaints) => panic!("{complaints}"),
    }
}

async fn judged(scene: Scene, until: SystemTime) -> Judgement {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.db");
    let rig = Rig::start_with(Options {
        path: Some(path.clone()),
        keep: Some(KEEP),
        ..Options::default()
    });
    for request in requests(scene) {
        assert_eq!(
            rig.post(PROTOBUF, request.encode_to_vec()).await.status(),
            200
        );
    }
    rig.store.flush();
    drop(rig);
    listened(&path, until);
    let backend = Backend::new(&settings(&path)).unwrap();
    judge(&gather(&scene.case(), &backend, &Asking::default(), scene::now()).await)
}

#[tokio::test]
async fn each_scene_gets_its_verdict() {
    for (scene, verdict, says) in SCENES {
        let judged = judged(scene, scene::now()).await;
        assert_eq!(judged.verdict, verdict, "{scene:?}: {}", judged.reason);
        assert!(judged.reason.as_str().contains(says), "{}", judged.reason);
    }
}

/// What came later had nobody to come to; what was not there by then is silence, if somebody listened for long enough.
#[tokio::test]
async fn the_time_after_a_watch_has_ended_is_no_silence() {
    let first = scene::first_failure();
    let cases = [
        (first - Duration::from_secs(10), Verdict::Inconclusive),
        (first + Duration::from_secs(5), Verdict::Inconclusive),
        (first + Duration::from_secs(31), Verdict::Infrastructure),
    ];
    for (until, verdict) in cases {
        let judged = judged(Scene::Gone, until).await;
        assert_eq!(judged.verdict, verdict, "{until:?}: {}", judged.reason);
    }
}
