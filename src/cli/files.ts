import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { messageOf, NightshiftError } from "../api/errors.ts";

const EXTENSIONS = /\.(ya?ml|json)$/i;
/** An `apiVersion` of Nightshift's group: a label or an annotation of its domain stands in manifests of all sorts. */
const OURS = /apiVersion["']?\s*:\s*["']?nightshift\.dev\//;

/** A file that is to be read for resources. */
export interface ResourceFile {
  readonly path: string;
  readonly text: string;
}

/**
 * The files that are named, and the YAML and JSON files below directories, in order, each once however it is linked; nothing
 * hidden, no `node_modules`. A file that is named always counts; one that is found counts only if it has an `apiVersion`
 * of Nightshift's group, as manifests of all sorts live side by side; the others are `skipped`.
 * Rejects with `NO_SUCH_FILE` or `FILE_UNREADABLE`.
 */
export async function resourceFiles(paths: readonly string[]): Promise<{ files: ResourceFile[]; skipped: string[] }> {
  const files: ResourceFile[] = [];
  const skipped: string[] = [];
  const done = new Set<string>();
  const directories = new Set<string>();
  const read = async (path: string, named: boolean): Promise<void> => {
    const real = await realpath(path);
    if (done.has(real)) return;
    const text = await readFile(path, "utf8");
    if (!named && !OURS.test(text)) return void skipped.push(path);
    done.add(real);
    files.push({ path, text });
  };
  for (const path of paths) {
    try {
      if ((await stat(path)).isDirectory()) for (const file of await filesBelow(path, directories)) await read(file, false);
      else await read(path, true);
    } catch (error) {
      const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
      throw new NightshiftError(missing ? "NO_SUCH_FILE" : "FILE_UNREADABLE", missing ? "no such file or directory" : messageOf(error), {
        where: path,
        fix: missing ? "Check the path." : "Check its permissions.",
        cause: error,
      });
    }
  }
  return { files, skipped };
}

async function filesBelow(directory: string, seen: Set<string>): Promise<string[]> {
  const real = await realpath(directory);
  if (seen.has(real)) return [];
  seen.add(real);
  const files: string[] = [];
  const names = (await readdir(directory)).sort();
  for (const name of names) {
    if (name.startsWith(".") || name === "node_modules") continue;
    const path = join(directory, name);
    const kind = await stat(path).catch(() => undefined);
    if (kind?.isDirectory()) files.push(...(await filesBelow(path, seen)));
    else if (kind?.isFile() && EXTENSIONS.test(name)) files.push(path);
  }
  return files;
}
