/** What `bunc features` says of seccomp. */
import { expect, test } from "bun:test";
import { seccompFeatures } from "./features.ts";
import { readProfile } from "./profile.ts";
import { profileOf, testLibrary } from "./testing.ts";

const features = seccompFeatures(testLibrary());

test("every word that is announced is accepted", () => {
  for (const action of features.actions) {
    const syscalls = [
      { names: ["mkdir"], action, args: features.operators.map((op) => ({ index: 0, value: 1, op })) },
    ];
    const read = readProfile(profileOf({ defaultAction: "SCMP_ACT_ALLOW", listenerPath: "/s", syscalls }));
    expect(read.entries[0]!.conditions).toHaveLength(7);
  }
  expect(features.actions).toHaveLength(9);
  const syscalls = [{ names: ["mkdir"], action: "SCMP_ACT_NOTIFY" }];
  const { archs } = readProfile(
    profileOf({
      defaultAction: "SCMP_ACT_ALLOW",
      architectures: features.archs,
      flags: features.knownFlags,
      listenerPath: "/s",
      syscalls,
    }),
  );
  expect(archs.every((name) => testLibrary().arch(name) !== 0)).toBe(true);
});

test("lists are sorted, supported flags are those of the kernel", () => {
  for (const list of [features.actions, features.operators, features.archs])
    expect(list).toEqual([...list].sort());
  expect(features.archs).toContain("SCMP_ARCH_X86_64");
  expect(features.libseccompVersion).toBe(testLibrary().info.version);
  expect(features.supportedFlags).toContain("SECCOMP_FILTER_FLAG_TSYNC");
  const library = testLibrary();
  const old = seccompFeatures({ ...library, info: { ...library.info, kernelFlags: 1 << 2 } });
  expect(old.supportedFlags).toEqual(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
  expect(old.knownFlags).toHaveLength(4);
});
