import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { createProgram } from "../main.ts";
import { completionScript } from "./completion.ts";

const has = (shell: string): boolean => spawnSync(shell, ["-c", "exit 0"]).status === 0;
const CASES: readonly (readonly [line: readonly string[], offered: readonly string[]])[] = [
  [["po"], ["policy"]],
  [["policy", ""], ["check"]],
  [
    ["audit", ""],
    ["list", "show", "verify"],
  ],
  [
    ["up", "--"],
    ["--file", "--state", "--leave", "--json"],
  ],
  [
    ["up", "-f", "st"],
    ["stack.yaml", "stacks"],
  ],
  [["audit", "list", "--limit", "5", "--re"], ["--remediation"]],
  [
    ["completion", ""],
    ["bash", "zsh"],
  ],
  [["approve", "x", "--d"], ["--deny"]],
  [["demo", "dead"], ["deadlock"]],
  [["policy", "check", "stac"], ["stack.yaml"]],
];

describe("completion in real shells", () => {
  let dir = "";
  before(() => {
    dir = mkdtempSync(join(tmpdir(), "nightshift-completion-"));
    mkdirSync(join(dir, "stacks"));
    writeFileSync(join(dir, "stack.yaml"), "");
    for (const shell of ["bash", "zsh"] as const) writeFileSync(join(dir, shell), completionScript(createProgram(), shell));
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  it("bash offers commands, options, values and files", { skip: has("bash") ? false : "no bash here" }, () => {
    for (const [words, offered] of CASES) {
      // compopt only works while readline completes; what it does is how the answer is shown.
      const script = `compopt() { :; }; source ./bash; COMP_WORDS=(nightshift "$@"); COMP_CWORD=$#; _nightshift; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const { stdout, stderr } = spawnSync("bash", ["--norc", "-c", script, "bash", ...words], { cwd: dir, encoding: "utf8" });
      assert.equal(stderr, "", words.join(" "));
      for (const word of offered) assert.ok(stdout.split("\n").includes(word), `${words.join(" ")}: ${word} is not in ${stdout}`);
    }
  });

  it("zsh offers commands, options, values and files", { skip: has("zsh") ? false : "no zsh here" }, () => {
    // A terminal of its own, in which the line is typed and Tab is pressed; every match is listed, none is inserted.
    const script = `
      zmodload zsh/zpty; setopt extendedglob; line="$1"; out=; all=
      zpty z zsh -f -i
      zpty -w z "PS1=; LISTMAX=1000; autoload -Uz compinit; compinit -u -D; source ./zsh; bindkey '^X' list-choices; print REA''DY"
      for ((i = 0; i < 600; i++)); do zpty -rt z out && all+=$out; [[ $all == *READY* ]] && break; sleep 0.05; done
      all=; zpty -w -n z "$line"$'\\x18'
      for ((i = 0; i < 40; i++)); do sleep 0.05; zpty -rt z out && { all+=$out; i=25; }; done
      print -r -- "$all"; zpty -d z`;
    for (const [words, offered] of CASES) {
      const line = `nightshift ${words.join(" ")}`;
      const { stdout } = spawnSync("zsh", ["-f", "-c", script, "zsh", line], { cwd: dir, encoding: "utf8", timeout: 60_000 });
      // With one match alone list-choices shows that, too.
      for (const word of offered) assert.ok(stdout.includes(word), `${line}: ${word} is not in ${JSON.stringify(stdout)}`);
    }
  });

  it("knows every command and option that is parsed", () => {
    const program = createProgram();
    for (const shell of ["bash", "zsh"] as const) {
      const script = completionScript(program, shell);
      for (const command of program.commands) {
        assert.ok(script.includes(command.name()), command.name());
        for (const option of command.options) if (option.long !== undefined) assert.ok(script.includes(option.long), option.long);
      }
    }
  });
});
