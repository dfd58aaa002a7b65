import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { it, type TestContext } from "node:test";
import { until } from "../../test/support/until.ts";
import { InspectorPorts, inspectorPort, listeningPorts } from "./ports.ts";

function node(t: TestContext, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess & { readonly pid: number } {
  const child = spawn(process.execPath, [...args, "-e", "console.log('up'); setInterval(() => {}, 1000)"], {
    stdio: ["ignore", "pipe", "ignore"],
    env: { PATH: process.env["PATH"], ...env },
  });
  t.after(() => void child.kill("SIGKILL"));
  assert.ok(child.pid !== undefined);
  return child as ChildProcess & { readonly pid: number };
}

it("finds what a process listens at, and nobody else's", async (t) => {
  const servers = ["127.0.0.1", "::1", "0.0.0.0"].map((host) => createServer().listen(0, host));
  t.after(() => servers.forEach((server) => server.close()));
  for (const server of servers) if (!server.listening) await once(server, "listening");
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  for (const port of ports) assert.ok(listeningPorts(process.pid).includes(port));
  assert.deepEqual(
    listeningPorts(node(t, []).pid).filter((port) => ports.includes(port)),
    [],
  );
  assert.deepEqual(listeningPorts(2 ** 30), []);
});

it("knows the inspector's port by arguments, which win over NODE_OPTIONS", async (t) => {
  for (const [args, options, port] of [
    [[], undefined, 9229],
    [["--inspect-port=127.0.0.1:9555"], undefined, 9555],
    [["--inspect-port=9556"], "--max-old-space-size=100 --inspect-port=9557", 9556],
    [[], "--max-old-space-size=100 --inspect-port=localhost:9557", 9557],
  ] as const) {
    const { pid } = node(t, args, options === undefined ? {} : { NODE_OPTIONS: options });
    await until(() => assert.equal(inspectorPort(pid), port));
  }
});

it("finds an inspector that opens at any port, not the program's own", async (t) => {
  const child = node(t, ["--inspect-port=0"]);
  await once(child.stdout!, "data");
  const ports = new InspectorPorts(child.pid);
  assert.deepEqual(ports.candidates(), []);
  assert.equal(ports.takenByAnother, undefined);
  child.kill("SIGUSR1");
  await until(() => assert.equal(ports.candidates().length, 1));
  const [port] = ports.candidates();
  const answer = (await (await fetch(`http://127.0.0.1:${port}/json/list`)).json()) as { webSocketDebuggerUrl: string }[];
  assert.match(answer[0]?.webSocketDebuggerUrl ?? "", /^ws:/);
});

it("sees that another process has the port", async (t) => {
  const server = createServer().listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const child = node(t, [`--inspect-port=127.0.0.1:${port}`]);
  await once(child.stdout!, "data");
  const ports = new InspectorPorts(child.pid);
  assert.equal(ports.takenByAnother, port);
  assert.deepEqual(ports.candidates(), []);
});
