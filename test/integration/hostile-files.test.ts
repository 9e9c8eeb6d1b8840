// Files of the image that the runtime itself reads: /etc/passwd for HOME, and what tmpcopyup copies.
import { describe, expect, test } from "bun:test";
import { mkdirSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncTest } from "../rig/runtime.ts";
import { escapes, makeVictim, putLink, survive } from "./hostile-ground.ts";

const rig = useRig();

describe("/etc/passwd", () => {
  /** HOME of a user, with this as the passwd file. */
  async function home(make: (path: string) => void, uid = 0): Promise<string> {
    const container = rig.container((config) => {
      config.process.args = ["sh", "-c", "echo $HOME"];
      config.process.user = { uid, gid: 0 };
    });
    const path = join(container.rootfs, "etc/passwd");
    output(["rm", path]);
    make(path);
    const start = performance.now();
    const result = (await survive(container)).ok();
    expect(performance.now() - start).toBeLessThan(5000);
    return result.stdout.slice(0, -1);
  }
  const text = (content: string) => (path: string) => writeFileSync(path, content);

  test("without a newline at its end is read to the end", async () => {
    expect(await home(text("root:x:0:0::/rooms:/bin/sh"))).toBe("/rooms");
    expect(await home(text("a:x:1:1::/a:/bin/sh\nroot:x:0:0::/rooms"))).toBe("/rooms");
  });

  buncTest("with lines that are none gives what it can", async () => {
    for (const [content, expected] of [
      ["", "/"],
      ["\n\n\n", "/"],
      ["root", "/"],
      ["root:x:0", "/"],
      ["root:x:0:0::", "/"],
      ["::::::\n:x:0:0::/nameless:", "/nameless"],
      ["a:x:-0:0::/wrong:\nb:x: 0:0::/wrong:\nc:x:0x0:0::/wrong:\nd:x:0:0::/right:", "/right"],
      ["a:x:4294967296:0::/wrong:\nb:x:18446744073709551616:0::/wrong:", "/"],
      [`a:x:0:0::/${"x".repeat(3000)}:`, "/"],
      [`a:x:0:0:${"x".repeat(5000)}:/wrong:\nb:x:0:0::/right:`, "/right"],
      [`${"x".repeat(4096)}a:x:0:0::/wrong:\nb:x:0:0::/right:`, "/right"],
      ["a:x:0:0::/with\0nul:\n", "/with"],
      ["\0".repeat(10000), "/"],
    ] as const) {
      expect([content.slice(0, 50), await home(text(content))]).toEqual([content.slice(0, 50), expected]);
    }
  });

  buncTest("of 1 GB without a line is given up, and so is a user beyond 4 MB", async () => {
    expect(
      await home((path) => {
        writeFileSync(path, "");
        truncateSync(path, 1 << 30);
      }),
    ).toBe("/");
    const line = `${"n".repeat(90)}:x:7:7::/:\n`;
    expect(await home(text(`${line.repeat(50_000)}root:x:0:0::/late:`))).toBe("/");
    expect(await home(text(`${line.repeat(30_000)}root:x:0:0::/rooms:`))).toBe("/rooms");
  });

  buncTest("which is a fifo, a device or a link to the host is neither waited for nor read", async () => {
    const victim = makeVictim(rig);
    writeFileSync(victim.file, `root:x:0:0::/${victim.secret}:`);
    for (const make of [
      (path: string) => void output(["mkfifo", path]),
      (path: string) => void output(["mknod", path, "c", "1", "5"]),
      (path: string) => void output(["mknod", path, "c", "240", "99"]),
      (path: string) => void output(["mknod", path, "b", "240", "99"]),
      (path: string) => void mkdirSync(path),
      ...Object.values(escapes(victim.file)).map((target) => (path: string) => symlinkSync(target, path)),
    ]) {
      const found = await home(make);
      expect(["/", "/root"]).toContain(found);
    }
  });
});

