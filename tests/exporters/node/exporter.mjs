// One call of a tool, by the SDK and the exporters of Node, which NodeSDK chooses by OTEL_EXPORTER_OTLP_PROTOCOL.

import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { NodeSDK } from "@opentelemetry/sdk-node";

const sdk = new NodeSDK({ instrumentations: [] });
sdk.start();
const tracer = trace.getTracer("weather");
const attributes = {
  "mcp.method.name": "tools/call",
  "gen_ai.tool.name": "weather",
  "mcp.session.id": "session-1",
  "gen_ai.tool.call.arguments": '{"city": "Vienna"}',
  "http.request.header.authorization": "Bearer x",
  "url.full": "https://me:pw@api.example/v1?api_key=x&q=1",
};
const call = tracer.startSpan("tools/call weather", { kind: SpanKind.SERVER, attributes });
const child = tracer.startSpan("GET", { kind: SpanKind.CLIENT }, trace.setSpan(context.active(), call));
child.addEvent("exception", { "exception.message": "no" });
child.setStatus({ code: SpanStatusCode.ERROR, message: "upstream" });
child.end();
call.end();
await sdk.shutdown();
console.log(call.spanContext().traceId);
