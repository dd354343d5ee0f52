//! Reader of `text/event-stream` (WHATWG HTML, "Server-sent events"), as far as MCP needs it: the data of each event.

use std::time::Duration;

/// An event larger than the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EventTooLarge;

/// Takes bytes in any pieces and gives the data of whole events.
pub(super) struct SseReader {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
    first_line: bool,
    limit: usize,
    /// The event's type; empty means `message`.
    kind: Vec<u8>,
    id: Option<Vec<u8>>,
    last_id: Option<Vec<u8>>,
    retry: Option<Duration>,
}

impl SseReader {
    /// `limit`: bytes of one event.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            after_cr: false,
            first_line: true,
            limit,
            kind: Vec::new(),
            id: None,
            last_id: None,
            retry: None,
        }
    }

    /// The id of the last whole event, and how long the server wants us to stay away before we come back.
    pub(super) fn resumption(&self) -> (Option<&[u8]>, Option<Duration>) {
        (self.last_id.as_deref(), self.retry)
    }

    /// Another stream goes on where the last one ended.
    pub(super) fn start_over(&mut self) {
        *self = Self {
            last_id: self.last_id.take(),
            retry: self.retry,
            ..Self::new(self.limit)
        };
    }

    /// Reads `chunk` and hands type and data of every event that it completes to `each`. Events with empty
    /// data (keep-alives, priming events) are left out.
    pub(super) fn push(
        &mut self,
        mut chunk: &[u8],
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), EventTooLarge> {
        while !chunk.is_empty() {
            if std::mem::take(&mut self.after_cr) && chunk.first() == Some(&b'\n') {
                chunk = chunk.get(1..).unwrap_or_default();
                continue;
            }
            let Some(end) = chunk.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
                self.line.extend_from_slice(chunk);
                return self.check_size();
            };
            let (head, rest) = chunk.split_at(end);
            self.line.extend_from_slice(head);
            self.check_size()?;
            self.after_cr = rest.first() == Some(&b'\r');
            chunk = rest.get(1..).unwrap_or_default();
            self.end_of_line(&mut each);
        }
        Ok(())
    }

    fn check_size(&self) -> Result<(), EventTooLarge> {
        if self.line.len() + self.data.len() > self.limit {
            return Err(EventTooLarge);
        }
        Ok(())
    }

    fn end_of_line(&mut self, each: &mut impl FnMut(&[u8], &[u8])) {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first_line) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            if self.has_data && !self.data.is_empty() {
                let kind = match self.kind.as_slice() {
                    b"" => b"message",
                    kind => kind,
                };
                each(kind, &self.data);
            }
            self.data.clear();
            self.has_data = false;
            self.kind.clear();
            if let Some(id) = self.id.take() {
                self.last_id = (!id.is_empty()).then_some(id);
            }
        } else if let Some(value) = field(&line, b"data") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
            self.has_data = true;
        } else if let Some(name) = field(&line, b"event") {
            self.kind = name.to_vec();
        } else if let Some(id) = field(&line, b"id") {
            self.id = Some(id.to_vec());
        } else if let Some(retry) = field(&line, b"retry") {
            let millis = std::str::from_utf8(retry)
                .ok()
                .and_then(|text| text.parse().ok());
            self.retry = millis.map(Duration::from_millis).or(self.retry);
        }
        // Comments and unknown fields do not matter.
        line.clear();
        self.line = line;
    }
}

