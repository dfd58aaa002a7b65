import { API_VERSION } from "../api/meta.ts";
import type { Remediation } from "../api/remediation.ts";
import type { KubeEvent } from "../platform/kubernetes/events.ts";
import type { Clock } from "../ports/clock.ts";
import type { AuditRecord } from "../record/audit.ts";

/** Outcomes and phases that people should look at. */
const WARNING = /^(Failed|Escalated|Ineffective|Inconclusive)$/;

/** How often it is looked whether an episode is there (ms), and how many times. */
const LOOK_MS = 100;
const LOOKS = 100;

/**
 * Tells audit records as events. The first records of an episode can be durable before the API server has answered that
 * it has the episode: `kubectl describe` finds events by their object's uid, so they wait for it, ten seconds at most.
 */
export function eventTeller(options: {
  readonly clock: Clock;
  readonly remediation: (key: string) => Remediation | undefined;
  readonly policyUid: (key: string) => string | undefined;
  readonly tell: (event: KubeEvent) => void;
}): (record: AuditRecord) => void {
  const { clock, remediation, policyUid, tell } = options;
  const look = (record: AuditRecord, looks: number): void => {
    const event = eventOf(record, remediation, policyUid);
    if (event === undefined) return;
    if (event.regarding.uid !== undefined || event.regarding.kind !== "Remediation" || looks === 0) return tell(event);
    clock.after(LOOK_MS, () => look(record, looks - 1), { background: true });
  };
  return (record) => look(record, LOOKS);
}

/**
 * The Kubernetes event that tells an audit record where `kubectl describe` shows it: on the episode, or on the policy where
 * there is none. Undefined for records that say nothing new there.
 */
function eventOf(
  record: AuditRecord,
  remediation: (key: string) => Remediation | undefined,
  policyUid: (key: string) => string | undefined,
): KubeEvent | undefined {
  const told = tellingOf(record);
  if (told === undefined) return undefined;
  const key = record.remediation ?? record.policy;
  if (key === undefined) return undefined;
  const [namespace = "", name = ""] = key.split("/");
  const kind = record.remediation === undefined ? "RemediationPolicy" : "Remediation";
  const uid = record.remediation === undefined ? policyUid(key) : remediation(key)?.metadata.uid;
  return {
    regarding: { apiVersion: API_VERSION, kind, namespace, name, ...(uid === undefined ? {} : { uid }) },
    ...told,
    note: record.message,
  };
}

function tellingOf({ type, data = {} }: AuditRecord): Pick<KubeEvent, "type" | "reason" | "action"> | undefined {
  const text = (field: string): string | undefined => (typeof data[field] === "string" ? data[field] : undefined);
  switch (type) {
    case "Decision":
      return { type: "Normal", reason: text("reason") ?? text("action") ?? "Decided", action: "Decide" };
    case "Result":
      return { type: text("state") === "Failed" ? "Warning" : "Normal", reason: capitalized(text("type") ?? "Step"), action: "Act" };
    case "Phase": {
      const reason = text("outcome") ?? text("phase") ?? "Progressing";
      return { type: WARNING.test(reason) ? "Warning" : "Normal", reason, action: "Verify" };
    }
    case "Page":
      return { type: "Warning", reason: text("state") === "Sent" ? "Paged" : "PageFailed", action: "Page" };
    case "Policy":
      return { type: "Warning", reason: "Refused", action: "Accept" };
    default:
      return undefined;
  }
}

function capitalized(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
}
