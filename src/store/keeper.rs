//! Who writes: brings what came in to the disk, and goes on without one while there is none.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::asking::Asking;
use super::backlog::{Backlog, Written};
use super::image::{Image, Recalled};
use super::lock::StoreLock;
use super::probe::{self, ProbeRow};
use super::retention::Task;
use super::rollup::{ROLLED_UP, RollUp};
use super::salvage::Salvage;
use super::schema::{self, OpenError};
use super::trouble::{Kind, Trouble};
use super::writer::{BATCH, Shared, Write};
use super::{fact, incident, notice, orders, salvage};
use crate::model::{AlertChange, Notice, Orders, Retention};

/// How often the file is looked after: what other processes wrote, whether it is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often probes are summed up and what is old is removed: a target's sums of an hour are touched six times.
const CHORES_EVERY: Duration = Duration::from_secs(600);

/// The first time after the start, which has better things to do.
const CHORES_FIRST: Duration = Duration::from_secs(30);

/// How long it works at a stretch on what can wait.
const MOMENT: Duration = Duration::from_millis(20);

/// How long the end waits for what is copied out of a broken file; the rest stays in that.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// At most so often a broken file is set aside; in between alerting goes on from memory.
const SET_ASIDE_EVERY: Duration = Duration::from_secs(600);

/// How often the file's head is looked at, which needs a connection of its own: 0.3 ms.
const LOOK_AT_HEAD_EVERY: Duration = Duration::from_secs(10);

/// Whom the writer tells what. All are called on its thread and must not wait.
pub struct Callbacks {
    /// Trouble with the disk, in a sentence.
    pub warn: Box<dyn Fn(&str) + Send>,
    /// A notice that is on the disk, or that cannot be there and must not wait for it.
    pub on_notice: Box<dyn Fn(Notice) + Send>,
    /// What people said, as it stands now.
    pub on_orders: Box<dyn Fn(Orders) + Send>,
    /// A file that could not be opened at the start tells now what it knew. Its notices are in it, and are not
    /// handed over otherwise.
    pub on_recalled: Box<dyn Fn(Recalled) + Send>,
}

impl Callbacks {
    /// Only warnings; for those who have no alerting.
    pub fn warnings(warn: impl Fn(&str) + Send + 'static) -> Self {
        Self {
            warn: Box::new(warn),
            on_notice: Box::new(|_| {}),
            on_orders: Box::new(|_| {}),
            on_recalled: Box::new(|_| {}),
        }
    }
}

pub(super) struct Keeper {
    path: PathBuf,
    keep: Retention,
    callbacks: Callbacks,
    shared: Arc<Shared>,
    lock: Option<StoreLock>,
    file: Option<StoreFile>,
    /// The file that the image was last written to, or read from; none while nothing was.
    known: Option<Identity>,
    image: Image,
    backlog: Backlog,
    trouble: Option<Trouble>,
    /// What is being copied out of a broken file.
    salvage: Option<Salvage>,
    set_aside_at: Option<Instant>,
    roll_up: RollUp,
    /// What of the regular work is next, and when.
    chore: Chore,
    chores_at: Instant,
    /// Probes that came in.
    orders: i64,
    /// The number in the file of the probe of order 0.
    base: i64,
    looked: Instant,
    looked_at_head: Instant,
}

/// Regular work, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chore {
    RollUp,
    Prune(Task),
}

/// An opened file.
struct StoreFile {
    connection: Connection,
    identity: Identity,
    /// `data_version`, as it was looked at last.
    version: i64,
}

/// Device and inode.
type Identity = (u64, u64);

/// No file is this one.
const NOBODY: Identity = (u64::MAX, u64::MAX);

impl StoreFile {
    fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = schema::open(path)?;
        let identity = identity(path).unwrap_or_default();
        let version = orders::version(&connection)?;
        Ok(Self {
            connection,
            identity,
            version,
        })
    }

    /// Its log stays when it is closed: it would be moved into a broken file, or by its name be another file's.
    fn keep_log(&self) {
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .ok();
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let data = fs::metadata(path).ok()?;
    Some((data.dev(), data.ino()))
}

