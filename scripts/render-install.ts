// Writes deploy/install.yaml: what `kubectl apply` installs without Helm, rendered from the chart by the helm on PATH, or by
// the one that is given. With --check it writes nothing, and exits with 1 when the file is not what it would write.
//
// With --check-chart no helm is needed: it is only asked whether the chart has changed since the file was written.
//
//   node scripts/render-install.ts [--check | --check-chart] [HELM]
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { globSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "..");
const file = join(root, "deploy/install.yaml");
const NAMESPACE = "nightshift";
const SECRET = "nightshift-token";

/** Of everything that the file is made of. */
function chartDigest(): string {
  const files = globSync("**/*", { cwd: join(root, "deploy/chart") }).filter((path) => statSync(join(root, "deploy/chart", path)).isFile());
  const hash = createHash("sha256");
  for (const path of files.toSorted())
    hash
      .update(`${path}\0`)
      .update(readFileSync(join(root, "deploy/chart", path)))
      .update("\0");
  return hash.digest("hex");
}

const HEAD = `# Generated from deploy/chart by \`npm run install-manifest\`. Nightshift without node agents, as the chart's defaults have it.
#
#   kubectl apply --server-side -f deploy/install.yaml
#   kubectl -n ${NAMESPACE} create secret generic ${SECRET} --from-literal=token="$(openssl rand -hex 24)"
#
# The token is what senders of signals show. For anything else than the defaults use the chart.
#
# Digest of the chart: ${chartDigest()}
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
const [helm = "helm"] = args.filter((arg) => !arg.startsWith("--"));
const isStale = (): boolean =>
  args.includes("--check-chart") ? !readFileSync(file, "utf8").startsWith(HEAD) : readFileSync(file, "utf8") !== render(helm);
if (!args.some((arg) => arg.startsWith("--"))) writeFileSync(file, render(helm));
else if (isStale()) {
  console.error("deploy/install.yaml is not what the chart renders: run npm run install-manifest");
  process.exitCode = 1;
}
