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

    use super::*;
    use crate::model::{TraceId, Window};
    use crate::traces::pending::{Encoding, Taken};
    use crate::traces::sample;
    use crate::traces::TraceFilter;

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
        let taken = store.intake().take(Encoding::Protobuf, &bytes, SystemTime::now());
        assert!(matches!(taken, Taken::In(tally) if tally.rejected() == 0), "{taken:?}");
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
        put(&store, "other", vec![sample::span(8, 1, Duration::from_secs(60))]);
        store.flush();
        let reader = store.reader();
        let trace = reader.trace(TraceId(7u128.to_be_bytes())).unwrap();
        assert_eq!(trace.len(), 2);
        assert_eq!(trace[1].parent, Some(trace[0].span_id));
        assert_eq!(trace[1].attributes.len(), 1);
        assert_eq!(trace[1].dropped, 1);
        let window = Window {
            from: SystemTime::now() - Duration::from_secs(30),
            to: SystemTime::now(),
        };
        assert_eq!(reader.service_window("weather", window, 10).unwrap().spans, trace);
        assert!(reader.service_window("other", window, 10).unwrap().spans.is_empty());
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
        assert_eq!(other.trace(TraceId(7u128.to_be_bytes())).unwrap().len(), 1);
        let settings = StoreSettings {
            path,
            keep: DAY,
            max_size: 1 << 30,
            keep_content: false,
        };
        let second = Store::open(settings, Arc::new(|_| {}));
        assert!(matches!(second, Err(OpenError::InUse(_))));
        drop(first);
        assert_eq!(other.trace(TraceId(7u128.to_be_bytes())).unwrap().len(), 1);
        let again = store(folder.path());
        assert_eq!(again.reader().stats().unwrap().spans, 1);
    }
}
