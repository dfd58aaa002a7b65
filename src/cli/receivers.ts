import { resolve } from "node:path";
import type { ReceiverSpec } from "../api/receiver.ts";
import type { Receiver } from "../record/paging.ts";
import { SlackReceiver, WebhookReceiver } from "../record/receivers.ts";

/** The receiver that a configuration file describes; its paths are relative to `dir`. */
export function receiverOf(spec: ReceiverSpec, dir: string): Receiver {
  const file = (path: string | undefined): string | undefined => (path === undefined ? undefined : resolve(dir, path));
  const options = { name: spec.name, url: spec.url, urlFile: file(spec.urlFile), tokenFile: file(spec.tokenFile) };
  return spec.type === "Slack" ? new SlackReceiver(options) : new WebhookReceiver(options);
}
