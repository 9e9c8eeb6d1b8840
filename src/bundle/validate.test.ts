import { describe, expect, test } from "bun:test";
import { BuncError, renderError } from "../errors.ts";
import { joinPath } from "../oci/path.ts";
import { defaultSpec, formatSpec, rootlessSpec } from "../oci/spec-default.ts";
import { eachValue, type Keys, replaced, wrongValues } from "./damage.ts";
import { dockerConfig, fullConfig, redisConfig } from "./examples.ts";
import {
  problemsError,
  renderProblem,
  validateConfig,
  validateProcess,
  validateResources,
} from "./validate.ts";

// biome-ignore lint/suspicious/noExplicitAny: tests write wrong things on purpose
type Config = any;

function text(value: unknown): string {
  return JSON.stringify(value, (_key, part) =>
    typeof part === "bigint"
      ? (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(String(part))
      : part,
  );
}

function lines(value: unknown): string[] {
  const { problems, value: spec } = validateConfig(text(value));
  expect(spec === undefined).toBe(problems.length > 0);
  return problems.map(renderProblem);
}

function pathOf(keys: Keys): string {
  return keys.reduce<string>((path, key) => joinPath(path, key), "");
}

describe("real documents", () => {
  test.each([
    ["the default spec", defaultSpec()],
    ["the default spec on cgroup v2", defaultSpec(true)],
    ["the rootless spec", rootlessSpec(1000, 1000)],
    ["docker", dockerConfig()],
    ["redis of 0.4.0", redisConfig()],
  ])("%s has no problems and no warnings", (_name, config) => {
    const { value, problems, warnings } = validateConfig(text(config));
    expect(problems).toEqual([]);
    expect(warnings).toEqual([]);
    expect(value!.process!.args!.length).toBeGreaterThan(0);
  });

  test("the one with every field has only the warnings it deserves", () => {
    const { problems, warnings } = validateConfig(text(fullConfig()));
    expect(problems).toEqual([]);
    expect(warnings.map(renderProblem)).toEqual([
      "linux.resources.memory.kernel: Kernel memory settings are ignored and will be removed",
      "linux.resources.memory.kernelTCP: Kernel memory settings are ignored and will be removed",
    ]);
  });

  test("what comes out is what went in, nulls gone", () => {
    expect(validateConfig(formatSpec(defaultSpec())).value).toEqual(defaultSpec());
    const nulls = { ...dockerConfig(), hooks: null, annotations: null, domainname: null };
    expect(validateConfig(text(nulls)).value).toEqual({ ...dockerConfig(), hooks: undefined } as never);
  });

  test("integers are exact", () => {
    const config = formatSpec(defaultSpec()).replaceAll("1024", "18446744073709551615");
    expect(validateConfig(config).value!.process!.rlimits).toEqual([
      { type: "RLIMIT_NOFILE", hard: 2n ** 64n - 1n, soft: 2n ** 64n - 1n },
    ]);
    expect(validateConfig(config.replaceAll("51615", "51616")).problems.map(({ path }) => path)).toEqual([
      "process.rlimits[0].hard",
      "process.rlimits[0].soft",
    ]);
  });
});

describe("values of the wrong type", () => {
  /** Where another type has a meaning: a list of capabilities is the old shape of the object. */
  const legal = (path: string, wrong: unknown) => path === "process.capabilities" && Array.isArray(wrong);

  test.each([
    ["the default spec", defaultSpec() as unknown],
    ["the one with every field", fullConfig()],
  ])(
    "%s: each is reported with exactly its path",
    (_name, config) => {
      let tried = 0;
      eachValue(config, (keys, value) => {
        const path = pathOf(keys);
        for (const wrong of wrongValues(value)) {
          if (legal(path, wrong)) continue;
          const { problems, value: spec } = validateConfig(text(replaced(config, keys, wrong)));
          expect(spec).toBeUndefined();
          const own = problems.filter((problem) => problem.path === path);
          if (own.length !== 1) {
            throw new Error(
              `${path} = ${text(wrong)}: ${problems.map(renderProblem).join("; ") || "no problem"}`,
            );
          }
          expect(own[0]!.message).toMatch(/^must be |is not a|^invalid memory policy/);
          tried++;
        }
      });
      expect(tried).toBeGreaterThan(300);
    },
    30_000,
  );

  test("null: a problem exactly where a value is required", () => {
    const nullable: string[] = [];
    eachValue(fullConfig(), (keys) => {
      const path = pathOf(keys);
      const found = lines(replaced(fullConfig(), keys, null));
      const required = found.some(
        (line) =>
          line.startsWith(`${path}: `) && / not null$|: null is not |policy (mode|flag) null/.test(line),
      );
      if (!required) nullable.push(path.replace(/\[\d+\]/g, "[]"));
    });
    expect(nullable).toContain("process.env");
    expect(nullable).toContain("linux.seccomp.syscalls[].args");
    expect(nullable).toContain("linux.uidMappings");
    // uid and gid may be absent; the object of the process has only one field that must be there.
    expect(nullable.filter((path) => /^process\.(user|cwd|args\[\])/.test(path))).toEqual([
      "process.user",
      "process.user.uid",
      "process.user.gid",
      "process.user.umask",
      "process.user.additionalGids",
      "process.user.username",
    ]);
    for (const path of ["ociVersion", "root.path", "mounts[].destination", "linux.namespaces[].type"]) {
      expect(nullable).not.toContain(path);
    }
  });

  test("missing fields are required by name", () => {
    expect(
      lines({ process: { args: ["a"] }, root: {}, linux: { namespaces: [{}], uidMappings: [{ size: 1 }] } }),
    ).toEqual([
      "ociVersion: is required",
      "process.cwd: is required",
      "root.path: is required",
      "linux.uidMappings[0].containerID: is required",
      "linux.uidMappings[0].hostID: is required",
      "linux.namespaces[0].type: is required",
    ]);
  });

  test.each([
    ["null", "config cannot be null"],
    ["[]", "must be an object, not a list"],
    ["5", "must be an object, not 5"],
    ['"{}"', 'must be an object, not "{}"'],
  ])("the document %s", (document, message) => {
    expect(validateConfig(document).problems).toEqual([{ path: "", message }]);
  });

  test("enumerations name their values", () => {
    const config = replaced(defaultSpec(), ["linux", "namespaces", 2, "type"], "nett" as never);
    expect(lines(config)).toEqual([
      'linux.namespaces[2].type: "nett" is not a namespace type; ' +
        "one of pid, network, mount, ipc, uts, user, cgroup, time",
    ]);
  });

  test("a long or hostile string is cut and stays on one line", () => {
    const [line] = lines(
      replaced(defaultSpec(), ["linux", "namespaces", 0, "type"], `\n\x1b${"x".repeat(1e6)}` as never),
    );
    expect(line!.length).toBeLessThan(200);
    expect(line).not.toMatch(/[\n\x1b]/);
  });
});

test("fields in another case are taken as Go takes them, in broken documents too", () => {
  const config = defaultSpec() as never as Config;
  config.linux.resources = { CPU: { Cpus: "0-x" }, devices: config.linux.resources.devices };
  config.Mounts = [{ Destination: "/a", TYPE: "tmpfs" }];
  config.process.NoNewprivileges = 5;
  expect(lines(config)).toEqual([
    "process.noNewPrivileges: must be true or false, not 5",
    'linux.resources.cpu.cpus: "0-x" is not a list like "0-3,7"',
  ]);
  config.process.NoNewprivileges = false;
  config.linux.resources.CPU.Cpus = "0";
  const { value } = validateConfig(text(config));
  expect(value!.mounts).toEqual([{ destination: "/a", type: "tmpfs" }]);
  expect(value!.process!.noNewPrivileges).toBe(false);
  expect(value!.linux!.resources!.cpu).toEqual({ cpus: "0" });
  expect(validateResources('{"CPU": {"Cpus": "1"}}').value).toEqual({ cpu: { cpus: "1" } });
});

test("problems of the shape and of the meaning show together", () => {
  const config = defaultSpec() as never as Config;
  config.process.args = [];
  config.process.rlimits[0].soft = "x";
  config.process.cwd = "relative";
  config.mounts[1].options = 5;
  config.mounts[2].destination = "";
  config.hooks = { poststop: [{ path: "relative" }, { path: 5 }] };
  config.linux.namespaces.push({ type: "pid" });
  config.linux.maskedPaths = "x";
  config.linux.readonlyPaths[0] = "relative";
  expect(lines(config)).toEqual([
    'process.rlimits[0].soft: must be an integer from 0 to 18446744073709551615, not "x"',
    "mounts[1].options: must be a list, not 5",
    "hooks.poststop[1].path: must be a string, not 5",
    'linux.maskedPaths: must be a list, not "x"',
    "process.cwd: Cwd must be an absolute path",
    "process.args: args must not be empty",
    "mounts[2].destination: must not be empty",
    'hooks.poststop[0].path: must be an absolute path, not "relative"',
    'linux.namespaces[5].type: malformed spec file: duplicated ns "pid"',
    'linux.readonlyPaths[0]: must be an absolute path, not "relative"',
  ]);
});

test("random damage never throws, and a document is used only without problems", () => {
  let seed = 20261120;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const junk = [
    null,
    true,
    -1,
    0,
    1.5,
    2 ** 53,
    2n ** 64n,
    "",
    "..",
    "/",
    "a=b",
    "\0",
    "x\ny",
    [],
    [null],
    {},
    { "": "" },
  ];
  const places: Keys[] = [];
  eachValue(fullConfig(), (keys) => places.push(keys));
  let damaged = 0;
  for (let round = 0; round < 1500; round++) {
    let config = fullConfig();
    for (let i = random(6); i >= 0; i--) {
      try {
        config = replaced(config, places[random(places.length)]!, junk[random(junk.length)]);
      } catch {
        // The place went away with an earlier damage.
      }
    }
    if (lines(config).length > 0) damaged++;
  }
  expect(damaged).toBeGreaterThan(1000);
}, 30_000);

describe("strings with NUL", () => {
  test("are found wherever they are, but in annotations", () => {
    const config = defaultSpec() as never as Config;
    config.process.args = ["a", "b\0c"];
    config.annotations = { "k\0": "v\0" };
    config.linux.sysctl = { "net.a\0b": "\0" };
    expect(lines(config)).toEqual([
      'linux.sysctl["net.a\\u0000b"]: is not the name of a parameter',
      'process.args[1]: must not contain a NUL character: "b\\u0000c"',
      'linux.sysctl["net.a\\u0000b"]: must not have a NUL character in its name',
      'linux.sysctl["net.a\\u0000b"]: must not contain a NUL character: "\\u0000"',
    ]);
  });

  test("an escaped backslash before u0000 is none", () => {
    expect(lines({ ...defaultSpec(), annotations: { a: "\\u0000" }, hostname: "\\u0000" })).toEqual([]);
  });
});

describe("a process and resources alone", () => {
  test("have paths of their own", () => {
    expect(validateProcess('{"cwd": "/", "args": ["true"], "capabilities": ["CAP_KILL"]}')).toEqual({
      value: {
        cwd: "/",
        args: ["true"],
        user: { uid: 0, gid: 0 },
        capabilities: { bounding: ["CAP_KILL"], effective: ["CAP_KILL"], permitted: ["CAP_KILL"] },
      },
      problems: [],
      warnings: [],
    });
    expect(validateProcess('{"cwd": "x", "rlimits": [{}]}').problems.map(renderProblem)).toEqual([
      "rlimits[0].type: is required",
      "rlimits[0].hard: is required",
      "rlimits[0].soft: is required",
      "cwd: Cwd must be an absolute path",
      "args: args must not be empty",
    ]);
    expect(validateResources('{"memory": {"limit": -1}, "disableOOMKiller": true}').value).toEqual({
      memory: { limit: -1, disableOOMKiller: true },
    } as never);
    expect(validateResources('{"memory": {"limit": -2}, "pids": []}').problems.map(renderProblem)).toEqual([
      "pids: must be an object, not a list",
      "memory.limit: must be a number of bytes, or -1 for no limit, not -2",
    ]);
    expect(() => validateResources("{")).toThrow(BuncError);
  });
});

describe("the error", () => {
  test("for one problem is that problem", () => {
    const error = problemsError([{ path: "process.cwd", message: "Cwd must be an absolute path" }]);
    expect(error.fields).toMatchObject({ code: "config", path: "process.cwd" });
    expect(renderError(error)).toBe("process.cwd: Cwd must be an absolute path (in validation)");
  });

  test("for many names their number, and is one line of bounded length", () => {
    const { problems } = validateConfig(text({ ...defaultSpec(), mounts: Array(1000).fill({}) }));
    expect(problems).toHaveLength(1000);
    const line = renderError(problemsError(problems, "/b/config.json"));
    expect(line).toStartWith(
      "/b/config.json has 1000 problems: mounts[0].destination: is required; mounts[1]",
    );
    expect(line).toContain("; and 980 more");
    expect(line).not.toContain("\n");
  });
});

describe("huge documents take seconds at most", () => {
  const many = <T>(item: (i: number) => T) => Array.from({ length: 100_000 }, (_, i) => item(i));
  const changed = (change: (config: Config) => void) => {
    const config = defaultSpec();
    change(config);
    const started = performance.now();
    const { problems, warnings } = validateConfig(text(config));
    expect(performance.now() - started).toBeLessThan(5000);
    return { problems: problems.length, warnings: warnings.length };
  };

  test.each([
    [
      "mounts of the wrong type",
      (c: Config) => (c.mounts = many((i) => i)),
      { problems: 100_000, warnings: 0 },
    ],
    [
      "bad mounts",
      (c: Config) => (c.mounts = many(() => ({ destination: "" }))),
      { problems: 200_000, warnings: 0 },
    ],
    [
      "devices",
      (c: Config) => (c.linux.devices = many((i) => ({ path: `/dev/${i >> 1}`, type: "p" }))),
      { problems: 0, warnings: 50_000 },
    ],
    [
      "namespaces",
      (c: Config) => (c.linux.namespaces = many(() => ({ type: "uts" }))),
      { problems: 100_001, warnings: 0 },
    ],
    [
      "rlimits",
      (c: Config) => (c.process.rlimits = many((i) => ({ type: `X${i}`, soft: 0, hard: 0 }))),
      { problems: 100_000, warnings: 0 },
    ],
    ["an environment", (c: Config) => (c.process.env = many((i) => `A${i}=`)), { problems: 0, warnings: 0 }],
    [
      "mappings",
      (c: Config) => {
        c.linux.namespaces.push({ type: "user" });
        c.linux.uidMappings = c.linux.gidMappings = many((i) => ({ containerID: i, hostID: i, size: 1 }));
      },
      { problems: 2, warnings: 0 },
    ],
  ] as const)("%s", (_what, change, expected) => {
    expect(changed(change)).toEqual(expected);
  });

  test("a NUL below any depth", () => {
    const deep = `${"[".repeat(200_000)}"\\u0000"${"]".repeat(200_000)}`;
    expect(validateConfig(formatSpec(defaultSpec()).replace("{", `{"x": ${deep},`)).problems).toEqual([]);
  });
});
