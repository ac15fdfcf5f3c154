// Where files are.
import type { TargetKind } from "./target.js";

export const file: TargetKind = {
  kind: "file",
  schemes: ["file"],
  accepts: "a directory, a file: URL, or { directory }",
  ownFacts: ["directory"],
  adopt: () => undefined,
  // Another scheme is a mistake, not a directory: Rust says so.
  text: (text) => (/^(file:|[a-z][a-z\d+.-]+:\/\/)/i.test(text) ? { target: text } : { target: [["directory", text]] }),
};
