//! Content codings: answers that come compressed although we ask for `identity`. The SDKs' clients read them, so that
//! a server which compresses all the same is not down.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::fault::Fault;
use super::http::too_large;
use super::limits;
use crate::model::Reason;

/// Decoded bytes that are made at a time: a bomb meets the limit of its reader before it takes memory.
const STEP: usize = 16 * 1024;

/// Of zlib and gzip: the largest there is.
const WINDOW_BITS: u8 = 15;

/// First byte of every member of gzip.
const GZIP: u8 = 0x1f;

/// Decodes one body, piece by piece.
pub(super) struct Coding {
    /// As the server calls it.
    pub(super) name: String,
    kind: Kind,
    /// Made when there is something to decode.
    decoder: Option<Decoder>,
    /// The end that the coding itself marks was read.
    ended: bool,
    /// Of the last piece, what was not decoded yet.
    pending: Bytes,
    /// The last step had no more room: there may be more without another byte.
    filled: bool,
    /// Bytes since the last that became any.
    fruitless: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gzip,
    Deflate,
    Brotli,
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

enum Decoder {
    Flate(Decompress),
    Brotli(Box<Brotli>),
}

/// What one step of a decoder did.
struct Step {
    taken: usize,
    made: usize,
    ended: bool,
}

impl Coding {
    /// The coding that an answer's head names, if it names any.
    pub(super) fn named_by(headers: &HeaderMap) -> Result<Option<Self>, Fault> {
        // Nearly always there is none.
        if !headers.contains_key(CONTENT_ENCODING) {
            return Ok(None);
        }
        let lines = headers.get_all(CONTENT_ENCODING).iter();
        let lines: Vec<_> = lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        let name = lines.join(", ");
        let names = name.split(',').map(|name| name.trim().to_ascii_lowercase());
        let names: Vec<_> = names
            .filter(|name| !name.is_empty() && name != "identity")
            .collect();
        let kind = match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => return Ok(None),
            ["gzip" | "x-gzip"] => Kind::Gzip,
            ["deflate"] => Kind::Deflate,
            ["br"] => Kind::Brotli,
            _ => {
                return Err(fault(format!(
                    "the answer is compressed ({name}), which cannot be decoded: only gzip, deflate and br can"
                )));
            }
        };
        Ok(Some(Self {
            name,
            kind,
            decoder: None,
            ended: false,
            pending: Bytes::new(),
            filled: false,
            fruitless: 0,
        }))
    }

    /// Another piece of the body, once [`Self::next`] has nothing more of the last one.
    pub(super) fn take(&mut self, piece: Bytes) {
        self.pending = piece;
    }

    /// What comes next, at most [`STEP`] bytes; `None` until there is another piece.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let mut chunk = [0; STEP];
        loop {
            let first = self.pending.first().copied();
            if self.ended {
                // gzip may have several members; what else follows the end does not belong to the answer.
                if self.kind != Kind::Gzip || first != Some(GZIP) {
                    self.pending.clear();
                    return Ok(None);
                }
                (self.decoder, self.ended) = (None, false);
            }
            if first.is_none() && !self.filled {
                return Ok(None);
            }
            let kind = self.kind;
            let decoder = self
                .decoder
                .get_or_insert_with(|| Decoder::new(kind, first.unwrap_or_default()));
            let step = decoder
                .step(&self.pending, &mut chunk)
                .ok_or_else(|| broken(&self.name))?;
            self.pending.advance(step.taken);
            self.filled = step.made == STEP;
            self.ended = step.ended;
            if let Some(made) = chunk.get(..step.made).filter(|made| !made.is_empty()) {
                self.fruitless = 0;
                return Ok(Some(Bytes::copy_from_slice(made)));
            }
            self.fruitless += step.taken;
            if self.fruitless > limits::MAX_STREAM {
                return Err(too_large(limits::MAX_STREAM));
            }
            if step.taken == 0 && !step.ended {
                return Ok(None);
            }
        }
    }

    /// The body has ended where its coding goes on: a deviation, as long as what was decoded is complete.
    pub(super) fn cut_off(&self) -> Option<Fault> {
        (self.decoder.is_some() && !self.ended).then(|| {
            fault(format!(
                "the answer is compressed ({}) and ends before its compression does",
                self.name
            ))
        })
    }
}

impl Decoder {
    fn new(kind: Kind, first: u8) -> Self {
        match kind {
            Kind::Gzip => Self::Flate(Decompress::new_gzip(WINDOW_BITS)),
            // The specification means zlib, some servers do not: clients look at the first byte, too.
            Kind::Deflate => Self::Flate(Decompress::new(first & 0x0f == 8)),
            Kind::Brotli => {
                let alloc = StandardAlloc::default;
                // Strict: windows of at most 16 MiB.
                Self::Brotli(Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())))
            }
        }
    }

    /// Decodes from `input` to `output`; `None` where that cannot be.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Option<Step> {
        match self {
            Self::Flate(flate) => {
                let (taken, made) = (flate.total_in(), flate.total_out());
                let status = flate.decompress(input, output, FlushDecompress::None);
                let since = |now: u64, before: u64| usize::try_from(now - before).ok();
                Some(Step {
                    taken: since(flate.total_in(), taken)?,
                    made: since(flate.total_out(), made)?,
                    ended: status.ok()? == Status::StreamEnd,
                })
            }
            Self::Brotli(state) => {
                let (mut available, mut taken) = (input.len(), 0);
                let (mut room, mut made, mut total) = (output.len(), 0, 0);
                let result = BrotliDecompressStream(
                    &mut available,
                    &mut taken,
                    input,
                    &mut room,
                    &mut made,
                    output,
                    &mut total,
                    state,
                );
                let ended = match result {
                    BrotliResult::ResultSuccess => true,
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => false,
                    BrotliResult::ResultFailure => return None,
                };
                Some(Step { taken, made, ended })
            }
        }
    }
}

