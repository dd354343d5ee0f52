//! The store: a file of spans with one writer, which runs in a thread of its own.

use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use super::file::OpenError;
use super::keeper::{Keeper, StoreSettings, Warn};
use super::pending::Intake;
use super::reader::Reader;

/// A store that is written to. When it is dropped, everything that has come in is written.
pub struct Store {
    intake: Intake,
    reader: Reader,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the file, and makes it when it is missing. A disk that does not work is told to `warn`, tried again and again,
    /// and is no error.
    ///
    /// # Errors
    /// When another process writes to the file, or when it is not for this mcpprobe to write to.
    pub fn open(settings: StoreSettings, warn: Warn) -> Result<Self, OpenError> {
        let intake = Intake::new(settings.keep, settings.keep_content);
        let reader = Reader::beside(&settings.path, intake.clone());
        let keeper = Keeper::open(settings, intake.clone(), warn)?;
        let thread = std::thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || keeper.run())
            .map_err(OpenError::Thread)?;
        Ok(Self {
            intake,
            reader,
            thread: Some(thread),
        })
    }

    /// Where spans go in.
    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// What can be asked of it. Clones share what they know of the file and take turns.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Waits until everything that has come in can be read, or could not be written. Blocks: not for an async task.
    pub fn flush(&self) {
        self.ask(false);
    }

    /// The same, and lets go now of what is too old or too much, which is done every half minute otherwise.
    pub fn tidy(&self) {
        self.ask(true);
    }

    fn ask(&self, tidy: bool) {
        let (done, wait) = sync_channel(1);
        self.intake.flush(done, tidy);
        wait.recv().ok();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.intake.close();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{TraceId, Window};
    use crate::traces::TraceFilter;
    use crate::traces::admission::nanos;
    use crate::traces::pending::{Encoding, Taken};
    use crate::traces::sample;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn store(folder: &std::path::Path) -> Store {
        let settings = StoreSettings {
            path: folder.join("traces.db"),
            keep: 7 * DAY,
            max_size: 1 << 30,
            keep_content: false,
        };
        Store::open(settings, Arc::new(|text| panic!("{text}"))).unwrap()
    }

    fn put(store: &Store, service: &str, spans: Vec<opentelemetry_proto::tonic::trace::v1::Span>) {
        let bytes = sample::bytes(service, spans);
        let taken = store
            .intake()
            .take(Encoding::Protobuf, &bytes, SystemTime::now());
        assert!(
            matches!(taken, Taken::In(tally) if tally.rejected() == 0),
            "{taken:?}"
        );
    }

    #[test]
    fn what_goes_in_is_found_again_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let mut child = sample::span(7, 2, Duration::from_secs(4));
        child.parent_span_id = 1u64.to_be_bytes().to_vec();
        child.attributes = vec![
            sample::text("gen_ai.tool.name", "weather"),
            sample::text("gen_ai.tool.call.arguments", "{}"),
        ];
        let spans = vec![child, sample::span(7, 1, Duration::from_secs(5))];
        // An exporter that did not hear the answer sends it again.
        for _ in 0..2 {
            put(&store, "weather", spans.clone());
            store.flush();
        }
        put(
            &store,
            "other",
            vec![sample::span(8, 1, Duration::from_secs(60))],
        );
        store.flush();
        let reader = store.reader();
        let trace = reader.trace(TraceId(7u128.to_be_bytes())).unwrap().spans;
        assert_eq!(trace.len(), 2);
        assert_eq!(trace[1].parent, Some(trace[0].span_id));
        assert_eq!(trace[1].attributes.len(), 1);
        assert_eq!(trace[1].dropped, 1);
        let window = Window {
            from: SystemTime::now() - Duration::from_secs(30),
            to: SystemTime::now(),
        };
        assert_eq!(
            reader.service_window("weather", window, 10).unwrap().spans,
            trace
        );
        assert!(
            reader
                .service_window("other", window, 10)
                .unwrap()
                .spans
                .is_empty()
        );
        let list = reader.list(&TraceFilter::default(), 10).unwrap();
        let spans: Vec<_> = list.traces.iter().map(|trace| trace.spans).collect();
        assert_eq!(spans, [2, 1]);
        let by_tool = TraceFilter {
            tool: Some("weather".to_owned()),
            ..TraceFilter::default()
        };
        assert_eq!(reader.list(&by_tool, 10).unwrap().traces.len(), 1);
        assert_eq!(reader.services().unwrap().len(), 2);
        assert!(reader.completeness().unwrap().losses.is_empty());
    }

    #[test]
    fn another_process_reads_what_is_written_and_a_second_writer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = store(folder.path());
        put(&first, "weather", vec![sample::span(7, 1, Duration::ZERO)]);
        first.flush();
        let path = folder.path().join("traces.db");
        let other = Reader::open(&path);
        let id = TraceId(7u128.to_be_bytes());
        assert_eq!(other.trace(id).unwrap().spans.len(), 1);
        let settings = StoreSettings {
            path,
            keep: DAY,
            max_size: 1 << 30,
            keep_content: false,
        };
        let second = Store::open(settings, Arc::new(|_| {}));
        assert!(matches!(second, Err(OpenError::InUse(_))));
        drop(first);
        assert_eq!(other.trace(id).unwrap().spans.len(), 1);
        let again = store(folder.path());
        assert_eq!(again.reader().stats().unwrap().spans, 1);
    }

    #[test]
    fn a_trace_that_is_larger_than_an_answer_says_that_it_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let spans = (1..=10).map(|id| sample::span(7, id, Duration::from_secs(id)));
        put(&store, "weather", spans.collect());
        store.flush();
        let (reader, id) = (store.reader(), TraceId(7u128.to_be_bytes()));
        let whole = reader.trace(id).unwrap();
        assert_eq!((whole.spans.len(), whole.truncated), (10, false));
        assert_eq!(reader.trace_within(id, whole.bytes).unwrap(), whole);
        let cut = reader.trace_within(id, whole.bytes - 1).unwrap();
        assert_eq!((cut.spans.len(), cut.truncated), (9, true));
        assert!(crate::traces::summary(id, &cut).unwrap().truncated);
    }

    /// A span of the model: service, trace, id, and how many seconds ago it began.
    type Known = (u8, u8, u8, u16);

    #[derive(Clone, Debug)]
    enum Step {
        Put(Vec<Known>),
        Restart,
        Ask,
    }

    fn step() -> impl Strategy<Value = Step> {
        // Delivered again, a span is the same, and has the same start.
        let known = (0..3u8, 1..6u8, 1..40u8).prop_map(|(service, trace, id)| {
            let mixed = 997 * u32::from(id) + 131 * u32::from(trace) + 17 * u32::from(service);
            (service, trace, id, (mixed % 5_000) as u16)
        });
        prop_oneof![
            5 => vec(known, 1..8).prop_map(Step::Put),
            1 => Just(Step::Restart),
            2 => Just(Step::Ask),
        ]
    }

    /// All that was put in, each once; of two with the same ids the one that came first.
    #[derive(Default)]
    struct Model(Vec<Known>);

    impl Model {
        fn put(&mut self, spans: &[Known]) {
            for span in spans {
                let same = |known: &&Known| (known.0, known.1, known.2) == (span.0, span.1, span.2);
                if self.0.iter().find(same).is_none() {
                    self.0.push(*span);
                }
            }
        }

        fn check(&self, reader: &Reader, now: SystemTime) {
            let start = |known: &Known| now - Duration::from_secs(known.3.into());
            for trace in 1..6u8 {
                let mut expected: Vec<_> =
                    self.0.iter().filter(|k| k.1 == trace).map(start).collect();
                expected.sort();
                let id = TraceId(u128::from(trace).to_be_bytes());
                let found = reader.trace(id).unwrap().spans;
                assert_eq!(
                    found.iter().map(|span| span.start).collect::<Vec<_>>(),
                    expected
                );
                assert!(found.iter().all(|span| span.trace_id == id));
            }
            let window = Window {
                from: now - Duration::from_secs(3_000),
                to: now - Duration::from_secs(100),
            };
            for service in 0..3u8 {
                let holds = |known: &&Known| known.0 == service && window.holds(start(known));
                let mut expected: Vec<_> = self.0.iter().filter(holds).map(start).collect();
                expected.sort();
                let name = service.to_string();
                let found = reader.service_window(&name, window, 1_000).unwrap();
                assert_eq!(
                    found.spans.iter().map(|s| s.start).collect::<Vec<_>>(),
                    expected
                );
                let cut = reader.service_window(&name, window, 3).unwrap();
                assert_eq!(cut.truncated, expected.len() > 3);
                let latest = expected.len().saturating_sub(3);
                assert_eq!(
                    cut.spans.iter().map(|s| s.start).collect::<Vec<_>>(),
                    expected[latest..]
                );
            }
            let traces = |filter: &TraceFilter| {
                let list = reader.list(filter, 10).unwrap();
                list.traces
                    .iter()
                    .map(|trace| trace.id.0[15])
                    .collect::<Vec<_>>()
            };
            let expected = |passes: &dyn Fn(&Known) -> bool| {
                let mut found: Vec<_> = (1..6u8)
                    .filter(|trace| {
                        self.0
                            .iter()
                            .any(|known| known.1 == *trace && passes(known))
                    })
                    .map(|trace| {
                        (
                            self.0.iter().filter(|k| k.1 == trace).map(start).min(),
                            trace,
                        )
                    })
                    .collect();
                found.sort();
                found
                    .into_iter()
                    .rev()
                    .map(|(_, trace)| trace)
                    .collect::<Vec<_>>()
            };
            assert_eq!(traces(&TraceFilter::default()), expected(&|_| true));
            let of_one = TraceFilter {
                service: Some("1".to_owned()),
                ..TraceFilter::default()
            };
            assert_eq!(traces(&of_one), expected(&|known| known.0 == 1));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_store_knows_what_a_list_would_know(steps in vec(step(), 1..12)) {
            let folder = tempfile::tempdir().unwrap();
            let mut open = Some(store(folder.path()));
            let now = SystemTime::now();
            let mut model = Model::default();
            for step in steps {
                let current = open.as_ref().unwrap();
                match step {
                    Step::Put(spans) => {
                        for known in &spans {
                            let (service, trace, id, ago) = *known;
                            let mut span = sample::span(trace.into(), id.into(), Duration::ZERO);
                            let start = nanos(now - Duration::from_secs(ago.into()));
                            (span.start_time_unix_nano, span.end_time_unix_nano) = (start, start + 1);
                            put(current, &service.to_string(), vec![span]);
                        }
                        model.put(&spans);
                    }
                    Step::Restart => {
                        drop(open.take());
                        open = Some(store(folder.path()));
                    }
                    Step::Ask => {
                        current.flush();
                        model.check(&current.reader(), now);
                        model.check(&Reader::open(&folder.path().join("traces.db")), now);
                    }
                }
            }
            open.as_ref().unwrap().flush();
            model.check(&open.as_ref().unwrap().reader(), now);
        }
    }
}
