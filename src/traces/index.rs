//! What a reader remembers of all blocks, so that it reads only those in which an answer can be.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use rusqlite::{Connection, OptionalExtension};

use super::block::{self, Spans};
use super::file::unreadable;
use super::head::Head;

/// Bytes of decompressed blocks that are kept: neighbours in a list of traces lie in the same ones.
const CACHE: usize = 16 * 1024 * 1024;

/// A file of blocks, open for reading.
pub(super) struct Index {
    connection: Connection,
    /// `data_version` as of the last look.
    version: Option<i64>,
    heads: BTreeMap<i64, Head>,
    fingerprints: HashMap<i64, Box<[u32]>>,
    cache: Vec<(i64, Arc<[u8]>)>,
    cached: usize,
}

impl Index {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            version: None,
            heads: BTreeMap::new(),
            fingerprints: HashMap::new(),
            cache: Vec::new(),
            cached: 0,
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Asks all questions of one state of the file: blocks that are merged meanwhile are neither missed nor seen twice.
    pub(super) fn at_once<T>(
        &mut self,
        ask: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.connection.execute_batch("BEGIN")?;
        let answer = self.refresh().and_then(|()| ask(self));
        let ended = self.connection.execute_batch("COMMIT");
        answer.and_then(|answer| ended.map(|()| answer))
    }

    /// Looks which blocks there are now.
    fn refresh(&mut self) -> rusqlite::Result<()> {
        // The first look at the file is what fixes its state.
        self.connection
            .prepare_cached("SELECT 1 FROM fact")?
            .exists([])?;
        let version = self
            .connection
            .pragma_query_value(None, "data_version", |row| row.get(0))?;
        if self.version == Some(version) {
            return Ok(());
        }
        // Until it is known again, whatever happens on the way.
        self.version = None;
        let mut gone: BTreeMap<i64, Head> = std::mem::take(&mut self.heads);
        let mut numbers = self.connection.prepare_cached("SELECT id FROM block")?;
        let mut one = self
            .connection
            .prepare_cached("SELECT head FROM block WHERE id = ?1")?;
        let mut rows = numbers.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let head = match gone.remove(&id) {
                Some(head) => head,
                None => {
                    let text: String = one.query_row([id], |row| row.get(0))?;
                    serde_json::from_str(&text).map_err(|_| unreadable(id))?
                }
            };
            self.heads.insert(id, head);
        }
        for id in gone.keys() {
            self.fingerprints.remove(id);
        }
        self.version = Some(version);
        Ok(())
    }

    /// All blocks, oldest number first.
    pub(super) fn heads(&self) -> impl Iterator<Item = (i64, &Head)> {
        self.heads.iter().map(|(id, head)| (*id, head))
    }

    /// The blocks in which a trace may be.
    pub(super) fn with_trace(&mut self, fingerprint: u32) -> rusqlite::Result<Vec<i64>> {
        let mut found = Vec::new();
        for id in self.heads.keys() {
            let known = match self.fingerprints.get(id) {
                Some(known) => known,
                None => {
                    let read = read_fingerprints(&self.connection, *id)?;
                    self.fingerprints.entry(*id).or_insert(read)
                }
            };
            if known.binary_search(&fingerprint).is_ok() {
                found.push(*id);
            }
        }
        Ok(found)
    }

    /// The bytes of a block, decompressed. One that cannot be read is an error: nobody knows what would be in the answer.
    pub(super) fn bytes(&mut self, id: i64) -> rusqlite::Result<Arc<[u8]>> {
        if let Some(place) = self.cache.iter().position(|(cached, _)| *cached == id) {
            let hit = self.cache.remove(place);
            let bytes = Arc::clone(&hit.1);
            self.cache.push(hit);
            return Ok(bytes);
        }
        let mut statement = self
            .connection
            .prepare_cached("SELECT bytes FROM content WHERE block = ?1")?;
        let mut rows = statement.query([id])?;
        let row = rows.next()?.ok_or_else(|| unreadable(id))?;
        let compressed = row.get_ref(0)?.as_blob().unwrap_or_default();
        let spans = self.heads.get(&id).map_or(0, Head::spans);
        let bytes = block::decompress_whole(compressed, spans).ok_or_else(|| unreadable(id))?;
        let bytes: Arc<[u8]> = bytes.into();
        self.cached += bytes.len();
        self.cache.push((id, Arc::clone(&bytes)));
        while self.cached > CACHE && self.cache.len() > 1 {
            self.cached -= self.cache.remove(0).1.len();
        }
        Ok(bytes)
    }
}

/// What lies in the bytes of a block.
pub(super) fn spans(bytes: &[u8], id: i64) -> rusqlite::Result<Spans<'_>> {
    Spans::read(bytes).ok_or_else(|| unreadable(id))
}

fn read_fingerprints(connection: &Connection, id: i64) -> rusqlite::Result<Box<[u32]>> {
    let mut statement =
        connection.prepare_cached("SELECT fingerprints FROM content WHERE block = ?1")?;
    let bytes: Option<Vec<u8>> = statement.query_row([id], |row| row.get(0)).optional()?;
    let bytes = bytes.ok_or_else(|| unreadable(id))?;
    let (numbers, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(unreadable(id));
    }
    Ok(numbers
        .iter()
        .map(|four| u32::from_le_bytes(*four))
        .collect())
}
