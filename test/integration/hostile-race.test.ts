// A process swaps directories of the rootfs with links to the host, again and again, while containers are made from it
// (runc CVE-2021-30465, CVE-2024-45310): each launch succeeds or fails, and the host stays as it is.
// runc 1.1 makes directories there.
import { expect, setDefaultTimeout } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncTest } from "../rig/runtime.ts";
import {
  makeVictim,
  putLink,
  survive,
  surviveOnTerminal,
  type Victim,
  withoutMounts,
} from "./hostile-ground.ts";

const rig = useRig();
setDefaultTimeout(120_000);

/** Where a launch takes seconds, in an emulated machine, there are fewer. */
const ROUNDS = Number(process.env.BUNC_RACE_ROUNDS ?? 30);

/** Swaps pairs of paths below the bundle until the test is over. */
async function swap(container: Container, ...pairs: [string, string][]): Promise<void> {
  const program = join(rig.scratch.store, "hostile-swap");
  const source = join(import.meta.dir, "hostile-swap.c");
  output(["cc", "-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source]);
  const paths = pairs.flat().map((path) => container.path(path));
  const { line } = await rig.background([program, ...paths]);
  expect(line).toBe("swapping");
}

/** A container that may write to its rootfs and looks for the secret where its mounts are. */
function searching(victim: Victim, ...places: string[]): Container {
  return rig.container((config) => {
    config.root.readonly = false;
    // Files only: a device may have no end.
    config.process.args = [
      "sh",
      "-c",
      `find ${places.join(" ")} -type f -exec grep ${victim.secret} {} +; true`,
    ];
  });
}

/** Launches the container many times; how often it ran. */
async function launch(container: Container, victim: Victim): Promise<number> {
  let ran = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const result = await survive(container);
    expect([0, 1]).toContain(result.code);
    expect(result.stdout).not.toContain(victim.secret);
    victim.expectUntouched();
    if (result.code === 0) ran++;
  }
  return ran;
}

/** Something of the host that can be bound. */
function sources(): { dir: string; file: string } {
  const dir = rig.directory();
  const file = join(dir, "file");
  writeFileSync(file, "bound\n");
  return { dir, file };
}

buncTest(
  "on the way to mount points, devices, the working directory, masked and read-only paths",
  async () => {
    const victim = makeVictim(rig);
    const { dir, file } = sources();
    const container = searching(victim, "/swap", "/other");
    const { config } = container;
    config.mounts.push(
      { destination: "/swap/dir", source: dir, options: ["rbind"] },
      { destination: "/swap/sub/file", source: file, options: ["bind"] },
      { destination: "/swap/tmp/deep", type: "tmpfs", source: "tmpfs", options: ["tmpcopyup"] },
      { destination: "/other/dir", source: dir, options: ["bind", "ro"] },
      { destination: "/other", type: "tmpfs", source: "tmpfs", options: ["ro"] },
    );
    config.linux.devices = [{ path: "/swap/dev/null", type: "c", major: 1, minor: 3 }];
    config.linux.maskedPaths = ["/swap/sub", "/swap/victim"];
    config.linux.readonlyPaths = ["/swap", "/swap/tmp"];
    config.process.cwd = "/swap/cwd";
    container.file("swap/");
    container.file("other/");
    putLink(container, "swap2", victim.dir);
    putLink(container, "other2", `../../../../../../../../..${victim.dir}`);
    await swap(container, ["rootfs/swap", "rootfs/swap2"], ["rootfs/other", "rootfs/other2"]);
    await launch(container, victim);
  },
);

buncTest("/dev, /proc, /sys and what is below them", async () => {
  const victim = makeVictim(rig);
  const container = searching(victim, "/dev");
  withoutMounts(container, "/dev");
  for (const name of ["dev", "proc", "sys"]) putLink(container, `${name}2`, victim.dir);
  await swap(
    container,
    ["rootfs/dev", "rootfs/dev2"],
    ["rootfs/proc", "rootfs/proc2"],
    ["rootfs/sys", "rootfs/sys2"],
  );
  await launch(container, victim);
});

buncTest("/proc: what is to be read-only or covered in it is, wherever it is found", async () => {
  const victim = makeVictim(rig);
  const container = rig.container((config) => {
    config.root.readonly = false;
    const look = "cat /dev/null >>$p/sys/kernel/printk && echo writable; head -c 1 $p/timer_list";
    config.process.args = [
      "sh",
      "-c",
      `for i in 1 2 3; do for p in /proc /proc2; do ${look}; done; done 2>/dev/null`,
    ];
    config.linux.maskedPaths = ["/proc/timer_list"];
    config.linux.readonlyPaths = ["/proc/sys"];
  });
  putLink(container, "proc2", "/etc");
  await swap(container, ["rootfs/proc", "rootfs/proc2"]);
  for (let round = 0; round < ROUNDS * 2; round++) {
    const result = await survive(container);
    expect([0, 1]).toContain(result.code);
    expect(result.stdout).toBe("");
  }
  victim.expectUntouched();
});

buncTest("the parts of a terminal", async () => {
  const victim = makeVictim(rig);
  const container = rig.container((config) => {
    config.root.readonly = false;
    config.process.args = ["true"];
  });
  withoutMounts(container, "/dev");
  container.config.mounts.push({
    destination: "/dev/pts",
    type: "devpts",
    source: "devpts",
    options: ["newinstance"],
  });
  container.file("dev/pts/");
  writeFileSync(join(container.rootfs, "dev/console"), "");
  putLink(container, "dev/console2", victim.file);
  putLink(container, "dev/pts2", "/proc/1/root/dev/pts");
  await swap(container, ["rootfs/dev/console", "rootfs/dev/console2"], ["rootfs/dev/pts", "rootfs/dev/pts2"]);
  for (let round = 0; round < ROUNDS; round++) {
    const { code } = await surviveOnTerminal(container);
    expect([0, 1]).toContain(code);
    victim.expectUntouched();
  }
});

buncTest("a directory that is moved out of the rootfs while a path with .. leads through it", async () => {
  const victim = makeVictim(rig);
  const { dir, file } = sources();
  const container = searching(victim, "/jump", "/jump2");
  container.config.mounts.push(
    { destination: "/jump/made/dir", source: dir, options: ["bind"] },
    { destination: "/jump/file", source: file, options: ["bind"] },
    { destination: "/jump2/made", type: "tmpfs", source: "tmpfs" },
  );
  container.config.process.cwd = "/jump/cwd";
  container.file("deep/a/b/");
  mkdirSync(container.path("outside/b"), { recursive: true });
  // Seen from outside/b this leads to the victim, from the rootfs nowhere.
  const name = victim.dir.slice(victim.dir.lastIndexOf("/") + 1);
  for (const link of ["jump", "jump2"]) putLink(container, link, `deep/a/b/../../../${name}`);
  await swap(container, ["rootfs/deep/a/b", "outside/b"]);
  await launch(container, victim);
});

buncTest("what tmpcopyup copies", async () => {
  const victim = makeVictim(rig);
  const container = searching(victim, "/copy");
  container.config.mounts.push({
    destination: "/copy",
    type: "tmpfs",
    source: "tmpfs",
    options: ["tmpcopyup", "size=1m", "nodev"],
  });
  for (const name of ["a", "b", "c", "d"]) {
    container.file(`copy/${name}/`);
    writeFileSync(container.file(`copy/${name}/file`), "copied\n");
  }
  writeFileSync(container.file("copy/file"), "copied\n");
  putLink(container, "link", victim.dir);
  putLink(container, "link2", victim.file);
  output(["mknod", join(container.rootfs, "zero"), "c", "1", "5"]);
  await swap(
    container,
    ["rootfs/copy/b", "rootfs/link"],
    ["rootfs/copy/file", "rootfs/link2"],
    ["rootfs/copy/c/file", "rootfs/zero"],
  );
  await launch(container, victim);
});
