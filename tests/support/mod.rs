//! What several tests need: the program, other programs, free ports, waiting.

mod certificates;
pub(crate) mod pty;

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use certificates::Certificates;

/// The longest that any test waits for something that has to come. Machines of tests are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test, with nothing of the caller's environment that could change what it does.
pub(crate) fn mcpprobe() -> Command {
    mcpprobe_by(&[])
}

/// The same, started by another program whose last argument it is.
pub(crate) fn mcpprobe_by(by: &[String]) -> Command {
    let program = env!("CARGO_BIN_EXE_mcpprobe");
    let mut words = by.iter().map(String::as_str).chain([program]);
    let mut command = Command::new(words.next().unwrap_or(program));
    command.args(words);
    for (name, _) in std::env::vars() {
        if name.starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs `mcpprobe` with `args` to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    mcpprobe().args(args).output().expect("mcpprobe runs")
}

/// `check --format json` with `args`: the document and the exit code.
pub(crate) fn check_json(args: &[&str]) -> (Value, i32) {
    let output = mcpprobe()
        .args(["check", "--format", "json"])
        .args(args)
        .output()
        .expect("mcpprobe runs");
    let code = output.status.code().expect("an exit code");
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {output:?}");
    });
    (document, code)
}

/// The only target of a `check --format json` document.
pub(crate) fn only_target(document: &Value) -> &Value {
    let targets = document["targets"].as_array().expect("targets");
    assert_eq!(targets.len(), 1);
    &targets[0]
}

/// The cache that `tests/install` fills.
pub(crate) fn cache() -> PathBuf {
    let explicit = std::env::var_os("MCPPROBE_TESTS_CACHE").map(PathBuf::from);
    let xdg = || {
        std::env::var_os("XDG_CACHE_HOME").map(|base| PathBuf::from(base).join("mcpprobe-tests"))
    };
    let home =
        || std::env::var_os("HOME").map(|base| PathBuf::from(base).join(".cache/mcpprobe-tests"));
    let cache = explicit.or_else(xdg).or_else(home).expect("HOME is set");
    assert!(
        cache.is_dir(),
        "{} is missing: run tests/install",
        cache.display()
    );
    cache
}

/// A file of this folder.
pub(crate) fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(path)
}

/// A port of the loopback interface on which nobody listens, and which no other test of this run was given.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// Tries `attempt` until it answers, for at most [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Another program, killed when the test ends.
pub(crate) struct Program {
    child: Child,
}

