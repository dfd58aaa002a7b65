import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { NightshiftError } from "../../src/api/errors.ts";
import { SYSTEM_PATH } from "./path.ts";

/** Says what goes on, in lines for people. */
export type Progress = (line: string) => void;

/** What is built from Go modules: `kube` is the whole of Kubernetes in one binary, the others are built only when asked for. */
export type Tool = "kube" | "coredns" | "kwok" | "helm" | "peer" | "versitygw" | "collector";

interface ToolSource {
  /** Go module, relative to this directory; its files are the key of the cache. */
  readonly module: string;
  /** The package to build. */
  readonly package: string;
  /** Names that the binary answers to. */
  readonly names: readonly string[];
  /** `-X` flags by the versions in go.mod. */
  readonly stamp: (version: (module: string) => string) => Readonly<Record<string, string>>;
  /** Files of a module that the tool needs beside it, joined to `assets.yaml`. */
  readonly assets?: { readonly module: string; readonly files: readonly string[] };
  /** For the progress line: about how much CPU time a build with an empty cache takes. */
  readonly cost: string;
}

const SOURCES: Readonly<Record<Tool, ToolSource>> = {
  kube: {
    module: "go",
    package: ".",
    names: ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"],
    // Charts and clients ask the server for its version; a build outside of Kubernetes' own scripts has none.
    stamp: (version) => {
      const git = version("k8s.io/kubernetes");
      const [major = "", minor = ""] = git.slice(1).split(".");
      const at = "k8s.io/component-base/version";
      return { [`${at}.gitVersion`]: git, [`${at}.gitMajor`]: major, [`${at}.gitMinor`]: minor, [`${at}.gitTreeState`]: "clean" };
    },
    cost: "14 minutes of CPU",
  },
  coredns: {
    module: "coredns",
    package: ".",
    names: ["coredns"],
    stamp: () => ({}),
    cost: "2 minutes of CPU",
  },
  kwok: {
    module: "kwok",
    package: "sigs.k8s.io/kwok/cmd/kwok",
    names: ["kwok"],
    stamp: () => ({}),
    // What becomes of nodes and pods, and when: kwok does nothing without.
    assets: {
      module: "sigs.k8s.io/kwok",
      files: [
        "node/fast/node-initialize.yaml",
        "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
        "pod/fast/pod-ready.yaml",
        "pod/fast/pod-complete.yaml",
        "pod/fast/pod-delete.yaml",
      ].map((file) => `kustomize/stage/${file}`),
    },
    cost: "4 minutes of CPU",
  },
  helm: {
    module: "helm",
    package: "helm.sh/helm/v4/cmd/helm",
    names: ["helm"],
    stamp: (version) => ({ "helm.sh/helm/v4/internal/version.version": version("helm.sh/helm/v4") }),
    cost: "4 minutes of CPU",
  },
  // What the benches measure Nightshift beside.
  peer: {
    module: "../../bench/peer-go",
    package: ".",
    names: ["peer"],
    stamp: () => ({}),
    cost: "4 minutes of CPU",
  },
  // A real OpenTelemetry Collector: the service graph's source, and what taking OTLP in is measured beside.
  collector: {
    module: "../collector-go",
    package: ".",
    names: ["otelcol"],
    stamp: () => ({}),
    cost: "2 minutes of CPU",
  },
  // An S3-compatible store over a directory, for the tests of artifacts.
  versitygw: {
    module: "versitygw",
    package: "github.com/versity/versitygw/cmd/versitygw",
    names: ["versitygw"],
    stamp: () => ({}),
    cost: "2 minutes of CPU",
  },
};

/** Where everything that is built once is kept: `$XDG_CACHE_HOME/nightshift`, by default `~/.cache/nightshift`. */
export function cacheDir(): string {
  return join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "nightshift");
}

const moduleDir = (tool: Tool): string => resolve(import.meta.dirname, SOURCES[tool].module);

/** The directory of one build: named for the digest of its go.mod, go.sum and Go sources. */
function buildDir(tool: Tool): string {
  const dir = moduleDir(tool);
  const files = ["go.mod", "go.sum", ...readdirSync(dir).filter((file) => file.endsWith(".go"))];
  const hash = createHash("sha256");
  for (const file of files) hash.update(readFileSync(join(dir, file)));
  return join(cacheDir(), hash.digest("hex"));
}

/** The directory with the names that the tool answers to; it exists once the tool is built. */
export function binDir(tool: Tool): string {
  return join(buildDir(tool), "bin");
}

/** The tool's `assets.yaml`. */
export function assetsFile(tool: Tool): string {
  return join(buildDir(tool), "assets.yaml");
}

/** Whether the tool is in the cache. */
export function isBuilt(tool: Tool): boolean {
  return existsSync(binDir(tool));
}

