// Programs that know nothing of Nightshift send hints with the official OpenTelemetry SDKs to one that runs.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { API_VERSION } from "../../src/api/meta.ts";
import type { Remediation } from "../../src/api/remediation.ts";
import { createLog } from "../../src/cli/log.ts";
import { readStack, type Running, startNightshift } from "../../src/cli/nightshift.ts";
import { derivedToken } from "../../src/server/token.ts";
import { NO_STORMS } from "../support/no-storms.ts";
import { unusedPort } from "../support/ports.ts";
import { until } from "../support/until.ts";
import { lackingFor, type Language, programOf } from "./programs.ts";

const ACTIONS = ["pool-reset", "cache-flush", "restart"] as const;
type Action = (typeof ACTIONS)[number];
type Protocol = "http/protobuf" | "grpc";

interface Case {
  readonly language: Language;
  readonly protocol: Protocol;
  readonly args: readonly string[];
  /** Default: what the SDK does by itself, which is cumulative. */
  readonly temporality?: "delta";
  /** `Unclear`: nothing is done, and the reason is told. */
  readonly expected: Action | "Unclear";
}

const NAMED: readonly Case[] = (["go", "python", "java", "node"] as const).flatMap((language) =>
  (["http/protobuf", "grpc"] as const).flatMap((protocol) => [
    { language, protocol, args: ["--action", "pool-reset", "--saturation", "connections", "1"], expected: "pool-reset" as const },
    { language, protocol, args: ["--action", "restart", "1", "1"], temporality: "delta" as const, expected: "restart" as const },
  ]),
);

/** The shape of some published examples, `counter.Add(ctx, 1)`: no attributes, the number is the message. */
const BARE: readonly Case[] = [
  { language: "go", protocol: "grpc", temporality: "delta", args: ["1"], expected: "pool-reset" },
  { language: "go", protocol: "http/protobuf", temporality: "delta", args: ["1"], expected: "pool-reset" },
  // Within a span the SDK attaches an exemplar, which shows that 2 is one addition.
  { language: "go", protocol: "grpc", temporality: "delta", args: ["--traced", "2"], expected: "cache-flush" },
  { language: "go", protocol: "grpc", temporality: "delta", args: ["--traced", "3"], expected: "restart" },
  { language: "go", protocol: "grpc", temporality: "delta", args: ["2"], expected: "Unclear" },
  { language: "go", protocol: "grpc", temporality: "delta", args: ["1", "1"], expected: "Unclear" },
  { language: "go", protocol: "grpc", temporality: "delta", args: ["--traced", "1", "1"], expected: "Unclear" },
  { language: "go", protocol: "grpc", args: ["1"], expected: "Unclear" },
  { language: "go", protocol: "http/protobuf", args: ["1", "1"], expected: "Unclear" },
  { language: "go", protocol: "grpc", args: ["2"], expected: "Unclear" },
];
/** A policy that knows that its sender adds once an export. */
const SINGLE: readonly Case[] = [
  { language: "go", protocol: "grpc", temporality: "delta", args: ["2"], expected: "cache-flush" },
  { language: "go", protocol: "grpc", temporality: "delta", args: ["3"], expected: "restart" },
  { language: "go", protocol: "grpc", args: ["2"], expected: "Unclear" },
];

const workloads = (cases: readonly Case[], kind: string): { readonly name: string; readonly of: Case }[] =>
  cases.map((of, i) => ({ name: `${kind}-${i}`, of }));
const ALL = { named: workloads(NAMED, "named"), bare: workloads(BARE, "bare"), single: workloads(SINGLE, "single") };

