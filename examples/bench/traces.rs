//! The embedded trace backend: spans taken in per second of CPU, beside Jaeger with its spans in memory, and how long
//! answers take with ten million spans stored.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use mcpprobe::model::{TraceId, Window};
use mcpprobe::traces::{ListenSettings, Receiver, Store, StoreSettings, TraceFilter};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use std::io::Write;
use tokio::process::Command;

use super::Trouble;
use super::program::Program;

/// Spans of a request: what SDKs send by default.
const BATCH: u64 = 512;

/// Spans of a trace: a session with a few calls.
const TRACE: u64 = 8;

/// Requests of one turn, and turns; the programs take turns.
const REQUESTS: u64 = 400;
const TURNS: usize = 3;

/// Different requests: none comes twice in what is merged at once.
const DIFFERENT: u64 = 100;

/// Spans that are stored for the answers' times, over a day, of so many services.
const STORED: u64 = 10_000_000;
const DAY: Duration = Duration::from_secs(24 * 3600);
const SERVICES: u64 = 20;

/// Answers of each kind.
const ANSWERS: usize = 200;

/// A store and a receiver, until the one who started it is gone.
pub(crate) async fn serve() -> Result<(), Trouble> {
    let folder = tempfile::tempdir()?;
    let (_store, receiver) = start(folder.path().join("traces.db"))?;
    println!("{}", receiver.http.ok_or("no port")?);
    std::future::pending().await
}

fn start(path: PathBuf) -> Result<(Store, Receiver), Trouble> {
    let warn: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(|text| eprintln!("warning: {text}"));
    let settings = StoreSettings {
        path,
        keep: 7 * DAY,
        max_size: 1 << 36,
        keep_content: false,
    };
    let store = Store::open(settings, Arc::clone(&warn))?;
    let listen = ListenSettings {
        http: Some(([127, 0, 0, 1], 0).into()),
        ..ListenSettings::default()
    };
    let receiver = Receiver::start(listen, store.intake(), warn);
    Ok((store, receiver))
}

/// Everything about the backend.
pub(crate) async fn run() -> Result<(), Trouble> {
    mcpprobe::install_tls_provider();
    println!("spans per second of CPU, {BATCH} spans a request, medians of {TURNS}:\n");
    for (name, gzip) in [("OTLP/HTTP", false), ("OTLP/HTTP, gzip", true)] {
        let requests: Vec<_> = (0..DIFFERENT)
            .map(|n| body(n, SystemTime::now(), gzip))
            .collect();
        let (mut ours, mut jaegers) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let (program, address) = Program::start_role(&["traces-server"]).await?;
            ours.push(rate(&program, address, &requests, gzip).await?);
            program.end().await?;
            if let Some((program, address)) = start_jaeger().await? {
                jaegers.push(rate(&program, address, &requests, gzip).await?);
                program.end().await?;
            }
        }
        let (own, jaeger) = (median(&mut ours), median(&mut jaegers));
        println!(
            "  {name:<18} mcpprobe {own:>9.0}   Jaeger, in memory {jaeger:>9.0}   ratio {:.1}",
            own / jaeger
        );
    }
    println!(
        "  {:<18} prost    {:>9.0}\n",
        "decoding alone",
        decoding_alone()?
    );
    let status = Command::new(std::env::current_exe()?)
        .arg("traces-reading")
        .status()
        .await?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| "reading failed".into())
}

