//! A small MCP server that fails when it is told to: something to probe, to page about and to
//! find traces of.
//!
//! ```text
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 \
//!     cargo run --example demo_server -- --port 8000 --control-port 8001
//! mcpprobe check http://127.0.0.1:8000/mcp
//! curl -X POST 'http://127.0.0.1:8001/control?fail=tools_list'
//! mcpprobe check http://127.0.0.1:8000/mcp
//! ```
//!
//! It serves Streamable HTTP at `/mcp` on loopback, both eras, or with `--stdio` its standard
//! input and output (without faults and spans). With `OTEL_EXPORTER_OTLP_ENDPOINT` set every
//! request leaves a SERVER span, and one that was made to fail leaves what a real failure leaves;
//! see [`Fault`] for the kinds. `GET /control` tells the fault of now and the number of sessions.
//! An interrupt flushes the spans, any other end loses the last second of them.

mod call;
mod clock;
mod fault;
mod tools;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry::trace::{Span as _, TracerProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{BatchConfigBuilder, SdkTracer, SdkTracerProvider, Span};
use rmcp::ServiceExt as _;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::call::Call;
use crate::clock::{ByClock, Clock};
use crate::fault::Fault;
use crate::tools::Tools;

/// The SDK's own limit for a request; the same for an answer, which no tool here comes near.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// How long a span waits for company. The SDK's 5 s would make everyone who asks for traces wait.
const EXPORT_DELAY: Duration = Duration::from_secs(1);

type Answer = Response<BoxBody<Bytes, Infallible>>;

#[derive(Parser)]
#[command(about = "A small MCP server that fails when it is told to")]
struct Options {
    /// Port of /mcp and /control on loopback; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Further port for the same, which `fail=transport` does not close; 0 takes a free one
    #[arg(long)]
    control_port: Option<u16>,
    /// The service.name of its spans
    #[arg(long, default_value = "demo-mcp")]
    service: String,
    /// Trace calls of tools and nothing else, as some servers do
    #[arg(long)]
    trace_tools_only: bool,
    /// Hand out no sessions
    #[arg(long)]
    stateless: bool,
    /// Its spans tell of a clock that is this far ahead, such as 90s
    #[arg(long, value_parser = humantime::parse_duration)]
    clock_ahead: Option<Duration>,
    /// Its spans tell of a clock that is this far behind
    #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "clock_ahead")]
    clock_behind: Option<Duration>,
    /// Serve standard input and output instead
    #[arg(long)]
    stdio: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if options.stdio {
        let server = Tools.serve(rmcp::transport::stdio()).await?;
        server.waiting().await?;
        return Ok(());
    }
    let traces = tracer_provider(&options)?;
    let served = serve(&options, traces.tracer("demo_server"));
    let interrupted = tokio::signal::ctrl_c();
    tokio::select! {
        result = served => result?,
        result = interrupted => result?,
    }
    traces.shutdown()?;
    Ok(())
}

impl Options {
    fn clock(&self) -> Clock {
        match (self.clock_ahead, self.clock_behind) {
            (_, Some(by)) => Clock::Behind(by),
            (by, None) => Clock::Ahead(by.unwrap_or_default()),
        }
    }
}

fn tracer_provider(options: &Options) -> Result<SdkTracerProvider, Box<dyn Error>> {
    let resource = Resource::builder().with_service_name(options.service.clone());
    let provider = SdkTracerProvider::builder().with_resource(resource.build());
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_none() {
        return Ok(provider.build());
    }
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "a TLS provider is installed already")?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .build()?;
    let exporter = ByClock {
        exporter,
        clock: options.clock(),
    };
    let mut batches = BatchConfigBuilder::default();
    if std::env::var_os("OTEL_BSP_SCHEDULE_DELAY").is_none() {
        batches = batches.with_scheduled_delay(EXPORT_DELAY);
    }
    // The SDK's other batch processor runs on a thread without a runtime, where the
    // asynchronous HTTP client panics.
    let processor = BatchSpanProcessor::builder(exporter, Tokio)
        .with_batch_config(batches.build())
        .build();
    Ok(provider.with_span_processor(processor).build())
}

/// Serves until something breaks: the MCP port, which is closed for as long as the fault is
/// `transport`, and the control port.
async fn serve(options: &Options, tracer: SdkTracer) -> io::Result<()> {
    let demo = Arc::new(Demo::new(options, tracer));
    let mut listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
    let address = listener.local_addr()?;
    if let Some(port) = options.control_port {
        let control = TcpListener::bind(("127.0.0.1", port)).await?;
        println!("control on http://{}/control", control.local_addr()?);
        tokio::spawn(accept(control, Arc::clone(&demo)));
    }
    println!("listening on http://{address}/mcp");

    let mut fault = demo.fault.subscribe();
    loop {
        demo.listening.send_replace(true);
        tokio::select! {
            result = accept(listener, Arc::clone(&demo)) => return result,
            _ = fault.wait_for(|fault| *fault == Fault::Transport) => {}
        }
        demo.listening.send_replace(false);
        let _ = fault.wait_for(|fault| *fault != Fault::Transport).await;
        listener = TcpListener::bind(address).await?;
    }
}

