//! The strings of a block, each once.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::cursor::Cursor;

/// Strings by number, while a block is being filled. They lie behind one another, so that a new one costs no allocation.
#[derive(Default)]
pub(super) struct Dictionary {
    text: Vec<u8>,
    ends: Vec<u32>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Dictionary {
    /// The number of a string.
    pub(super) fn number(&mut self, string: &str) -> u64 {
        let Self {
            text,
            ends,
            numbers,
            hasher,
        } = self;
        let bytes = string.as_bytes();
        let known = numbers.find(hasher.hash_one(bytes), |number| {
            slice(text, ends, *number) == Some(bytes)
        });
        if let Some(known) = known {
            return u64::from(*known);
        }
        let number = ends.len() as u32;
        text.extend_from_slice(bytes);
        ends.push(text.len() as u32);
        numbers.insert_unique(hasher.hash_one(bytes), number, |number| {
            hasher.hash_one(slice(text, ends, *number).unwrap_or_default())
        });
        u64::from(number)
    }

    /// Bytes of the strings.
    pub(super) fn size(&self) -> usize {
        self.text.len() + 4 * self.ends.len()
    }

    /// Number of strings, end of each, text.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.ends.len() as u32).to_le_bytes());
        for end in &self.ends {
            out.extend_from_slice(&end.to_le_bytes());
        }
        out.extend_from_slice(&self.text);
    }
}

fn slice<'t>(text: &'t [u8], ends: &[u32], number: u32) -> Option<&'t [u8]> {
    let number = number as usize;
    let end = *ends.get(number)? as usize;
    let start = number
        .checked_sub(1)
        .and_then(|before| ends.get(before))
        .map_or(0, |start| *start as usize);
    text.get(start..end)
}

/// A dictionary that was written.
#[derive(Clone, Copy)]
pub(super) struct Strings<'b> {
    ends: &'b [[u8; 4]],
    text: &'b [u8],
}

impl<'b> Strings<'b> {
    /// `None` when the bytes are no dictionary.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let count = cursor.u32()? as usize;
        let (ends, _) = cursor.take(count.checked_mul(4)?)?.as_chunks();
        Some(Self {
            ends,
            text: cursor.0,
        })
    }

    /// The string of a number.
    pub(super) fn get(&self, number: u64) -> Option<&'b str> {
        let number = usize::try_from(number).ok()?;
        let end = u32::from_le_bytes(*self.ends.get(number)?) as usize;
        let start = match number.checked_sub(1) {
            Some(before) => u32::from_le_bytes(*self.ends.get(before)?) as usize,
            None => 0,
        };
        std::str::from_utf8(self.text.get(start..end)?).ok()
    }
}
