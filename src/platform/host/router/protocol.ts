import { z } from "zod";
import { latencyQuantile, mergeLatencies, type LatencySketch } from "./latency.ts";

const port = z.int().min(1).max(65_535);

const backendSchema = z.strictObject({
  /** The replica's uid. */
  uid: z.string().min(1),
  host: z.string().min(1),
  port,
  /** Whether it gets new requests. */
  traffic: z.boolean(),
});

const serviceSchema = z.strictObject({
  namespace: z.string().min(1),
  name: z.string().min(1),
  /** Where clients connect to. */
  listen: z.strictObject({ host: z.string().min(1), port }),
  /** How long a backend may take to begin its answer, and to go on with it, in milliseconds. */
  timeoutMs: z.int().min(1),
  backends: z.array(backendSchema),
});

/** What the router serves: the whole of it, each time. */
export const routerConfigSchema = z.strictObject({ services: z.array(serviceSchema) });
export type RouterBackend = z.output<typeof backendSchema>;
export type RouterService = z.output<typeof serviceSchema>;
export type RouterConfig = z.output<typeof routerConfigSchema>;

/** What a service was asked for within one second. A request belongs to the second in which it ended. */
export interface RouterSecond {
  /** When the second began, milliseconds since the epoch. */
  readonly at: number;
  readonly total: number;
  /** Answered with a 5xx, by the backend or the router, or cut. What a client gave up by itself is none. */
  readonly failed: number;
  /** Of requests that were answered, from arrival to the end of the answer; upgrades and what clients gave up are not in it. */
  readonly latency: LatencySketch;
}

/** What one backend was asked for. */
export interface RouterBackendStats {
  readonly uid: string;
  /** Whether it gets new requests; false also for one that was taken out of the configuration and still answers some. */
  readonly traffic: boolean;
  /** Requests that it has not answered in full, upgraded connections among them. Exact. */
  readonly inFlight: number;
  /** Attempts since it was configured: a request that was retried counts for each backend that it was sent to. */
  readonly total: number;
  /** Attempts that were answered with a 5xx, cut, timed out, or not accepted. */
  readonly failed: number;
}

export interface RouterServiceStats {
  readonly namespace: string;
  readonly name: string;
  readonly listen: { readonly host: string; readonly port: number };
  /** The last two minutes, oldest first, the current second last; seconds without a request are left out. */
  readonly seconds: readonly RouterSecond[];
  readonly backends: readonly RouterBackendStats[];
}

export interface RouterStats {
  /** The router's clock when it answered, milliseconds since the epoch. */
  readonly now: number;
  readonly services: readonly RouterServiceStats[];
}

/** What a running router says of itself. */
export interface RouterHealth {
  readonly pid: number;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
}

/** What was asked of a service from `since` (ms) on; latencies in milliseconds, undefined where nothing was answered. */
export function summarizeSeconds(
  seconds: readonly RouterSecond[],
  since = 0,
): { readonly total: number; readonly failed: number; readonly p50Ms: number | undefined; readonly p99Ms: number | undefined } {
  const counted = seconds.filter((second) => second.at >= since);
  const latency = mergeLatencies(counted.map((second) => second.latency));
  return {
    total: counted.reduce((sum, second) => sum + second.total, 0),
    failed: counted.reduce((sum, second) => sum + second.failed, 0),
    p50Ms: latencyQuantile(latency, 0.5),
    p99Ms: latencyQuantile(latency, 0.99),
  };
}
