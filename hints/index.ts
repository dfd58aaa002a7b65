export { HintsError } from "./errors.ts";
export { hints, HINT_METRIC, type Hint, type HintOptions, type Meter } from "./hint.ts";
export { serveActions, type ActionContext, type ActionHandler, type ActionResult, type Actions, type ServeOptions } from "./serve.ts";
