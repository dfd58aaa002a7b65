// Writes deploy/install.yaml: what `kubectl apply` installs without Helm, rendered from the chart by the helm on PATH, or by
// the one that is given. With --check it writes nothing, and exits with 1 when the file is not what it would write.
//
//   node scripts/render-install.ts [--check] [HELM]
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "..");
const file = join(root, "deploy/install.yaml");
const NAMESPACE = "nightshift";
const SECRET = "nightshift-token";

const HEAD = `# Generated from deploy/chart by \`npm run install-manifest\`. Nightshift without node agents, as the chart's defaults have it.
#
#   kubectl apply --server-side -f deploy/install.yaml
#   kubectl -n ${NAMESPACE} create secret generic ${SECRET} --from-literal=token="$(openssl rand -hex 24)"
#
# The token is what senders of signals show. For anything else than the defaults use the chart.
apiVersion: v1
kind: Namespace
metadata:
  name: ${NAMESPACE}
  labels:
    app.kubernetes.io/part-of: nightshift
    pod-security.kubernetes.io/enforce: restricted
`;

function render(helm: string): string {
  const settings = [`auth.existingSecret=${SECRET}`, "crds.keep=false"].flatMap((value) => ["--set", value]);
  const helmRun = spawnSync(helm, ["template", "nightshift", join(root, "deploy/chart"), "--namespace", NAMESPACE, ...settings], {
    encoding: "utf8",
    maxBuffer: 64 * 2 ** 20,
  });
  if (helmRun.status !== 0) throw new Error(`${helm} template: ${helmRun.error?.message ?? helmRun.stderr}`);
  // It is not Helm that manages what is applied so.
  const lines = helmRun.stdout.split("\n").filter((line) => !/^\s+(app\.kubernetes\.io\/managed-by: Helm|helm\.sh\/chart: .*)$/.test(line));
  return `${HEAD}${lines.join("\n")}`;
}

const args = process.argv.slice(2);
const check = args.includes("--check");
const text = render(args.find((arg) => arg !== "--check") ?? "helm");
if (!check) writeFileSync(file, text);
else if (readFileSync(file, "utf8") !== text) {
  console.error("deploy/install.yaml is not what the chart renders: run npm run install-manifest");
  process.exitCode = 1;
}
