/** Sources of bind mounts: what an error says. That mounts work is in test/integration/mount-special.test.ts. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BuncError } from "../errors.ts";
import { closeFd } from "../linux/process.ts";
import type { Mount } from "../oci/config.ts";
import { defaultSpec } from "../oci/spec-default.ts";
import { failure } from "../testing.ts";
import { openTree, parseMounts, supportHint, TreeOpener } from "./trees.ts";

const scratch = mkdtempSync(join(tmpdir(), "bunc-trees-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const isRoot = process.getuid?.() === 0;
const mapping = [{ containerID: 0, hostID: 100000, size: 10 }];

/** A spec with these mounts only, and the opener of their sources. */
function opener(
  mounts: Mount[],
  change: (spec: ReturnType<typeof defaultSpec>) => void = () => {},
): TreeOpener {
  const spec = defaultSpec();
  spec.mounts = mounts;
  change(spec);
  return new TreeOpener(spec);
}

const from = (source: string, mount = 0, recursive = false) =>
  ({ kind: "tree", source, recursive, mount }) as const;
const mapped = (source: string, options: string[] = ["bind", "idmap"]): Mount => ({
  destination: "/mnt",
  source,
  options,
  uidMappings: mapping,
  gidMappings: mapping,
});

test("the hint tells what the file system needs", () => {
  expect(supportHint("tmpfs", 5015)).toBe("tmpfs can since Linux 6.3; this is 5.15");
  expect(supportHint("fuse.sshfs", 6001)).toBe("fuse can since Linux 6.12; this is 6.1");
  expect(supportHint("ext4", 6001)).toContain("unless its mount options");
  expect(supportHint("proc", 6018)).toContain("among those that can are ext4");
  expect(supportHint("constructor", 6018)).toContain("among those that can are ext4");
});

test("mountinfo is read with and without optional fields and with escaped names", () => {
  const info = [
    "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
    "37 35 98:0 / /plain rw shared:3 master:1 - tmpfs none rw",
    "38 35 0:5 / /bare rw - proc proc rw",
    "broken line",
    "",
  ].join("\n");
  expect(parseMounts(info)).toEqual([
    { id: "36", at: "/mnt 2", type: "ext3" },
    { id: "37", at: "/plain", type: "tmpfs" },
    { id: "38", at: "/bare", type: "proc" },
  ]);
});

test("a mapping that is nowhere is an error of the bundle", () => {
  const { fields } = failure(() =>
    opener([{ destination: "/mnt", source: scratch, options: ["bind", "idmap"] }]).open(from(scratch)),
  );
  expect(fields).toMatchObject({ code: "config", path: "mounts[0]" });
});

test("a broken mapping is named", () => {
  const mount = { ...mapped(scratch), gidMappings: [{ containerID: 0, hostID: 0, size: 0 }] };
  expect(failure(() => opener([mount]).open(from(scratch))).fields.path).toBe(
    "mounts[0].gidMappings[0].size",
  );
});

test("what is joined must be a user namespace", () => {
  const joined = (path: string) => () =>
    opener([{ destination: "/mnt", source: scratch, options: ["bind", "idmap"] }], (spec) => {
      spec.linux!.namespaces = [{ type: "pid" }, { type: "user", path }];
    }).open(from(scratch));
  for (const path of ["/proc/self/ns/net", "/dev/null"]) {
    expect(failure(joined(path)).message).toContain(`${path} is not a user namespace`);
  }
  const { fields } = failure(joined("/no/such"));
  expect(fields).toMatchObject({ path: "linux.namespaces[1].path", errno: "ENOENT" });
});

describe.skipIf(!isRoot)("as root", () => {
  test("a source is opened as a detached mount; one that is missing is named", () => {
    const fd = opener([{ destination: "/mnt", source: scratch, options: ["bind"] }]).open(from(scratch));
    expect(fd).toBeGreaterThan(2);
    closeFd(fd);
    const absent = join(scratch, "absent");
    const { message, fields } = failure(() =>
      opener([{ destination: "/mnt", source: absent, options: ["bind"] }]).open(from(absent)),
    );
    expect(message).toContain(
      `error mounting "${absent}" to rootfs at "/mnt": source: open_tree: no such file`,
    );
    expect(fields).toMatchObject({ path: "mounts[0].source", errno: "ENOENT" });
  });

  test("a file system that cannot is named, of the source or below it", () => {
    const proc = failure(() => opener([mapped("/proc")]).open(from("/proc")));
    expect(proc.message).toContain("the file system proc cannot have its ids mapped");
    const below = failure(() => opener([mapped("/", ["rbind", "ridmap"])]).open(from("/", 0, true)));
    expect(below.message).toMatch(/the file system [a-z0-9.]+ at "\/[^"]+" cannot have its ids mapped/);
  });

  test("no descriptor and no process is left, whatever happens", () => {
    const descriptors = () =>
      readdirSync("/proc/self/fd").filter((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`) !== "";
        } catch {
          return false; // the one that reads the directory
        }
      }).length;
    openTree(scratch, false); // loads what is loaded once
    const before = descriptors();
    const trees = opener([mapped(scratch), mapped(scratch), mapped("/proc")]);
    const opened = [trees.open(from(scratch, 0)), trees.open(from(scratch, 1))];
    // Two mounts, and the one namespace that both have.
    expect(descriptors()).toBe(before + 3);
    expect(() => trees.open(from("/proc", 2))).toThrow(BuncError);
    trees.close();
    for (const fd of opened) closeFd(fd);
    expect(descriptors()).toBe(before);
    const children = readdirSync("/proc/self/task").flatMap((task) => [
      ...readFileSync(`/proc/self/task/${task}/children`, "utf8").matchAll(/\d+/g),
    ]);
    expect(children).toEqual([]);
  });
});
