import type { Clock } from "../../ports/clock.ts";
import { DEFAULT_TELEMETRY_LIMITS } from "../store.ts";
import { DEFAULT_OTLP_LIMITS, type OtlpLimits } from "./model.ts";
import type { IngestResult } from "./receiver.ts";
import { Refusals } from "./refusals.ts";

/** What receivers of log records and of spans have in common: items are judged one by one, and what was refused is counted and told. */
export abstract class ItemReceiver<Reason extends string> {
  protected readonly clock: Clock;
  protected readonly limits: OtlpLimits;
  readonly #refused: Refusals<Reason>;
  #accepted = 0;

  /** `what` is received, such as `spans`. */
  constructor(what: string, { clock, limits }: { readonly clock: Clock; readonly limits?: Partial<OtlpLimits> | undefined }) {
    this.clock = clock;
    this.limits = { ...DEFAULT_OTLP_LIMITS, ...limits };
    this.#refused = new Refusals(what);
  }

  /** Items accepted since the start. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Items refused since the start, by reason. */
  refused(): Readonly<Partial<Record<Reason, number>>> {
    return this.#refused.total();
  }

  /** Counts what `judge` makes of one request: it returns how many items it has accepted. */
  protected judged(judge: (refuse: (reason: Reason, count: number) => void) => number): IngestResult {
    const reasons = new Map<Reason, number>();
    const accepted = judge((reason, count) => void (count > 0 && reasons.set(reason, (reasons.get(reason) ?? 0) + count)));
    this.#accepted += accepted;
    return { accepted, ...this.#refused.count(reasons) };
  }

  /** Whether a text from outside names somebody. */
  protected isName(text: string | undefined): text is string {
    return text !== undefined && text !== "" && text.length <= this.limits.maxTextLength;
  }

  /** Why what lasted from `start` to `end` (ms) is not taken at `now`. */
  protected untimely(start: number, end: number, now: number): "future" | "too-old" | undefined {
    if (start > now + DEFAULT_TELEMETRY_LIMITS.maxFutureMs) return "future";
    return end < now - DEFAULT_TELEMETRY_LIMITS.retentionMs ? "too-old" : undefined;
  }
}
