// A resource that refuses a stale holder by its fence.
import { createBackend } from "syncguard";

/** What a lock protects. It refuses a writer whose fence is lower than one that it has seen. */
class Report {
  #highest = "";
  #text = "";

  write(text, fence) {
    if (fence < this.#highest) return `refused: ${fence} is older than ${this.#highest}`;
    this.#highest = fence;
    this.#text = text;
    return `written: ${this.#text}`;
  }
}

const report = new Report();
const backend = await createBackend();
const key = "report";

const slow = await backend.acquire({ key, ttlMs: 60_000 });
await backend.release({ lockId: slow.lockId }); // stands for: slow was paused until its lease had ended
const next = await backend.acquire({ key, ttlMs: 60_000 });

console.log(report.write("by the next holder", next.fence)); // written
console.log(report.write("by the one that woke up late", slow.fence)); // refused
await next.release();
await backend.close();
