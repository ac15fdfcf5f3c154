// The same types by `import` in an ES module (surface.ts is CommonJS), and one LockError for both.
import { expectTypeOf } from "expect-type";
import type * as root from "syncguard";
import type * as common from "syncguard/common";
import * as file from "syncguard/file";
import * as postgres from "syncguard/postgres";
import * as redis from "syncguard/redis";

expectTypeOf<root.LockError>().toEqualTypeOf<common.LockError>();
expectTypeOf(redis.createRedisBackend("redis://h").acquire).returns.resolves.toHaveProperty("ok");
expectTypeOf(file.createLock("/d")).toEqualTypeOf<root.LockFunction>();
expectTypeOf(postgres.setupSchema).returns.resolves.toBeVoid();
