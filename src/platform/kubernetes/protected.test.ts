import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { it } from "node:test";
import { parse } from "yaml";
import { PROTECTED_NAMESPACES } from "./protected.ts";

it("the chart protects the same namespaces by default, and names them to the operator", async () => {
  const chart = new URL("../../../deploy/chart/", import.meta.url);
  const values = parse(await readFile(new URL("values.yaml", chart), "utf8")) as { admission: { protectedNamespaces: string[] } };
  assert.deepEqual(values.admission.protectedNamespaces, PROTECTED_NAMESPACES);
  const manifests = await readFile(new URL("../install.yaml", chart), "utf8");
  assert.deepEqual(
    Array.from(manifests.matchAll(/--protect=(\S+)/g), ([, namespace]) => namespace),
    PROTECTED_NAMESPACES,
  );
});
