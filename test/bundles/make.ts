// Makes one of the shared bundles: `bun test/bundles/make.ts KIND DIR [CGROUP]`. DIR must not exist; CGROUP is the
// container's cgroup path (default: /bunc-<name of DIR>). Without arguments, lists the kinds.
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { configText } from "../rig/config.ts";
import { type KindName, kinds, makeKind } from "./kinds.ts";

const [name, dir, cgroup] = process.argv.slice(2);
if (name === undefined || dir === undefined || !(name in kinds)) {
  for (const [kind, { describe }] of Object.entries(kinds)) console.error(`${kind.padEnd(16)} ${describe}`);
  console.error("usage: bun test/bundles/make.ts KIND DIR [CGROUP]");
  process.exit(name === undefined ? 0 : 1);
}
const bundle = resolve(dir);
if (existsSync(bundle)) {
  console.error(`${bundle} exists: remove it first, or name another directory`);
  process.exit(1);
}
mkdirSync(bundle, { recursive: true });
const id = basename(bundle);
const place = { id, bundle, rootfs: join(bundle, "rootfs") };
// A bundle that outlives this command has copies of its own.
const config = makeKind(
  name as KindName,
  place,
  join(bundle, ".store"),
  cgroup ?? `/bunc-${id}`,
  process.ppid,
);
writeFileSync(join(bundle, "config.json"), configText(config));
