import { fileURLToPath } from "node:url";
import { extname } from "node:path";
import { stringify } from "yaml";
import { freePort } from "../../platform/host/ports.ts";
import { systemRandom } from "../../platform/host/random.ts";
import type { WorkloadSpec } from "../../platform/host/stack.ts";

/** Sources run as `.ts` from a checkout, as `.js` from the package: the shop is in the form that this module is in. */
const EXTENSION = extname(fileURLToPath(import.meta.url));

/** The path of a program of the shop. */
export function shopProgram(name: "storefront" | "payments" | "bank" | "load"): string {
  return fileURLToPath(new URL(`../../../examples/shop/${name}${EXTENSION}`, import.meta.url));
}

/** Memory limit of a payments replica. */
export const PAYMENTS_LIMIT = "256Mi";

/** What differs between the scenarios' shops. */
export interface ShopSettings {
  readonly paymentsReplicas: number;
  /** Environment of each service: its faults. */
  readonly env: Readonly<Partial<Record<"storefront" | "payments" | "bank", Readonly<Record<string, string>>>>>;
  /** Where pages go, where the scenario has a receiver. */
  readonly pageUrl?: string;
}

/** Ports on 127.0.0.1 that are free now. */
export function freePorts(count: number): number[] {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(freePort(ports, systemRandom));
  return [...ports];
}

/** The stack file of a scenario. */
export function shopStack(settings: ShopSettings, ports: { storefront: number; payments: number; bank: number; listen: number }): string {
  const node = process.execPath;
  // With a memory cgroup the kernel sets the limit, and V8 must not give up before it. Without one, V8's own limit is the limit.
  const heap = process.getuid?.() === 0 ? ["--max-old-space-size=512"] : [];
  const service = (name: "storefront" | "payments" | "bank", extra: Readonly<Record<string, string>>): Partial<WorkloadSpec> => ({
    name,
    command: [node, "--disable-warning=ExperimentalWarning", ...(name === "payments" ? heap : []), shopProgram(name)],
    port: ports[name],
    env: { OTEL_METRIC_EXPORT_INTERVAL: "1000", ...extra, ...settings.env[name] },
    readiness: { path: "/healthz", period: "500ms", timeout: "1s", failureThreshold: 2, successThreshold: 1, initialDelay: "0s" },
  });
  return stringify({
    listen: `127.0.0.1:${ports.listen}`,
    resources: ["policies"],
    ...(settings.pageUrl === undefined ? {} : { receivers: [{ name: "on-call", type: "Webhook", url: settings.pageUrl }] }),
    workloads: [
      service("storefront", { PAYMENTS_URL: `http://127.0.0.1:${ports.payments}` }),
      {
        ...service("payments", { BANK_URL: `http://127.0.0.1:${ports.bank}` }),
        replicas: settings.paymentsReplicas,
        memory: { limit: PAYMENTS_LIMIT },
      },
      service("bank", {}),
    ],
  });
}
