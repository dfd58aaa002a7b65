import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Command, Option } from "commander";
import { NightshiftError } from "../api/errors.ts";
import type { Store } from "../ports/store.ts";
import { DEFAULT_STATE, withStore } from "./state.ts";
import { version } from "./version.ts";

/** Options of every command that reads episodes and answers them, here or on a cluster. */
export interface PlaceOptions {
  readonly state?: string;
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: string;
}

/** Where a command looks. */
export interface Place {
  readonly store: Pick<Store, "get" | "list" | "create">;
  /** The namespace that is meant where none is named. */
  readonly namespace: string;
  /** A state directory of this machine; undefined where a cluster is looked at. */
  readonly stateDir?: string;
  /** Address of the cluster's API server; undefined where this machine is looked at. */
  readonly cluster?: string;
  /** Who the cluster's API server says that the user is; undefined where this machine is looked at. */
  readonly whoAmI?: () => Promise<string>;
}

/** Which place a command means, for its help. */
export const PLACE_HELP = `
Where it looks: with --kubeconfig or --context on that cluster, as kubectl does; with --state (or NIGHTSHIFT_STATE) in that
state directory; with neither in .nightshift where there is one, else on the cluster of KUBECONFIG or ~/.kube/config.`;

/** Adds the options that name a place. */
export function placeOptions(command: Command): Command {
  return command
    .addOption(new Option("--state <dir>", "state directory of a Nightshift on this machine").env("NIGHTSHIFT_STATE"))
    .option("--kubeconfig <file>", "kubeconfig of the cluster (default: KUBECONFIG, then ~/.kube/config)")
    .option("--context <name>", "context of the kubeconfig (default: its current one)")
    .option("-n, --namespace <namespace>", "namespace (default: the context's; on this machine: default)");
}

/** Runs `fn` where the options say. Rejects with `NO_STATE`, `NO_CLUSTER` or `KUBECONFIG_INVALID` where there is no such place. */
export async function withPlace<T>(options: PlaceOptions, fn: (place: Place) => Promise<T>): Promise<T> {
  const { kubeconfig, context, namespace } = options;
  if (kubeconfig === undefined && context === undefined) {
    const isHere = existsSync(join(resolve(DEFAULT_STATE), "nightshift.db"));
    const dir = options.state ?? (isHere ? DEFAULT_STATE : undefined);
    if (dir !== undefined) return withStore(dir, (store) => fn({ store, namespace: namespace ?? "default", stateDir: resolve(dir) }));
  }
  // Loaded only here: what a kubeconfig takes is of no use to who looks at this machine.
  const [{ findAccess }, { HttpKubeClient }, { DirectStore }, { systemClock }] = await Promise.all([
    import("../platform/kubernetes/access.ts"),
    import("../platform/kubernetes/http-client.ts"),
    import("../platform/kubernetes/direct-store.ts"),
    import("../platform/host/clock.ts"),
  ]);
  const access = await findAccess({
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
    ...(context === undefined ? {} : { context }),
  }).catch((error: unknown) => {
    if (!(error instanceof NightshiftError) || error.code !== "NO_CLUSTER") throw error;
    throw new NightshiftError("NO_STATE", "no Nightshift has run here, and no kubeconfig names a cluster", {
      where: resolve(DEFAULT_STATE),
      fix: "Name the state directory beside your stack file (--state DIR, or NIGHTSHIFT_STATE), or a cluster (--kubeconfig FILE, or KUBECONFIG).",
      cause: error,
    });
  });
  const client = new HttpKubeClient({ access, clock: systemClock, version: version() });
  try {
    const store = new DirectStore(client, (message) => process.stderr.write(`nightshift: ${message}\n`));
    return await fn({ store, namespace: namespace ?? access.namespace, cluster: access.server.href, whoAmI: () => store.whoAmI() });
  } finally {
    await client.close();
  }
}
