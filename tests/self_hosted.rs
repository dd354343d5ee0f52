//! Every trace backend that a user runs: asked as its documentation says, believed when it answers whole, and never
//! taken for silence when it does not.
//!
//! `data/backends/KIND/backend.toml` is what it looks like from outside, `data/backends/KIND/*.toml` what else may go wrong
//! with it, `data/backends/every/*.toml` what may with each.

mod embedded;
mod fake;
mod scene;
mod zipkin;

use std::path::PathBuf;

use mcpprobe::correlate::{Asking, Backend, gather, judge};
use mcpprobe::model::{BackendState, Evidence, Judgement, TracesSettings, Verdict};

use crate::support::here;
use fake::{Fake, Fault, Look};
use scene::Scene;

/// Each has a folder of this name.
const KINDS: [&str; 10] = [
    "clickhouse",
    "elastic",
    "elastic_apm",
    "heimdall",
    "jaeger_v3",
    "opensearch",
    "phoenix",
    "signoz",
    "tempo",
    "zipkin",
];

/// In every credential of the settings there.
const SECRET: &str = "s3cret-of-the-backend";

/// What each scene has to be judged as.
const SCENES: [(Scene, Verdict, &str); 6] = [
    (Scene::Gone, Verdict::Infrastructure, "no-trace pattern"),
    (Scene::Failing, Verdict::Application, "got our request"),
    (Scene::CutOff, Verdict::Path, "never saw us"),
    (Scene::Lost, Verdict::ResponseLost, "in time"),
    (Scene::Untraced, Verdict::NotInstrumented, "was ever seen"),
    (Scene::Empty, Verdict::Inconclusive, "our own probe"),
];

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(here(&format!("data/backends/{folder}")))
        .unwrap_or_else(|error| panic!("data/backends/{folder}: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn look(kind: &str) -> Look {
    let text =
        std::fs::read_to_string(here(&format!("data/backends/{kind}/backend.toml"))).unwrap();
    toml::from_str(&text).unwrap_or_else(|error| panic!("{kind}: {error}"))
}

/// Faults of every backend, then those of this kind only.
fn faults(kind: &str) -> Vec<(String, Fault)> {
    let of_its_own = files(kind);
    let all = files("every").into_iter().chain(of_its_own);
    all.filter(|path| !path.ends_with("backend.toml"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let fault =
                toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name, fault)
        })
        .collect()
}

fn settings(look: &Look, fake: &Fake) -> TracesSettings {
    let url = format!("http://127.0.0.1:{}{}", fake.port(), look.base);
    let text = format!(
        "[telemetry]\nendpoint = \"http://127.0.0.1:1\"\n[traces]\nurl = \"{url}\"\n{}",
        look.settings
    );
    let env = |name: &str| (name == "SECRET").then(|| SECRET.to_owned());
    let folder = std::path::Path::new("/tmp");
    let now = std::time::SystemTime::now();
    match mcpprobe::config::parse(&text, "servers.toml", folder, &env, now) {
        Ok(loaded) => loaded.config.traces[0].clone(),
        Err(complaints) => panic!("{complaints}"),
    }
}

struct Outcome {
    evidence: Evidence,
    judgement: Judgement,
    queries: Vec<String>,
    link: Option<String>,
}

async fn ask(look: &Look, fake: &Fake, scene: Scene) -> Outcome {
    let settings = settings(look, fake);
    let backend = Backend::new(&settings).unwrap();
    let asking = Asking::default();
    let case = scene.case();
    let evidence = gather(&case, &backend, &asking, scene::now()).await;
    Outcome {
        judgement: judge(&evidence),
        evidence,
        queries: asking.into_queries().into_iter().map(|q| q.text).collect(),
        link: backend.link(scene::first_failed(), scene::first_failure()),
    }
}

impl Outcome {
    /// Everything that anybody is shown of it.
    fn shown(&self) -> String {
        format!(
            "{:?} {:?} {:?}",
            self.evidence, self.judgement, self.queries
        )
    }
}

