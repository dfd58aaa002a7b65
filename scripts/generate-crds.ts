// Writes deploy/chart/files/crds from the schemas. With --check it writes nothing, and exits with 1 when a file is not what
// it would write, or should not be there.
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { crdFileName, crdYaml, customResourceDefinitions, undescribed } from "../src/api/crd.ts";

const directory = new URL("../deploy/chart/files/crds/", import.meta.url);
const crds = customResourceDefinitions();

const silent = crds.flatMap((crd) =>
  undescribed(crd.spec.versions[0].schema.openAPIV3Schema).map((path) => `${crd.spec.names.kind}${path}`),
);
if (silent.length > 0) {
  console.error(`Fields without a description:\n${silent.join("\n")}`);
  process.exit(1);
}

const check = process.argv.includes("--check");
const files = new Map(crds.map((crd) => [crdFileName(crd), crdYaml([crd])]));
const complaints: string[] = [];
if (!check) await mkdir(directory, { recursive: true });
for (const [name, text] of files) {
  if (!check) await writeFile(new URL(name, directory), text);
  else if ((await readFile(new URL(name, directory), "utf8").catch(() => "")) !== text)
    complaints.push(`${name} is not what the schemas say`);
}
for (const name of await readdir(directory).catch(() => [])) {
  if (files.has(name)) continue;
  if (check) complaints.push(`${name} belongs to no kind`);
  else await rm(new URL(name, directory));
}
for (const complaint of complaints) console.error(`deploy/chart/files/crds/${complaint}: run npm run crds`);
process.exitCode = complaints.length > 0 ? 1 : 0;
