import type { z } from "zod";
import { API_VERSION } from "../../api/meta.ts";
import type { policySpecSchema } from "../../api/policy.ts";
import type { Demo } from "./demo.ts";
import type { ShopSettings } from "./shop.ts";

/** Something that a scenario promises, and whether it held. */
export interface Promised {
  readonly what: string;
  readonly held: boolean;
  /** The numbers, or what was seen instead. */
  readonly detail?: string;
}

/** A fault of the shop, and what Nightshift does about it. */
export interface Scenario {
  readonly name: string;
  /** One line: what is wrong. */
  readonly title: string;
  /** One line for the help: what is shown. */
  readonly shows: string;
  /** Whether it needs somebody who is paged. */
  readonly pages: boolean;
  /** Whether it can be run without healing. */
  readonly withoutHealing: boolean;
  /** The shop: who has which fault. `canary` is the file that only one process takes. */
  shop(context: { readonly canary: string; readonly speed: number }): Omit<ShopSettings, "pageUrl">;
  /** Policies and dependencies. Without healing the policies only observe. */
  resources(healing: boolean): readonly object[];
  /** Runs it to its end, and says what became of what it promised. */
  run(demo: Demo): Promise<readonly Promised[]>;
}

/** A policy for a workload of the shop. */
export function policy(name: string, workload: string, spec: Omit<z.input<typeof policySpecSchema>, "targets">): object {
  return {
    apiVersion: API_VERSION,
    kind: "RemediationPolicy",
    metadata: { name },
    spec: { targets: [{ kind: "Workload", name: workload }], ...spec },
  };
}

/** An edge of the shop's graph. */
export function dependency(from: string, to: string): object {
  return {
    apiVersion: API_VERSION,
    kind: "ServiceDependency",
    metadata: { name: `${from}-${to}` },
    spec: { from: { name: from }, to: { name: to }, unhealthyAbove: "10%", window: "10s" },
  };
}
