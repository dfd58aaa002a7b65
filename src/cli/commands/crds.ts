import { mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { crdFileName, crdYaml, customResourceDefinitions } from "../../api/crd.ts";
import { messageOf, NightshiftError } from "../../api/errors.ts";

const HELP = `
Examples:
  $ nightshift crds | kubectl apply --server-side -f -
  $ nightshift crds --out crds.yaml      all in one file
  $ nightshift crds --out crds/          a file for each kind

Exit status:
  0  written
  2  the file or directory cannot be written`;

/** Files to write: one for each kind where `out` is a directory, or ends in a slash; else one with all of them. */
async function filesFor(out: string, json: boolean): Promise<[path: string, text: string][]> {
  const crds = customResourceDefinitions();
  const isDirectory = out.endsWith("/") || (await stat(out).catch(() => undefined))?.isDirectory() === true;
  if (!isDirectory) return [[out, textOf(crds, json)]];
  await mkdir(out, { recursive: true });
  return crds.map((crd) => [join(out, json ? crdFileName(crd).replace(/yaml$/, "json") : crdFileName(crd)), textOf([crd], json)]);
}

/** YAML documents, or one JSON document: a `List` where there are several, as kubectl reads it. */
function textOf(crds: ReturnType<typeof customResourceDefinitions>, json: boolean): string {
  if (!json) return crdYaml(crds);
  return `${JSON.stringify(crds.length === 1 ? crds[0] : { apiVersion: "v1", kind: "List", items: crds }, null, 2)}\n`;
}

/** Adds `crds` to the program. */
export function register(program: Command): void {
  program
    .command("crds")
    .description("print the CustomResourceDefinitions of Nightshift's six kinds")
    .option("--json", "print JSON instead of YAML")
    .option("--out <path>", "write to a file, or to a file for each kind in a directory")
    .addHelpText("after", HELP)
    .action(async (options: { json?: boolean; out?: string }) => {
      const json = options.json === true;
      if (options.out === undefined) return void process.stdout.write(textOf(customResourceDefinitions(), json));
      try {
        for (const [path, text] of await filesFor(options.out, json)) await writeFile(path, text);
      } catch (error) {
        throw new NightshiftError("FILE_UNWRITABLE", messageOf(error), {
          where: options.out,
          fix: "Check the path and its permissions.",
          cause: error,
        });
      }
    });
}