impl Keeper {
    pub(super) fn open(
        path: &Path,
        keep: Retention,
        callbacks: Callbacks,
        shared: Arc<Shared>,
    ) -> Result<Self, String> {
        let now = Instant::now();
        let mut keeper = Self {
            path: path.to_owned(),
            keep,
            roll_up: RollUp::default(),
            chore: Chore::RollUp,
            chores_at: now + CHORES_FIRST,
            lock: StoreLock::take(path)?,
            callbacks,
            shared,
            file: None,
            known: None,
            image: Image::default(),
            backlog: Backlog::default(),
            trouble: None,
            salvage: None,
            set_aside_at: None,
            orders: 0,
            base: 1,
            looked: now,
            looked_at_head: now,
        };
        let refused = schema::refuse_newer_unopened(path);
        match refused.and_then(|()| keeper.attempt(now)) {
            Ok(()) => {}
            Err(error @ (OpenError::Newer(_) | OpenError::Foreign)) => {
                return Err(error.about(path));
            }
            Err(error) => keeper.failed(&error, now),
        }
        Ok(keeper)
    }

    pub(super) fn recalled(&self) -> Recalled {
        self.image.recalled()
    }

    /// Takes in what came in a moment, and tries to bring it to the disk.
    pub(super) fn take_in(&mut self, batch: Vec<Write>, now: Instant) {
        let mut notices = Vec::new();
        for write in batch {
            self.remember(write, &mut notices);
        }
        // What is said of the disk is said first; what waits for it has waited enough when it is known to be away.
        if self.trouble.is_none() {
            self.try_to_write(now);
        }
        for notice in notices {
            (self.callbacks.on_notice)(notice);
        }
    }

    fn remember(&mut self, write: Write, notices: &mut Vec<Notice>) {
        match write {
            Write::Probe {
                target,
                result,
                confirmation,
                shown,
                memory,
                changes,
            } => {
                let place = self.image.place(&target);
                self.image.change(place, |row| {
                    row.take_in(&target, &result, &shown, memory.as_ref())
                });
                let order = self.orders;
                self.orders += 1;
                let row = ProbeRow::new(order, place, &result, &shown, confirmation);
                self.backlog.add_probe(row);
                self.decide(changes, notices);
            }
            Write::Alert(changes) => self.decide(changes, notices),
            Write::Delivery(delivery) => {
                if !self.image.deliver(&delivery) {
                    self.backlog.add_delivery(delivery);
                }
            }
            Write::Conversation { incident, text } => self.backlog.add_conversation(incident, text),
            Write::Asked(asked) => self.backlog.add_asking(Asking::of(&asked)),
            Write::Instrumented {
                target,
                service,
                lag,
            } => {
                let place = self.image.place(&target);
                self.image.change(place, |row| {
                    row.move_to(&target);
                    row.remembered.instrumented = true;
                    row.remembered.lag = lag;
                    if service.is_some() {
                        row.remembered.service = service;
                    }
                    true
                });
            }
            Write::Fact { key, value } => self.image.state(&key, value),
            Write::Flush(_) => {}
        }
    }

    fn decide(&mut self, changes: Vec<AlertChange>, notices: &mut Vec<Notice>) {
        for change in changes {
            self.image.take_in(&change);
            match change {
                AlertChange::Incident(_) => {}
                AlertChange::Timeline(entry) => self.backlog.add_line(entry),
                AlertChange::Notice(notice) => notices.push(*notice),
            }
        }
    }