fn broken(name: &str) -> Fault {
    fault(format!(
        "the answer says that it is compressed ({name}), and cannot be decoded"
    ))
}

fn fault(message: String) -> Fault {
    Fault::new(Reason::DecodeFailed, message)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use flate2::{Compress, Compression, FlushCompress};
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// 64 MiB of one letter, and a message, both from Node's `brotliCompressSync`.
    const BROTLI_BOMB: &str = "y///P/gl8OKxQCD3/o///3/wSwDEYRGA7v0f////4JcAiMMCAN37P/7//8EvARCHBQC693/8//+DXwIgDgsAdO//+P//B78EQBwWAOje//H//w9+CYA4LADQvf/L//8//BIAcVgAoHv/Bw==";
    const BROTLI: &str = "G2IAWIzTFfOihHUfodIJ8pb6ZQytSlA0U791+rpYusFpzDmWpVmMG186znQBECpiUMg+/230Us09tKQl/BjBRkeeGnxh5wU=";
    const MESSAGE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"tool-a"},{"name":"tool-b"},{"name":"tool-c"}]}}"#;

    fn bytes_of(base64: &str) -> Vec<u8> {
        base64::engine::general_purpose::STANDARD
            .decode(base64)
            .unwrap()
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut coded = Vec::with_capacity(text.len() + 100);
        Compress::new_gzip(Compression::default(), WINDOW_BITS)
            .compress_vec(text, &mut coded, FlushCompress::Finish)
            .unwrap();
        coded
    }

    /// What the pieces become, and whether the coding goes on at their end.
    fn decode<'p>(
        name: &'static str,
        limit: usize,
        pieces: impl IntoIterator<Item = &'p [u8]>,
    ) -> Result<(Vec<u8>, bool), Reason> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        let coding = Coding::named_by(&headers).map_err(|fault| fault.reason)?;
        let (mut coding, mut made) = (coding.unwrap(), Vec::new());
        for piece in pieces {
            coding.take(Bytes::copy_from_slice(piece));
            while let Some(next) = coding.next().map_err(|fault| fault.reason)? {
                assert!(next.len() <= STEP);
                made.extend_from_slice(&next);
                if made.len() > limit {
                    return Err(Reason::BodyTooLarge);
                }
            }
        }
        Ok((made, coding.cut_off().is_some()))
    }

    #[test]
    fn reads_what_others_compressed() {
        let whole = (MESSAGE.as_bytes().to_vec(), false);
        assert_eq!(decode("br", 1_000, [&*bytes_of(BROTLI)]), Ok(whole.clone()));
        let members = [gzip(b"{\"jsonrpc\""), gzip(&MESSAGE.as_bytes()[10..])].concat();
        assert_eq!(decode("GZip", 1_000, [&*members]), Ok(whole.clone()));
        let behind = [gzip(MESSAGE.as_bytes()), b"\r\n".to_vec()].concat();
        assert_eq!(decode("x-gzip, identity", 1_000, [&*behind]), Ok(whole));
        assert_eq!(decode("gzip", 1_000, []), Ok((Vec::new(), false)));
        assert_eq!(decode("gzip, br", 1_000, []), Err(Reason::DecodeFailed));
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = bytes_of(BROTLI_BOMB);
        assert_eq!(decode("br", 100_000, [&*bomb]), Err(Reason::BodyTooLarge));
        let exact = gzip(&[b'x'; 40_000]);
        assert_eq!(decode("gzip", 40_000, [&*exact]).unwrap().0.len(), 40_000);
        assert_eq!(decode("gzip", 39_999, [&*exact]), Err(Reason::BodyTooLarge));
    }

    proptest! {
        #[test]
        fn pieces_never_change_what_is_decoded(
            text in proptest::collection::vec(any::<u8>(), 0..20_000),
            cuts in proptest::collection::vec(0usize..30_000, 0..8),
        ) {
            let coded = gzip(&text);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (coded.len() + 1)).collect();
            cuts.extend([0, coded.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &coded[cut[0]..cut[1]]);
            prop_assert_eq!(decode("gzip", 20_000, pieces), Ok((text, false)));
        }

        #[test]
        fn any_bytes_are_survived(
            name in prop_oneof![Just("gzip"), Just("deflate"), Just("br")],
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..5),
        ) {
            let _ = decode(name, 10_000, pieces.iter().map(Vec::as_slice));
        }

        /// Half an answer is either seen to be half, or whole but for its checksum.
        #[test]
        fn what_is_cut_off_is_noticed(cut in any::<prop::sample::Index>()) {
            for (name, coded) in [("gzip", gzip(MESSAGE.as_bytes())), ("br", bytes_of(BROTLI))] {
                let cut = 1 + cut.index(coded.len() - 1);
                let (made, cut_off) = decode(name, 1_000, [&coded[..cut]]).unwrap();
                prop_assert!(cut_off && MESSAGE.as_bytes().starts_with(&made));
            }
        }
    }
}
