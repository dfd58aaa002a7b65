import type { AlertmanagerSpec } from "../api/alertmanager.ts";
import type { PrometheusSpec } from "../api/prometheus.ts";
import type { ServiceGraphSpec } from "../api/service-graph.ts";
import type { AlertBook } from "../observe/alertmanager.ts";
import { AlertmanagerPoll } from "../observe/alertmanager-poll.ts";
import { PromqlPoll } from "../observe/promql-poll.ts";
import { ServiceGraphPoll } from "../observe/service-graph-poll.ts";
import type { TelemetryStore } from "../observe/store.ts";
import type { Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";
import { fileOf } from "./receivers.ts";

interface Asking {
  /** What the paths of the configuration are relative to. */
  readonly dir: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly onError: (message: string) => void;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/** Asks the Prometheus of a configuration, where there is one, what policies want to know and who calls whom, from now on. */
export function askPrometheus(
  { prometheus: spec, serviceGraph }: { readonly prometheus?: PrometheusSpec | undefined; readonly serviceGraph: ServiceGraphSpec },
  telemetry: TelemetryStore,
  { dir, signal, ...rest }: Asking,
): void {
  if (spec === undefined) return;
  const { tokenFile, passwordFile, caFile } = spec;
  const files = { tokenFile: fileOf(tokenFile, dir), passwordFile: fileOf(passwordFile, dir), caFile: fileOf(caFile, dir) };
  const poll = new PromqlPoll({ source: { ...spec, ...files }, ...rest });
  telemetry.promql = (query) => poll.answer(query);
  if (serviceGraph.fromPrometheus)
    void new ServiceGraphPoll({ ask: (query) => poll.answer(query), graph: telemetry.graph }).run(rest.clock, signal);
  void poll.run(signal);
}

/** A question that every Prometheus has an answer to. */
const ALIVE = { query: "vector(1)", rangeMs: 0, everyMs: 30_000 };

/** Asks the Alertmanagers of a configuration what fires, from now on. `telemetry`: asks the Prometheus, where there is one. */
export function askAlertmanagers(
  specs: readonly AlertmanagerSpec[],
  book: AlertBook,
  telemetry: Pick<TelemetryStore, "promql">,
  { dir, signal, ...rest }: Asking,
): void {
  const sources = specs.map((spec) => ({ ...spec, tokenFile: fileOf(spec.tokenFile, dir), caFile: fileOf(spec.caFile, dir) }));
  const sourceAnswers = (): boolean => {
    if (telemetry.promql === undefined) return true;
    const answer = telemetry.promql(ALIVE);
    return answer !== undefined && !("problem" in answer);
  };
  void new AlertmanagerPoll({ sources, book, sourceAnswers, ...rest }).run(signal);
}
