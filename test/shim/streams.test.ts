// The standard streams that containerd names: fifos, terminals, files, logging programs.
import { describe, expect, test } from "bun:test";
import { chownSync, existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { useRig } from "../rig/rig.ts";
import { buncDescribe } from "../rig/runtime.ts";
import { refusal, shimOf } from "./rig.ts";

const rig = useRig();
const RUNNING = 2;

buncDescribe("streams", () => {
  test("a terminal: its size, what is typed, and what it says to the end", async () => {
    const shim = await shimOf(
      rig,
      ["sh", "-c", "read x; stty size; echo got $x; seq 1 2000; exit 3"],
      {},
      (container) => {
        container.config.process.terminal = true;
      },
    );
    const [out, input] = [shim.fifo("out"), shim.inputFifo("in")];
    await shim.create({ stdin: input, stdout: out.path, terminal: true });
    const proto = await import("../../src/shim/proto/task.gen.ts");
    const size = { id: shim.container.id, width: 101, height: 37 };
    await shim.task("ResizePty", proto.writeResizePtyRequest, size, proto.readEmpty);
    await shim.begin();
    await shim.type(input, "typed\n");
    expect((await shim.wait()).exit_status).toBe(3);
    await shim.delete();
    const lines = (await out.text()).split("\n");
    expect(lines.slice(0, 3).map((line) => line.trimEnd())).toEqual(["typed", "37 101", "got typed"]);
    expect(lines.at(-2)!.trim()).toBe("2000");
  });

  test("fifos are given to IoUid and IoGid, whose processes can open them again", async () => {
    const script = "echo again > /proc/self/fd/1; echo wrong > /proc/self/fd/2; sleep 100";
    const shim = await shimOf(rig, ["sh", "-c", script], {}, ({ config }) => {
      config.process.user = { uid: 1234, gid: 1235 };
    });
    const [out, err, input] = [shim.fifo("out"), shim.fifo("err"), shim.inputFifo("in")];
    const io = { io_uid: 1234, io_gid: 1235 };
    await shim.create({ stdin: input, stdout: out.path, stderr: err.path }, io);
    const owners = (...paths: string[]) => paths.map((path) => [statSync(path).uid, statSync(path).gid]);
    expect(owners(input, out.path, err.path)).toEqual(Array(3).fill([1234, 1235]));
    await shim.begin();
    // Those of exec as well, and after a sleep of the shim.
    await Bun.sleep(2500);
    const more = shim.fifo("more");
    await shim.exec("e", ["sh", "-c", "echo exec > /proc/self/fd/1"], { stdout: more.path });
    await shim.begin("e");
    expect((await shim.wait("e")).exit_status).toBe(0);
    expect(owners(more.path)).toEqual([[1234, 1235]]);
    await shim.delete("e");
    await shim.kill(9);
    await shim.wait();
    await shim.delete();
    expect([await out.text(), await err.text(), await more.text()]).toEqual(["again\n", "wrong\n", "exec\n"]);
  });

  test("fifos are the process's user's in any case, and stay their group's", async () => {
    const shim = await shimOf(rig, ["true"]);
    const out = shim.fifo("out");
    chownSync(out.path, 77, 78);
    await shim.create({ stdout: out.path });
    expect([statSync(out.path).uid, statSync(out.path).gid]).toEqual([0, 78]);
    await shim.begin();
    await shim.wait();
    await shim.delete();
  });

  test("a file takes both streams, and is appended to", async () => {
    const log = join(rig.directory(), "deep/er/log");
    for (const word of ["one", "two"]) {
      const shim = await shimOf(rig, ["sh", "-c", `echo ${word}; echo ${word} >&2`]);
      await shim.create({ stdout: `file://${log}`, stderr: `file://${log}` });
      await shim.begin();
      await shim.wait();
      await shim.delete();
    }
    expect(readFileSync(log, "utf8")).toBe("one\none\ntwo\ntwo\n");
  });

  test("a logging program gets both, its arguments, and nothing else of the environment", async () => {
    const shim = await shimOf(rig, ["sh", "-c", "echo out; echo err >&2"]);
    const dir = rig.directory();
    const program = shim.container.file(
      "../logger.sh",
      `#!/bin/sh
exec 5>&-
{ echo "$# $*"; env | grep -v -e ^PWD= -e ^SHLVL= -e ^_=; cat <&3; cat <&4; } > ${dir}/log
`,
      0o755,
    );
    const uri = `binary://${join(shim.container.bundle, "logger.sh")}?name=a%20b&x=${encodeURIComponent("&=")}`;
    expect(program).toContain("logger.sh");
    await shim.create({ stdout: uri, stderr: uri });
    await shim.begin();
    await shim.wait();
    for (
      let i = 0;
      i < 200 && !(existsSync(`${dir}/log`) && readFileSync(`${dir}/log`, "utf8").endsWith("err\n"));
      i++
    ) {
      await Bun.sleep(20);
    }
    await shim.delete();
    const lines = readFileSync(`${dir}/log`, "utf8").split("\n");
    expect(lines[0]).toBe("4 name a b x &=");
    expect(lines.slice(1, -3).sort()).toEqual([
      `CONTAINER_ID=${shim.container.id}`,
      "CONTAINER_NAMESPACE=root",
    ]);
    expect(lines.slice(-3)).toEqual(["out", "err", ""]);
  });

  test("names that cannot be opened are refused, each with its reason", async () => {
    const shim = await shimOf(rig, ["true"]);
    for (const [stdout, words] of [
      ["/nonexistent/fifo", "open /nonexistent/fifo: no such file or directory"],
      ["gopher://x", "unknown STDIO scheme gopher"],
      ["binary:///nonexistent/logger", "cannot execute the logging binary /nonexistent/logger"],
      ["binary://relative", "absolute path required for logging binary"],
      ["/", "is a directory"],
    ] as const) {
      expect((await refusal(shim.create({ stdout })))[1]).toContain(words);
      expect(rig.states()).toEqual([]);
    }
    const false_ = shim.create({ stdout: "binary-v2:///bin/false", stderr: "" });
    expect((await refusal(false_))[1]).toContain("before it was ready");
  });

  test("a reader that does not read stops the container no longer than the pipe allows, and not the shim", async () => {
    const shim = await shimOf(rig, ["sh", "-c", "dd if=/dev/zero bs=1M count=8 2>/dev/null; exit 4"]);
    const out = shim.fifo("out");
    const reader = Bun.spawnSync(["pgrep", "-f", `^cat ${out.path}$`])
      .stdout.toString()
      .trim();
    await shim.create({ stdout: out.path });
    process.kill(Number(reader), "SIGSTOP");
    await shim.begin();
    await Bun.sleep(300);
    expect(await shim.state()).toMatchObject({ status: RUNNING });
    await shim.exec("e", ["true"]);
    await shim.begin("e");
    expect((await shim.wait("e")).exit_status).toBe(0);
    process.kill(Number(reader), "SIGCONT");
    expect((await shim.wait()).exit_status).toBe(4);
    expect((await out.text()).length).toBe(8 << 20);
    await shim.delete();
  });
});

describe("the rig", () => {
  test("refuses to take a success for a refusal", () => {
    expect(refusal(Promise.resolve())).rejects.toThrow("not refused");
  });
});