/// Runs one test for each kind, one after the other or all at once.
fn for_each_kind(at_once: bool, test: impl AsyncFn(&str) -> Vec<String>) {
    mcpprobe::install_tls_provider();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let wrong = runtime.block_on(async {
        let tests = KINDS.iter().map(|kind| test(kind));
        if at_once {
            return futures_util::future::join_all(tests).await.concat();
        }
        let mut wrong = Vec::new();
        for test in tests {
            wrong.extend(test.await);
        }
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_is_asked_as_documented_and_told_the_truth() {
    for_each_kind(false, async |kind| {
        let look = look(kind);
        let mut wrong = Vec::new();
        for (scene, verdict, says) in SCENES {
            let fake = Fake::start(look.clone(), scene, None);
            let outcome = ask(&look, &fake, scene).await;
            let judged = &outcome.judgement;
            if judged.verdict != verdict || !judged.reason.as_str().contains(says) {
                wrong.push(format!(
                    "{kind}, {scene:?}: {:?} and not {verdict:?}: {}",
                    judged.verdict, judged.reason
                ));
            }
            if outcome.shown().contains(SECRET) {
                wrong.push(format!("{kind}, {scene:?}: the secret is shown"));
            }
            if outcome.link != look.link(fake.port()) {
                wrong.push(format!("{kind}: the link is {:?}", outcome.link));
            }
            wrong.extend(
                fake.complaints(scene == Scene::Gone)
                    .into_iter()
                    .map(|why| format!("{kind}, {scene:?}: {why}")),
            );
        }
        wrong
    });
}

#[test]
fn what_goes_wrong_is_never_silence() {
    for_each_kind(false, async |kind| {
        let look = look(kind);
        let faults = faults(kind);
        assert!(faults.len() >= 12, "only {} faults", faults.len());
        let mut wrong = Vec::new();
        for (name, fault) in faults.iter().filter(|(_, fault)| !fault.hang) {
            for on in &fault.on {
                wrong.extend(play(kind, &look, name, fault.at(on)).await);
            }
        }
        wrong
    });
}

/// Apart from the others, because it is mostly waiting.
#[test]
fn who_never_answers_is_not_silent() {
    for_each_kind(true, async |kind| {
        let look = look(kind);
        let mut faults = faults(kind);
        faults.retain(|(_, fault)| fault.hang);
        let [(name, fault)] = faults.as_slice() else {
            panic!("{} faults that hang", faults.len());
        };
        play(kind, &look, name, fault.clone()).await
    });
}

async fn play(kind: &str, look: &Look, name: &str, fault: Fault) -> Vec<String> {
    let fake = Fake::start(look.clone(), Scene::Gone, Some(fault.clone()));
    let outcome = ask(look, &fake, Scene::Gone).await;
    let mut wrong = Vec::new();
    if !fake.was_met() {
        wrong.push("nothing met it".to_owned());
    }
    let judged = &outcome.judgement;
    if judged.verdict != Verdict::Inconclusive {
        wrong.push(format!("{:?}: {}", judged.verdict, judged.reason));
    }
    wrong.extend(wrong_state(&fault, &outcome.evidence));
    if outcome.shown().contains(SECRET) {
        wrong.push("the secret is shown".to_owned());
    }
    let at = format!("{kind}, {name} on {}", fault.on.join(", "));
    wrong.iter().map(|why| format!("{at}: {why}")).collect()
}

fn wrong_state(fault: &Fault, evidence: &Evidence) -> Option<String> {
    let (found, why) = match &evidence.backend {
        BackendState::Answered => match &evidence.coverage {
            mcpprobe::model::Coverage::Sampled(why) => ("sampled", why.as_str()),
            _ => ("answered", ""),
        },
        BackendState::Unavailable(why) => ("unavailable", why.as_str()),
        BackendState::Truncated(why) => ("truncated", why.as_str()),
    };
    (found != fault.state || !why.contains(&fault.says))
        .then(|| format!("{found}: {why:?} and not {}: {:?}", fault.state, fault.says))
}
