// Pods under containerd's cri plugin, with a handler for bunc as a RuntimeClass names it.
import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually } from "../rig/client.ts";
import { entries, findMounts } from "../rig/leaks.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe } from "../rig/runtime.ts";
import { Containerd, IMAGE } from "./containerd.rig.ts";
import type { ContainerConfig, NamespaceOption, SandboxConfig } from "./cri.gen.ts";
import * as proto from "./cri.gen.ts";
import { Cri } from "./cri.rig.ts";

const rig = useRig();

const NODE = 2;
const RUNNING = 1;
const EXITED = 2;

/** A CNI plugin that gives a pod an address on its loopback device; all that a machine without bridges needs. */
const PLUGIN = `#!/bin/sh
set -e
address=10.99.0.7
case $CNI_COMMAND in
VERSION) echo '{"cniVersion": "0.4.0", "supportedVersions": ["0.4.0"]}'; exit ;;
ADD)
  nsenter --net="$CNI_NETNS" ip link set lo up
  nsenter --net="$CNI_NETNS" ip address replace $address/32 dev lo
  echo "{\\"cniVersion\\": \\"0.4.0\\", \\"interfaces\\": [{\\"name\\": \\"$CNI_IFNAME\\", \\"sandbox\\": \\"$CNI_NETNS\\"}],"
  echo "\\"ips\\": [{\\"version\\": \\"4\\", \\"address\\": \\"$address/32\\", \\"interface\\": 0}]}" ;;
esac
`;

/** The words a call is refused with. (`expect().rejects` would keep the connection from being read.) */
async function refusal(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => "it was not refused",
    (error) => String(error),
  );
}

class Kubelet {
  constructor(
    readonly containerd: Containerd,
    readonly cri: Cri,
    private readonly logs: string,
  ) {}

  sandbox(name: string, options: Partial<NamespaceOption> = {}): Partial<SandboxConfig> {
    // A pod on the node's network has the node's name.
    const hostname = options.network === NODE ? "" : name;
    const linux = {
      cgroup_parent: `/${this.containerd.namespace}`,
      security_context: { namespace_options: options as NamespaceOption },
    };
    const metadata = { name, uid: `uid-${name}`, namespace: "default" };
    return { metadata, hostname, log_directory: this.logs, linux };
  }

  container(name: string, command: string[], more: Partial<ContainerConfig> = {}): Partial<ContainerConfig> {
    return { metadata: { name }, image: { image: IMAGE }, command, log_path: `${name}.log`, ...more };
  }

  /** What a container has written, without the times: "stdout F word". */
  log(name: string): string[] {
    const lines = readFileSync(join(this.logs, `${name}.log`), "utf8")
      .trimEnd()
      .split("\n");
    return lines.map((line) => line.slice(line.indexOf(" ") + 1));
  }

  /** Makes a pod, which is removed after the test if it is still there. */
  async run(config: Partial<SandboxConfig>): Promise<string> {
    const pod = await this.cri.runSandbox(config, "bunc");
    rig.defer(async () => {
      const cri = await Cri.open(this.containerd.socket);
      for (const method of ["StopPodSandbox", "RemovePodSandbox"])
        await cri.tell(method, pod).catch(() => {});
      cri.close();
    });
    return pod;
  }

  async remove(pod: string): Promise<void> {
    await this.cri.tell("StopPodSandbox", pod);
    await this.cri.tell("RemovePodSandbox", pod);
  }

  async expectNothing(): Promise<void> {
    const { containerd } = this;
    await containerd.emptied("k8s.io");
    expect(entries(join(containerd.dir, "runc/k8s.io")).filter((name) => !name.startsWith("."))).toEqual([]);
    expect(findMounts(rig.scratch.tag)).toEqual([]);
  }
}

/** containerd 1.6 passes no other option than the path of a file to a shim that it does not know. */
function shimOptions(dir: string): string {
  const file = join(dir, "bunc.toml");
  writeFileSync(file, `Root = "${dir}/runc"\n`);
  return file;
}

