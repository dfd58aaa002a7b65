import { Argument, type Command, type Option } from "commander";

/** What may stand at a place: fixed words, files, or something that only the user knows. */
interface Values {
  readonly words: readonly string[];
  readonly files: boolean;
}

/** A command with all that may follow it. */
interface Node {
  /** Its words after the program's name, each with a blank before it; empty for the program itself. */
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly description: string }[];
  readonly options: readonly { readonly flags: readonly string[]; readonly description: string; readonly value: Values | undefined }[];
  readonly argument: Values;
}

/** Whether a placeholder such as `<stack.yaml>` or `<dir>` stands for a path. */
function isPath(placeholder: string): boolean {
  return /path|file|dir|\.ya?ml/i.test(placeholder);
}

function valuesOf(option: Option): Values | undefined {
  if (!option.required && !option.optional) return undefined;
  return { words: option.argChoices ?? [], files: option.argChoices === undefined && isPath(option.flags.replace(/^[^<[]*/, "")) };
}

/** The commands' tree, depth first, so that completion can never differ from what is parsed. */
function treeOf(command: Command, path = ""): Node[] {
  const help = command.createHelp();
  const commands = help.visibleCommands(command);
  const argument = command.registeredArguments.at(-1);
  const node: Node = {
    path,
    commands: commands.map((child) => ({ name: child.name(), description: child.description() })),
    options: help.visibleOptions(command).map((option) => ({
      flags: [option.short, option.long].filter((flag) => flag !== undefined),
      description: option.description,
      value: valuesOf(option),
    })),
    argument: {
      words: argument?.argChoices ?? [],
      files: argument !== undefined && argument.argChoices === undefined && isPath(argument.name()),
    },
  };
  return [node, ...commands.filter((child) => child.name() !== "help").flatMap((child) => treeOf(child, `${path} ${child.name()}`))];
}

/** Single quotes, which both shells take literally. */
const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** `pattern) body` lines of a `case`, for what has patterns at all. */
function branches(entries: readonly (readonly [patterns: readonly string[], body: string])[]): string {
  return entries
    .filter(([patterns]) => patterns.length > 0)
    .map(([patterns, body]) => `    ${patterns.map(quote).join("|")}) ${body} ;;`)
    .join("\n");
}

/** Options that take a value, as `path --flag`. */
function optionValues(tree: readonly Node[]): { pattern: string; value: Values }[] {
  return tree.flatMap((node) =>
    node.options.flatMap(({ flags, value }) =>
      value === undefined ? [] : flags.map((flag) => ({ pattern: `${node.path} ${flag}`, value })),
    ),
  );
}

function bash(tree: readonly Node[]): string {
  const takesValue = optionValues(tree);
  return `# Completion of nightshift for bash. Load it with: source <(nightshift completion bash)
_nightshift() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} place= words= files= i
  # bash makes three words of --option=value.
  if [[ $cur == = ]]; then cur=
  elif [[ $prev == = ]]; then prev=\${COMP_WORDS[COMP_CWORD-2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$place \${COMP_WORDS[i]}" in
${branches([
  [takesValue.map(({ pattern }) => pattern), "((i++)) || :"],
  [tree.filter(({ path }) => path !== "").map(({ path }) => path), 'place="$place ${COMP_WORDS[i]}"'],
])}
    esac
  done
  COMPREPLY=()
  case "$place $prev" in
${branches(
  takesValue.map(({ pattern, value }) => [
    [pattern],
    value.files
      ? 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return'
      : `mapfile -t COMPREPLY < <(compgen -W ${quote(value.words.join(" "))} -- "$cur"); return`,
  ]),
)}
  esac
  case "$place" in
${tree
  .map(({ path, commands, options, argument }) => {
    const flags = options.flatMap((option) => option.flags).join(" ");
    const words = [...commands.map(({ name }) => name), ...argument.words].join(" ");
    return `    ${quote(path)}) if [[ $cur == -* ]]; then words=${quote(flags)}; else words=${quote(words)} files=${argument.files ? "yes" : ""}; fi ;;`;
  })
  .join("\n")}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur"; [[ -n $files ]] && compgen -f -- "$cur")
  if [[ -n $files ]]; then compopt -o filenames; fi
  return 0
}
complete -F _nightshift nightshift
`;
}

function zsh(tree: readonly Node[]): string {
  const takesValue = optionValues(tree);
  const described = (name: string, description: string): string => quote(`${name.replaceAll(":", "\\:")}:${description}`);
  return `#compdef nightshift
# Completion of nightshift for zsh. Load it with: source <(nightshift completion zsh)
# or put it into a file named _nightshift in a directory of $fpath.
_nightshift() {
  local cur=\${words[CURRENT]} prev=\${words[CURRENT-1]} place= i
  local -a commands options
  for ((i = 2; i < CURRENT; i++)); do
    case "$place \${words[i]}" in
${branches([
  [takesValue.map(({ pattern }) => pattern), "((i++))"],
  [tree.filter(({ path }) => path !== "").map(({ path }) => path), 'place="$place ${words[i]}"'],
])}
    esac
  done
  case "$place $prev" in
${branches(takesValue.map(({ pattern, value }) => [[pattern], value.files ? "_files; return" : `compadd -- ${value.words.map(quote).join(" ")}; return`]))}
  esac
  case "$place" in
${tree
  .map(({ path, commands, options, argument }) => {
    const files = argument.files ? "; [[ $cur == -* ]] || _files" : "";
    const words = argument.words.length > 0 ? `; compadd -- ${argument.words.map(quote).join(" ")}` : "";
    return `    ${quote(path)})
      commands=(${commands.map(({ name, description }) => described(name, description)).join(" ")})
      options=(${options.flatMap(({ flags, description }) => flags.map((flag) => described(flag, description))).join(" ")})
      if [[ $cur == -* ]]; then _describe -o option options; elif (( \${#commands} )); then _describe command commands; fi${words}${files} ;;`;
  })
  .join("\n")}
  esac
}
if [[ \${funcstack[1]} == _nightshift ]]; then _nightshift "$@"; else compdef _nightshift nightshift; fi
`;
}

/** The completion script of a shell for a program and all its commands. */
export function completionScript(program: Command, shell: "bash" | "zsh"): string {
  const tree = treeOf(program);
  return shell === "bash" ? bash(tree) : zsh(tree);
}

/** Adds `completion` to the program. */
export function register(program: Command): void {
  program
    .command("completion")
    .description("print a script that completes commands, options and files in your shell")
    .addArgument(new Argument("<shell>", "your shell").choices(["bash", "zsh"]))
    .addHelpText(
      "after",
      `
Examples:
  $ source <(nightshift completion bash)                              now; in ~/.bashrc, always
  $ nightshift completion zsh > "\${fpath[1]}/_nightshift"`,
    )
    .action((shell: "bash" | "zsh") => {
      process.stdout.write(completionScript(program, shell));
    });
}