    /// Looks after the file: is it there, is it well, has somebody else written to it?
    pub(super) fn tend(&mut self, now: Instant) {
        if self
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.is_due(now))
        {
            self.try_to_write(now);
        }
        let mut tended = match (&self.trouble, &self.salvage) {
            (Some(_), _) => Ok(()),
            (None, Some(_)) => self.salvage(),
            // Sums must not be made of half of the probes.
            (None, None) => self.do_chores(now),
        };
        if now.saturating_duration_since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.say_again(now);
            tended = tended.and_then(|()| self.look(now));
        }
        if let Err(error) = tended {
            let error = OpenError::Sqlite(error);
            let failed = if is_corrupt(&error) && self.may_set_aside(now) {
                self.set_aside(&error, now)
            } else {
                Err(error)
            };
            if let Err(error) = failed {
                self.failed(&error, now);
            }
            self.try_to_write(now);
        }
    }

    /// A lock that has become too old, or what has lasted for ten minutes.
    fn say_again(&mut self, now: Instant) {
        let waiting = self.backlog.len();
        if let Some(trouble) = &mut self.trouble
            && let Some(text) = trouble.say(Kind::Locked, waiting, now)
        {
            (self.callbacks.warn)(&text);
        }
    }

    fn look(&mut self, now: Instant) -> rusqlite::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        if identity(&self.path) != Some(file.identity) {
            let what = format!("the file {} is gone, or another one", self.path.display());
            let deleted = !self.path.exists();
            if let Some(file) = self.file.take() {
                file.keep_log();
                // What replaces it was put there by somebody who knows why; what was deleted can still be read.
                if deleted {
                    salvage::remove_log(&self.path);
                    self.begin_salvage(Salvage::from(file.connection));
                }
            }
            return Err(broken(ErrorCode::CannotOpen, &what));
        }
        if now.saturating_duration_since(self.looked_at_head) >= LOOK_AT_HEAD_EVERY {
            self.looked_at_head = now;
            schema::look_at_head(&self.path)?;
        }
        let version = orders::version(&file.connection)?;
        if version != file.version {
            file.version = version;
            self.listen()?;
        }
        Ok(())
    }

    /// Reads what people said, and passes it on when it is something else.
    fn listen(&mut self) -> rusqlite::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let heard = orders::standing(&file.connection, SystemTime::now())?;
        if heard != *self.image.orders() {
            self.image.hear(heard.clone());
            (self.callbacks.on_orders)(heard);
        }
        Ok(())
    }

    /// The last attempt.
    pub(super) fn end(&mut self) {
        let now = Instant::now();
        self.try_to_write(now);
        while self.salvage.is_some()
            && self.trouble.is_none()
            && now.elapsed() < LAST_PATIENCE
            && self.salvage().is_ok()
        {}
        if self.trouble.is_some() {
            (self.callbacks.warn)(&format!(
                "what the store {} could not take is lost with this end: {} probes and other rows, and what came of them",
                self.path.display(),
                self.backlog.len()
            ));
        }
    }

    fn try_to_write(&mut self, now: Instant) {
        match self.attempt(now) {
            Ok(()) => self.over(now),
            Err(error) => self.failed(&error, now),
        }
    }

    /// Opens the file if need be, and writes; a broken one is set aside first.
    fn attempt(&mut self, now: Instant) -> Result<(), OpenError> {
        match self.open_and_write() {
            Err(error) if is_corrupt(&error) && self.may_set_aside(now) => {
                self.set_aside(&error, now)?;
                self.open_and_write()
            }
            done => done,
        }
    }

    fn open_and_write(&mut self) -> Result<(), OpenError> {
        if self.file.is_none() {
            self.reopen()?;
        }
        Ok(self.write_all()?)
    }

    /// A disk that breaks every file must not be filled with them.
    fn may_set_aside(&self, now: Instant) -> bool {
        self.set_aside_at
            .is_none_or(|at| now.saturating_duration_since(at) >= SET_ASIDE_EVERY)
    }

    /// Gives a broken file another name, and takes from it what alerting needs.
    fn set_aside(&mut self, error: &OpenError, now: Instant) -> Result<(), OpenError> {
        self.image.unsettle();
        if let Some(file) = self.file.take() {
            file.keep_log();
        }
        let aside = salvage::set_aside(&self.path, SystemTime::now()).map_err(|error| {
            let what = format!("it is broken, and cannot be renamed: {error}");
            broken(ErrorCode::CannotOpen, &what)
        })?;
        self.set_aside_at = Some(now);
        (self.callbacks.warn)(&format!(
            "the store {} is broken ({error}): it was set aside as {}, and what can be read of it goes into a new one",
            self.path.display(),
            aside.display()
        ));
        if let Some(salvage) = Salvage::of(&aside) {
            if self.known.is_none() {
                self.learn(salvage.image(SystemTime::now()));
            }
            self.begin_salvage(salvage);
        }
        // Whatever file comes next is another one.
        self.known = Some(NOBODY);
        Ok(())
    }

    fn begin_salvage(&mut self, mut salvage: Salvage) {
        salvage.know(self.image.numbers());
        self.number_from(salvage.first_free());
        self.salvage = Some(salvage);
    }

    /// New probes get numbers from here on, or from further on.
    fn number_from(&mut self, free: i64) {
        let first = self.backlog.first_order().unwrap_or(self.orders);
        self.base = self.base.max(free.saturating_sub(first));
    }

    /// Takes in what a file knows that could not be read before.
    fn learn(&mut self, told: Image) {
        let late = self.trouble.is_some().then(|| told.recalled());
        self.image.absorb(told);
        if let Some(recalled) = late {
            (self.callbacks.on_recalled)(recalled);
        }
    }

    /// Copies for a moment.
    fn salvage(&mut self) -> rusqlite::Result<()> {
        let until = Instant::now() + MOMENT;
        while let (Some(salvage), Some(file)) = (&mut self.salvage, &mut self.file)
            && Instant::now() < until
        {
            let transaction = file
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = salvage.step(&transaction, &self.image)?;
            transaction.commit()?;
            if let Some(probes) = done {
                self.salvage = None;
                // Something may have been said just before the file broke.
                self.listen()?;
                (self.callbacks.warn)(&format!(
                    "what could be read of the broken store is in {} now, with {probes} old probes",
                    self.path.display()
                ));
            }
        }
        Ok(())
    }

    /// Sums up, writes the sums and forgets what is old, for a moment: whatever is next.
    fn do_chores(&mut self, now: Instant) -> rusqlite::Result<()> {
        let until = now + MOMENT;
        while now >= self.chores_at && Instant::now() < until {
            let Some(file) = &mut self.file else {
                return Ok(());
            };
            self.chore = match self.chore {
                Chore::RollUp => {
                    if self.roll_up.read(&file.connection)? || self.roll_up.is_large() {
                        let transaction = file
                            .connection
                            .transaction_with_behavior(TransactionBehavior::Immediate)?;
                        self.roll_up.write(&transaction)?;
                        transaction.commit()?;
                        let done = !self.roll_up.is_large();
                        if let Some(read_to) = self.roll_up.settle() {
                            self.image.know(ROLLED_UP, read_to.to_string());
                        }
                        if done {
                            Chore::Prune(Task::default())
                        } else {
                            Chore::RollUp
                        }
                    } else {
                        Chore::RollUp
                    }
                }
                Chore::Prune(task) => {
                    let mut facts = Vec::new();
                    let transaction = file
                        .connection
                        .transaction_with_behavior(TransactionBehavior::Immediate)?;
                    let done =
                        task.step(&transaction, &self.keep, SystemTime::now(), &mut facts)?;
                    transaction.commit()?;
                    for (key, value) in facts {
                        self.image.know(key, value.to_string());
                    }
                    match (done, task.next()) {
                        (false, _) => Chore::Prune(task),
                        (true, Some(next)) => Chore::Prune(next),
                        (true, None) => {
                            self.chores_at = now + CHORES_EVERY;
                            Chore::RollUp
                        }
                    }
                }
            };
        }
        Ok(())
    }

    /// How long there may be nothing to do.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        if self.trouble.is_none() && (self.salvage.is_some() || now >= self.chores_at) {
            MOMENT
        } else {
            LOOK_EVERY
        }
    }

    /// Writes until nothing waits, a transaction at a time.
    fn write_all(&mut self) -> rusqlite::Result<()> {
        while self.backlog.len() > 0 || !self.image.is_written() {
            let Some(file) = &mut self.file else {
                return Ok(());
            };
            let transaction = file
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            self.image.write(&transaction)?;
            let next = self.backlog.next(BATCH);
            write_rows(&transaction, &self.backlog, &next, &self.image, self.base)?;
            transaction.commit()?;
            self.image.settle();
            self.backlog.settle(&next);
        }
        Ok(())
    }

    /// Opens the file, and makes one of it and the image.
    fn reopen(&mut self) -> Result<(), OpenError> {
        if self.lock.is_none() {
            // The folder may have become writable; whoever was quicker keeps it.
            self.lock = StoreLock::take(&self.path)
                .map_err(|error| OpenError::Sqlite(broken(ErrorCode::DatabaseBusy, &error)))?;
        }
        let file = StoreFile::open(&self.path)?;
        self.number_from(probe::newest(&file.connection)? + 1);
        match self.known {
            None => {
                let told = Image::load(&file.connection, SystemTime::now())?;
                self.learn(told);
            }
            Some(known) if known != file.identity => {
                self.image.forget_written();
                self.image.write_orders(&file.connection)?;
            }
            Some(_) => {}
        }
        // What was summed up of another file, or of rows that were undone, is none of this one's.
        self.roll_up = RollUp::default();
        self.chore = Chore::RollUp;
        let known = self.known.replace(file.identity);
        self.file = Some(file);
        // Others may have written while we had not opened it; what a new file has is what we wrote to it ourselves.
        if known == self.known {
            self.listen()?;
        }
        Ok(())
    }

    fn over(&mut self, now: Instant) {
        let Some(trouble) = self.trouble.take() else {
            return;
        };
        if let Some(text) = trouble.over(self.backlog.lost, now) {
            (self.callbacks.warn)(&text);
            let now = humantime::format_rfc3339_seconds(SystemTime::now());
            let text = format!("{now}: {text} ({})", trouble.what);
            self.image.state(fact::STORE_TROUBLE, Some(text));
        }
    }

    fn failed(&mut self, error: &OpenError, now: Instant) {
        self.image.unsettle();
        let kind = match code(error) {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Kind::Locked,
            _ => Kind::Broken,
        };
        // A full disk or a lock is waited for with the file open; what else there may be, a fresh look is best.
        if kind == Kind::Broken && code(error) != Some(ErrorCode::DiskFull) {
            self.file = None;
        }
        let what = format!("{}: {error}", self.path.display());
        self.backlog.lost.others += self.image.limit();
        let lost = self.backlog.lost;
        self.shared
            .lost
            .store(lost.probes + lost.others, Ordering::Relaxed);
        let trouble = match &mut self.trouble {
            Some(trouble) => {
                trouble.again(what, now);
                trouble
            }
            none => none.insert(Trouble::new(what, lost, now)),
        };
        if let Some(text) = trouble.say(kind, self.backlog.len(), now) {
            (self.callbacks.warn)(&text);
        }
    }
}

