// Container images without a registry or a daemon: a docker-archive, as `ctr images import`, `docker load` and `podman load`
// take it, from files of this machine.
import { spawnSync } from "node:child_process";
import { createHash, type Hash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  createReadStream,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** Something in an image, at the absolute path `to`. Everything belongs to root and only its owner may write. */
export type Entry =
  /** A file, or a directory with all that is in it, of this machine; symbolic links of a directory stay links. */
  | { readonly to: string; readonly from: string }
  /** A small file by its text. */
  | { readonly to: string; readonly text: string; readonly mode?: number }
  /** A symbolic link. */
  | { readonly to: string; readonly link: string }
  /** An empty directory; give it a mode for what others may do in it (`/tmp`: 0o1777). */
  | { readonly to: string; readonly mode: number };

/** The part of an image's configuration that is used here; see the OCI image specification, config.md. */
export interface ImageConfig {
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Env?: readonly string[];
  readonly User?: string;
  readonly WorkingDir?: string;
  readonly ExposedPorts?: Readonly<Record<string, Record<string, never>>>;
  readonly Labels?: Readonly<Record<string, string>>;
}

export interface Image {
  /** Name with tag, e.g. `nightshift.dev/nightshift:0.1.0`. */
  readonly name: string;
  /** From the bottom to the top; what changes seldom goes to the bottom, where images share it. */
  readonly layers: readonly (readonly Entry[])[];
  readonly config: ImageConfig;
}

/** Names of node's architectures as Go, and so OCI, has them. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** Where built images are kept, by their content: `$XDG_CACHE_HOME/nightshift/images`. */
export function imageCache(): string {
  return join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "nightshift", "images");
}

function hashTree(hash: Hash, path: string, to: string): void {
  const stat = lstatSync(path);
  hash.update(`${to}\0${(stat.mode & 0o111) === 0 ? "-" : "x"}\0`);
  if (stat.isSymbolicLink()) hash.update(`link\0${readlinkSync(path)}\0`);
  else if (stat.isDirectory()) for (const name of readdirSync(path).sort()) hashTree(hash, join(path, name), join(to, name));
  else hash.update(`${stat.size}\0`).update(readFileSync(path));
}

function digestOfLayer(entries: readonly Entry[]): string {
  const hash = createHash("sha256");
  for (const entry of entries) {
    hash.update(JSON.stringify({ ...entry, from: undefined }));
    // A single file is followed when it is a link, as the copy of it is.
    if ("from" in entry) {
      if (statSync(entry.from).isDirectory()) hashTree(hash, entry.from, "");
      else hash.update(readFileSync(entry.from));
    }
  }
  return hash.digest("hex");
}

function copyFile(from: string, to: string): void {
  copyFileSync(from, to);
  chmodSync(to, (statSync(from).mode & 0o111) === 0 ? 0o644 : 0o755);
}

function copyTree(from: string, to: string): void {
  const stat = lstatSync(from);
  if (stat.isSymbolicLink()) symlinkSync(readlinkSync(from), to);
  else if (stat.isDirectory()) {
    mkdirSync(to, { recursive: true });
    for (const name of readdirSync(from)) copyTree(join(from, name), join(to, name));
  } else copyFile(from, to);
}

/** Writes entries below a directory, as they are in the image. */
export function stage(entries: readonly Entry[], root: string): void {
  // Directories are for all to read, whatever the caller's umask.
  process.umask(0o022);
  for (const entry of entries) {
    const to = join(root, entry.to);
    mkdirSync(dirname(to), { recursive: true });
    if ("from" in entry) {
      if (statSync(entry.from).isDirectory()) copyTree(entry.from, to);
      else copyFile(entry.from, to);
    } else if ("text" in entry) {
      writeFileSync(to, entry.text);
      chmodSync(to, entry.mode ?? 0o644);
    } else if ("link" in entry) symlinkSync(entry.link, to);
    else {
      mkdirSync(to, { recursive: true });
      chmodSync(to, entry.mode);
    }
  }
}

/** One tar of a directory, the same bytes for the same content. */
function tar(root: string, out: string): void {
  const reproducible = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"];
  const done = spawnSync("tar", [...reproducible, "-C", root, "-cf", out, "."], { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`tar: ${done.error?.message ?? done.stderr}`);
}

async function digestOfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** The tar of a layer, made unless the cache has it, with the digest of the tar. */
async function layerTar(entries: readonly Entry[], cache: string): Promise<{ readonly path: string; readonly digest: string }> {
  const path = join(cache, "layers", `${digestOfLayer(entries)}.tar`);
  if (!existsSync(path)) {
    const work = mkdtempSync(join(cache, "layer-"));
    try {
      stage(entries, join(work, "root"));
      tar(join(work, "root"), join(work, "layer.tar"));
      renameSync(join(work, "layer.tar"), path);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  const known = `${path}.sha256`;
  if (!existsSync(known)) {
    writeFileSync(`${known}.${process.pid}`, await digestOfFile(path));
    renameSync(`${known}.${process.pid}`, known);
  }
  return { path, digest: readFileSync(known, "utf8") };
}

/**
 * Builds an image, unless the cache has one with the same name and content, and returns the path of its archive.
 * Needs GNU tar. Several processes may build the same image at once.
 */
export async function buildImage(image: Image, cache: string = imageCache()): Promise<string> {
  const architecture = ARCHITECTURES[process.arch];
  if (architecture === undefined) throw new Error(`no images are built for ${process.arch}`);
  mkdirSync(join(cache, "layers"), { recursive: true });
  const layers: { readonly path: string; readonly digest: string }[] = [];
  for (const entries of image.layers) layers.push(await layerTar(entries, cache));
  const config = JSON.stringify({
    architecture,
    os: "linux",
    config: image.config,
    rootfs: { type: "layers", diff_ids: layers.map((layer) => `sha256:${layer.digest}`) },
  });
  const digest = createHash("sha256").update(config).digest("hex");
  const named = createHash("sha256").update(image.name).update(digest).digest("hex");
  const out = join(cache, `${image.name.replaceAll(/[^\w.-]/g, "-")}-${named.slice(0, 16)}.tar`);
  if (existsSync(out)) return out;
  const work = mkdtempSync(join(cache, "image-"));
  try {
    const root = join(work, "root");
    mkdirSync(root);
    writeFileSync(join(root, `${digest}.json`), config);
    const paths = layers.map((layer) => `${layer.digest}.tar`);
    for (const [i, layer] of layers.entries()) symlinkSync(layer.path, join(root, paths[i] ?? ""));
    writeFileSync(join(root, "manifest.json"), JSON.stringify([{ Config: `${digest}.json`, RepoTags: [image.name], Layers: paths }]));
    const done = spawnSync(
      "tar",
      ["--dereference", "--sort=name", "-C", root, "-cf", join(work, "image.tar"), "manifest.json", `${digest}.json`, ...new Set(paths)],
      {
        encoding: "utf8",
      },
    );
    if (done.status !== 0) throw new Error(`tar: ${done.error?.message ?? done.stderr}`);
    renameSync(join(work, "image.tar"), out);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return out;
}