function run(command: string, argv: readonly string[], options: { cwd?: string; onLine?: (line: string) => void } = {}): Promise<string> {
  return new Promise((done, fail) => {
    const child = spawn(command, argv, {
      cwd: options.cwd,
      env: { ...process.env, PATH: SYSTEM_PATH, CGO_ENABLED: "0" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const tail: string[] = [];
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
    createInterface({ input: child.stderr }).on("line", (line) => {
      tail.push(line);
      if (tail.length > 30) tail.shift();
      options.onLine?.(line);
    });
    child.once("error", fail);
    child.once("close", (code) => {
      if (code === 0) done(output);
      else fail(new Error(`${command} ${argv.slice(0, 3).join(" ")} exited with ${code}:\n${tail.join("\n")}`));
    });
  });
}

/** `ldflags` of a tool: without symbol tables (a third of the size and of the linking), with its version. */
function linkFlags(tool: Tool): string {
  const mod = readFileSync(join(moduleDir(tool), "go.mod"), "utf8");
  const version = (module: string): string => {
    const found = new RegExp(`^\\s*(?:require\\s+)?${module.replaceAll(".", "\\.")} (v\\S+)`, "m").exec(mod)?.[1];
    if (found === undefined) throw new Error(`${tool}: go.mod does not require ${module}`);
    return found;
  };
  return ["-s", "-w", ...Object.entries(SOURCES[tool].stamp(version)).map(([name, value]) => `-X ${name}=${value}`)].join(" ");
}

/** Run under the lock: builds into a temporary directory and gives it its name when it is whole. */
const BUILD = `
  dir=$1 temporary=$2 tool=$3 ldflags=$4 package=$5 module=$6 assets=$7; shift 7
  if [ -d "$dir" ]; then exit 0; fi
  mkdir -p "$temporary/bin"
  nice -n 5 go build -v -mod=readonly -ldflags "$ldflags" -o "$temporary/$tool" "$package"
  if [ -n "$assets" ]; then
    source=$(go list -mod=readonly -m -f '{{.Dir}}' "$module")
    for file in $assets; do cat "$source/$file"; echo; echo ---; done > "$temporary/assets.yaml"
  fi
  for name; do ln -s "../$tool" "$temporary/bin/$name"; done
  mv -T "$temporary" "$dir"
`;

const SILENT: Progress = () => undefined;
const PROGRESS_EVERY_MS = 10_000;

/**
 * Builds a tool unless the cache has it, and returns the directory of its names.
 *
 * Several processes may call at once: one builds, the others wait for it. An interrupted build leaves nothing that
 * would pass for a whole one.
 *
 * @throws NightshiftError `GO_MISSING` without a Go toolchain, `BUILD_FAILED` with the compiler's last lines.
 */
export async function ensureTool(tool: Tool, progress: Progress = SILENT): Promise<string> {
  const bin = binDir(tool);
  if (existsSync(bin)) return bin;
  const source = SOURCES[tool];
  await run("go", ["version"]).catch((cause: unknown) => {
    throw new NightshiftError("GO_MISSING", `${tool} is not built yet, and there is no Go toolchain to build it`, {
      where: moduleDir(tool),
      fix: "Install Go 1.26 or newer and put `go` on PATH.",
      cause,
    });
  });
  mkdirSync(cacheDir(), { recursive: true });
  const dir = buildDir(tool);
  const temporary = `${dir}.${process.pid}.tmp`;
  const started = Date.now();
  progress(`building ${tool} into ${dir} (once; ${source.cost} when Go's build cache is empty)`);
  let downloaded = 0;
  let compiled = 0;
  const timer = setInterval(() => {
    const seconds = Math.round((Date.now() - started) / 1000);
    progress(`building ${tool}: ${seconds} s, ${downloaded} modules downloaded, ${compiled} packages compiled`);
  }, PROGRESS_EVERY_MS);
  try {
    // flock(1) lets go of the lock however its holder ends.
    const assets = [source.assets?.module ?? "", source.assets?.files.join(" ") ?? ""];
    const build = ["build", dir, temporary, tool, linkFlags(tool), source.package, ...assets, ...source.names];
    await run("flock", [`${dir}.lock`, "sh", "-euc", BUILD, ...build], {
      cwd: moduleDir(tool),
      onLine: (line) => {
        if (line.startsWith("go: downloading")) downloaded += 1;
        else compiled += 1;
      },
    });
  } catch (cause) {
    throw new NightshiftError("BUILD_FAILED", `${tool} could not be built: ${cause instanceof Error ? cause.message : String(cause)}`, {
      where: moduleDir(tool),
      fix: "Run the same again; `go build` goes on where it stopped.",
      cause,
    });
  } finally {
    clearInterval(timer);
    rmSync(temporary, { recursive: true, force: true });
  }
  progress(`built ${tool} in ${Math.round((Date.now() - started) / 1000)} s`);
  return bin;
}