fn write_rows(
    to: &Connection,
    backlog: &Backlog,
    next: &Written,
    image: &Image,
    base: i64,
) -> rusqlite::Result<()> {
    for delivery in backlog.deliveries.iter().take(next.deliveries) {
        notice::write_delivery(to, delivery)?;
    }
    for entry in backlog.timeline.iter().take(next.timeline) {
        incident::write_timeline(to, entry)?;
    }
    for (incident, text) in backlog.conversations.iter().take(next.conversations) {
        incident::write_conversation(to, incident, text)?;
    }
    for asking in backlog.askings.iter().take(next.askings) {
        asking.write(to)?;
    }
    let telling = backlog.telling.iter().take(next.telling);
    for row in telling.chain(backlog.routine.iter().take(next.routine)) {
        if let Some(target) = image.number(row.target) {
            row.write(to, base + row.order, target)?;
        }
    }
    Ok(())
}

fn is_corrupt(error: &OpenError) -> bool {
    matches!(
        code(error),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

fn code(error: &OpenError) -> Option<ErrorCode> {
    match error {
        OpenError::Sqlite(error) => error.sqlite_error_code(),
        _ => None,
    }
}

/// Trouble that SQLite has not noticed.
fn broken(code: ErrorCode, what: &str) -> rusqlite::Error {
    let error = rusqlite::ffi::Error {
        code,
        extended_code: 0,
    };
    rusqlite::Error::SqliteFailure(error, Some(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Acknowledgement, Delivery, DeliveryOutcome, State, Text};
    use crate::store::sample::{at, incident, notice, probe, result, target};
    use crate::store::{Reader, upkeep};

    /// Something that happens.
    #[derive(Clone, Debug)]
    enum Op {
        Probe(usize, usize),
        Open(usize, bool),
        End(usize),
        Notice(usize, usize),
        Deliver(usize, usize, usize),
        Fact(usize, bool),
        Learn(usize),
        Acknowledge(usize),
        Restart,
        Fill,
        Delete,
        Break,
        Wait,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0..3usize, 0..5usize).prop_map(|(target, state)| Op::Probe(target, state)),
            3 => (0..3usize, any::<bool>()).prop_map(|(id, known)| Op::Open(id, known)),
            2 => (0..3usize).prop_map(Op::End),
            4 => (0..3usize, 0..2usize).prop_map(|(id, channel)| Op::Notice(id, channel)),
            4 => (0..3usize, 0..2usize, 0..3usize).prop_map(|(id, channel, how)| Op::Deliver(id, channel, how)),
            1 => (0..2usize, any::<bool>()).prop_map(|(key, set)| Op::Fact(key, set)),
            1 => (0..3usize).prop_map(Op::Learn),
            1 => (0..3usize).prop_map(Op::Acknowledge),
            1 => Just(Op::Restart),
            1 => Just(Op::Fill),
            1 => Just(Op::Delete),
            1 => Just(Op::Break),
            2 => Just(Op::Wait),
        ]
    }

    struct World {
        path: PathBuf,
        keeper: Keeper,
        now: Instant,
        seconds: u64,
        probes: usize,
        sequences: [[u32; 2]; 3],
        rounds: [usize; 3],
        open: [bool; 3],
    }

    fn keeper(path: &Path) -> Keeper {
        let quiet = Callbacks::warnings(|_| {});
        let forever = Retention {
            passed: Duration::from_secs(1 << 32),
            failures: Duration::from_secs(1 << 32),
            max_size: None,
        };
        Keeper::open(path, forever, quiet, Arc::default()).unwrap()
    }

    impl World {
        fn new(path: PathBuf) -> Self {
            Self {
                keeper: keeper(&path),
                path,
                now: Instant::now(),
                seconds: 10,
                probes: 0,
                sequences: [[0; 2]; 3],
                rounds: [0; 3],
                open: [false; 3],
            }
        }

        fn id(&self, n: usize) -> String {
            format!("i{n}-{}", self.rounds[n])
        }

        fn alert(&mut self, change: AlertChange) {
            let batch = vec![Write::Alert(vec![change])];
            self.keeper.take_in(batch, self.now);
        }

        fn happen(&mut self, op: Op) {
            self.seconds += 1;
            match op {
                Op::Probe(target, state) => {
                    let result = result(
                        State::ALL[state],
                        at(self.seconds),
                        Duration::from_millis(3),
                    );
                    let write = probe(["a", "b", "c"][target], result, Vec::new());
                    self.keeper.take_in(vec![write], self.now);
                    self.probes += 1;
                }
                Op::Open(n, flapping) => {
                    if !self.open[n] {
                        self.rounds[n] += 1;
                        self.sequences[n] = [0; 2];
                        self.open[n] = true;
                    }
                    let mut incident = incident(&self.id(n));
                    incident.flapping = flapping;
                    self.alert(AlertChange::Incident(Box::new(incident)));
                }
                Op::End(n) if self.open[n] => {
                    let mut incident = incident(&self.id(n));
                    incident.resolved_at = Some(at(self.seconds));
                    self.open[n] = false;
                    self.alert(AlertChange::Incident(Box::new(incident)));
                }
                Op::Notice(n, channel) if self.open[n] => {
                    self.sequences[n][channel] += 1;
                    let incident = incident(&self.id(n));
                    let name = ["hook", "mail"][channel];
                    let notice = notice(&incident, name, self.sequences[n][channel]);
                    self.alert(AlertChange::Notice(Box::new(notice)));
                }
                Op::Deliver(n, channel, how) => {
                    let why = Text::new("refused");
                    let delivery = Delivery {
                        incident: self.id(n),
                        channel: ["hook", "mail"][channel].to_owned(),
                        sequence: self.sequences[n][channel],
                        at: at(self.seconds),
                        attempts: 2,
                        outcome: match how {
                            0 => DeliveryOutcome::Delivered,
                            1 => DeliveryOutcome::Failed(why),
                            _ => DeliveryOutcome::GivenUp(why),
                        },
                    };
                    self.keeper
                        .take_in(vec![Write::Delivery(delivery)], self.now);
                }
                Op::Fact(n, set) => {
                    let write = Write::Fact {
                        key: ["x", "y"][n].to_owned(),
                        value: set.then(|| self.seconds.to_string()),
                    };
                    self.keeper.take_in(vec![write], self.now);
                }
                Op::Learn(n) => {
                    let write = Write::Instrumented {
                        target: target(["a", "b", "c"][n]),
                        service: Some("s".to_owned()),
                        lag: Duration::from_secs(n as u64),
                    };
                    self.keeper.take_in(vec![write], self.now);
                }
                Op::Acknowledge(n) => {
                    let by = Acknowledgement {
                        at: at(1),
                        by: Text::new("ann"),
                    };
                    orders::acknowledge(&self.path, &self.id(n), &by).ok();
                }
                Op::Restart => self.restart(),
                Op::Fill => {
                    if let Some(file) = &self.keeper.file {
                        let full = file.connection.pragma_update(None, "max_page_count", 1);
                        full.unwrap();
                    }
                }
                Op::Delete => {
                    fs::remove_file(&self.path).ok();
                    self.wait();
                }
                Op::Break => {
                    if let Some(file) = &self.keeper.file {
                        // As if SQLite had found it out.
                        assert!(file.identity != NOBODY);
                        let broken = OpenError::Sqlite(broken(ErrorCode::DatabaseCorrupt, "test"));
                        if self.keeper.may_set_aside(self.now) {
                            self.keeper.set_aside(&broken, self.now).unwrap();
                            self.keeper.try_to_write(self.now);
                        }
                    }
                    self.wait();
                }
                Op::Wait => self.wait(),
                Op::End(_) | Op::Notice(..) => {}
            }
        }

        fn wait(&mut self) {
            for _ in 0..3 {
                self.now += Duration::from_secs(20);
                if let Some(file) = &self.keeper.file {
                    // The disk has room again.
                    file.connection
                        .pragma_update(None, "max_page_count", 1 << 30)
                        .unwrap();
                }
                self.keeper.tend(self.now);
            }
        }

        /// Ends the run and begins another: what that knows is what this one knew.
        fn restart(&mut self) {
            self.wait();
            while self.keeper.salvage.is_some() {
                assert!(self.keeper.file.is_some(), "{:?}", self.keeper.trouble);
                self.keeper.salvage().unwrap();
            }
            self.keeper.end();
            assert!(self.keeper.trouble.is_none(), "{:?}", self.keeper.trouble);
            let before = self.keeper.recalled();
            let lost = self.keeper.backlog.lost;
            // Another lock can only be taken when this one is gone.
            self.keeper.lock = None;
            self.keeper.file = None;
            self.keeper = keeper(&self.path);
            assert_eq!(self.keeper.recalled(), before);
            let reader = Reader::open(&self.path).unwrap();
            let recorded = reader.recorded(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!((recorded.count(), lost.probes), (self.probes, 0));
            let whole = upkeep::check(&self.path).unwrap();
            assert_eq!(whole, Vec::<String>::new());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn a_restart_knows_what_the_run_before_knew_whatever_the_disk_did(ops in proptest::collection::vec(op(), 1..40)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s.db");
            let mut world = World::new(path);
            for op in ops {
                world.happen(op);
            }
            world.restart();
        }
    }

    #[test]
    fn heads_of_an_ended_incident_are_kept_while_somebody_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let mut world = World::new(path);
        for op in [
            Op::Open(0, false),
            Op::Notice(0, 0),
            Op::Notice(0, 1),
            Op::Deliver(0, 1, 0),
            Op::End(0),
            Op::Restart,
        ] {
            world.happen(op);
        }
        assert_eq!(world.keeper.recalled().heads.len(), 2);
        world.happen(Op::Deliver(0, 0, 0));
        assert_eq!(world.keeper.recalled().heads, []);
        world.restart();
    }

    #[test]
    fn what_did_not_fit_into_memory_is_counted_and_the_newest_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/s.db");
        let mut keeper = keeper(&path);
        let now = Instant::now();
        for n in 0..200_100 {
            let result = result(State::Up, at(n + 1), Duration::from_millis(1));
            keeper.take_in(vec![probe("a", result, Vec::new())], now);
        }
        assert_eq!(keeper.backlog.lost.probes, 100);
        fs::create_dir(folder.path().join("missing")).unwrap();
        keeper.tend(now + Duration::from_secs(30));
        assert!(keeper.trouble.is_none(), "{:?}", keeper.trouble);
        let reader = Reader::open(&path).unwrap();
        let mut recorded = reader.recorded(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(recorded.next().unwrap().unwrap().started_at, at(101));
        assert_eq!(recorded.count(), 199_999);
    }
}
