import { resolve } from "node:path";
import type { AlertmanagerSpec } from "../api/alertmanager.ts";
import type { ReceiverSpec } from "../api/receiver.ts";
import type { AlertmanagerOptions } from "../observe/alertmanager-poll.ts";
import type { Receiver } from "../record/paging.ts";
import {
  AlertmanagerReceiver,
  OpsgenieReceiver,
  PagerDutyReceiver,
  type ReceiverOptions,
  SlackReceiver,
  WebhookReceiver,
} from "../record/receivers.ts";

const RECEIVERS: Readonly<Record<ReceiverSpec["type"], new (options: ReceiverOptions) => Receiver>> = {
  Webhook: WebhookReceiver,
  Slack: SlackReceiver,
  PagerDuty: PagerDutyReceiver,
  Opsgenie: OpsgenieReceiver,
  Alertmanager: AlertmanagerReceiver,
};

/** The receiver that a configuration file describes; its paths are relative to `dir`. */
export function receiverOf(spec: ReceiverSpec, dir: string): Receiver {
  const options = { name: spec.name, url: spec.url, urlFile: fileOf(spec.urlFile, dir), tokenFile: fileOf(spec.tokenFile, dir) };
  return new RECEIVERS[spec.type](options);
}

/** The Alertmanager that a configuration file describes; its paths are relative to `dir`. */
export function alertmanagerOf({ url, receiver, tokenFile, caFile }: AlertmanagerSpec, dir: string): AlertmanagerOptions {
  return { url, receiver, tokenFile: fileOf(tokenFile, dir), caFile: fileOf(caFile, dir) };
}

function fileOf(path: string | undefined, dir: string): string | undefined {
  return path === undefined ? undefined : resolve(dir, path);
}
