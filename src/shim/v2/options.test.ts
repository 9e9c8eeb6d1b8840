import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encode } from "../proto/codec.ts";
import { type TableOptions, writeOptions, writeTableOptions } from "../proto/task.gen.ts";
import { readShimOptions } from "./options.ts";

const DEFAULTS = await readShimOptions(undefined);

function table(content: Partial<TableOptions> | string, type_url = "runtimeoptions.v1.Options") {
  const whole = typeof content === "string" ? { config_body: new TextEncoder().encode(content) } : content;
  return { type_url, value: encode(writeTableOptions, whole) };
}

test("of runc's type, with and without a prefix", async () => {
  const value = encode(writeOptions, { systemd_cgroup: true, root: "/r" });
  for (const prefix of ["", "types.containerd.io/"]) {
    const options = await readShimOptions({ type_url: `${prefix}containerd.runc.v1.Options`, value });
    expect(options).toEqual({ ...DEFAULTS, systemd_cgroup: true, root: "/r" });
  }
  const type_url = "containerd.runc.v1.Options";
  expect(await readShimOptions({ type_url, value: undefined })).toEqual(DEFAULTS);
  const owner = encode(writeOptions, { io_uid: 7, systemd_cgroup: false });
  expect(await readShimOptions({ type_url, value: owner })).toEqual({ ...DEFAULTS, io_uid: 7 });
});

test("none, empty ones and those of other types are all defaults", async () => {
  expect([DEFAULTS.systemd_cgroup, DEFAULTS.no_pivot_root, DEFAULTS.root]).toEqual([undefined, false, ""]);
  const value = encode(writeOptions, { systemd_cgroup: true });
  expect(await readShimOptions({ type_url: "some.v1.Settings", value })).toEqual(DEFAULTS);
  expect(await readShimOptions({ type_url: "runtimeoptions.v1.Options", value: undefined })).toEqual(
    DEFAULTS,
  );
  expect(await readShimOptions(table(""))).toEqual(DEFAULTS);
  expect(await readShimOptions(table({}))).toEqual(DEFAULTS);
});

describe("a table", () => {
  test("as CRI writes it; older ones have another package", async () => {
    const content = `TypeUrl = ''
NoPivotRoot = true
NoNewKeyring = true
ShimCgroup = '/s'
IoUid = 4294967295
IoGid = 2
BinaryName = "b"
Root = '/r'
CriuPath = 'p'
SystemdCgroup = true
CriuImagePath = 'i'
CriuWorkPath = 'w'
`;
    for (const prefix of ["", "cri."]) {
      expect(await readShimOptions(table(content, `${prefix}runtimeoptions.v1.Options`))).toEqual({
        no_pivot_root: true,
        no_new_keyring: true,
        shim_cgroup: "/s",
        io_uid: 4294967295,
        io_gid: 2,
        binary_name: "b",
        root: "/r",
        criu_path: "p",
        systemd_cgroup: true,
        criu_image_path: "i",
        criu_work_path: "w",
      });
    }
  });

  test("has names in any case; what is not known is told", async () => {
    const told: string[] = [];
    const content = "systemdcGroup = true\nSystemd_Cgroup = false\n__proto__ = 1\n[more]\nRoot = 'no'\n";
    const options = await readShimOptions(table(content), (message) => told.push(message));
    expect(options).toEqual({ ...DEFAULTS, systemd_cgroup: true });
    expect(told.map((message) => message.split(" ")[1])).toEqual([
      '"Systemd_Cgroup"',
      '"__proto__"',
      '"more"',
    ]);
  });

  test("may say that the driver is not systemd's", async () => {
    expect((await readShimOptions(table("SystemdCgroup = false"))).systemd_cgroup).toBe(false);
  });

  test("in a file comes before one in the message", async () => {
    const dir = mkdtempSync(join(tmpdir(), "options-"));
    try {
      const config_path = join(dir, "bunc.toml");
      writeFileSync(config_path, "Root = '/of/the/file'");
      const config_body = new TextEncoder().encode("Root = '/other'\nSystemdCgroup = true");
      const options = await readShimOptions(table({ config_path, config_body }));
      expect(options).toEqual({ ...DEFAULTS, root: "/of/the/file" });
      const gone = readShimOptions(table({ config_path: join(dir, "gone") }));
      await expect(gone).rejects.toThrow(/gone/);
      await expect(readShimOptions(table({ config_path: dir }))).rejects.toThrow(dir);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  test("that is wrong is an error", async () => {
    for (const [content, message] of [
      ["SystemdCgroup = 'true'", "SystemdCgroup must be true or false"],
      ["Root = ['/r']", "Root must be a string"],
      ["IoUid = -1", "IoUid must be a number from 0 to 4294967295"],
      ["IoGid = 1.5", "IoGid must be a number from 0 to 4294967295"],
      ["Root =", "config_body is not TOML"],
      ["\0\u{fffd}", "config_body is not TOML"],
    ] as const) {
      await expect(readShimOptions(table(content))).rejects.toThrow(message);
    }
  });
});
