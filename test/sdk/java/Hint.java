// Sends hints with the official OpenTelemetry SDK for Java and nothing else; see go/main.go for what its arguments mean.
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.AttributesBuilder;
import io.opentelemetry.api.metrics.LongCounter;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import java.util.concurrent.TimeUnit;

public class Hint {
  public static void main(String[] args) {
    OpenTelemetrySdk sdk = AutoConfiguredOpenTelemetrySdk.initialize().getOpenTelemetrySdk();
    LongCounter counter = sdk.getMeter("app").counterBuilder("service.remediation.hint").build();
    AttributesBuilder attributes = Attributes.builder();
    int next = 0;
    for (; next + 1 < args.length && args[next].startsWith("--"); next += 2)
      attributes.put(args[next].equals("--action") ? "remediation.action" : "saturation.type", args[next + 1]);
    for (; next < args.length; next++) counter.add(Long.parseLong(args[next]), attributes.build());
    sdk.getSdkMeterProvider().shutdown().join(30, TimeUnit.SECONDS);
    sdk.close();
  }
}
