/** crun's annotations: what they change of a launch program, and what is no such annotation. */
import { describe, expect, test } from "bun:test";
import { failure } from "../testing.ts";
import {
  annotationNotes,
  hasHooks,
  hookFiles,
  keepsGroups,
  mountContextType,
  refuseUnknownCalls,
} from "./annotations.ts";

const annotated = (name: string, value: string) => ({ annotations: { [`run.oci.${name}`]: value } });

test("keep_original_groups is any value but 0", () => {
  expect(keepsGroups({})).toBe(false);
  expect(keepsGroups({ annotations: {} })).toBe(false);
  expect(keepsGroups(annotated("keep_original_groups", "0"))).toBe(false);
  expect(keepsGroups(annotated("keep_original_groups", "1"))).toBe(true);
  expect(keepsGroups(annotated("keep_original_groups", ""))).toBe(true);
  expect(keepsGroups(annotated("keep_original_group", "1"))).toBe(false);
  expect(annotationNotes(annotated("handler", "krun"), "/b")).toEqual([]);
  expect(annotationNotes(annotated("keep_original_groups", "1"), "/b")).toEqual([
    'annotations["run.oci.keep_original_groups"]: no setgroups, the program keeps the groups of the caller',
  ]);
});

describe("hooks.stdout and hooks.stderr", () => {
  const spec = { annotations: { "run.oci.hooks.stderr": "logs/err", "run.oci.hooks.stdout": "/var/out" } };
  test("name files; a relative one is relative to the bundle", () => {
    expect(hookFiles(spec, "/b")).toEqual([
      { stream: "stdout", file: "/var/out", path: 'annotations["run.oci.hooks.stdout"]' },
      { stream: "stderr", file: "/b/logs/err", path: 'annotations["run.oci.hooks.stderr"]' },
    ]);
    expect(hookFiles(annotated("hooks.stdout", "../up"), "/b")[0]!.file).toBe("/b/../up");
    expect(hookFiles(annotated("hooks.stdout", ""), "/b")[0]!.file).toBe("");
    expect(hookFiles(annotated("hooks.stdin", "/x"), "/b")).toEqual([]);
    expect(hookFiles({}, "/b")).toEqual([]);
  });
  test("are told by explain where there are hooks", () => {
    const hooks = { poststop: [{ path: "/h" }] };
    expect([hasHooks({}), hasHooks({ hooks: {} }), hasHooks({ hooks: { prestart: [] } })]).toEqual([
      false,
      false,
      false,
    ]);
    expect(hasHooks({ hooks })).toBe(true);
    expect(annotationNotes(spec, "/b")).toEqual([]);
    expect(annotationNotes({ ...spec, hooks }, "/b")).toEqual([
      'annotations["run.oci.hooks.stdout"]: what hooks write to stdout is appended to /var/out',
      'annotations["run.oci.hooks.stderr"]: what hooks write to stderr is appended to /b/logs/err',
    ]);
  });
});

describe("mount_context_type", () => {
  test.each(["context", "fscontext", "defcontext", "rootcontext"])("%s", (type) => {
    expect(mountContextType(annotated("mount_context_type", type))).toBe(type);
  });
  test("is context without one", () => {
    expect(mountContextType({})).toBe("context");
  });
  test.each(["", "Context", "context,rw", "constructor"])("refuses %p", (type) => {
    const { message, fields } = failure(() => mountContextType(annotated("mount_context_type", type)));
    expect(message).toBe(`invalid mount context type ${JSON.stringify(type)}`);
    expect(fields.path).toBe('annotations["run.oci.mount_context_type"]');
  });
});

describe("seccomp_fail_unknown_syscall", () => {
  const unknown = 'linux.seccomp.syscalls: ignored, unknown to libseccomp 2.5.4: "nope"';
  test("refuses names that libseccomp does not know", () => {
    const { message, fields } = failure(() =>
      refuseUnknownCalls(annotated("seccomp_fail_unknown_syscall", "1"), unknown),
    );
    expect(message).toBe('linux.seccomp.syscalls: unknown to libseccomp 2.5.4: "nope"');
    expect(fields.path).toBe('annotations["run.oci.seccomp_fail_unknown_syscall"]');
  });
  test("lets a filter pass that has none, and any without the annotation", () => {
    refuseUnknownCalls(annotated("seccomp_fail_unknown_syscall", "1"), undefined);
    refuseUnknownCalls(annotated("seccomp_fail_unknown_syscall", "0"), unknown);
    refuseUnknownCalls({}, unknown);
  });
});