impl Program {
    /// Starts `command` and waits until something accepts connections on `port`.
    pub(crate) fn start(command: &mut Command, port: u16) -> Self {
        let mut program = Self::spawn(command);
        eventually(&format!("port {port}"), || {
            if let Ok(Some(status)) = program.child.try_wait() {
                panic!("{command:?} ended: {status}");
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        program
    }

    /// Starts `command`; its stdout and stderr are thrown away unless the command says otherwise.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; has tests/install run?"));
        Self { child }
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// One HTTP request to a port of this machine: status and body.
pub(crate) fn http(
    method: &str,
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    stream
        .write_all(format!("{request}\r\n{body}").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 16_384];
    // Some servers close a connection seconds after the answer.
    while !is_whole(&answer)
        && let Ok(read @ 1..) = stream.read(&mut piece)
    {
        answer.extend_from_slice(&piece[..read]);
    }
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    if let Some(end) = end
        && String::from_utf8_lossy(&answer[..end])
            .to_lowercase()
            .contains("\r\ntransfer-encoding: chunked")
    {
        let body = answer.split_off(end + 4);
        answer.extend(dechunked(&body));
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text
        .split_whitespace()
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    let body = text
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default();
    (status, body)
}

/// A real Jaeger with its spans in memory, on ports of its own.
pub(crate) struct Jaeger {
    pub(crate) program: Program,
    pub(crate) query: u16,
    /// OTLP over HTTP.
    pub(crate) otlp: u16,
    /// OTLP over gRPC.
    pub(crate) grpc: u16,
}

impl Jaeger {
    pub(crate) fn start() -> Self {
        Self::start_on([free_port(), free_port(), free_port()])
    }

    /// On ports of the caller's: of its queries, and of OTLP over HTTP and over gRPC.
    pub(crate) fn start_on(ports: [u16; 3]) -> Self {
        Self::start_with(ports, None)
    }

    /// Its receivers speak TLS as `localhost` and want a client's certificate.
    pub(crate) fn start_with_tls(certificates: &Certificates) -> Self {
        Self::start_with([free_port(), free_port(), free_port()], Some(certificates))
    }

    fn start_with([query, otlp, grpc]: [u16; 3], certificates: Option<&Certificates>) -> Self {
        let mut command = Command::new(cache().join("jaeger/jaeger"));
        let config = |name: &str| format!("--config=file:{}", here(name).display());
        command.arg(config("servers/jaeger.yaml"));
        if let Some(certificates) = certificates {
            command
                .arg(config("servers/jaeger-tls.yaml"))
                .env("CERTIFICATES", certificates.folder.path());
        }
        let program = Program::start(
            command
                .env("QUERY_PORT", query.to_string())
                .env("OTLP_HTTP_PORT", otlp.to_string())
                .env("OTLP_GRPC_PORT", grpc.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
            query,
        );
        for port in [otlp, grpc] {
            eventually("the OTLP receiver", || {
                TcpStream::connect(("127.0.0.1", port)).ok()
            });
        }
        Self {
            program,
            query,
            otlp,
            grpc,
        }
    }

    /// The trace as Jaeger has it, once it has it.
    pub(crate) fn trace(&self, id: &str, spans: usize) -> Vec<Value> {
        eventually(&format!("{spans} spans of trace {id}"), || {
            let (status, body) = http("GET", self.query, &format!("/api/traces/{id}"), &[], "");
            let page: Value = serde_json::from_str(&body).ok()?;
            let found = page["data"][0]["spans"].as_array()?.clone();
            (status == 200 && found.len() >= spans).then_some(found)
        })
    }
}

/// Whether as much of an answer is there as its head says; without a length nobody knows.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length: Option<usize> = length.and_then(|length| length.trim().parse().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}

/// Go answers long bodies in chunks.
fn dechunked(body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    let mut rest = body;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..end]);
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let after = &rest[end + 2..];
        if size == 0 || after.len() < size {
            break;
        }
        whole.extend_from_slice(&after[..size]);
        rest = after[size..]
            .strip_prefix(b"\r\n")
            .unwrap_or(&after[size..]);
    }
    whole
}

/// The demo server of `examples/`, on a free port.
pub(crate) struct Demo {
    _program: Program,
    pub(crate) port: u16,
    control: u16,
}

impl Demo {
    /// `otlp`: the port that it exports its spans to.
    pub(crate) fn start(service: &str, otlp: Option<u16>) -> Self {
        Self::start_with(service, otlp, &[])
    }

    /// `options` besides the usual ones.
    pub(crate) fn start_with(service: &str, otlp: Option<u16>, options: &[&str]) -> Self {
        let (port, control) = (free_port(), free_port());
        let mut command = Command::new(example("demo_server"));
        command
            .args([
                "--port",
                &port.to_string(),
                "--control-port",
                &control.to_string(),
                "--service",
                service,
            ])
            .args(options)
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .stdout(Stdio::null());
        if let Some(otlp) = otlp {
            command.env(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("http://127.0.0.1:{otlp}"),
            );
        }
        Self {
            _program: Program::start(&mut command, port),
            port,
            control,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }

    pub(crate) fn fail(&self, mode: &str) {
        let (status, body) = http(
            "POST",
            self.control,
            &format!("/control?fail={mode}"),
            &[],
            "",
        );
        assert_eq!(status, 200, "{body}");
    }

    pub(crate) fn sessions(&self) -> u64 {
        let (_, body) = http("GET", self.control, "/control", &[], "");
        let state: Value = serde_json::from_str(&body).unwrap();
        state["sessions"].as_u64().expect("sessions")
    }
}

/// An example's binary, which `cargo test` has built beside ours.
pub(crate) fn example(name: &str) -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_mcpprobe"));
    let path = program.parent().unwrap().join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build --examples",
        path.display()
    );
    path
}

/// A `mcpprobe watch` with its configuration in a folder of its own.
pub(crate) struct Watch {
    pub(crate) program: Program,
    folder: tempfile::TempDir,
    /// What commands are given instead of the file: one that tells of the same store.
    beside: Option<String>,
    /// What it is started by.
    by: Vec<String>,
}

impl Watch {
    /// Writes `config` and starts watching.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_by(Vec::new(), config)
    }

    /// The same by another program, whose arguments it is the last of.
    pub(crate) fn start_by(by: Vec<String>, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("servers.toml"), config).unwrap();
        let program = Self::spawn(&by, folder.path());
        Self {
            program,
            folder,
            beside: None,
            by,
        }
    }

