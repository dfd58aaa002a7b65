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
  /**
   * A file, or a directory with what is in it but the files whose names match `without`, of this machine; symbolic links of
   * a directory stay links.
   */
  | { readonly to: string; readonly from: string; readonly without?: RegExp }
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

function hashTree(hash: Hash, path: string, to: string, without: RegExp | undefined): void {
  const stat = lstatSync(path);
  if (stat.isFile() && without?.test(path) === true) return;
  hash.update(`${to}\0${(stat.mode & 0o111) === 0 ? "-" : "x"}\0`);
  if (stat.isSymbolicLink()) hash.update(`link\0${readlinkSync(path)}\0`);
  else if (stat.isDirectory()) for (const name of readdirSync(path).sort()) hashTree(hash, join(path, name), join(to, name), without);
  else hash.update(`${stat.size}\0`).update(readFileSync(path));
}

function digestOfLayer(entries: readonly Entry[]): string {
  const hash = createHash("sha256");
  for (const entry of entries) {
    hash.update(JSON.stringify({ ...entry, from: undefined }));
    // A single file is followed when it is a link, as the copy of it is.
    if ("from" in entry) {
      if (statSync(entry.from).isDirectory()) hashTree(hash, entry.from, "", entry.without);
      else hash.update(readFileSync(entry.from));
    }
  }
  return hash.digest("hex");
}

function copyFile(from: string, to: string): void {
  copyFileSync(from, to);
  chmodSync(to, (statSync(from).mode & 0o111) === 0 ? 0o644 : 0o755);
}

function copyTree(from: string, to: string, without: RegExp | undefined): void {
  const stat = lstatSync(from);
  if (stat.isFile() && without?.test(from) === true) return;
  if (stat.isSymbolicLink()) symlinkSync(readlinkSync(from), to);
  else if (stat.isDirectory()) {
    mkdirSync(to, { recursive: true });
    for (const name of readdirSync(from)) copyTree(join(from, name), join(to, name), without);
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
      if (statSync(entry.from).isDirectory()) copyTree(entry.from, to, entry.without);
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

const MANIFEST = "manifest.json";

/** Symbolic links are followed, so that layers need not be copied before. */
const DEREFERENCE = ["--dereference", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"];

/** The arguments by which tar(1) writes the archive of a directory that `layOut` made to standard output, or with `out` to a file. */
export function archiveArguments(dir: string, out = "-"): string[] {
  // The manifest first: readers then need not keep what comes before it.
  const files = readdirSync(dir)
    .filter((file) => file !== MANIFEST)
    .sort();
  return [...DEREFERENCE, "-C", dir, "-cf", out, MANIFEST, ...files];
}

/**
 * Makes what is missing of the images in the cache, and a directory `dir` that is their archive unpacked, with links into
 * the cache: layers that several images share are there once. Returns a digest of all of it.
 */
export async function layOut(images: readonly Image[], dir: string, cache: string = imageCache()): Promise<string> {
  const architecture = ARCHITECTURES[process.arch];
  if (architecture === undefined) throw new Error(`no images are built for ${process.arch}`);
  mkdirSync(join(cache, "layers"), { recursive: true });
  mkdirSync(dir, { recursive: true });
  const manifest = [];
  for (const image of images) {
    const layers: string[] = [];
    const digests: string[] = [];
    for (const entries of image.layers) {
      const { path, digest } = await layerTar(entries, cache);
      const file = `${digest}.tar`;
      if (!existsSync(join(dir, file))) symlinkSync(path, join(dir, file));
      layers.push(file);
      digests.push(`sha256:${digest}`);
    }
    const config = JSON.stringify({ architecture, os: "linux", config: image.config, rootfs: { type: "layers", diff_ids: digests } });
    const file = `${createHash("sha256").update(config).digest("hex")}.json`;
    writeFileSync(join(dir, file), config);
    manifest.push({ Config: file, RepoTags: [image.name], Layers: layers });
  }
  const text = JSON.stringify(manifest);
  writeFileSync(join(dir, MANIFEST), text);
  return createHash("sha256").update(text).digest("hex");
}

/**
 * Builds an image, unless the cache has one with the same name and content, and returns the path of its archive.
 * Needs GNU tar. Several processes may build the same image at once.
 */
export async function buildImage(image: Image, cache: string = imageCache()): Promise<string> {
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, "image-"));
  try {
    const digest = await layOut([image], join(work, "root"), cache);
    const out = join(cache, `${image.name.replaceAll(/[^\w.-]/g, "-")}-${digest.slice(0, 16)}.tar`);
    if (existsSync(out)) return out;
    const done = spawnSync("tar", archiveArguments(join(work, "root"), join(work, "image.tar")), { encoding: "utf8" });
    if (done.status !== 0) throw new Error(`tar: ${done.error?.message ?? done.stderr}`);
    renameSync(join(work, "image.tar"), out);
    return out;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
