import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { eachValue, replaced } from "../bundle/damage.ts";
import { dockerConfig, fullConfig, redisConfig } from "../bundle/examples.ts";
import { LinuxResourcesSchema, ProcessSchema, SpecSchema } from "./config.ts";
import { parseJson } from "./json.ts";
import { normalise } from "./legacy.ts";
import { fitsProcess, fitsResources, fitsSpec, foldCase, unknownFields } from "./shape.ts";
import { defaultSpec } from "./spec-default.ts";

function newRedis(): Record<string, unknown> {
  const config = redisConfig();
  normalise(config);
  return config;
}

const documents: [string, Record<string, unknown>][] = [
  ["default", defaultSpec() as never],
  ["docker", dockerConfig()],
  ["redis", newRedis()],
  ["full", fullConfig()],
];

/** Parts with the same schema as another one. */
const REPEATED = /hooks\.(create|start|post)|throttle(Write|ReadIOPS)|gidMappings|capabilities\.[^b]/;

/** Whatever JSON can hold in the place of another value. */
const HOSTILE = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  -0.1,
  7,
  65535,
  65536,
  4294967295,
  4294967296,
  2147483648,
  -2147483649,
  9007199254740991,
  9007199254740992,
  -9007199254740992,
  2n ** 63n,
  2n ** 63n - 1n,
  -(2n ** 63n),
  -(2n ** 63n) - 1n,
  2n ** 64n - 1n,
  2n ** 64n,
  1e300,
  Infinity,
  "",
  "pid",
  "SCMP_ACT_ALLOW",
  "constructor",
  [],
  [null],
  [1],
  ["a"],
  [[]],
  [{}],
  {},
  { a: null },
  { a: 1 },
  { a: "b" },
  { __proto__: null, length: 0 },
  JSON.parse('{"__proto__": 5}'),
  JSON.parse('{"__proto__": "a", "constructor": "b", "toString": "c"}'),
  JSON.parse('{"constructor": 1}'),
];

function agree(value: unknown): boolean {
  const parsed = v.safeParse(SpecSchema, value);
  const copy = structuredClone(value);
  const fits = fitsSpec(copy);
  if (fits !== parsed.success) {
    throw new Error(`fitsSpec says ${fits}, the schema ${JSON.stringify(parsed.issues?.[0]?.message)}`);
  }
  if (parsed.success && !holds(copy, parsed.output)) throw new Error("the schema copied something else");
  return fits;
}

/** Whether a value has everything another has (the schema copies the fields it knows), undefined or absent alike. */
function holds(value: unknown, part: unknown): boolean {
  if (typeof part !== "object" || part === null) return Object.is(value, part);
  if (typeof value !== "object" || value === null || Array.isArray(value) !== Array.isArray(part))
    return false;
  return Object.entries(part).every(([key, item]) => {
    return item === undefined
      ? (value as never)[key] === undefined
      : Object.hasOwn(value, key) && holds((value as never)[key], item);
  });
}

describe("the table accepts exactly what the schemas accept", () => {
  test.each(documents)("%s as it is", (_name, document) => {
    expect(agree(document)).toBe(true);
  });

  test.each(documents.slice(2))(
    "%s with each value replaced by each of many",
    (_name, document) => {
      let fitting = 0;
      let others = 0;
      eachValue(document, (keys) => {
        if (REPEATED.test(keys.join("."))) return;
        for (const value of HOSTILE) {
          try {
            if (agree(replaced(document, keys, value))) fitting++;
            else others++;
          } catch (error) {
            throw new Error(
              `${keys.join(".")} = ${String(value)} (${typeof value}): ${(error as Error).message}`,
            );
          }
        }
      });
      expect(fitting).toBeGreaterThan(100);
      expect(others).toBeGreaterThan(1000);
    },
    60_000,
  );

  test.each(documents)("%s with each value removed", (_name, document) => {
    eachValue(document, (keys) => {
      const copy = structuredClone(document);
      let part = copy as Record<string | number, unknown>;
      for (const key of keys.slice(0, -1)) part = part[key] as Record<string | number, unknown>;
      if (Array.isArray(part)) part.splice(keys.at(-1) as number, 1);
      else delete part[keys.at(-1)!];
      agree(copy);
    });
  });

  test("anything in the place of the document", () => {
    for (const value of HOSTILE) agree(value);
  });

  test("a process and resources alone", () => {
    const { process, linux } = fullConfig() as { process: unknown; linux: { resources: unknown } };
    expect(fitsProcess(structuredClone(process))).toBe(true);
    expect(fitsResources(structuredClone(linux.resources))).toBe(true);
    for (const value of HOSTILE) {
      expect(fitsProcess(structuredClone(value))).toBe(v.is(ProcessSchema, value));
      expect(fitsResources(structuredClone(value))).toBe(v.is(LinuxResourcesSchema, value));
    }
  });
});

