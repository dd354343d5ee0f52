//! Our answer among the events of a stream.

use super::fault::Fault;
use super::http::too_large;
use super::limits;
use super::rpc::{self, Answer, Incoming, ServerRequest};
use super::sse::SseReader;
use crate::model::Reason;

/// What has been read of a stream, and of those that went on after it.
pub(super) struct AnswerSearch {
    pub(super) reader: SseReader,
    /// The id of an answer to another request.
    pub(super) mismatch: Option<String>,
    /// Requests of the server's, to be answered: as many as one piece had.
    pub(super) requests: Vec<ServerRequest>,
    id: u64,
    bytes: usize,
    messages: usize,
}

impl AnswerSearch {
    /// For the answer to request `id`.
    pub(super) fn new(id: u64) -> Self {
        Self {
            reader: SseReader::new(limits::MAX_ANSWER),
            mismatch: None,
            requests: Vec::new(),
            id,
            bytes: 0,
            messages: 0,
        }
    }

    /// Reads a piece of the stream; answers what it completes, if that is for us.
    pub(super) fn read(&mut self, piece: &[u8]) -> Result<Option<Result<Answer, Fault>>, Fault> {
        self.bytes += piece.len();
        if self.bytes > limits::MAX_STREAM {
            return Err(too_large(limits::MAX_STREAM));
        }
        let (id, messages, mismatch) = (self.id, &mut self.messages, &mut self.mismatch);
        let requests = &mut self.requests;
        let mut found = None;
        let read = self.reader.push(piece, |kind, data| {
            *messages += 1;
            if found.is_none() && kind == b"message" {
                match rpc::decode(data, id) {
                    Ok(Incoming::Answer(answer)) => found = Some(Ok(answer)),
                    Ok(Incoming::Mismatch(other)) => *mismatch = Some(other),
                    Ok(Incoming::Request(request)) => requests.push(request),
                    Ok(Incoming::Other) => {}
                    Err(fault) => found = Some(Err(fault)),
                }
            }
        });
        if found.is_some() {
            return Ok(found);
        }
        read.map_err(|_| too_large(limits::MAX_ANSWER))?;
        if self.messages > limits::MAX_MESSAGES {
            return Err(Fault::new(
                Reason::BodyTooLarge,
                format!(
                    "{} messages came without our answer among them",
                    self.messages
                ),
            ));
        }
        Ok(None)
    }

    /// The stream has ended without our answer.
    pub(super) fn ended(&self) -> Fault {
        match &self.mismatch {
            Some(other) => id_mismatch(other, self.id),
            None => Fault::new(
                Reason::StreamEnded,
                "the event stream ended without our answer",
            ),
        }
    }
}

pub(super) fn id_mismatch(found: &str, ours: u64) -> Fault {
    Fault::new(
        Reason::IdMismatch,
        format!("the answer is to request {found}, ours was {ours}"),
    )
}