/// Accepts connections and answers them. Dropped, it closes the listener and every connection.
async fn accept(listener: TcpListener, demo: Arc<Demo>) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        while connections.try_join_next().is_some() {}
        let demo = Arc::clone(&demo);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let demo = Arc::clone(&demo);
                async move { demo.answer(request).await }
            });
            // An error here is a client that went away, or an answer lost on purpose.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

struct Demo {
    mcp: StreamableHttpService<Tools, LocalSessionManager>,
    sessions: Arc<LocalSessionManager>,
    tracer: SdkTracer,
    fault: watch::Sender<Fault>,
    /// Whether the MCP port is open, so that `/control` answers when it is as it was told to be.
    listening: watch::Sender<bool>,
    has_control_port: bool,
    trace_tools_only: bool,
}

impl Demo {
    fn new(options: &Options, tracer: SdkTracer) -> Self {
        let sessions = Arc::new(LocalSessionManager::default());
        let config =
            StreamableHttpServerConfig::default().with_legacy_session_mode(!options.stateless);
        Self {
            mcp: StreamableHttpService::new(|| Ok(Tools), Arc::clone(&sessions), config),
            sessions,
            tracer,
            fault: watch::Sender::new(Fault::None),
            listening: watch::Sender::new(false),
            has_control_port: options.control_port.is_some(),
            trace_tools_only: options.trace_tools_only,
        }
    }

    /// The answer to a request, or an error to close the connection without one.
    async fn answer(&self, request: Request<Incoming>) -> io::Result<Answer> {
        match (request.method(), request.uri().path()) {
            (_, "/mcp") => self.answer_mcp(request).await,
            (&Method::GET, "/control") => Ok(self.state().await),
            (&Method::POST, "/control") => Ok(self.control(request.uri().query()).await),
            _ => Ok(text_answer(StatusCode::NOT_FOUND, "not found")),
        }
    }

    async fn control(&self, query: Option<&str>) -> Answer {
        let name = query.and_then(|query| query.strip_prefix("fail="));
        let Some(fault) = name.and_then(Fault::from_name) else {
            let usage = format!("POST /control?fail=MODE, MODE one of {}", Fault::names());
            return text_answer(StatusCode::BAD_REQUEST, usage);
        };
        if fault == Fault::Exit {
            process::exit(1);
        }
        if fault == Fault::Transport && !self.has_control_port {
            return text_answer(
                StatusCode::CONFLICT,
                "no way back from it without --control-port",
            );
        }
        self.fault.send_replace(fault);
        let open = fault != Fault::Transport;
        let _ = self
            .listening
            .subscribe()
            .wait_for(|listening| *listening == open)
            .await;
        self.state().await
    }

    async fn state(&self) -> Answer {
        let fault = self.fault.borrow().name();
        let sessions = self.sessions.sessions.read().await.len();
        json_answer(&json!({ "fail": fault, "sessions": sessions }))
    }

    async fn answer_mcp(&self, request: Request<Incoming>) -> io::Result<Answer> {
        let fault = *self.fault.borrow();
        if fault == Fault::Http {
            return Ok(text_answer(
                StatusCode::SERVICE_UNAVAILABLE,
                "no healthy upstream",
            ));
        }
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_BODY)
            .collect()
            .await
            .map_err(io::Error::other)?
            .to_bytes();
        let call = Call::read(&head.headers, &body);
        let span = call
            .as_ref()
            .filter(|_| fault != Fault::TracingOff)
            .filter(|call| !self.trace_tools_only || call.method == "tools/call")
            .map(|call| call.start_span(&self.tracer));

        let answer = match fault {
            Fault::Hang => return Err(self.hang(span).await),
            Fault::HttpSpan => {
                text_answer(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
            }
            _ => match call.filter(|call| fault.refuses(&call.method)) {
                Some(call) => json_answer(&call.error("the demo was told to fail")),
                None => {
                    self.mcp
                        .handle(Request::from_parts(head, Full::new(body)))
                        .await
                }
            },
        };
        // What is no call is a session's GET, whose stream has no end to wait for, or its DELETE.
        let answer = match span {
            Some(span) => finish(span, answer).await?,
            None => answer,
        };
        match fault {
            Fault::Drop => Err(io::Error::other("the answer is lost on purpose")),
            _ => Ok(answer),
        }
    }

    /// Waits for another fault. The span stays open till then even when the client gives up and
    /// its connection is gone, for a handler that is stuck does not notice.
    async fn hang(&self, span: Option<Span>) -> io::Error {
        let mut fault = self.fault.subscribe();
        let stuck = tokio::spawn(async move {
            let _ = fault.wait_for(|fault| *fault != Fault::Hang).await;
            drop(span);
        });
        let _ = stuck.await;
        io::Error::other("released without an answer")
    }
}

/// Reads the answer to its end, ends the span with what it says, and hands it on unchanged.
async fn finish(mut span: Span, answer: Answer) -> io::Result<Answer> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_BODY)
        .collect()
        .await
        .map_err(io::Error::other)?
        .to_bytes();
    call::record_answer(&mut span, &head, &body);
    span.end();
    Ok(Response::from_parts(head, Full::new(body).boxed()))
}

fn text_answer(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = answer("text/plain", text);
    *answer.status_mut() = status;
    answer
}

fn json_answer(value: &serde_json::Value) -> Answer {
    answer("application/json", value.to_string())
}

fn answer(content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed());
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
