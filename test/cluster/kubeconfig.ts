import { writeFileSync } from "node:fs";
import type { ApiAccess } from "./api.ts";

/** Writes a kubeconfig (JSON is YAML) that only its owner can read, because it holds the token. */
export function writeKubeconfig(path: string, access: ApiAccess, name = "nightshift-cluster"): void {
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name, cluster: { server: access.server, "certificate-authority-data": Buffer.from(access.ca).toString("base64") } }],
    users: [{ name, user: { token: access.token } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    "current-context": name,
  };
  writeFileSync(path, `${JSON.stringify(config, undefined, 2)}\n`, { mode: 0o600 });
}
