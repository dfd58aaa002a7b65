import { z } from "zod";
import { NightshiftError } from "../api/errors.ts";
import type { Alert } from "../api/signal.ts";
import { alertFields, alertOf, problem, type RefusedAlert } from "./alertmanager.ts";
import { parseJson } from "./json.ts";

const gettableAlertSchema = z.object({
  ...alertFields,
  status: z.object({ state: z.enum(["active", "suppressed", "unprocessed"]) }),
});

const fingerprintSchema = z.object({ fingerprint: alertFields.fingerprint });
const namelessSchema = z.object({ labels: z.object({ alertname: z.literal("").optional() }) });

/** What an Alertmanager has, at one time. */
export interface AlertmanagerSnapshot {
  /** Fires, and whoever is to be told is told. */
  readonly active: readonly Alert[];
  /** Fires, but is silenced or inhibited: nobody is told of it. */
  readonly suppressed: readonly Alert[];
  /** Fires, and is not looked at yet: whether anybody is told of it is not known. */
  readonly unprocessed: readonly Alert[];
  readonly refused: readonly RefusedSnapshotAlert[];
}

/** An alert that is not understood: one that has no name never was; any other may have been before. */
export interface RefusedSnapshotAlert extends RefusedAlert {
  readonly nameless: boolean;
  /** Undefined where it has none that could be one. */
  readonly fingerprint: string | undefined;
}

/**
 * Decodes an answer of Alertmanager's `GET /api/v2/alerts`. An alert that is not understood is refused by itself.
 *
 * @throws NightshiftError `MALFORMED_JSON`, `TOO_DEEP` or `MALFORMED_ALERTS`: then nothing of it can be used.
 */
export function decodeSnapshot(body: Uint8Array, receivedAt: number): AlertmanagerSnapshot {
  const list = z.array(z.unknown()).safeParse(parseJson(body));
  if (!list.success)
    throw new NightshiftError("MALFORMED_ALERTS", `the answer is no list of alerts: ${problem(list.error)}`, {
      fix: "Give Alertmanager's own address, with its path prefix.",
    });
  const active: Alert[] = [];
  const suppressed: Alert[] = [];
  const unprocessed: Alert[] = [];
  const refused: RefusedSnapshotAlert[] = [];
  list.data.forEach((item, index) => {
    const parsed = gettableAlertSchema.safeParse(item);
    const refuse = (message: string): void => {
      const { fingerprint } = fingerprintSchema.safeParse(item).data ?? {};
      refused.push({ index, message, nameless: namelessSchema.safeParse(item).success, fingerprint });
    };
    if (!parsed.success) return refuse(problem(parsed.error));
    const alert = alertOf({ ...parsed.data, status: "firing" }, receivedAt);
    if (typeof alert === "string") return refuse(alert);
    const expiresAt = Date.parse(parsed.data.endsAt ?? "");
    ({ active, suppressed, unprocessed })[parsed.data.status.state].push(expiresAt > 0 ? { ...alert, expiresAt } : alert);
  });
  return { active, suppressed, unprocessed, refused };
}

const statusSchema = z.object({ uptime: z.iso.datetime({ offset: true }) });

/** When the Alertmanager was started (ms), of its `GET /api/v2/status`; undefined where it does not say. */
export function decodeUptime(body: Uint8Array): number | undefined {
  const parsed = statusSchema.safeParse(parseJson(body));
  return parsed.success ? Date.parse(parsed.data.uptime) : undefined;
}