    fn spawn(by: &[String], folder: &std::path::Path) -> Program {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .unwrap();
        Program::spawn(
            mcpprobe_by(by)
                .args(["watch", "--log-format", "json"])
                .arg(folder.join("servers.toml"))
                .stdout(log.try_clone().unwrap())
                .stderr(log),
        )
    }

    /// Stops it with SIGTERM and starts it again on the same store.
    pub(crate) fn restart(&mut self) {
        self.program.signal("TERM");
        assert_eq!(self.program.wait(), 0);
        self.program = Self::spawn(&self.by, self.folder.path());
    }

    /// Ends it with SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.program.signal("KILL");
        self.program.wait();
    }

    /// Starts it on the same file and store, once it has ended.
    pub(crate) fn start_again(&mut self) {
        self.program = Self::spawn(&self.by, self.folder.path());
    }

    /// Where its file and its store lie.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn file(&self) -> String {
        self.folder
            .path()
            .join("servers.toml")
            .display()
            .to_string()
    }

    /// Every line written so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
            .collect()
    }

    /// Commands look at it by another file beside it, while its own is broken.
    pub(crate) fn looked_at_by(self, beside: String) -> Self {
        Self {
            beside: Some(beside),
            ..self
        }
    }

    /// Everything written so far.
    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The document that a command prints about the file.
    pub(crate) fn asked(&self, words: &[&str]) -> Value {
        let file = self.beside.clone().unwrap_or_else(|| self.file());
        let mut command = mcpprobe_by(&self.by);
        let output = command.args(words).args([&file, "--format", "json"]);
        let output = output.output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }

    /// `incidents`, all of them.
    pub(crate) fn incidents(&self) -> Vec<Value> {
        let document = self.asked(&["incidents"]);
        document["incidents"].as_array().unwrap().clone()
    }

    /// `incidents show` of one.
    pub(crate) fn incident(&self, id: &str) -> Value {
        self.asked(&["incidents", "show", id])
    }

    /// `status` of one target.
    pub(crate) fn status(&self, name: &str) -> Value {
        let document = self.asked(&["status"]);
        let targets = document["targets"].as_array().unwrap();
        targets
            .iter()
            .find(|target| target["name"] == name)
            .cloned()
            .unwrap_or_else(|| panic!("{document}"))
    }

    /// Waits until `status` shows `state`.
    pub(crate) fn until_state(&self, name: &str, state: &str) -> Value {
        eventually(&format!("{name} {state}"), || {
            let status = self.status(name);
            (status["state"] == state).then_some(status)
        })
    }

    /// Waits for the last verdict on `name`.
    pub(crate) fn until_verdict(&self, name: &str) -> Value {
        eventually(&format!("the last verdict on {name}"), || {
            self.lines().into_iter().find(|line| {
                line["event"] == "verdict" && line["name"] == name && line["provisional"] == false
            })
        })
    }
}

/// A small HTTP server in this process, answered by a function; one request per connection. It listens until the
/// tests end.
pub(crate) struct Small {
    pub(crate) port: u16,
}

/// A request to [`Small`].
pub(crate) struct Asked {
    /// HTTP method.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// The header lines.
    pub(crate) head: String,
    pub(crate) bytes: Vec<u8>,
    /// The same as JSON; null when it is none.
    pub(crate) body: Value,
}

impl Small {
    /// `answer` gives the whole HTTP answer; an empty one closes the connection.
    pub(crate) fn start(answer: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    /// The same on a port of the caller's.
    pub(crate) fn start_on(
        port: u16,
        answer: impl Fn(&Asked) -> String + Send + Sync + 'static,
    ) -> Self {
        Self::listen(TcpListener::bind(("127.0.0.1", port)).unwrap(), answer)
    }

    fn listen(
        listener: TcpListener,
        answer: impl Fn(&Asked) -> String + Send + Sync + 'static,
    ) -> Self {
        use std::io::Write;
        let port = listener.local_addr().unwrap().port();
        let answer = std::sync::Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let answer = std::sync::Arc::clone(&answer);
                std::thread::spawn(move || {
                    if let Some(asked) = Asked::read(&stream) {
                        stream.write_all(answer(&asked).as_bytes()).ok();
                    }
                });
            }
        });
        Self { port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }
}

