// The images that the project's tests and users run: which files are where in them. `scripts/image.ts` is the command.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Entry, Image } from "./oci.ts";

const root = resolve(import.meta.dirname, "..");

/** The account of the processes in the images; the number that distroless images have for `nonroot`. */
export const NONROOT = 65_532;

/** Where node is in the images. */
export const NODE_PATH = "/nodejs/bin/node";

/** Accounts, and a /tmp for all: what a process may expect of any system. */
const SYSTEM: readonly Entry[] = [
  { to: "/tmp", mode: 0o1777 },
  {
    to: "/etc/passwd",
    text: `root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:${NONROOT}:${NONROOT}:nonroot:/home/nonroot:/sbin/nologin\n`,
  },
  { to: "/etc/group", text: `root:x:0:\nnonroot:x:${NONROOT}:\n` },
  { to: "/etc/nsswitch.conf", text: "hosts: files dns\n" },
  { to: "/home/nonroot", mode: 0o755 },
];

/** The shared libraries that a program loads, at the paths where its loader looks for them. */
function librariesOf(program: string): Entry[] {
  const ldd = spawnSync("ldd", [program], { encoding: "utf8" });
  if (ldd.status !== 0) throw new Error(`ldd ${program}: ${ldd.error?.message ?? ldd.stderr}`);
  const libraries = [...ldd.stdout.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1] ?? "");
  // The C library loads these by name when a host name is looked up.
  const [libc] = libraries.filter((path) => path.endsWith("/libc.so.6"));
  const lookups =
    libc === undefined ? [] : ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"].map((name) => libc.replace("libc.so.6", name));
  return [...new Set([...libraries, ...lookups.filter((path) => existsSync(path))])].map((path) => ({
    to: path,
    from: realpathSync(path),
  }));
}

/** Node's own binary from the npm package, and what it loads: the lowest layer of every image with Node. */
function nodeLayer(): Entry[] {
  const binary = join(root, "node_modules", `node-linux-${process.arch}`, "bin", "node");
  if (!existsSync(binary)) throw new Error(`${binary} is missing: run npm ci`);
  return [...SYSTEM, { to: NODE_PATH, from: binary }, ...librariesOf(binary)];
}

interface LockedPackage {
  readonly dev?: boolean;
  readonly devOptional?: boolean;
}

/** What a package ships for those who write code, and no program loads. */
const FOR_DEVELOPERS = /(\.d\.[cm]?ts|\.map|\.md|\.markdown)$/i;

/** The npm packages that Nightshift runs with, without Node itself. */
function productionPackages(): Entry[] {
  const lock = JSON.parse(readFileSync(join(root, "node_modules/.package-lock.json"), "utf8")) as {
    packages: Record<string, LockedPackage>;
  };
  const all = Object.entries(lock.packages).filter(
    ([path, locked]) => locked.dev !== true && locked.devOptional !== true && !path.startsWith("node_modules/node-linux-"),
  );
  // A nested package comes with the one that it is in.
  return all
    .filter(([path]) => path.lastIndexOf("node_modules/") === 0)
    .map(([path]) => ({ to: join("/app", path), from: join(root, path), without: FOR_DEVELOPERS }));
}

/** The one program beside Node that Nightshift runs: the agent enters a pod's network namespace by it. */
function nsenter(): Entry[] {
  const from = "/usr/bin/nsenter";
  if (!existsSync(from)) throw new Error(`${from} is missing: install util-linux`);
  return [{ to: from, from }, ...librariesOf(from)];
}

/** Nightshift, as `deploy/Containerfile` makes it: the built JavaScript below /app, with Node, nsenter and nothing else. Needs `npm run build`. */
export function nightshiftImage(tag?: string): Image {
  if (!existsSync(join(root, "dist/src/cli/main.js"))) throw new Error("dist/ is missing: run npm run build");
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  return {
    name: tag ?? `nightshift.dev/nightshift:${version}`,
    layers: [
      nodeLayer(),
      nsenter(),
      productionPackages(),
      [
        { to: "/app/package.json", from: join(root, "package.json") },
        { to: "/app/dist", from: join(root, "dist") },
      ],
    ],
    config: {
      Entrypoint: [NODE_PATH, "--disable-warning=ExperimentalWarning", "--enable-source-maps", "/app/dist/src/cli/main.js"],
      Env: ["PATH=/nodejs/bin:/usr/bin", "NODE_ENV=production"],
      User: `${NONROOT}:${NONROOT}`,
      WorkingDir: "/home/nonroot",
    },
  };
}

/** The demo's shop: `node` as the entry point, and the services (`storefront.ts`, `payments.ts`, `bank.ts`) in the working directory. The lower layers are those of Nightshift. */
export function shopImage(tag = "nightshift.dev/shop:1"): Image {
  return {
    name: tag,
    layers: [
      nodeLayer(),
      nsenter(),
      productionPackages(),
      [
        { to: "/app/package.json", from: join(root, "package.json") },
        { to: "/app/examples/shop", from: join(root, "examples/shop") },
      ],
    ],
    config: {
      Entrypoint: [NODE_PATH, "--disable-warning=ExperimentalWarning"],
      // Pods are reached by their own address.
      Env: ["PATH=/nodejs/bin", "NODE_ENV=production", "HOST=0.0.0.0"],
      User: `${NONROOT}:${NONROOT}`,
      WorkingDir: "/app/examples/shop",
    },
  };
}

/** Node and files: what a test needs to run a script of its own in a pod. */
export function nodeImage(name: string, files: readonly Entry[] = []): Image {
  return {
    name,
    layers: files.length > 0 ? [nodeLayer(), files] : [nodeLayer()],
    config: { Entrypoint: [NODE_PATH], Env: ["PATH=/nodejs/bin"], User: `${NONROOT}:${NONROOT}`, WorkingDir: "/tmp" },
  };
}

/** The applets that have a name of their own in /bin. */
const APPLETS = ["sh", "cat", "echo", "env", "hostname", "httpd", "kill", "ls", "mkdir", "nc", "sleep", "tail", "touch", "true"];

/** A shell and small tools, 2 MB: for pods that only have to be there. */
export function busyboxImage(name = "nightshift.dev/busybox:1"): Image {
  return {
    name,
    layers: [
      [
        ...SYSTEM,
        { to: "/bin/busybox", from: "/bin/busybox" },
        ...APPLETS.map((applet): Entry => ({ to: `/bin/${applet}`, link: "busybox" })),
      ],
    ],
    config: { Cmd: ["/bin/sh"], Env: ["PATH=/bin"], WorkingDir: "/" },
  };
}

/** What holds a pod's namespaces while its containers come and go. */
export function pauseImage(name: string): Image {
  return {
    name,
    layers: [[{ to: "/bin/busybox", from: "/bin/busybox" }]],
    config: { Entrypoint: ["/bin/busybox", "sleep", "2147483647"], User: `${NONROOT}:${NONROOT}` },
  };
}
