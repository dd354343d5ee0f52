import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import java.util.concurrent.TimeUnit;

/** One call of a tool, by the SDK and the exporters of Java, which the SDK chooses by OTEL_EXPORTER_OTLP_PROTOCOL. */
class Exporter {
  public static void main(String[] arguments) {
    OpenTelemetrySdk sdk = AutoConfiguredOpenTelemetrySdk.initialize().getOpenTelemetrySdk();
    Tracer tracer = sdk.getTracer("weather");
    Span call =
        tracer
            .spanBuilder("tools/call weather")
            .setSpanKind(SpanKind.SERVER)
            .setAttribute("mcp.method.name", "tools/call")
            .setAttribute("gen_ai.tool.name", "weather")
            .setAttribute("mcp.session.id", "session-1")
            .setAttribute("gen_ai.tool.call.arguments", "{\"city\": \"Vienna\"}")
            .setAttribute("http.request.header.authorization", "Bearer x")
            .setAttribute("url.full", "https://me:pw@api.example/v1?api_key=x&q=1")
            .startSpan();
    Span child =
        tracer
            .spanBuilder("GET")
            .setSpanKind(SpanKind.CLIENT)
            .setParent(Context.root().with(call))
            .startSpan();
    child.addEvent("exception", Attributes.of(AttributeKey.stringKey("exception.message"), "no"));
    child.setStatus(StatusCode.ERROR, "upstream");
    child.end();
    call.end();
    sdk.shutdown().join(10, TimeUnit.SECONDS);
    System.out.println(call.getSpanContext().getTraceId());
  }
}
