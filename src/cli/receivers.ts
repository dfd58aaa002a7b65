import { resolve } from "node:path";
import type { ReceiverSpec } from "../api/receiver.ts";
import type { SlackConfig } from "../api/slack.ts";
import type { Clock } from "../ports/clock.ts";
import type { Store } from "../ports/store.ts";
import type { Receiver } from "../record/paging.ts";
import {
  AlertmanagerReceiver,
  OpsgenieReceiver,
  PagerDutyReceiver,
  type ReceiverOptions,
  SlackReceiver,
  WebhookReceiver,
} from "../record/receivers.ts";
import { SlackActions, type SlackOptions } from "../server/slack.ts";

/** The answers by buttons that a configuration file asks for, if it does. */
export function slackActionsOf(
  config: { readonly slack?: SlackConfig | undefined },
  options: {
    readonly dir: string;
    readonly store: () => Pick<Store, "get" | "list" | "create">;
    readonly clock: Clock;
    readonly log: SlackOptions["log"];
    readonly loopback?: boolean | undefined;
  },
): SlackActions | undefined {
  const { dir, ...rest } = options;
  if (config.slack === undefined) return undefined;
  const { signingSecretFile, teams, approvers } = config.slack;
  return new SlackActions({ ...rest, secretFile: resolve(dir, signingSecretFile), teams, approvers });
}

const RECEIVERS: Readonly<Record<ReceiverSpec["type"], new (options: ReceiverOptions) => Receiver>> = {
  Webhook: WebhookReceiver,
  Slack: SlackReceiver,
  PagerDuty: PagerDutyReceiver,
  Opsgenie: OpsgenieReceiver,
  Alertmanager: AlertmanagerReceiver,
};

/** The receivers that a configuration file describes; its paths are relative to `dir`. With `slack` questions have buttons there. */
export function receiversOf(
  config: { readonly receivers: readonly ReceiverSpec[]; readonly slack?: SlackConfig | undefined },
  dir: string,
): Receiver[] {
  return config.receivers.map((spec) => receiverOf(spec, dir, config.slack !== undefined));
}

function receiverOf(spec: ReceiverSpec, dir: string, buttons: boolean): Receiver {
  const { name, url, urlFile, tokenFile } = spec;
  const options = { name, url, urlFile: fileOf(urlFile, dir), tokenFile: fileOf(tokenFile, dir), buttons };
  return new RECEIVERS[spec.type](options);
}

/** A path of a configuration file in `dir`. */
export function fileOf(path: string | undefined, dir: string): string | undefined {
  return path === undefined ? undefined : resolve(dir, path);
}