/// What the protocol's own crate takes to decode, without anything being done with it: why there is a reader of our own.
fn decoding_alone() -> Result<f64, Trouble> {
    let requests: Vec<_> = (0..DIFFERENT)
        .map(|n| body(n, SystemTime::now(), false))
        .collect();
    let begin = Instant::now();
    for bytes in &requests {
        std::hint::black_box(ExportTraceServiceRequest::decode(bytes.as_slice())?);
    }
    Ok((DIFFERENT * BATCH) as f64 / begin.elapsed().as_secs_f64())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn rate(
    program: &Program,
    address: SocketAddr,
    requests: &[Vec<u8>],
    gzip: bool,
) -> Result<f64, Trouble> {
    let client = reqwest::Client::new();
    // The first requests find cold caches and grow what has to grow.
    send(&client, address, requests.iter().take(20).cloned(), gzip).await?;
    let before = program.cpu()?;
    let all = requests.iter().cycle().take(REQUESTS as usize).cloned();
    send(&client, address, all, gzip).await?;
    // What was taken in has to be stored too.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let cpu = program.cpu()? - before;
    Ok((REQUESTS * BATCH) as f64 / cpu.as_secs_f64())
}

async fn send(
    client: &reqwest::Client,
    address: SocketAddr,
    requests: impl Iterator<Item = Vec<u8>>,
    gzip: bool,
) -> Result<(), Trouble> {
    for body in requests {
        loop {
            let mut request = client
                .post(format!("http://{address}/v1/traces"))
                .header("content-type", "application/x-protobuf")
                .body(body.clone());
            if gzip {
                request = request.header("content-encoding", "gzip");
            }
            let status = request.send().await?.status();
            match status.as_u16() {
                200 => break,
                429 => tokio::time::sleep(Duration::from_millis(50)).await,
                _ => return Err(format!("it answers {status}").into()),
            }
        }
    }
    Ok(())
}

async fn start_jaeger() -> Result<Option<(Program, SocketAddr)>, Trouble> {
    let home = std::env::var("HOME").unwrap_or_default();
    let jaeger = PathBuf::from(home).join(".cache/mcpprobe-tests/jaeger/jaeger");
    if !jaeger.exists() {
        return Ok(None);
    }
    let port = || {
        Ok::<_, Trouble>(
            std::net::TcpListener::bind("127.0.0.1:0")?
                .local_addr()?
                .port(),
        )
    };
    let (query, http, grpc) = (port()?, port()?, port()?);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/jaeger.yaml");
    let mut command = Command::new(jaeger);
    command
        .args(["--config", config])
        .env("QUERY_PORT", query.to_string())
        .env("OTLP_HTTP_PORT", http.to_string())
        .env("OTLP_GRPC_PORT", grpc.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let program = Program::spawn(&mut command)?;
    let address = SocketAddr::from(([127, 0, 0, 1], http));
    let until = Instant::now() + Duration::from_secs(20);
    while tokio::net::TcpStream::connect(address).await.is_err() {
        if Instant::now() > until {
            return Err("Jaeger does not start".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(Some((program, address)))
}

/// Ten million spans, and how long answers take then.
pub(crate) async fn reading() -> Result<(), Trouble> {
    mcpprobe::install_tls_provider();
    let folder = tempfile::tempdir()?;
    let (store, receiver) = start(folder.path().join("traces.db"))?;
    let address = receiver.http.ok_or("no port")?;
    let client = reqwest::Client::new();
    let begin = SystemTime::now() - DAY;
    let requests = STORED / BATCH;
    let at = |n: u64| begin + DAY.mul_f64(n as f64 / requests as f64);
    send(
        &client,
        address,
        (0..requests).map(|n| body(n, at(n), false)),
        false,
    )
    .await?;
    store.flush();
    let reader = store.reader();
    let stats = reader.stats().map_err(String::from)?;
    println!(
        "{} spans of {SERVICES} services over a day, {} blocks, {} MB",
        stats.spans,
        stats.blocks,
        stats.bytes / 1_000_000
    );
    let pick = |n: usize| (n as u64 * 7_919_117) % requests;
    let mut found = 0;
    time("a trace by its id", |n| {
        found += reader
            .trace(trace_id(pick(n), n as u64 % (BATCH / TRACE)))
            .map_err(String::from)?
            .spans
            .len();
        Ok(())
    })?;
    // One more for the first.
    if found != (ANSWERS + 1) * TRACE as usize {
        return Err(format!("{found} spans of {ANSWERS} traces").into());
    }
    let mut spans = 0;
    time("five minutes of a service", |n| {
        let from = at(pick(n));
        let window = Window {
            from,
            to: from + Duration::from_secs(300),
        };
        let service = format!("service-{}", n as u64 % SERVICES);
        spans += reader
            .service_window(&service, window, 50_000)
            .map_err(String::from)?
            .spans
            .len();
        Ok(())
    })?;
    println!("    {} spans each", spans / ANSWERS);
    time("the 50 newest traces", |_| {
        reader
            .list(&TraceFilter::default(), 50)
            .map_err(String::from)?;
        Ok(())
    })?;
    time("services", |_| {
        reader.services().map_err(String::from)?;
        Ok(())
    })?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    for line in status
        .lines()
        .filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"))
    {
        println!("  {line}, with what sends the spans");
    }
    Ok(())
}

fn time(what: &str, mut ask: impl FnMut(usize) -> Result<(), Trouble>) -> Result<(), Trouble> {
    let mut times = Vec::new();
    // Once before: the first question reads what is known of all blocks.
    let first = Instant::now();
    ask(0)?;
    let first = first.elapsed();
    for n in 0..ANSWERS {
        let begin = Instant::now();
        ask(n)?;
        times.push(begin.elapsed());
    }
    times.sort();
    let at = |share: f64| {
        times
            .get((ANSWERS as f64 * share) as usize)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "  {what:<28} median {:>9.2?}   99th {:>9.2?}   first {first:>9.2?}",
        at(0.5),
        at(0.99)
    );
    Ok(())
}

fn trace_id(request: u64, trace: u64) -> TraceId {
    // Spread like random ones, and the same each time.
    let mixed = |n: u64| {
        (n ^ n >> 31)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23)
    };
    let number = request * (BATCH / TRACE) + trace + 1;
    let id = u128::from(mixed(number)) << 64 | u128::from(mixed(number ^ 0x5bd1_e995));
    TraceId(id.to_be_bytes())
}

/// A request of one service whose spans began around `at`.
fn body(number: u64, at: SystemTime, gzip: bool) -> Vec<u8> {
    let spans = (0..BATCH).map(|n| span(number, n, at)).collect();
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![
                    text("service.name", &format!("service-{}", number % SERVICES)),
                    text("service.version", "1.4.2"),
                    text("telemetry.sdk.name", "opentelemetry"),
                    text("telemetry.sdk.language", "python"),
                    text("telemetry.sdk.version", "1.38.0"),
                    text("host.name", "mcp-7c9f8d6b5-x2x4q"),
                ],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "mcp.server".to_owned(),
                    version: "1.20.0".to_owned(),
                    ..InstrumentationScope::default()
                }),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let bytes = request.encode_to_vec();
    if !gzip {
        return bytes;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(&bytes)
        .and_then(|()| encoder.finish())
        .unwrap_or_default()
}

fn span(request: u64, n: u64, at: SystemTime) -> Span {
    let trace = trace_id(request, n / TRACE);
    let start = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64 + n * 1_000_000;
    let tools = ["weather.get", "calendar.list", "search", "files.read"];
    let tool = tools[(n % 4) as usize];
    let failed = n.is_multiple_of(50);
    Span {
        trace_id: trace.0.to_vec(),
        span_id: (request * BATCH + n + 1).to_be_bytes().to_vec(),
        parent_span_id: match n % TRACE {
            0 => Vec::new(),
            _ => (request * BATCH + n / TRACE * TRACE + 1)
                .to_be_bytes()
                .to_vec(),
        },
        name: format!("tools/call {tool}"),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_000_000 + n * 1_117,
        attributes: vec![
            text("mcp.method.name", "tools/call"),
            text("gen_ai.tool.name", tool),
            text("gen_ai.operation.name", "execute_tool"),
            text(
                "mcp.session.id",
                &format!("{:032x}", u128::from(request) * 77 + u128::from(n / TRACE)),
            ),
            text("mcp.protocol.version", "2025-11-25"),
            text("jsonrpc.request.id", &n.to_string()),
            text("network.transport", "tcp"),
            text("network.protocol.name", "http"),
            text("client.address", "10.0.3.17"),
            attribute("client.port", Value::IntValue(40_000 + n as i64)),
            attribute("http.response.status_code", Value::IntValue(200)),
            attribute("mcp.tool.result.success", Value::BoolValue(!failed)),
        ],
        status: Some(Status {
            code: if failed { 2 } else { 0 },
            message: if failed {
                "upstream timed out".to_owned()
            } else {
                String::new()
            },
        }),
        ..Span::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