describe("hints from official SDKs", () => {
  let dir: string;
  let running: Running;

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "nightshift-sdk-"));
    const policies = (["Inconclusive", "SingleAddition"] as const).flatMap((bareValue) =>
      ACTIONS.map((action) => ({
        apiVersion: API_VERSION,
        kind: "RemediationPolicy",
        metadata: { name: `${bareValue.toLowerCase()}-${action}` },
        spec: {
          mode: "Observe",
          targets: [{ selector: { matchLabels: { bare: bareValue } } }],
          signals: [{ name: action, hint: { action, bareValue } }],
          ladder: [{ strategy: "RestartPod" }],
        },
      })),
    );
    writeFileSync(join(dir, "policies.yaml"), [...policies, NO_STORMS].map((resource) => JSON.stringify(resource)).join("\n---\n"));
    const stackFile = join(dir, "stack.yaml");
    writeFileSync(
      stackFile,
      JSON.stringify({
        listen: `127.0.0.1:${unusedPort()}`,
        grpcListen: `127.0.0.1:${unusedPort()}`,
        resources: ["policies.yaml"],
        workloads: Object.entries(ALL).flatMap(([kind, list]) =>
          list.map(({ name }) => ({
            name,
            labels: { bare: kind === "single" ? "SingleAddition" : "Inconclusive" },
            command: ["sleep", "infinity"],
          })),
        ),
      }),
    );
    const { stack, stackDir } = await readStack(stackFile);
    running = await startNightshift({ stack, stackDir, stateDir: join(dir, "state"), log: createLog({ json: true, level: "error" }) });
  });
  after(async () => {
    await running?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  /** The uid of a workload's only replica. */
  const replicaOf = async (name: string): Promise<string> => {
    let uid = "";
    await until(() => {
      const replica = running.platform.workloads().find(({ ref }) => ref.name === name)?.replicas[0];
      assert.ok(replica?.phase === "Running", `a replica of ${name} runs`);
      uid = replica.ref.uid;
    });
    return uid;
  };

  /** Runs a program to its end, as that replica, with nothing but the variables that every SDK knows. */
  const send = async ({ language, protocol, temporality, args }: Case, service: string, uid: string, token?: string) => {
    const [command = "", ...first] = programOf(language);
    const child = spawn(command, [...first, ...args], {
      env: {
        PATH: process.env["PATH"],
        OTEL_EXPORTER_OTLP_ENDPOINT: protocol === "grpc" ? running.grpcUrl : running.url,
        OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
        OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${token ?? derivedToken(running.token, "otlp")}`,
        OTEL_EXPORTER_OTLP_TIMEOUT: "10000",
        OTEL_RESOURCE_ATTRIBUTES: `service.name=${service},service.instance.id=${uid}`,
        OTEL_TRACES_EXPORTER: "none",
        OTEL_LOGS_EXPORTER: "none",
        ...(temporality === undefined ? {} : { OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: temporality }),
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let errors = "";
    child.stdout.on("data", (data: Buffer) => (output += data.toString()));
    child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
    const code = await new Promise<number | null>((resolve, reject) => child.once("error", reject).once("close", resolve));
    return { code, output: output.trim(), errors };
  };

  const episodesOf = (uid: string): Remediation[] =>
    running.loop.world.remediations.list().filter(({ spec }) => spec.signalTarget.uid === uid);

  for (const [kind, list] of Object.entries(ALL))
    for (const { name, of } of list) {
      const { language, protocol, temporality, args, expected } = of;
      const title = `${language} over ${protocol}, ${temporality ?? "cumulative"}, ${args.join(" ")}: ${expected}`;
      it(kind === "single" ? `${title}, for a policy that knows of single additions` : title, { skip: lackingFor(language) }, async () => {
        const uid = await replicaOf(name);
        const { code, output, errors } = await send(of, name, uid);
        assert.equal(code, 0, errors);
        await until(() => {
          const episodes = episodesOf(uid);
          assert.ok(episodes.length > 0, `an episode of ${name}; the SDK said: ${errors}`);
          if (expected === "Unclear")
            for (const { status } of episodes) {
              assert.deepEqual([status.phase, status.reason], ["Blocked", "NoData"]);
              assert.match(status.message ?? "", /the sender should give the attribute remediation\.action/);
            }
          else {
            assert.deepEqual(
              episodes.map(({ spec, status }) => [
                spec.signal.name,
                spec.signal.source,
                spec.remediationTarget.uid,
                status.outcome ?? status.message,
              ]),
              [[expected, "OpenTelemetry", uid, "Observed"]],
            );
            const values = episodes[0]?.spec.diagnosis.evidence[0]?.values ?? {};
            assert.equal(values["temporality"], temporality === "delta" ? "Delta" : "Cumulative");
            assert.equal(values["saturationType"], args.includes("--saturation") ? "connections" : undefined);
            assert.equal(values["traceIds"], args.includes("--traced") ? output : undefined);
          }
        });
      });
    }

  for (const protocol of ["http/protobuf", "grpc"] as const)
    it(`without the token nothing is taken over ${protocol}`, { skip: lackingFor("go") }, async () => {
      const of: Case = { language: "go", protocol, args: ["--action", "restart", "1"], expected: "restart" };
      const { code, errors } = await send(of, "named-0", "uid-of-nobody", "another-token-another-token");
      assert.notEqual(code, 0);
      assert.match(errors, protocol === "grpc" ? /Unauthenticated/ : /401/);
      assert.deepEqual(running.telemetry.hints("uid-of-nobody"), []);
    });
});
