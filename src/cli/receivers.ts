import { resolve } from "node:path";
import type { ReceiverSpec } from "../api/receiver.ts";
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
  const file = (path: string | undefined): string | undefined => (path === undefined ? undefined : resolve(dir, path));
  const options = { name: spec.name, url: spec.url, urlFile: file(spec.urlFile), tokenFile: file(spec.tokenFile) };
  return new RECEIVERS[spec.type](options);
}
