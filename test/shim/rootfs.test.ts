// A rootfs that containerd's snapshotters describe by mounts, with the ids of a pod's user namespace.
import { expect, test } from "bun:test";
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { decode } from "../../src/shim/proto/codec.ts";
import * as proto from "../../src/shim/proto/task.gen.ts";
import { findMounts } from "../rig/leaks.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe } from "../rig/runtime.ts";
import { Connection, refusal, type Shim, shimOf } from "./rig.ts";

const rig = useRig();
const HOST_ID = 100_000;
const MAPS = [`uidmap=0:${HOST_ID}:1000,1000:300000:10`, `gidmap=0:${HOST_ID}:1000,1000:300000:10`];

/** Overlayfs takes id-mapped layers since Linux 5.19. */
function takesMapped(): boolean {
  const [major = 0, minor = 0] = readFileSync("/proc/sys/kernel/osrelease", "utf8").split(".").map(Number);
  return major > 5 || (major === 5 && minor >= 19);
}

/** Layers of a snapshotter: the image's belong to the host's root, what the container writes to the namespace's. */
interface Layers {
  image: string;
  top: string;
  upper: string;
  work: string;
}

/** A shim for a container in a user namespace whose rootfs is elsewhere yet. */
async function shimOfLayers(script: string): Promise<{ shim: Shim; layers: Layers }> {
  const base = rig.directory();
  const path = (name: string) => join(base, name);
  const layers = { image: path("1"), top: path("2"), upper: path("3/fs"), work: path("3/work") };
  const shim = await shimOf(rig, ["sh", "-c", script], {}, (container) => {
    renameSync(container.rootfs, layers.image);
    for (const dir of [container.rootfs, layers.top, layers.upper, layers.work])
      mkdirSync(dir, { recursive: true });
    chownSync(layers.upper, HOST_ID, HOST_ID);
    const { config } = container;
    config.root.readonly = false;
    config.linux.namespaces.push({ type: "user" });
    const mappings = [
      { containerID: 0, hostID: HOST_ID, size: 1000 },
      { containerID: 1000, hostID: 300_000, size: 10 },
    ];
    Object.assign(config.linux, { uidMappings: mappings, gidMappings: mappings });
  });
  return { shim, layers };
}

const overlay = ({ upper, work }: Layers, lower: string, maps = MAPS) => ({
  type: "overlay",
  source: "overlay",
  target: "",
  options: [`lowerdir=${lower}`, `upperdir=${upper}`, ...maps, `workdir=${work}`],
});

function expectNothing(shim: Shim): void {
  const { tag } = rig.scratch;
  expect(findMounts(tag)).toEqual([]);
  expect(existsSync(`${shim.container.rootfs}-layers`)).toBe(false);
}

buncDescribe("a rootfs with the ids of a user namespace", () => {
  test("is an overlay of one layer and of several", async () => {
    for (const several of [false, true]) {
      const { shim, layers } = await shimOfLayers(
        "stat -c %u:%g /bin/busybox; echo x > /made; exec sleep 100",
      );
      const out = shim.fifo("out");
      const lower = several ? `${layers.top}:${layers.image}` : layers.image;
      const call = shim.create({ rootfs: [overlay(layers, lower)], stdout: out.path });
      if (!takesMapped()) {
        expect((await refusal(call))[1]).toContain("failed to mount rootfs component: ");
        expectNothing(shim);
        continue;
      }
      await call;
      expect(existsSync(`${shim.container.rootfs}-layers`)).toBe(false);
      await shim.begin();
      const made = join(layers.upper, "made");
      while (!existsSync(made) || statSync(made).size === 0) await Bun.sleep(10);
      await shim.kill(9);
      await shim.wait();
      await shim.delete();
      expect(await out.text()).toBe("0:0\n");
      expect([statSync(made).uid, statSync(join(layers.image, "bin/busybox")).uid]).toEqual([HOST_ID, 0]);
      expectNothing(shim);
    }
  });

  test("is a bind mount", async () => {
    if (!takesMapped()) return;
    const { shim, layers } = await shimOfLayers(
      "stat -c %u /bin/busybox; touch /tmp/made; stat -c %u /tmp/made",
    );
    const out = shim.fifo("out");
    const rootfs = [{ type: "bind", source: layers.image, target: "", options: ["rbind", "rw", ...MAPS] }];
    await shim.create({ rootfs, stdout: out.path });
    await shim.begin();
    expect((await shim.wait()).exit_status).toBe(0);
    await shim.delete();
    expect(await out.text()).toBe("0\n0\n");
    expect(statSync(join(layers.image, "tmp/made")).uid).toBe(0);
    expectNothing(shim);
  });

  test("is refused when the mappings or the layers are not right, and leaves nothing", async () => {
    const { shim, layers } = await shimOfLayers("true");
    const words = async (maps: string[], lower = layers.image) => {
      const [, message] = await refusal(shim.create({ rootfs: [overlay(layers, lower, maps)] }));
      expectNothing(shim);
      return message;
    };
    const no = "is no list of id mappings";
    expect(await words(["uidmap=0:1:2"])).toContain(`rootfs: mount option "gidmap=" ${no}`);
    expect(await words(["uidmap=", "gidmap="])).toContain(`rootfs: mount option "uidmap=" ${no}`);
    expect(await words(["uidmap=0:x:1", "gidmap=0:1:2"])).toContain(`"uidmap=0:x:1" ${no}`);
    expect(await words(["uidmap=0:1:99999999999", "gidmap=0:1:2"])).toContain(no);
    expect(await words(["uidmap=0:1:0", "gidmap=0:1:2"])).toContain("rootfs.uidMappings");
    expect(await words(MAPS, "/bin:/usr/bin")).toContain("have no directory in common");
    expect(await words(MAPS, `${layers.image}-no/1:${layers.image}-no/2`)).toContain("no such file");
    expect(readdirSync(layers.upper)).toEqual([]);
  });
});

buncDescribe("a task that is being deleted", () => {
  test("has stopped, until it is deleted: for who asks meanwhile it is not unknown", async () => {
    for (let i = 0; i < 5; i++) {
      const shim = await shimOf(rig, ["true"]);
      await shim.create();
      await shim.begin();
      await shim.wait();
      const other = await Connection.open(shim.socket);
      rig.defer(() => other.close());
      const request = new Uint8Array([10, shim.container.id.length, ...Buffer.from(shim.container.id)]);
      const deleted = shim.delete();
      const asked = other.call("containerd.task.v3.Task", "State", request);
      expect(decode(proto.readStateResponse, await asked)).toMatchObject({ status: 3 });
      await deleted;
      expect(await refusal(shim.state())).toEqual([5, "container not created: not found"]);
    }
  });
});
