import { type Command, InvalidArgumentError, Option } from "commander";
import { parseHostPort } from "../../platform/host/stack.ts";
import { PROTECTED_NAMESPACES } from "../../platform/kubernetes/protected.ts";
import { EXIT } from "../exit.ts";
import { LOG_LEVELS } from "../log.ts";

interface Options {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: string;
  readonly lease: string;
  readonly watch?: readonly string[];
  readonly protect?: readonly string[];
  readonly listen: { readonly host: string; readonly port: number };
  readonly grpcListen?: { readonly host: string; readonly port: number };
  readonly tokenFile?: string;
  readonly tokenAudience?: string;
  readonly actionsKey?: string;
  readonly logLevel: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly state: string;
  readonly config?: string;
  readonly json?: boolean;
}

/** `nightshift operator`. */
export function register(program: Command): void {
  program
    .command("operator")
    .description("run the loop on Kubernetes: in a pod, or from here with a kubeconfig")
    .option("--kubeconfig <file>", "kubeconfig (default: KUBECONFIG, then the pod's own account, then ~/.kube/config)")
    .option("--context <name>", "context of the kubeconfig (default: its current one)")
    .option("-n, --namespace <name>", "namespace of the lease and of the operator's own pod (default: where it runs)")
    .option("--lease <name>", "name of the Lease that the leader holds", "nightshift")
    .option("--watch <namespace...>", "namespaces whose workloads are looked after (default: all)")
    .option("--protect <namespace...>", `namespaces in which nothing is touched (default: ${PROTECTED_NAMESPACES.join(", ")})`)
    .option("--listen <host:port>", "address of OTLP, webhook, metrics and health", address, { host: "127.0.0.1", port: 8080 })
    .option("--grpc-listen <host:port>", "address for OTLP over gRPC, such as 0.0.0.0:4317 (default: over HTTP alone)", address)
    .option("--token-file <file>", "bearer token of senders, mounted and rotated by others")
    .option("--token-audience <audience>", "let in senders whose token for this audience the API server knows, and RBAC allows")
    .option("--actions-key <file>", "private Ed25519 key (PEM) that actions of applications are asked for with")
    .option("--tls-cert <file>", "certificate (PEM) for HTTPS; read again when it changes")
    .option("--tls-key <file>", "its key (PEM)")
    .option("--state <dir>", "directory of the audit trail", ".nightshift")
    .option("--config <file>", "configuration: who is paged")
    .addOption(new Option("--log-level <level>", "least level that is logged").choices(LOG_LEVELS).default("info"))
    .option("--json", "log as JSON lines")
    .addHelpText(
      "after",
      `
One replica leads, by a Lease; the others keep their caches warm and take over within 15 s of a crash, at once after
a graceful stop. SIGTERM ends it in order.

Examples:
  $ nightshift operator --kubeconfig ~/.kube/config -n nightshift-system --token-file token
  $ nightshift operator --listen 0.0.0.0:8080 --token-audience nightshift --json`,
    )
    .action(async (options: Options) => {
      const { runOperator } = await import("../operator.ts");
      const { createLog } = await import("../log.ts");
      const log = createLog({ json: options.json === true, level: options.logLevel });
      const ended = await runOperator({ ...options, stateDir: options.state, configFile: options.config, log });
      // A leader that lost its lease ends at once: its loop still stands as it stood, and would keep the process alive. The
      // kubelet starts it anew.
      if (ended === "LeaseLost") process.exit(EXIT.UNAVAILABLE);
    });
}

function address(text: string): { readonly host: string; readonly port: number } {
  const parsed = parseHostPort(text);
  if (parsed === undefined) throw new InvalidArgumentError("expected host:port, such as 0.0.0.0:8080");
  return parsed;
}
