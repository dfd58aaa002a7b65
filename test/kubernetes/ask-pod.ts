// Asks a pod for `pool-reset` as the operator that leads, or has led, under an epoch, and prints what came of it. A process of its own,
// as pods are reached from inside the cluster's network only: ask-pod.ts KUBECONFIG KEY-FILE EPOCH EFFECT-ID NAMESPACE NAME UID
import { readFileSync } from "node:fs";
import { pino } from "pino";
import { messageOf } from "../../src/api/errors.ts";
import { ActionCaller } from "../../src/platform/actions.ts";
import { systemClock } from "../../src/platform/host/clock.ts";
import { systemRandom } from "../../src/platform/host/random.ts";
import { kubeconfigAccess } from "../../src/platform/kubernetes/access.ts";
import { HttpKubeClient } from "../../src/platform/kubernetes/http-client.ts";
import { KubernetesPlatform } from "../../src/platform/kubernetes/platform.ts";

const [kubeconfig = "", keyFile = "", epoch = "", id = "", namespace = "", name = "", uid = ""] = process.argv.slice(2);
const client = new HttpKubeClient({ access: await kubeconfigAccess([kubeconfig]), clock: systemClock, version: "test" });
const platform = new KubernetesPlatform({
  client,
  clock: systemClock,
  random: systemRandom,
  log: pino({ level: "silent" }),
  epoch: () => Number(epoch),
  actions: new ActionCaller(readFileSync(keyFile, "utf8"), systemClock),
});
const stop = new AbortController();
await platform.start(stop.signal);
const replica = { kind: "Pod", namespace, name, uid } as const;
const outcome = await platform
  .apply({ id, type: "InvokeAction", replica, action: "pool-reset", intendedAt: Date.now() }, AbortSignal.timeout(30_000))
  .then(({ message }) => message, messageOf);
console.log(outcome);
stop.abort();
await platform.stop();
await client.close();
