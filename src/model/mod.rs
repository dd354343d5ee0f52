//! The vocabulary: plain data that every stage speaks.
//!
//! No I/O, no async and no clock in here. A word of `README.md`, a type of this
//! folder and a word on the page are the same word.

mod asked;
mod channel;
mod common_cause;
mod conversation;
mod cron;
mod evidence;
mod expect;
mod explanation;
mod id;
mod incident;
mod layer;
mod nanos;
mod notice;
mod policy;
mod profile;
mod reason;
mod receiver;
mod rehearsal;
mod result;
mod retention;
mod skew;
mod span;
mod state;
mod status;
mod target;
mod text;
mod tls;
mod tool_call;
mod traces;
mod verdict;

pub use asked::{Asked, AskedBackend, Query};
pub use channel::{
    AlertmanagerSettings, ChannelKind, ChannelSettings, EmailSettings, SmtpTls, WebhookFormat,
    WebhookSettings,
};
pub use common_cause::CommonCause;
pub use conversation::{Conversation, Remark, RemarkKind};
pub use cron::Cron;
pub use evidence::{
    BackendState, Case, Coverage, Elsewhere, Evidence, FailedProbe, Fellows, PassedProbe,
    ServerSpan, SpanKind, StoredProbe, Window,
};
pub use expect::{Expect, Expectation};
pub use explanation::Explanation;
pub use id::{OWN_SCOPE, SpanId, TraceId};
pub use incident::{
    Acknowledgement, Incident, IncidentKind, Orders, Resolution, Severity, Silence, TimelineEntry,
    TimelineKind, spoken,
};
pub use layer::{Layer, Outcome, Phase};
pub use notice::{AlertChange, Delivery, DeliveryOutcome, Link, Notice, NoticeEvent, Pending};
pub use policy::{
    Alerting, ControlPoint, Count, Frequency, Heartbeat, Maintenance, Policy, Route, Severities,
};
pub use profile::Profile;
pub use reason::{Failure, Reason};
pub use receiver::{OtlpProtocol, ReceiverSettings};
pub use rehearsal::{Lack, Reach, Rehearsal, Staging};
pub use result::{
    Dialect, Era, LayerResult, Operation, OperationKind, PhaseTime, ProbeResult, ServerInfo,
    SessionEnd, Shortfall,
};
pub use retention::Retention;
pub use skew::ClockSkew;
pub use span::{
    Attribute, AttributeValue, RecordedKind, RecordedSpan, SpanEvent, SpanLink, SpanStatus,
};
pub use state::State;
pub use status::TargetStatus;
pub use target::{
    CommandLine, Endpoint, EraMode, Header, HttpEndpoint, IpFamily, Network, Proxy, Redirects,
    Secret, ServiceName, Target, Timing, TlsFileNames, TlsSettings, TraceContext, Transport,
    is_local,
};
pub use text::{Text, escaped, escaped_lines, is_unsafe};
pub use tls::{ClientTls, Identity, Pem};
pub use tool_call::ToolCall;
pub use traces::{
    BackendKind, BackendSettings, EmbeddedSettings, Forward, RemoteSettings, TracesSettings,
};
pub use verdict::{Control, Judgement, Rule, Verdict};