/// The value of `line` if it is the field `name`; one space after the colon is not part of it.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]], limit: usize) -> Result<Vec<String>, EventTooLarge> {
        let mut reader = SseReader::new(limit);
        let mut events = Vec::new();
        for piece in pieces {
            reader.push(piece, |kind, data| {
                if kind == b"message" {
                    events.push(String::from_utf8_lossy(data).into_owned());
                }
            })?;
        }
        Ok(events)
    }

    type Told = (
        Vec<(Vec<u8>, Vec<u8>)>,
        bool,
        Option<Vec<u8>>,
        Option<Duration>,
    );

    fn told<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Told {
        let mut reader = SseReader::new(40);
        let mut events = Vec::new();
        let mut too_large = false;
        for piece in pieces {
            let each = |kind: &[u8], data: &[u8]| events.push((kind.to_vec(), data.to_vec()));
            too_large = reader.push(piece, each).is_err();
            if too_large {
                break;
            }
        }
        let (id, retry) = reader.resumption();
        (events, too_large, id.map(<[u8]>::to_vec), retry)
    }

    #[test]
    fn reads_what_servers_send() {
        let cases: &[(&str, &[&str])] = &[
            ("data: {}\n\n", &["{}"]),
            ("event: message\r\ndata: {}\r\n\r\n", &["{}"]),
            ("data: {}\r\r", &["{}"]),
            (": ping\n\ndata: x\n\n", &["x"]),
            ("id: 1\ndata:\n\ndata: x\n\n", &["x"]),
            ("data: a\ndata: b\n\n", &["a\nb"]),
            ("data:  two spaces\n\n", &[" two spaces"]),
            ("\u{feff}data: bom\n\n", &["bom"]),
            ("data: unfinished\n", &[]),
            ("database: no\n\n", &[]),
            ("event: ping\ndata: no\n\ndata: x\n\n", &["x"]),
        ];
        for (stream, expected) in cases {
            assert_eq!(
                &read(&[stream.as_bytes()], 100).unwrap(),
                expected,
                "{stream:?}"
            );
        }
    }

    #[test]
    fn remembers_where_to_go_on() {
        let mut reader = SseReader::new(100);
        reader
            .push(
                b"id: 7\nretry: 20\ndata:\n\nid: 8\ndata: unfinished",
                |_, _| {},
            )
            .unwrap();
        assert_eq!(
            reader.resumption(),
            (Some(&b"7"[..]), Some(Duration::from_millis(20)))
        );
    }

    #[test]
    fn an_endless_line_stops_at_the_limit() {
        assert_eq!(read(&[b"data: ", &[b'x'; 100]], 50), Err(EventTooLarge));
        let lines = "data: 0123456789\n".repeat(10);
        assert_eq!(read(&[lines.as_bytes()], 50), Err(EventTooLarge));
    }

    proptest! {
        #[test]
        fn pieces_never_change_the_result(
            stream in "(data: ?[a-c]{0,3}|: c|id: 1|data|)(\r\n|\n|\r)(data: [a-c]{0,3}|)(\r\n|\n|\r)(\r\n|\n|\r)[a-c\r\n:]{0,20}",
            cuts in proptest::collection::vec(0usize..60, 0..6),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(read(&pieces, 1000), read(&[bytes], 1000));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&[&bytes], 64);
        }

        /// Everything that a reader tells: events, what it remembers, and where it stops.
        #[test]
        fn pieces_change_nothing_of_what_is_told(
            lines in proptest::collection::vec(
                prop_oneof![
                    "(data|event|id|retry|dat|)(:| |: )[a-c0-9]{0,12}",
                    "[a-c:\u{feff}]{0,5}",
                ],
                0..30,
            ),
            ends in proptest::collection::vec(prop_oneof!["\r\n", "\n", "\r"], 30),
            cuts in proptest::collection::vec(0usize..500, 0..8),
        ) {
            let mut bytes = Vec::new();
            for (line, end) in lines.iter().zip(&ends) {
                bytes.extend_from_slice(line.as_bytes());
                bytes.extend_from_slice(end.as_bytes());
            }
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
            prop_assert_eq!(told(pieces), told([bytes.as_slice()].into_iter()));
        }

        /// However much comes, no more is kept than one event, its name and its ids.
        #[test]
        fn nothing_grows_beyond_the_limit(
            pieces in proptest::collection::vec("(data: |event: |id: |: |)[a-z]{0,40}(\r|\n){0,2}", 0..60),
        ) {
            let mut reader = SseReader::new(64);
            for piece in &pieces {
                if reader.push(piece.as_bytes(), |_, _| {}).is_err() {
                    break;
                }
                prop_assert!(reader.line.len() + reader.data.len() <= 64);
                let remembered = [&reader.id, &reader.last_id].map(|id| id.as_ref().map_or(0, Vec::len));
                prop_assert!(reader.kind.len() <= 64 && remembered.into_iter().all(|id| id <= 64));
            }
        }
    }
}