/// Healthy servers that take their time for `tools/list` and count what they are asked at the same time.
pub(crate) struct Busy {
    most: std::sync::Arc<AtomicUsize>,
    pub(crate) servers: Vec<Small>,
}

impl Busy {
    /// This many, on ports of their own, counted together.
    pub(crate) fn start(count: usize, takes: Duration) -> Self {
        let now = std::sync::Arc::new(AtomicUsize::new(0));
        let most = std::sync::Arc::new(AtomicUsize::new(0));
        let server = |_| {
            let (now, most) = (std::sync::Arc::clone(&now), std::sync::Arc::clone(&most));
            Small::start(move |asked| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if asked.method_is("tools/list") {
                    std::thread::sleep(takes);
                }
                let answer = healthy(asked);
                // Before it is sent: who has the answer may ask the next thing.
                now.fetch_sub(1, Ordering::SeqCst);
                answer
            })
        };
        let servers = (0..count).map(server).collect();
        Self { most, servers }
    }

    /// The most at the same time since it was asked for last.
    pub(crate) fn take_most(&self) -> usize {
        self.most.swap(0, Ordering::SeqCst)
    }
}

impl Asked {
    fn read(mut stream: &TcpStream) -> Option<Self> {
        use std::io::Read;
        let mut bytes = Vec::new();
        let mut piece = [0; 8192];
        loop {
            let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
            bytes.extend_from_slice(&piece[..read]);
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let (first, head) = text.split_once("\r\n").unwrap_or((&text, ""));
            let mut words = first.split(' ').map(str::to_owned);
            let mut asked = Self {
                method: words.next()?,
                target: words.next()?,
                head: head.to_owned(),
                bytes: bytes[end + 4..].to_vec(),
                body: Value::Null,
            };
            if asked.bytes.len() < asked.header("content-length").parse().unwrap_or(0) {
                continue;
            }
            asked.body = serde_json::from_slice(&asked.bytes).unwrap_or_default();
            return Some(asked);
        }
    }

    /// The value of a header, empty without one.
    pub(crate) fn header(&self, name: &str) -> String {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    }

    /// Whether it asks for this JSON-RPC method.
    pub(crate) fn method_is(&self, method: &str) -> bool {
        self.body["method"] == method
    }

    /// The trace that it belongs to; one per probe.
    pub(crate) fn trace_id(&self) -> String {
        let parent = self.header("traceparent");
        parent.split('-').nth(1).unwrap_or_default().to_owned()
    }
}

/// A whole HTTP answer with a JSON body.
pub(crate) fn json_answer(status: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A JSON-RPC result.
pub(crate) fn rpc_result(asked: &Asked, result: &Value) -> String {
    let body = serde_json::json!({ "jsonrpc": "2.0", "id": asked.body["id"], "result": result });
    json_answer("200 OK", &body)
}

/// A JSON-RPC error.
pub(crate) fn rpc_error(asked: &Asked, status: &str, code: i64, message: &str) -> String {
    let error = serde_json::json!({ "code": code, "message": message });
    let body = serde_json::json!({ "jsonrpc": "2.0", "id": asked.body["id"], "error": error });
    json_answer(status, &body)
}

/// An answer without a body.
pub(crate) fn empty_answer(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
}

/// What a healthy server answers: legacy, without sessions, with one tool.
pub(crate) fn healthy(asked: &Asked) -> String {
    match asked.body["method"].as_str().unwrap_or_default() {
        "initialize" => rpc_result(
            asked,
            &serde_json::json!({
                "protocolVersion": "2025-06-18",
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "small", "version": "1.0" },
            }),
        ),
        "tools/list" => rpc_result(
            asked,
            &serde_json::json!({ "tools": [{ "name": "t", "inputSchema": { "type": "object" } }] }),
        ),
        "notifications/initialized" => empty_answer("202 Accepted"),
        _ => rpc_error(asked, "404 Not Found", -32601, "no such method"),
    }
}
