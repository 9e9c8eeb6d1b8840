// The options of a request, and how they go over the wire: a 0 that means something must be there.
import { describe, expect, test } from "bun:test";
import { PbfWriter } from "pbf";
import { BuncError } from "../errors.ts";
import { type CriuOptions, cgroupMode, commonOptions, configFile } from "./options.ts";
import { type Options, writeCgroupRoot, writeInheritFd, writeOptions } from "./rpc.gen.ts";

const OPTIONS: CriuOptions = {
  imagePath: "/images",
  tcpEstablished: false,
  extUnixSk: false,
  shellJob: false,
  fileLocks: false,
  autoDedup: false,
  lazyPages: false,
  manageCgroupsMode: "",
};

function hex<T>(write: (value: Partial<T>, pbf: PbfWriter) => void, value: Partial<T>): string {
  const pbf = new PbfWriter();
  write(value, pbf);
  return Buffer.from(pbf.finish()).toString("hex");
}

describe("the mode of cgroups", () => {
  test("has criu's numbers", () => {
    expect(["", "soft", "full", "strict", "ignore"].map(cgroupMode)).toEqual([6, 3, 4, 5, 0]);
  });

  test("is refused in runc's words when it is none", () => {
    for (const mode of ["Soft", "toString", "0"]) {
      expect(() => cgroupMode(mode)).toThrow(new BuncError("invalid manage-cgroups-mode value"));
    }
  });
});

test("criu's settings are the container's own, else one file for all; an empty name is none", () => {
  expect(configFile(undefined)).toEqual({ config_file: "/etc/criu/runc.conf" });
  expect(configFile({ other: "x" })).toEqual({ config_file: "/etc/criu/runc.conf" });
  expect(configFile({ "org.criu.config": "/x.conf" })).toEqual({ config_file: "/x.conf" });
  expect(configFile({ "org.criu.config": "" })).toEqual({});
});

test("what both have in common", () => {
  const common = commonOptions(
    { ...OPTIONS, shellJob: true, manageCgroupsMode: "ignore" },
    undefined,
    "dump.log",
  );
  expect(common).toMatchObject({
    shell_job: true,
    log_file: "dump.log",
    log_level: 4,
    manage_cgroups_mode: 0,
  });
  expect(common.empty_ns).toBe(0x40000000);
});

describe("on the wire", () => {
  test("a mode of 0, descriptor 0 and the controller without a name are written", () => {
    expect(hex<Options>(writeOptions, { manage_cgroups_mode: 0 })).toBe("900200");
    expect(hex(writeInheritFd, { key: "pipe:[1]", fd: 0 })).toBe("0a08706970653a5b315d1000");
    expect(hex(writeCgroupRoot, { ctrl: "", path: "/x" })).toBe("0a0012022f78");
  });

  test("fields have criu's numbers", () => {
    expect(hex<Options>(writeOptions, { images_dir_fd: 7, pid: 5, rst_sibling: true })).toBe(
      "08071005d00101",
    );
    expect(hex<Options>(writeOptions, { ext_mnt: [{ key: "/a", val: "/b" }] })).toBe(
      "ba01080a022f6112022f62",
    );
    expect(hex<Options>(writeOptions, { lsm_mount_context: "c" })).toBe("fa030163");
    expect(hex<Options>(writeOptions, {})).toBe("");
  });
});
