//! Content codings of an answer.

use flate2::{Compress, Compression, FlushCompress};
use serde::Deserialize;

/// How the pieces of a body are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Coding {
    Gzip,
    Deflate,
    /// `deflate` without the frame of zlib.
    RawDeflate,
    Br,
}

impl Coding {
    /// What `Content-Encoding` says.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate | Self::RawDeflate => "deflate",
            Self::Br => "br",
        }
    }

    /// Every piece can be decoded as soon as it is there, and the last one can be said again and again, which an
    /// endless body does. What ends the coding is a piece of its own.
    pub(super) fn encode(self, pieces: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let level = Compression::default();
        let mut compress = match self {
            Self::Gzip => Compress::new_gzip(level, 15),
            Self::Deflate => Compress::new(level, true),
            Self::RawDeflate => Compress::new(level, false),
            Self::Br => return stored(pieces),
        };
        let mut run = |piece: &[u8], flush| {
            let mut coded = Vec::with_capacity(piece.len() + 1_000);
            compress.compress_vec(piece, &mut coded, flush).unwrap();
            if coded.is_empty() {
                // Nothing to be said is a block of nothing.
                coded = [0, 0, 0, 0xff, 0xff].repeat(1_000);
            }
            coded
        };
        // The head of gzip or zlib must not be said again.
        let head = run(b"", FlushCompress::Full);
        let pieces = pieces.iter().map(|piece| run(piece, FlushCompress::Full));
        let pieces = std::iter::once(head).chain(pieces).collect();
        (pieces, run(b"", FlushCompress::Finish))
    }
}

/// Brotli without compression: blocks that say of themselves that they are none.
fn stored(pieces: &[Vec<u8>]) -> (Vec<Vec<u8>>, Vec<u8>) {
    // A window of 64 KiB, and an empty block of metadata, which ends at a byte's end.
    let head = vec![0b0000_1100];
    let blocks = pieces.iter().map(|piece| {
        let chunks = piece.chunks(0x1_0000);
        let chunks = chunks.map(|chunk| {
            let length = u32::try_from(chunk.len() - 1).unwrap();
            // Not the last; 4 nibbles of length; uncompressed.
            let bits = length << 3 | 1 << 19;
            let mut block = bits.to_le_bytes()[..3].to_vec();
            block.extend_from_slice(chunk);
            block
        });
        chunks.flatten().collect()
    });
    (std::iter::once(head).chain(blocks).collect(), vec![0b11])
}
