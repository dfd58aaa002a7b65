import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { checkResources } from "../src/api/check.ts";
import { parseAllDocuments } from "yaml";
import { parseResources, problemText } from "../src/api/parse.ts";
import { SCHEMAS } from "../src/api/resources.ts";
import { GATES } from "../src/decide/gates.ts";
import { RULES } from "../src/platform/sim/rules/index.ts";

const root = new URL("../", import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), "utf8");

/** The fenced YAML of a page that holds resources of ours, each with the line that it begins at. */
function blocks(markdown: string): { readonly line: number; readonly text: string }[] {
  return [...markdown.matchAll(/^```ya?ml\n([\s\S]*?)^```$/gm)]
    .map((match) => ({ line: markdown.slice(0, match.index).split("\n").length + 1, text: match[1] ?? "" }))
    .filter(({ text }) => /apiVersion: nightshift\.dev\//.test(text));
}

/** Everything that a person would be told about a text, warnings included: what is shown to learn from is without fault. */
function faults(text: string, where: string): string[] {
  // An answer is given with kubectl and never read from a file of ours: its schema alone says whether it is right.
  const answers = parseAllDocuments(text).map((document) => document.toJS() as { kind?: string });
  if (answers.every(({ kind }) => kind === "RemediationApproval"))
    return answers.flatMap((answer) => SCHEMAS.RemediationApproval.safeParse(answer).error?.issues.map((issue) => issue.message) ?? []);
  const { resources, errors } = parseResources(text, where);
  assert.ok(resources.length + errors.length > 0, `${where} holds resources`);
  return [...errors, ...checkResources(resources, Date.now())].map(problemText);
}

describe("the examples in the documentation are right", () => {
  const pages = ["README.md", ...readdirSync(new URL("docs/", root)).map((name) => `docs/${name}`)].filter((name) => name.endsWith(".md"));
  for (const page of pages)
    for (const { line, text } of blocks(read(page))) test(`${page}:${line}`, () => assert.deepEqual(faults(text, `${page}:${line}`), []));
  test("and there are some", () => assert.ok(blocks(read("docs/writing-policies.md")).length >= 7));
});

describe("the examples are right", () => {
  for (const name of readdirSync(new URL("examples/policies/", root)))
    test(name, () => assert.deepEqual(faults(read(`examples/policies/${name}`), name), []));
  test("the demo's too, together", () => {
    const names = readdirSync(new URL("examples/shop/policies/", root));
    const parsed = names.map((name) => parseResources(read(`examples/shop/policies/${name}`), name));
    const all = [
      ...parsed.flatMap(({ errors }) => errors),
      ...checkResources(
        parsed.flatMap(({ resources }) => resources),
        Date.now(),
      ),
    ];
    assert.deepEqual(all.filter(({ severity }) => severity === "error").map(problemText), []);
  });
});

describe("the page about safety", () => {
  const text = read("docs/safety.md");
  test("names files that there are", () => {
    const named = [...text.matchAll(/`((?:src|test|scripts)\/[^`]+)`/g)].map((match) => match[1] ?? "");
    assert.ok(named.length > 40);
    assert.deepEqual(
      named.filter((path) => !existsSync(new URL(path, root))),
      [],
    );
  });
  test("has every rule and every gate", () => {
    const rules = [...text.matchAll(/^\| ([SL]\d+) \|/gm)].map((match) => match[1] ?? "");
    assert.deepEqual(
      rules,
      RULES.map(({ name }) => name),
    );
    assert.deepEqual(
      GATES.map(({ name }) => name).filter((name) => !text.includes(`\`${name}\``)),
      [],
    );
  });
});

test("the generated pages are what the code says", () => {
  const script = fileURLToPath(new URL("scripts/generate-docs.ts", root));
  const { status, stderr } = spawnSync(process.execPath, [script, "--check"], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
});

test("links between the pages lead somewhere", () => {
  for (const page of ["concepts.md", "writing-policies.md", "reference.md", "gates.md", "root-cause.md"]) {
    for (const [, target = ""] of read(`docs/${page}`).matchAll(/\]\(([^)#]+?)(?:#[^)]*)?\)/g)) {
      if (!target.includes("://")) assert.doesNotThrow(() => readdirOrRead(new URL(`docs/${target}`, root)), `${page} links to ${target}`);
    }
  }
});

function readdirOrRead(url: URL): void {
  try {
    readFileSync(url);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EISDIR") throw error;
  }
}
