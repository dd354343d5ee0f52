"""One call of a tool, by the SDK and the exporters of Python."""

import os

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("weather")
attributes = {
    "mcp.method.name": "tools/call",
    "gen_ai.tool.name": "weather",
    "mcp.session.id": "session-1",
    "gen_ai.tool.call.arguments": '{"city": "Vienna"}',
    "http.request.header.authorization": "Bearer x",
    "url.full": "https://me:pw@api.example/v1?api_key=x&q=1",
}
with tracer.start_as_current_span("tools/call weather", kind=SpanKind.SERVER, attributes=attributes) as call:
    with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT) as child:
        child.add_event("exception", {"exception.message": "no"})
        child.set_status(Status(StatusCode.ERROR, "upstream"))
provider.shutdown()
print(trace.format_trace_id(call.get_span_context().trace_id))