async function started(): Promise<Kubelet> {
  const plugins = rig.directory();
  const networks = rig.directory();
  for (const name of ["loopback", "address"]) writeFileSync(join(plugins, name), PLUGIN, { mode: 0o755 });
  const network = { cniVersion: "0.4.0", name: "pods", plugins: [{ type: "address" }] };
  writeFileSync(join(networks, "10-pods.conflist"), JSON.stringify(network));
  const table = 'plugins."io.containerd.grpc.v1.cri"';
  const containerd: Containerd = new Containerd(rig, {
    cri: (dir) => `
[${table}]
  sandbox_image = "docker.io/library/pause:test"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[${table}.cni]
  bin_dir = "${plugins}"
  conf_dir = "${networks}"
[${table}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[${table}.containerd.runtimes.bunc]
  runtime_type = "io.containerd.bunc.v2"
  [${table}.containerd.runtimes.bunc.options]
    ConfigPath = "${shimOptions(dir)}"
`,
  });
  await containerd.start();
  await containerd.importImage("k8s.io");
  await containerd.importImage("k8s.io", "docker.io/library/pause:test", ["sleep", "10000"]);
  const cri = await Cri.open(containerd.socket);
  rig.defer(() => cri.close());
  const logs = rig.directory();
  mkdirSync(logs, { recursive: true });
  return new Kubelet(containerd, cri, logs);
}