describe("tmpcopyup", () => {
  /** A container with a tmpfs over /data that takes what is there. */
  function copying(script: string, ...options: string[]): Container {
    const container = rig.container((config) => {
      config.root.readonly = false;
      config.process.args = ["sh", "-c", script];
      const mount = { destination: "/data", type: "tmpfs", source: "tmpfs" };
      config.mounts.push({ ...mount, options: ["tmpcopyup", ...options] });
    });
    container.file("data/");
    return container;
  }

  test("of links copies the links, wherever they lead", async () => {
    const victim = makeVictim(rig);
    const container = copying(
      `cat /data/l0 /data/l1 /data/dir/victim; grep -r ${victim.secret} /data; ls /data | wc -l`,
    );
    for (const [i, target] of Object.values(escapes(victim.file)).entries())
      putLink(container, `data/l${i}`, target);
    putLink(container, "data/dir", victim.dir);
    const result = await survive(container);
    expect(result.stdout).toBe("6\n");
    victim.expectUntouched();
  });

  buncTest("of fifos, devices and sockets opens none", async () => {
    const container = copying("stat -c '%n %F %a %u %t:%T' /data/*", "nodev");
    const at = (name: string) => join(container.rootfs, "data", name);
    output(["mkfifo", "-m", "640", at("fifo")]);
    output(["mknod", "-m", "600", at("none"), "c", "240", "99"]);
    output(["mknod", "-m", "600", at("zero"), "c", "1", "5"]);
    output(["chown", "7", at("zero")]);
    const socket = Bun.listen({ unix: at("socket"), socket: { data: () => {} } });
    socket.stop(true);
    const result = (await survive(container)).ok();
    expect(result.stderr).toBe("");
    expect(result.stdout.split("\n")).toEqual([
      "/data/fifo fifo 640 0 0:0",
      "/data/none character special file 600 0 f0:63",
      "/data/zero character special file 600 7 1:5",
      "",
    ]);
  });

  buncTest("of hard links, holes, odd names and modes is exact", async () => {
    const container = copying(
      "cd /data; cat one two; stat -c '%a %u %g %s' one hole dir; find . -mindepth 1 -maxdepth 1 -exec echo x ';' | wc -l; cat -- '-rf' 'new\nline'",
    );
    const at = (name: string) => join(container.rootfs, "data", name);
    writeFileSync(at("one"), "linked\n", { mode: 0o640 });
    output(["chown", "5:6", at("one")]);
    output(["chmod", "4755", at("one")]);
    output(["ln", at("one"), at("two")]);
    writeFileSync(at("hole"), "");
    truncateSync(at("hole"), 8 << 20);
    mkdirSync(at("dir"));
    output(["chmod", "1770", at("dir")]);
    writeFileSync(at("-rf"), "dashes ");
    writeFileSync(at("new\nline"), "newline\n");
    const result = (await survive(container)).ok();
    expect(result.stdout).toBe(
      "linked\nlinked\n4755 5 6 7\n644 0 0 8388608\n1770 0 0 40\n6\ndashes newline\n",
    );
  });

  buncTest(
    "of a tree that is too deep or too large is an error that says so, and nothing is left",
    async () => {
      const deep = copying("find /data | wc -l");
      for (const [depth, code] of [
        [200, 0],
        [400, 1],
      ] as const) {
        output(["mkdir", "-p", join(deep.rootfs, "data", "d/".repeat(depth))]);
        const result = await survive(deep);
        expect([depth, result.code]).toEqual([depth, code]);
        if (code === 0) expect(result.stdout).toBe(`${depth + 1}\n`);
        else expect(result.stderr).toMatch(/mounts\[7\].*ELOOP/);
      }
      const large = copying("true", "size=1m");
      writeFileSync(join(large.rootfs, "data/file"), "");
      truncateSync(join(large.rootfs, "data/file"), 64 << 20);
      const result = await survive(large);
      expect(result.code).toBe(1);
      expect(result.stderr).toMatch(/mounts\[7\].*ENOSPC/);
    },
  );

  test("of many entries takes them all", async () => {
    const container = copying("ls /data | wc -l; cat /data/f1999");
    for (let i = 0; i < 2000; i++) writeFileSync(join(container.rootfs, `data/f${i}`), `${i}\n`);
    expect((await survive(container)).ok().stdout).toBe("2000\n1999\n");
    expect(statSync(join(container.rootfs, "data/f1999")).size).toBe(5);
  });
});
