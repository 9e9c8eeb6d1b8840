// exec into a container that is created and not started: who gets into its namespaces, and what a program there can do
// to the init that still waits (runc: create.bats "runc create exec").
import { expect, test } from "bun:test";
import { chmodSync, existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { capabilitySets } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import type { CallOptions, Result } from "../rig/rig.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, buncTest, testUnless } from "../rig/runtime.ts";
import { GID, ordinaryUser, own, UID } from "./ordinary-user.ts";

const rig = useRig();
const { rootless, asJoe, letIn } = ordinaryUser(rig);

const noHelper = existsSync("/usr/bin/newuidmap") ? undefined : "no newuidmap on this host";
const POWERS = ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_MKNOD"];

/** Prints what a process can read of its container's init, and which descriptors of that lead to directories or files. */
const LOOK = `cd /proc/1
for f in environ maps auxv stack syscall mem; do head -c 1 $f >/dev/null 2>&1 && echo read $f; done
for f in exe cwd root fd/0 fd/3 fd/4 ns/mnt; do readlink $f >/dev/null && echo link $f; done
for f in root cwd fd/*; do ls $f/ >/dev/null 2>&1 && echo directory $f; done
ls -l fd map_files 2>/dev/null | grep -c -e '->'
test-helper sys "ptrace 16 1" 2>&1 | grep -o -e EPERM -e '"result":0'
true`;

/** What {@link LOOK} prints when init is closed to it. */
const CLOSED = "0\nEPERM\n";

/** Ends the container that an ordinary user has made. */
function endLater(container: Container, options: CallOptions): void {
  rig.defer(async () => {
    await rig.call(["delete", "--force", container.id], options);
  });
}

/** A created container of an ordinary user. */
class Created {
  private constructor(
    readonly container: Container,
    readonly joe: { wrap: string[]; root: string },
    readonly result: Result,
  ) {}

  static async make(script: string, edit: (container: Container) => void = () => {}): Promise<Created> {
    const container = rootless([own(UID)], [own(GID)], script);
    edit(container);
    letIn(container);
    const joe = asJoe("", "");
    endLater(container, joe);
    return new Created(container, joe, (await container.start("create", [], joe)).ok());
  }

  call(command: string, ...rest: string[]): Promise<Result> {
    return rig.call([command, this.container.id, ...rest], this.joe);
  }

  async state(): Promise<{ pid: number; status: string }> {
    return JSON.parse((await this.call("state")).ok().stdout) as { pid: number; status: string };
  }
}

buncDescribe("an ordinary user's", () => {
  test("exec runs in the container's namespaces, with its rights; start works afterwards", async () => {
    const created = await Created.make("echo started; exec sleep 60");
    const { pid, status } = await created.state();
    expect(status).toBe("created");
    const inside = (
      await created.call(
        "exec",
        "sh",
        "-c",
        "id -u; readlink /proc/self/ns/mnt; readlink /proc/self/ns/pid; echo $$",
      )
    ).ok();
    const [id, mnt, pidns, own] = inside.stdout.trim().split("\n");
    expect(id).toBe("0");
    expect([mnt, pidns]).toEqual([readlinkSync(`/proc/${pid}/ns/mnt`), readlinkSync(`/proc/${pid}/ns/pid`)]);
    expect(Number(own)).toBeGreaterThan(1);
    expect((await created.call("exec", "sh", "-c", "exit 7")).code).toBe(7);
    expect((await created.state()).status).toBe("created");
    expect(created.result.stdout).toBe("");
    (await created.call("start")).ok();
    await created.result.until("started");
    expect(await created.state()).toEqual(expect.objectContaining({ pid, status: "running" }));
    (await created.call("exec", "true")).ok();
  });

  test("container keeps its waiting init closed, to processes of the same user, too", async () => {
    const created = await Created.make("echo started; sleep 60");
    const { pid } = await created.state();
    expect((await created.call("exec", "sh", "-c", LOOK)).ok().stdout).toBe(CLOSED);
    // Its own user may look, and finds nothing but the standard streams, the socket to a create that is over, the fifo
    // and its own descriptors.
    expect(readFileSync(`/proc/${pid}/environ`, "utf8")).toBe("");
    expect(readFileSync(`/proc/${pid}/cmdline`, "utf8")).toMatch(/^bunc-init\0\d+\0$/);
    expect(readFileSync(`/proc/${pid}/comm`, "utf8")).toBe("bunc:[init]\n");
    const held = readdirSync(`/proc/${pid}/fd`).filter((fd) => Number(fd) > 2);
    const kinds = held.map((fd) => {
      const info = statSync(`/proc/${pid}/fd/${fd}`);
      if (info.isDirectory())
        return readdirSync(`/proc/${pid}/fd/${fd}/..`).every((name) => /^\d+$/.test(name)) && "own";
      return info.isFIFO() ? "fifo" : info.isSocket() && "socket";
    });
    expect(kinds.sort()).toEqual(["fifo", "own", "socket"]);
    (await created.call("start")).ok();
    await created.result.until("started");
    expect(
      readdirSync(`/proc/${pid}/fd`)
        .map(Number)
        .filter((fd) => fd < 10),
    ).toEqual([0, 1, 2]);
  });

  test("container with every right in its user namespace finds nothing of the host's in init", async () => {
    const created = await Created.make("echo started; sleep 60", ({ config }) => {
      config.process.capabilities = capabilitySets(...POWERS);
    });
    const found = (
      await created.call(
        "exec",
        "sh",
        "-c",
        `${LOOK.replace(/^test-helper.*$/m, "")}
      for f in fd/*; do
        case $f in fd/[012]) continue; esac
        # A regular file would be the host's; so would a directory that has more than numbers.
        [ -f $f ] && echo file $f
        [ -d $f ] && ls -a $f $f/.. | grep -v -x -e '[0-9]*' -e '[.]*' -e 'fd/.*:' -e '.*[.][.]:' && echo foreign $f
        cat $f/state.json $f/../state.json 2>/dev/null && echo state $f
      done; true`,
      )
    ).ok().stdout;
    // It is let in, or this would say nothing.
    expect(found).toContain("read environ");
    expect(found).toContain("link ns/mnt");
    expect(found).not.toMatch(/^(file|foreign|state) /m);
    expect(found.match(/^directory fd\/[3-9]/gm)?.length).toBe(1);
    (await created.call("start")).ok();
    await created.result.until("started");
  });

  test("container waits with the seccomp filter, so that nobody gets a process without it", async () => {
    const rules = (...names: string[]) => ({
      defaultAction: "SCMP_ACT_ALLOW",
      syscalls: [{ names, action: "SCMP_ACT_ERRNO", errnoRet: 1 }],
    });
    // The second profile would not let init go on.
    for (const [denied, mode] of [
      ["mkdir", "2"],
      ["dup3", "0"],
    ] as const) {
      const created = await Created.make("echo started; mkdir /tmp/x; exec sleep 60", ({ config }) => {
        config.process.noNewPrivileges = true;
        config.linux.seccomp = rules(denied, "mkdirat");
      });
      const { pid } = await created.state();
      const filter = () => /^Seccomp:\s*(\d)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1];
      expect([denied, filter()]).toEqual([denied, mode]);
      (await created.call("exec", "true")).ok();
      (await created.call("start")).ok();
      await created.result.until("started");
      expect([denied, filter()]).toEqual([denied, "2"]);
    }
  });

  test("container's seccomp agent gets the listener", async () => {
    const agent = await rig.listener("agent", "31"); // EMLINK
    chmodSync(agent.path, 0o666);
    const container = rootless([own(UID)], [own(GID)], "mkdir /tmp/x; exit 5");
    container.config.linux.seccomp = {
      defaultAction: "SCMP_ACT_ALLOW",
      listenerPath: agent.path,
      syscalls: [{ names: ["mkdir", "mkdirat"], action: "SCMP_ACT_NOTIFY" }],
    };
    letIn(container);
    const result = await container.run([], asJoe("", ""));
    expect([result.code, result.stderr]).toEqual([5, expect.stringContaining("Too many links")]);
    expect((await agent.message()).fds.length).toBe(1);
  });

  testUnless(noHelper, "container waits as whatever user its program has", async () => {
    const more = (hostID: number) => ({ containerID: 1, hostID, size: 1000 });
    const container = rootless([own(UID), more(200000)], [own(GID), more(300000)], "id -u; exec sleep 60");
    container.config.process.user = { uid: 7, gid: 8 };
    letIn(container);
    const joe = asJoe(`joe:200000:1000\n`, `joe:300000:1000\n`);
    endLater(container, joe);
    const result = (await container.start("create", [], joe)).ok();
    const exec = await rig.call(["exec", container.id, "sh", "-c", `id -u; ${LOOK}`], joe);
    expect(exec.ok().stdout).toBe(`7\n${CLOSED}`);
    (await rig.call(["start", container.id], joe)).ok();
    expect(await result.until("\n")).toBe("7\n");
  });

  test("hooks outside of the container can join its namespaces", async () => {
    const container = rootless([own(UID)], [own(GID)], "exit 4");
    const script = `pid=$(sed 's/.*"pid": *\\([0-9]*\\).*/\\1/')
      readlink /proc/$pid/ns/user && exec nsenter -t $pid -U -m --preserve-credentials /usr/bin/id -u`;
    container.config.hooks = {
      createRuntime: [{ path: "/bin/sh", args: ["sh", "-c", script], env: ["PATH=/usr/bin:/bin"] }],
    };
    letIn(container);
    const result = await container.run([], asJoe("", ""));
    expect([result.code, result.stderr]).toEqual([4, ""]);
  });

  test("create and start can be traced beyond the change of init's image", async () => {
    const container = rootless([own(UID)], [own(GID)], "true");
    letIn(container);
    const joe = asJoe("", "");
    endLater(container, joe);
    const timed = (command: string) => {
      const { traceEvents } = JSON.parse(readFileSync(join(joe.root, command), "utf8")) as {
        traceEvents: { name: string; cat?: string; dur?: number }[];
      };
      return traceEvents.filter(({ cat, dur }) => cat === "op" && dur !== undefined).map(({ name }) => name);
    };
    const trace = (command: string) => ["--trace", join(joe.root, command)];
    (await container.start("create", trace("create"), joe)).ok();
    const names = timed("create");
    expect(names.slice(names.indexOf("execve"))).toEqual(expect.arrayContaining(["pivot_root", "setresuid"]));
    (await rig.call(["start", ...trace("start"), container.id], joe)).ok();
    expect(timed("start")).toEqual(expect.arrayContaining(["close_range", "execve"]));
  });

  test("create fails when the program is not there, and leaves nothing", async () => {
    const container = rootless([own(UID)], [own(GID)], "true");
    container.config.process.args = ["/no/such/program"];
    letIn(container);
    const joe = asJoe("", "");
    const result = await container.start("create", [], joe);
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("/no/such/program");
    expect(readdirSync(joe.root)).toEqual([]);
  });
});

buncTest("root's container with a user namespace keeps init closed even to root of that", async () => {
  const container = rig.container((config) => {
    config.process.args = ["sleep", "60"];
    config.process.capabilities = capabilitySets(...POWERS);
    config.linux.namespaces.push({ type: "user" });
    config.linux.uidMappings = config.linux.gidMappings = [{ containerID: 0, hostID: 0, size: 65536 }];
  });
  await container.create();
  const { pid } = await container.state();
  // Whose process it is in /proc: not dumpable, and executed in the host's user namespace.
  expect(statSync(`/proc/${pid}/fd`).uid).toBe(0);
  expect((await container.call("exec", "sh", "-c", LOOK)).ok().stdout).toBe(CLOSED);
  (await container.call("start")).ok();
  await container.waitFor("running");
});