buncDescribe("CRI", () => {
  test("a pod of two containers: namespaces, logs, exec, stop, remove", async () => {
    const kubelet = await started();
    const { cri, containerd } = kubelet;
    const config = kubelet.sandbox("pod", { pid: 0 });
    const pod = await kubelet.run(config);
    expect(await cri.sandbox(pod)).toMatchObject({
      state: 0,
      runtime_handler: "bunc",
      network: { ip: "10.99.0.7" },
    });
    const serve = "echo begun; echo served > /tmp/index.html; exec httpd -f -p 80 -h /tmp";
    const first = await cri.run(pod, kubelet.container("first", ["sh", "-c", serve]), config);
    const wait = "trap 'echo ending >&2; exit 17' TERM; while true; do sleep 0.05; done";
    const resources = { memory_limit_in_bytes: 32 << 20, cpu_shares: 77 };
    const linux = { resources, security_context: { readonly_rootfs: true } };
    const limited = kubelet.container("second", ["sh", "-c", wait], { linux: linux as never });
    const second = await cri.run(pod, limited, config);
    expect(containerd.shims()).toHaveLength(1);
    expect(entries(join(containerd.dir, "runc/k8s.io"))).toEqual(
      expect.arrayContaining([pod, first, second]),
    );
    expect(await cri.container(first)).toMatchObject({ state: RUNNING });

    const look = async (id: string, ...command: string[]) => (await cri.execSync(id, command)).stdout;
    expect(await look(second, "busybox", "wget", "-qO-", "http://10.99.0.7/index.html")).toBe("served\n");
    const spaces = ["sh", "-c", "hostname; for n in net ipc uts pid; do readlink /proc/self/ns/$n; done"];
    const shared = await look(first, ...spaces);
    expect(shared).toStartWith("pod\nnet:[");
    expect(await look(second, ...spaces)).toBe(shared);
    expect(await look(second, "ps")).toMatch(/sleep 10000[\s\S]*httpd -f/);
    expect(await cri.execSync(second, ["sh", "-c", "echo x > /x; exit 6"])).toEqual({
      code: 6,
      stdout: "",
      stderr: "sh: can't create /x: Read-only file system\n",
    });
    expect(await refusal(cri.execSync(second, ["sleep", "20"], 1))).toContain("timeout 1s exceeded");
    expect(await refusal(cri.execSync(second, ["/nowhere"]))).toContain("no such file or directory");

    const stats = await cri.stats(second);
    expect(stats.memory?.working_set_bytes?.value).toBeGreaterThan(0);
    expect(stats.cpu?.usage_core_nano_seconds?.value).toBeGreaterThan(0);
    const limit = "cd /sys/fs/cgroup; cat cpu/cpu.shares || cat cpu.weight";
    expect(["77\n", "3\n"]).toContain(await look(second, "sh", "-c", limit));
    const update = { container_id: second, linux: { memory_limit_in_bytes: 0, cpu_shares: 111 } };
    await cri.call("UpdateContainerResources", proto.writeUpdateRequest, update, proto.readEmpty);
    expect(["111\n", "5\n"]).toContain(await look(second, "sh", "-c", limit));

    await cri.stop(second, 10);
    expect(await cri.container(second)).toMatchObject({ state: EXITED, exit_code: 17, reason: "Error" });
    expect(kubelet.log("second")).toEqual(["stderr F ending"]);
    expect(kubelet.log("first")).toEqual(["stdout F begun"]);
    await cri.tell("RemoveContainer", second);
    const again = await cri.run(pod, kubelet.container("again", ["sh", "-c", "exit 3"]), config);
    await eventually("it ends", async () => (await cri.container(again)).state === EXITED);
    expect(await cri.container(again)).toMatchObject({ exit_code: 3 });
    await kubelet.remove(pod);
    await kubelet.expectNothing();
  });

  test("exec and attach on streams and on a terminal", async () => {
    const kubelet = await started();
    const { cri } = kubelet;
    const config = kubelet.sandbox("pod", { network: NODE });
    const pod = await kubelet.run(config);
    const shell = kubelet.container("shell", ["sh"], { stdin: true, tty: true });
    const id = await cri.run(pod, shell, config);
    const exec = await cri.exec({ container_id: id, cmd: ["cat"], stdin: true, stdout: true, stderr: true });
    exec.type("typed\n");
    await exec.until("typed\n");
    exec.close();
    const script = ["sh", "-c", "echo out; echo err >&2; exit 5"];
    const both = await cri.exec({ container_id: id, cmd: script, stdout: true, stderr: true });
    await both.closed;
    expect([both.stdout, both.stderr]).toEqual(["out\n", "err\n"]);
    expect(JSON.parse(both.end)).toMatchObject({
      status: "Failure",
      reason: "NonZeroExitCode",
      details: { causes: [{ reason: "ExitCode", message: "5" }] },
    });
    const tty = await cri.exec({ container_id: id, cmd: ["sh"], tty: true, stdin: true, stdout: true });
    tty.resize(91, 27);
    await Bun.sleep(300);
    tty.type("stty size; tty; exit\n");
    await tty.until("27 91");
    await tty.until("/dev/pts/1");
    await tty.closed;
    expect(JSON.parse(tty.end)).toMatchObject({ status: "Success" });

    const attach = { container_id: id, tty: true, stdin: true, stdout: true };
    const attached = await cri.attach(attach);
    attached.type("echo number $((40 + 2))\n");
    await attached.until("number 42");
    attached.close();
    const later = await cri.attach(attach);
    later.type("exit 4\n");
    await later.closed;
    await eventually("it ends", async () => (await cri.container(id)).state === EXITED);
    expect(await cri.container(id)).toMatchObject({ exit_code: 4 });
    await kubelet.remove(pod);
    await kubelet.expectNothing();
  });

  test("pods outlive containerd; what is out of memory is told; a killed shim ends its pod", async () => {
    const kubelet = await started();
    const { cri, containerd } = kubelet;
    const config = kubelet.sandbox("pod", { network: NODE });
    const pod = await kubelet.run(config);
    const stays = await cri.run(pod, kubelet.container("stays", ["sleep", "1000"]), config);
    const linux = { resources: { memory_limit_in_bytes: 16 << 20 } } as never;
    const eat = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M"];
    const eats = await cri.run(pod, kubelet.container("eats", eat, { linux }), config);
    await eventually("it ends", async () => (await cri.container(eats)).state === EXITED);
    expect(await cri.container(eats)).toMatchObject({ exit_code: 137, reason: "OOMKilled" });

    cri.close();
    await containerd.kill();
    await containerd.start();
    const after = await Cri.open(containerd.socket);
    rig.defer(() => after.close());
    expect(await after.container(stays)).toMatchObject({ state: RUNNING });
    expect(await after.execSync(stays, ["echo", "here"])).toMatchObject({ code: 0, stdout: "here\n" });

    for (const pid of containerd.shims()) process.kill(pid, "SIGKILL");
    await eventually("it is seen", async () => (await after.container(stays)).state === EXITED);
    await after.tell("StopPodSandbox", pod);
    await after.tell("RemovePodSandbox", pod);
    await kubelet.expectNothing();
  });
});