test("the full example has every field of the schema", () => {
  interface Schema {
    type: string;
    entries?: Record<string, Schema>;
    item?: Schema;
    value?: Schema;
    wrapped?: Schema;
  }
  const missing: string[] = [];
  function look({ type, entries, item, value: each, wrapped }: Schema, value: unknown, path: string): void {
    if (type === "object") {
      for (const [name, field] of Object.entries(entries!)) {
        const part = (value as Record<string, unknown>)[name];
        if (part === undefined) missing.push(`${path}.${name}`);
        else look(field, part, `${path}.${name}`);
      }
    } else if (type === "nullish") look(wrapped!, value, path);
    else if (type === "array" && (value as unknown[]).length > 0)
      look(item!, (value as unknown[])[0], `${path}[]`);
    else if (type === "record") look(each!, Object.values(value as object)[0], `${path}.*`);
  }
  look(SpecSchema as never, fullConfig(), "");
  expect(missing).toEqual([]);
});

test("nulls of optional fields become undefined, in both", () => {
  const text =
    '{"ociVersion": "1.0.0", "mounts": null, "linux": {"devices": null, "seccomp": null, "x": null}}';
  const value = parseJson(text) as { mounts?: unknown; linux: Record<string, unknown> };
  expect(fitsSpec(value)).toBe(true);
  expect(value.mounts).toBeUndefined();
  expect(value.linux.devices).toBeUndefined();
  expect(v.parse(SpecSchema, parseJson(text))).toEqual({ ociVersion: "1.0.0", linux: {} });
});

test("an integer that was rounded does not fit, the exact one does", () => {
  const text = '{"type": "RLIMIT_CORE", "hard": 18446744073709551615, "soft": 9007199254740993}';
  const spec = (limit: unknown) => ({
    ociVersion: "1.0.0",
    process: { cwd: "/", user: { uid: 0, gid: 0 }, rlimits: [limit] },
  });
  expect(fitsSpec(spec(JSON.parse(text)))).toBe(false);
  expect(fitsSpec(spec(parseJson(text)))).toBe(true);
});

describe("fields in another case", () => {
  test("do not fit until they have the names of the schema", () => {
    const config = defaultSpec() as Record<string, unknown>;
    config.Hostname = "other";
    expect(fitsSpec(config)).toBe(false);
    foldCase("config", config);
    expect(fitsSpec(config)).toBe(true);
    expect(config).toEqual({ ...defaultSpec(), hostname: "other" } as never);
  });

  test("anywhere the schema reaches, merged with what is there", () => {
    const resources = {
      CPU: { Cpus: "0" },
      cpu: { mems: "1", cpus: "2" },
      Memory: null,
      hugepageLimits: [{ pagesize: "2MB", LIMIT: 1 }],
      Devices: [{ Allow: true }],
      devices: [],
      unified: { "CPU.max": "1", "cpu.max": "2" },
      other: { CPU: 1 },
    };
    foldCase("resources", resources);
    expect(resources as unknown).toEqual({
      cpu: { cpus: "0", mems: "1" },
      memory: null,
      hugepageLimits: [{ pageSize: "2MB", limit: 1 }],
      devices: [{ allow: true }],
      unified: { "CPU.max": "1", "cpu.max": "2" },
      other: { CPU: 1 },
    });
  });

  test("null does not take away what is there", () => {
    const config = { hostname: "a", Hostname: null };
    foldCase("config", config);
    expect(config as unknown).toEqual({ hostname: "a" });
  });

  test("a document of any other kind is left alone", () => {
    for (const value of HOSTILE) foldCase("config", structuredClone(value));
  });
});

test("unknown fields are found, with the known name they may mean", () => {
  const value = {
    ociversion: "1.0.0",
    windows: {},
    process: { Args: [], user: { uid: 1, gid: 1, name: "x" } },
    mounts: [{ destination: "/" }, { Destination: "/" }, 5],
    annotations: { anything: "goes" },
    linux: {
      seccomp: { syscalls: [{ names: [], comment: "" }] },
      sysctl: { a: "b" },
      resources: { rdma: { dev: { hca: 1 } } },
    },
  };
  expect(unknownFields(value)).toEqual([
    { path: "ociversion", known: "ociVersion" },
    { path: "windows" },
    { path: "process.Args", known: "args" },
    { path: "process.user.name" },
    { path: "mounts[1].Destination", known: "destination" },
    { path: "linux.seccomp.syscalls[0].comment" },
    { path: "linux.resources.rdma.dev.hca" },
  ]);
  expect(unknownFields(null)).toEqual([]);
  expect(unknownFields(fullConfig())).toEqual([]);
});
