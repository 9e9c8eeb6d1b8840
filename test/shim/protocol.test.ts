// The shim's command line, its answers to each version of containerd, and peers that do not keep to ttrpc.
import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import {
  readBootstrapResult,
  readRuntimeInfo,
  writeAny,
  writeBootstrapParams,
} from "../../src/shim/proto/bootstrap.gen.ts";
import { decode, encode } from "../../src/shim/proto/codec.ts";
import { readDeleteResponse } from "../../src/shim/proto/task.gen.ts";
import { encodeFrame, FrameType } from "../../src/shim/ttrpc/frame.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe } from "../rig/runtime.ts";
import { CallError, Connection, Shim, shimOf } from "./rig.ts";

const rig = useRig();
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

buncDescribe("start", () => {
  test("answers each containerd in its form", async () => {
    for (const [name, stdin, env, check] of [
      ["1.6", new Uint8Array(0), {}, (bytes: Uint8Array) => text(bytes)],
      [
        "1.6 with options",
        encode(writeAny, { type_url: "containerd.runc.v1.Options", value: new Uint8Array([50, 1, 120]) }),
        {},
        (bytes: Uint8Array) => text(bytes),
      ],
      [
        "2.0",
        new Uint8Array(0),
        { MAX_SHIM_VERSION: "3" },
        (bytes: Uint8Array) => {
          const { version, address, protocol } = JSON.parse(text(bytes));
          expect([version, protocol]).toEqual([3, "ttrpc"]);
          return address;
        },
      ],
      [
        "2.3",
        "params",
        { MAX_SHIM_VERSION: "2" },
        (bytes: Uint8Array) => {
          const { version, address, protocol } = decode(readBootstrapResult, bytes);
          expect([version, protocol]).toEqual([3, "ttrpc"]);
          return address;
        },
      ],
    ] as const) {
      const shim = new Shim(rig, rig.container());
      const params = encode(writeBootstrapParams, {
        instance_id: shim.container.id,
        namespace: "root",
        containerd_ttrpc_address: shim.events.path,
      });
      const { stdout, stderr, code } = await shim.command(
        ["-socket", shim.socket, "start"],
        stdin === "params" ? params : stdin,
        env,
      );
      expect([name, code, stderr]).toEqual([name, 0, ""]);
      expect(check(stdout)).toBe(`unix://${shim.socket}`);
      shim.connection = await Connection.open(shim.socket);
      expect(await shim.pid()).toBeGreaterThan(0);
      await shim.shutdown();
    }
  });

  test("goes on as the server: a second start of the executable would double the time", async () => {
    const shim = await new Shim(rig, rig.container()).start();
    const pid = await shim.pid();
    expect(readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")).toContain("start");
    await shim.shutdown();
  });

  test("a second one of a group finds the first's shim", async () => {
    const group = { "io.kubernetes.cri.sandbox-id": "pod" };
    const first = new Shim(
      rig,
      rig.container((config) => Object.assign(config, { annotations: group })),
    );
    const second = new Shim(
      rig,
      rig.container((config) => Object.assign(config, { annotations: group })),
    );
    // With the hash in it the path of a socket is long.
    const socket_dir = mkdtempSync("/tmp/bs-");
    rig.defer(() => rmSync(socket_dir, { recursive: true }));
    const params = encode(writeBootstrapParams, { instance_id: first.container.id, socket_dir });
    const one = await first.command(["start"], params);
    const other = encode(writeBootstrapParams, { instance_id: second.container.id, socket_dir });
    const two = await second.command(["start"], other);
    expect([one.code, two.code]).toEqual([0, 0]);
    const address = decode(readBootstrapResult, one.stdout).address;
    expect(decode(readBootstrapResult, two.stdout).address).toBe(address);
    const socket = address.replace("unix://", "");
    first.connection = second.connection = await Connection.open(socket);
    await first.create();
    await second.create();
    const shims = [await first.pid(), await second.pid()];
    expect(shims[0]).toBe(shims[1]!);
    await first.delete();
    // Not while it has a container.
    await first.shutdown();
    await second.delete();
    await second.shutdown();
    for (let i = 0; i < 100 && existsSync(socket); i++) await Bun.sleep(20);
    expect(existsSync(socket)).toBe(false);
  });

  test("takes the place of a shim that was killed", async () => {
    const shim = await shimOf(rig, ["true"]);
    process.kill(await shim.pid(), "SIGKILL");
    await Bun.sleep(50);
    expect(existsSync(shim.socket)).toBe(true);
    await shim.start();
    expect(await shim.pid()).toBeGreaterThan(0);
    await shim.shutdown();
  });

  test("says what is wrong with its command line", async () => {
    const shim = new Shim(rig, rig.container());
    for (const [args, words] of [
      [["-frobnicate", "start"], "flag provided but not defined: -frobnicate"],
      [["frobnicate"], 'unknown action "frobnicate"'],
      [["-id", "../x", "start"], "must not be a path"],
      [["-id", "", "start"], "shim id cannot be empty"],
      [["-socket", `/${"x".repeat(120)}`, "start"], "has more than 107 characters"],
      [["-socket", "/proc/nowhere/x", "start"], "/proc/nowhere"],
    ] as const) {
      const { code, stdout, stderr } = await shim.command([...args]);
      expect([args, code, text(stdout)]).toEqual([args, 1, ""]);
      expect(stderr).toContain(words);
      expect(stderr.trim().split("\n")).toHaveLength(1);
    }
    const garbage = await shim.command(["-socket", shim.socket, "start"], new Uint8Array(300).fill(0xff));
    expect([garbage.code, garbage.stderr]).toEqual([
      1,
      expect.stringContaining("neither BootstrapParams nor an Any"),
    ]);
    expect(existsSync(shim.socket)).toBe(false);
  });
});

buncDescribe("-info and -v", () => {
  test("tell what the runtime is", async () => {
    const shim = new Shim(rig, rig.container());
    const { stdout, code } = await shim.command(["-info"]);
    const info = decode(readRuntimeInfo, stdout);
    expect([code, info.name]).toEqual([0, "io.containerd.bunc.v2"]);
    const features = JSON.parse(text(info.features!.value!));
    expect(features.hooks).toContain("createRuntime");
    const version = await shim.command(["-v"]);
    expect(text(version.stdout)).toContain("Version:");
  });
});

buncDescribe("delete", () => {
  test("cleans after a shim that was killed, and again, and for what never was", async () => {
    const shim = await shimOf(rig, ["sleep", "1000"]);
    const { pid } = await shim.create();
    await shim.begin();
    process.kill(await shim.pid(), "SIGKILL");
    for (let round = 0; round < 2; round++) {
      const { stdout, stderr, code } = await shim.command(["-bundle", shim.container.bundle, "delete"]);
      expect([code, stderr]).toEqual([0, ""]);
      expect(decode(readDeleteResponse, stdout)).toMatchObject({ pid, exit_status: 137 });
    }
    expect(rig.states()).toEqual([]);
    expect(existsSync(shim.socket)).toBe(false);
    const gone = await shim.command(["-bundle", join(rig.scratch.bundles, "nowhere"), "delete"]);
    expect(gone.code).toBe(0);
  });
});

buncDescribe("a peer", () => {
  test("that breaks the protocol loses its connection, and nobody else", async () => {
    const shim = await shimOf(rig, ["true"]);
    const frame = (stream: number, type: number, body: Uint8Array) =>
      encodeFrame({ stream, type, flags: 0, body });
    for (const bytes of [
      frame(2, FrameType.request, new Uint8Array(0)),
      frame(1, 77, new Uint8Array(0)),
      frame(1, FrameType.request, new Uint8Array([0xff, 0xff, 0xff, 0xff])),
      frame(1, FrameType.request, new Uint8Array([0x0a, 0x7f, 0x41])),
    ]) {
      const bad = await Connection.open(shim.socket);
      bad.raw(bytes);
      for (let i = 0; i < 200 && !bad.closed; i++) await Bun.sleep(10);
      expect([bytes, bad.closed]).toEqual([bytes, true]);
    }
    // Half a frame, and never the rest.
    const half = await Connection.open(shim.socket);
    half.raw(frame(1, FrameType.request, new Uint8Array(100)).subarray(0, 50));
    expect(await shim.pid()).toBeGreaterThan(0);
    half.close();
    // Reusing a stream.
    const again = await Connection.open(shim.socket);
    const call = (stream: number) => frame(stream, FrameType.request, new Uint8Array(0));
    again.raw(call(5));
    again.raw(call(3));
    for (let i = 0; i < 200 && !again.closed; i++) await Bun.sleep(10);
    expect(again.closed).toBe(true);
    expect(await shim.pid()).toBeGreaterThan(0);
  });

  test("that calls what there is not is told so", async () => {
    const shim = await shimOf(rig, ["true"]);
    const none = new Uint8Array(0);
    for (const [service, method, payload, code, words] of [
      ["containerd.task.v4.Task", "Create", none, 12, "service containerd.task.v4.Task"],
      ["containerd.task.v2.Task", "Destroy", none, 12, "method Destroy"],
      ["containerd.task.v2.Task", "toString", none, 12, "method toString"],
      ["containerd.task.v3.Task", "State", new Uint8Array([0x0a, 0x20]), 3, "State: "],
      ["containerd.task.v3.Task", "State", none, 5, "not found"],
    ] as const) {
      const error = await shim.connection.call(service, method, payload).catch((reason) => reason);
      expect(error).toBeInstanceOf(CallError);
      expect([error.code, error.message]).toEqual([code, expect.stringContaining(words)]);
    }
    const large = shim.connection.call("containerd.task.v2.Task", "State", new Uint8Array(5 << 20));
    expect((await large.catch((reason) => reason)).code).toBe(8);
    expect(await shim.pid()).toBeGreaterThan(0);
  });
});

buncDescribe("containerd", () => {
  test("that is away gets the events when it is back", async () => {
    const shim = await shimOf(rig, ["true"]);
    await shim.create();
    await shim.events.until("/tasks/create");
    shim.events.close();
    await shim.begin();
    await shim.wait();
    shim.events.open();
    await shim.delete();
    await shim.events.until("/tasks/delete");
    expect(shim.events.topics()).toEqual(["create", "start", "exit", "delete"]);
  });

  test("without a ttrpc socket gets them by its own executable", async () => {
    const dir = rig.directory();
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    const publisher = container.file(
      "../publish",
      `#!/bin/sh\necho "$@" >> ${dir}/calls\ncat >> ${dir}/bytes\n`,
      0o755,
    );
    const shim = new Shim(rig, container, { TTRPC_ADDRESS: "" });
    const started = await shim.command(["-publish-binary", publisher, "-socket", shim.socket, "start"]);
    expect(started.stderr).toBe("");
    shim.connection = await Connection.open(shim.socket);
    await shim.create();
    await shim.begin();
    await shim.wait();
    await shim.delete();
    const calls = () => (existsSync(`${dir}/calls`) ? readFileSync(`${dir}/calls`, "utf8") : "");
    for (let i = 0; i < 200 && calls().split("\n").length < 5; i++) await Bun.sleep(20);
    expect(calls()).toBe(
      ["create", "start", "exit", "delete"]
        .map(
          (topic) =>
            `--address /nonexistent/containerd.sock publish --topic /tasks/${topic} --namespace root\n`,
        )
        .join(""),
    );
    rmSync(publisher);
  });
});

describe("forms", () => {
  test("are told apart by what they begin with", async () => {
    const { readBootstrap } = await import("../../src/shim/v2/bootstrap.ts");
    expect(readBootstrap(new Uint8Array(0), "x", "").form).toBe("plain");
    expect(readBootstrap(new Uint8Array(0), "x", "2")).toMatchObject({ form: "json", version: 2 });
    expect(() => readBootstrap(new Uint8Array([0xff]), "x", "")).toThrow("neither");
  });
});
