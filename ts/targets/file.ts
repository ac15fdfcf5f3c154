import type { TargetKind } from "./target.js";

export const file: TargetKind = {
  kind: "file",
  schemes: ["file"],
  accepts: "a directory, a file: URL, or { directory }",
  ownFacts: ["directory"],
  adopt: () => undefined,
  text: (text) => (/^file:/i.test(text) ? { target: text } : { target: [["directory", text]] }),
};
