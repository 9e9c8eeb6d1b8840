import { describe, expect, test } from "bun:test";
import { defaultSpec, formatSpec, rootlessSpec } from "./spec-default.ts";

function sha256(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}

describe("the same bytes as runc 1.5.1", () => {
  // What a Go program prints that calls json.MarshalIndent(specconv.Example(), "", "\t") of runc 1.5.1 as root on a host
  // without the unified cgroup hierarchy; the second after specconv.ToRootless.
  test("spec", () => {
    expect(sha256(formatSpec(defaultSpec()))).toBe(
      "fae353a9c6447ab67d306c25bf2d6c8e93df5a8504bebb0b08738068f5e55330",
    );
  });

  test("spec --rootless", () => {
    const text = formatSpec(rootlessSpec(0, 0));
    expect(sha256(text)).toBe("cb410bbe4aaae5b2b0109e5912c3f01fda753a3c51beee9861604197f7da5677");
  });

  test("with a cgroup namespace on the unified hierarchy, before the user namespace", () => {
    const types = (spec: ReturnType<typeof defaultSpec>) => spec.linux!.namespaces!.map(({ type }) => type);
    expect(types(defaultSpec(true))).toEqual(["pid", "network", "ipc", "uts", "mount", "cgroup"]);
    expect(types(rootlessSpec(1, 2, true))).toEqual(["pid", "ipc", "uts", "mount", "cgroup", "user"]);
  });

  test("strings and integers as Go writes them", () => {
    const value = {
      a: '<>&\u2028\u2029"\\\b\f\n\r\t\x00\x1f\x7fé\u{1f4a3}',
      b: [],
      c: {},
      d: 18446744073709551615n,
    };
    expect(formatSpec(value as never)).toBe(
      '{\n\t"a": "\\u003c\\u003e\\u0026\\u2028\\u2029\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\x7fé\u{1f4a3}",\n' +
        '\t"b": [],\n\t"c": {},\n\t"d": 18446744073709551615\n}',
    );
  });
});

test("a rootless spec maps the caller and takes no ids from mounts", () => {
  const spec = rootlessSpec(1000, 100);
  expect(spec.linux!.uidMappings).toEqual([{ containerID: 0, hostID: 1000, size: 1 }]);
  expect(spec.linux!.gidMappings).toEqual([{ containerID: 0, hostID: 100, size: 1 }]);
  expect(spec.linux!.resources).toBeUndefined();
  expect(formatSpec(spec)).not.toContain("gid=");
});

test("each call gives a spec of its own", () => {
  const spec = defaultSpec();
  spec.process!.capabilities!.bounding!.push("CAP_SYS_ADMIN");
  spec.mounts!.pop();
  expect(defaultSpec().process!.capabilities!.effective).not.toContain("CAP_SYS_ADMIN");
  expect(spec.process!.capabilities!.effective).not.toContain("CAP_SYS_ADMIN");
  expect(defaultSpec().mounts).toHaveLength(7);
});
