// What to say when the addon can't be loaded. `native.cjs`, which the build generates, looks for the binary; its own
// error names neither the platform nor the package.

/** A build of the addon, as its package is named: `linux-x64-gnu`, `darwin-arm64`. */
type Platform = string;

interface Manifest {
  name: string;
  version: string;
  napi: { targets: string[] };
}

const OS: Record<string, string> = { linux: "linux", apple: "darwin", windows: "win32", pc: "win32" };
const CPU: Record<string, string> = { x86_64: "x64", aarch64: "arm64" };

/**
 * Loads the addon.
 * @throws Error with code `ERR_SYNCGUARD_BINARY`, which says what to install, when there is none or it does not load.
 */
export function loadAddon<T>(load: () => T, manifest: Manifest, platform: () => Platform = thisPlatform): T {
  try {
    return load();
  } catch (cause) {
    throw Object.assign(new Error(advice(manifest, platform(), cause), { cause }), { code: "ERR_SYNCGUARD_BINARY" });
  }
}

function advice({ name, version, napi }: Manifest, platform: Platform, cause: unknown): string {
  const built = napi.targets.map(platformOf);
  if (!built.includes(platform)) {
    return `${name} has no binary for ${platform}; it has one for ${built.join(", ")}`;
  }
  const wanted = `${name}-${platform}@${version}`;
  const broken = reasons(cause).find((reason) => !/^Cannot find|^Failed to load native/.test(reason));
  if (broken !== undefined) {
    return `the binary of ${name} for ${platform} does not load (${broken}); reinstall ${wanted}`;
  }
  return (
    `${name} is installed without its binary for ${platform}: install ${wanted}. ` +
    `It is an optional dependency, which --omit=optional and a lock file or node_modules from another platform leave out`
  );
}

/** The messages of an error and its causes, each without the list of requiring files that Node.js adds. */
function reasons(error: unknown): string[] {
  const messages: string[] = [];
  for (let each = error; each instanceof Error; each = each.cause) messages.push(each.message.split("\n")[0] as string);
  return messages;
}

/** `x86_64-unknown-linux-gnu` → `linux-x64-gnu`. */
function platformOf(target: string): Platform {
  const [cpu = "", vendor = "", system = "", abi] = target.split("-");
  return [OS[system] ?? OS[vendor], CPU[cpu], abi].filter(Boolean).join("-");
}

/** Told from the process alone: C libraries are told apart as the loader does, by what the running process reports. */
export function thisPlatform({
  platform,
  arch,
  report,
}: Pick<NodeJS.Process, "platform" | "arch" | "report"> = process): Platform {
  if (platform === "win32") return `${platform}-${arch}-msvc`;
  if (platform !== "linux") return `${platform}-${arch}`;
  const { header } = (report?.getReport() ?? {}) as { header?: { glibcVersionRuntime?: string } };
  return `${platform}-${arch}-${header && !header.glibcVersionRuntime ? "musl" : "gnu"}`;
}
