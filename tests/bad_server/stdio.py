# What a script of a stdio case has to hand: requests(), answer(), say(), asks(), start(), PROGRAM (whose server this is).
import json, os, re, subprocess, sys, time

FOLDER, ERA, PROGRAM = os.environ["CASE_FOLDER"], os.environ["CASE_ERA"], os.getppid()
LEGACY, MODERN = "2025-11-25", "2026-07-28"

def keep(file, line):
    with open(os.path.join(FOLDER, file), "a") as out:
        out.write(f"{line}\n")

keep("pids", os.getpid())

def start(*command):
    "Starts another program, which must be gone afterwards too."
    keep("pids", subprocess.Popen(command).pid)

def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

def requests():
    "Every request until stdin is closed; notifications are taken and left."
    for line in sys.stdin:
        message = json.loads(line)
        meta = message.get("params", {}).get("_meta", {})
        if not re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", meta.get("traceparent", "")):
            keep("complaints", f"no traceparent in _meta: {line}")
        if meta.get("tracestate") != "alivemcp=probe,vendor=otlp":
            keep("complaints", f"no tracestate in _meta: {line}")
        if "id" in message:
            yield message

def asks(method, id=1):
    "Asks a request of its own; what is answered."
    say(json.dumps({"jsonrpc": "2.0", "id": id, "method": method}))
    return json.loads(sys.stdin.readline())

def healthy(request):
    method = request["method"]
    complete = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if ERA == "Modern" else {}
    if method == "server/discover" and ERA == "Modern":
        return {"result": {**complete, "supportedVersions": [MODERN], "capabilities": {"tools": {}}}}
    if method == "initialize" and ERA == "Legacy":
        info = {"name": "bad", "version": "1"}
        return {"result": {"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": info}}
    if method == "tools/list":
        return {"result": {**complete, "tools": [{"name": name, "inputSchema": {"type": "object"}} for name in "ab"]}}
    return {"error": {"code": -32601, "message": "Method not found"}}

def answer(request, **special):
    say(json.dumps({"jsonrpc": "2.0", "id": request["id"], **(special or healthy(request))}))
