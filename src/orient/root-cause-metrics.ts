/**
 * What a metric means, by its name and unit: what of it is bad, and on which scale services can be compared.
 * Names differ from one monitoring system to the next (`latency_p99`, `latency-90`, `http.server.duration`, `diskio`), so words
 * are looked for, not names. What is not recognised is `other`: it can be abnormal, and never is a symptom.
 */

/**
 * - `latency` and `errors` are symptoms: what a caller feels. Availability is read as its complement, a share of errors.
 * - `traffic` is demand: more of it is no fault.
 * - `resource` is what a service uses or lacks: not felt by a caller, but the better name for a cause.
 */
export type MetricRole = "latency" | "errors" | "traffic" | "resource" | "other";

/** What a metric means. */
export interface MetricMeaning {
  readonly role: MetricRole;
  /** Which way is bad. */
  readonly bad: "up" | "down" | "both";
  /** Whether it is the share of what went well: read as one minus it. */
  readonly complement: boolean;
  /** Whether its name says that it only ever counts up. */
  readonly counter: boolean;
  /** Whether it stays high by itself, as memory does: a rising level is no counter. */
  readonly level: boolean;
}

const any = (words: ReadonlySet<string>, list: string): boolean => list.split(" ").some((word) => words.has(word));
const starts = (words: ReadonlySet<string>, list: string): boolean =>
  [...words].some((word) => list.split(" ").some((prefix) => word.startsWith(prefix)));

const LEVEL = "mem memory heap rss swap disk fs inode inodes fd fds thread threads goroutine goroutines";
/** A resource whatever else the name says: `gc_pause_duration` is about the collector, not about a request. */
const RESOURCE = `cpu gc oom kernel sched load1 load5 load15 diskio iowait ${LEVEL}`;
/** A resource unless the name speaks of latency or errors: `connection_errors` are errors. */
const ALSO_RESOURCE =
  "io iops net network packet packets retransmits bytes socket sockets connection connections conn conns pool queue backlog lag saturation utilization utilisation usage replicas pods cache restarts restart node";
const LATENCY = "latency latencies duration delay rt rtt ttfb elapsed time lag_ms p50 p75 p90 p95 p99 p999 quantile";

/** The words of a name: `httpServer.duration-p99` has http, server, duration and p99. */
function wordsOf(metric: string): ReadonlySet<string> {
  return new Set(
    metric
      .replace(/([a-z0-9])([A-Z])/g, "$1 $2")
      .toLowerCase()
      .split(/[^a-z0-9]+/),
  );
}

/** What a metric of this name means. */
export function meaningOf(metric: string): MetricMeaning {
  const words = wordsOf(metric);
  const counter = any(words, "total cumulative counter") || /_(count|sum)$/.test(metric);
  const is = (role: MetricRole, bad: MetricMeaning["bad"] = "up", complement = false): MetricMeaning => ({
    role,
    bad,
    complement,
    counter,
    level: any(words, LEVEL),
  });
  const less = any(words, "free idle available avail remaining headroom unused hit hits ready replicas pods");
  if (any(words, RESOURCE) || starts(words, "throttl gc")) return is("resource", less ? "down" : "up");
  if (starts(words, "availab success") || any(words, "uptime healthy up apdex")) return is("errors", "up", true);
  if (starts(words, "err fail exception fault timeout drop reject abort retr loss lost") || any(words, "5xx 4xx 500 503"))
    return is("errors");
  if (any(words, LATENCY)) return is("latency");
  if (any(words, ALSO_RESOURCE)) return is("resource", less ? "down" : "up");
  if (
    starts(words, "request invocation call message") ||
    any(words, "req reqs rps qps tps throughput workload traffic load volume ops sessions users")
  )
    return is("traffic", "both");
  return is("other", "both");
}

/** Milliseconds in a unit of time, where it is one. */
const TIME_UNITS: ReadonlyMap<string, number> = new Map([
  ["ns", 1e-6],
  ["nanoseconds", 1e-6],
  ["us", 1e-3],
  ["µs", 1e-3],
  ["microseconds", 1e-3],
  ["ms", 1],
  ["millis", 1],
  ["milliseconds", 1],
  ["s", 1000],
  ["sec", 1000],
  ["secs", 1000],
  ["second", 1000],
  ["seconds", 1000],
  ["min", 60_000],
  ["minutes", 60_000],
]);

/** Milliseconds in the unit of a latency; undefined where the unit is none of time. */
export function millisecondsIn(unit: string | undefined): number | undefined {
  return unit === undefined ? undefined : TIME_UNITS.get(unit.trim().toLowerCase());
}

/** Whether a unit says percent. */
export function isPercent(unit: string | undefined): boolean {
  return unit !== undefined && /^(%|percent|percentage|pct)$/i.test(unit.trim());
}
