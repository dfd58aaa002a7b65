import { createRequire } from "node:module";
import { HintsError } from "./errors.ts";

/** Name of the counter. */
export const HINT_METRIC = "service.remediation.hint";

/** What is needed of an OpenTelemetry meter: one of `@opentelemetry/api`. */
export interface Meter {
  createCounter(
    name: string,
    options: { description: string; unit: string },
  ): { add(value: number, attributes: Record<string, string>): void };
}

/** How hints are sent. */
export interface HintOptions {
  /** The meter that counts them. Default: that of the global provider of `@opentelemetry/api`. */
  readonly meter?: Meter;
  /**
   * Called after each hint, so that it is exported at once and not with the next interval (60 s by default):
   * `() => provider.forceFlush()`. One call at a time; failures are left to the SDK's own diagnostics.
   */
  readonly flush?: () => Promise<unknown>;
}

/**
 * Says what would help: `action` is what should be done (`pool-reset`, `cache-flush`, `restart`, or an own name), `saturation`
 * what is exhausted (`connections`, `cache`, ...). It is a claim, and Nightshift decides. Never throws.
 */
export type Hint = (action: string, saturation?: string) => void;

/**
 * Makes the counter that hints are sent with. Throws `NO_METER` where there is neither a meter nor `@opentelemetry/api`.
 *
 * @example
 * const hint = hints({ flush: () => meterProvider.forceFlush() });
 * pool.on("error", () => hint("pool-reset", "connections"));
 */
export function hints({ meter = globalMeter(), flush }: HintOptions = {}): Hint {
  const counter = meter.createCounter(HINT_METRIC, { description: "What would help this service.", unit: "{hint}" });
  let flushing = false;
  let again = false;
  const send = async (): Promise<void> => {
    if (flush === undefined) return;
    again = true;
    if (flushing) return;
    flushing = true;
    while (again) {
      again = false;
      await Promise.resolve()
        .then(flush)
        .catch(() => undefined);
    }
    flushing = false;
  };
  return (action, saturation) => {
    counter.add(1, { "remediation.action": action, ...(saturation === undefined ? {} : { "saturation.type": saturation }) });
    void send();
  };
}

function globalMeter(): Meter {
  let api: { metrics: { getMeter(name: string): Meter } };
  try {
    // Loaded only where it is asked for, and at once, so that the package can be required from CommonJS, too.
    api = createRequire(import.meta.url)("@opentelemetry/api") as typeof api;
  } catch (cause) {
    throw new HintsError("NO_METER", "@opentelemetry/api is not installed: install it, or give a meter", { cause });
  }
  return api.metrics.getMeter("@nightshift/hints");
}
