//! The vocabulary: plain data that every stage speaks.
//!
//! No I/O, no async and no clock in here. A word of `README.md`, a type of this
//! folder and a word on the page are the same word.

mod evidence;
mod id;
mod layer;
mod profile;
mod reason;
mod receiver;
mod result;
mod state;
mod status;
mod target;
mod text;
mod tls;
mod verdict;

pub use evidence::{
    BackendState, Case, Evidence, FailedProbe, PassedProbe, ServerSpan, SpanKind, StoredProbe,
    Window,
};
pub use id::{OWN_SCOPE, SpanId, TraceId};
pub use layer::{Layer, Outcome, Phase};
pub use profile::Profile;
pub use reason::{Failure, Reason};
pub use receiver::{OtlpProtocol, ReceiverSettings};
pub use result::{
    Era, LayerResult, Operation, OperationKind, PhaseTime, ProbeResult, ServerInfo, SessionEnd,
};
pub use state::State;
pub use status::TargetStatus;
pub use target::{
    CommandLine, Endpoint, EraMode, HttpEndpoint, Redirects, Secret, ServiceName, Target,
    TraceContext, TracesSettings,
};
pub use text::Text;
pub use tls::{ClientTls, Identity, Pem};
pub use verdict::{Control, Judgement, Rule, Verdict};
