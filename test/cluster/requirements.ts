import { spawnSync } from "node:child_process";
import { NightshiftError } from "../../src/api/errors.ts";
import { commandExists, SYSTEM_PATH } from "./path.ts";
import { isBuilt, type Tool } from "./toolchain.ts";

/** A command, or a file, that a cluster needs, and the Debian package that brings it. */
interface Requirement {
  readonly command: string;
  readonly package: string;
  /** Needed for kubelets only. */
  readonly node?: boolean;
}

const REQUIREMENTS: readonly Requirement[] = [
  { command: "ip", package: "iproute2" },
  { command: "openssl", package: "openssl" },
  { command: "tini", package: "tini" },
  { command: "unshare", package: "util-linux" },
  { command: "nsenter", package: "util-linux" },
  { command: "setpriv", package: "util-linux" },
  { command: "flock", package: "util-linux" },
  { command: "containerd", package: "containerd", node: true },
  { command: "ctr", package: "containerd", node: true },
  { command: "runc", package: "runc", node: true },
  { command: "nft", package: "nftables", node: true },
  { command: "conntrack", package: "conntrack", node: true },
  { command: "/usr/lib/cni/ptp", package: "containernetworking-plugins", node: true },
  { command: "/bin/busybox", package: "busybox-static", node: true },
];

/** Debian's packages that a cluster with nodes needs, for scripts/apt-install.sh. */
export const PACKAGES: readonly string[] = [...new Set(REQUIREMENTS.map((requirement) => requirement.package))];

/**
 * What this machine lacks to run a cluster, one line each; empty when it can.
 * `nodes`: with real kubelets. `tools`: what must be built or buildable, by default only Kubernetes itself.
 */
export function missing(options: { nodes: boolean; tools?: readonly Tool[] }): string[] {
  const lines: string[] = [];
  if (process.platform !== "linux") return [`Linux (this is ${process.platform})`];
  if (process.getuid?.() !== 0) lines.push("root (namespaces, mounts and cgroups of the cluster's own)");
  const packages = new Set<string>();
  for (const requirement of REQUIREMENTS) {
    if ((options.nodes || requirement.node !== true) && !commandExists(requirement.command)) packages.add(requirement.package);
  }
  if (packages.size > 0) lines.push(`Debian's packages: scripts/apt-install.sh ${[...packages].join(" ")}`);
  const unbuilt = (options.tools ?? ["kube"]).filter((tool) => !isBuilt(tool));
  if (unbuilt.length > 0 && !commandExists("go")) lines.push(`Go 1.26 or newer on PATH, to build ${unbuilt.join(", ")} once`);
  if (lines.length === 0) {
    const probe = spawnSync("unshare", ["--net", "--mount", "--pid", "--fork", "--mount-proc", "true"], { env: { PATH: SYSTEM_PATH } });
    if (probe.status !== 0) lines.push(`leave to make namespaces (unshare: ${probe.stderr.toString().trim()})`);
  }
  return lines;
}

/**
 * Fails, naming all that is missing at once.
 * @throws NightshiftError `CLUSTER_REQUIREMENTS`
 */
export function demand(options: { nodes: boolean; tools?: readonly Tool[] }): void {
  const lines = missing(options);
  if (lines.length > 0) {
    throw new NightshiftError("CLUSTER_REQUIREMENTS", `a test cluster cannot run on this machine; it lacks: ${lines.join("; ")}`, {
      fix: "docs/testing.md says what is needed and why.",
    });
  }
}

/**
 * For `describe(name, { skip: lacking({ nodes: true }) }, ...)`: what this machine lacks, or false when it can. In CI
 * (`CI=true`) always false, so that there a lane that cannot run fails.
 */
export function lacking(options: { nodes: boolean; tools?: readonly Tool[] }): string | false {
  if (process.env["CI"] === "true") return false;
  const lines = missing(options);
  return lines.length > 0 && `left out, because this machine lacks: ${lines.join("; ")}`;
}
