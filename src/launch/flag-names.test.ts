/** Names of numbers: the kernel's own words for flags, modes, devices and capabilities. Needs no build. */
import { describe, expect, test } from "bun:test";
import * as abi from "../linux/abi.gen.ts";
import * as flags from "./flag-names.ts";

describe("flags", () => {
  test("of open, with the access mode where it means something", () => {
    expect(flags.openFlags(0)).toBe("O_RDONLY");
    expect(flags.openFlags(abi.O_RDWR | abi.O_CLOEXEC)).toBe("O_RDWR|O_CLOEXEC");
    expect(flags.openFlags(abi.O_WRONLY)).toBe("O_WRONLY");
    expect(flags.openFlags(abi.O_PATH | abi.O_NOFOLLOW)).toBe("O_NOFOLLOW|O_PATH");
    // Flags of several bits go by their own name.
    expect(flags.openFlags(abi.O_TMPFILE | abi.O_RDWR)).toBe("O_RDWR|O_TMPFILE");
    expect(flags.openFlags(abi.O_SYNC | abi.O_WRONLY)).toBe("O_WRONLY|O_SYNC");
    expect(flags.openFlags(abi.O_DIRECTORY)).toBe("O_RDONLY|O_DIRECTORY");
  });

  test("of open that make a file", () => {
    expect(flags.opensNew(abi.O_CREAT | abi.O_WRONLY)).toBe(true);
    expect(flags.opensNew(abi.O_TMPFILE | abi.O_RDWR)).toBe(true);
    expect(flags.opensNew(abi.O_DIRECTORY)).toBe(false);
  });

  test("beyond 32 bits, negative, unknown, none", () => {
    expect(flags.cloneFlags(abi.CLONE_INTO_CGROUP + abi.CLONE_NEWPID)).toBe("CLONE_NEWPID|CLONE_INTO_CGROUP");
    expect(flags.mountFlags(0)).toBe("0");
    expect(flags.mountFlags(abi.MS_REC | abi.MS_SLAVE)).toBe("MS_REC|MS_SLAVE");
    expect(flags.unmountFlags(abi.MNT_DETACH | 0x40)).toBe("MNT_DETACH|0x40");
    expect(flags.resolveFlags(-1)).toStartWith("RESOLVE_");
    expect(flags.resolveFlags(-1)).toEndWith("|0xffffffffffffffe0");
  });

  test("of mounts: the access time is one field", () => {
    expect(flags.mountAttributes(abi.MOUNT_ATTR__ATIME)).toBe("MOUNT_ATTR__ATIME");
    expect(flags.mountAttributes(abi.MOUNT_ATTR_NOATIME | abi.MOUNT_ATTR_RDONLY)).toBe(
      "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOATIME",
    );
  });

  test("that mean one thing to one call and another to the next", () => {
    expect(abi.AT_REMOVEDIR).toBe(abi.AT_EACCESS);
    expect(flags.atFlags(abi.AT_REMOVEDIR, "unlinkat")).toBe("AT_REMOVEDIR");
    expect(flags.atFlags(abi.AT_EACCESS, "faccessat")).toBe("AT_EACCESS");
    expect(flags.openTreeFlags(abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | abi.AT_RECURSIVE)).toBe(
      "OPEN_TREE_CLONE|AT_RECURSIVE|OPEN_TREE_CLOEXEC",
    );
  });

  test("on top of a value", () => {
    expect(flags.socketType(abi.SOCK_RAW | abi.SOCK_CLOEXEC)).toBe("SOCK_RAW|SOCK_CLOEXEC");
    expect(flags.memoryPolicy(abi.MPOL_BIND | abi.MPOL_F_STATIC_NODES)).toBe("MPOL_BIND|MPOL_F_STATIC_NODES");
    expect(flags.memoryPolicy(6)).toBe("6");
  });
});

describe("values", () => {
  test.each([
    [flags.prctlOption(abi.PR_SET_NO_NEW_PRIVS), "PR_SET_NO_NEW_PRIVS"],
    [flags.prctlOption(abi.PR_CAP_AMBIENT), "PR_CAP_AMBIENT"],
    [flags.ambientCommand(abi.PR_CAP_AMBIENT_RAISE), "PR_CAP_AMBIENT_RAISE"],
    [flags.keyctlCommand(abi.KEYCTL_SETPERM), "KEYCTL_SETPERM"],
    [flags.resourceLimit(abi.RLIMIT_NOFILE), "RLIMIT_NOFILE"],
    [flags.fsconfigCommand(abi.FSCONFIG_CMD_CREATE), "FSCONFIG_CMD_CREATE"],
    [flags.ioctlRequest(abi.TIOCSPTLCK), "TIOCSPTLCK"],
    [flags.schedulerPolicy(abi.SCHED_DEADLINE), "SCHED_DEADLINE"],
    [flags.schedulerPolicy(abi.SCHED_OTHER), "SCHED_OTHER"],
    [flags.fcntlCommand(abi.F_SETFD), "F_SETFD"],
    [flags.fileSystemMagic(abi.PROC_SUPER_MAGIC), "PROC_SUPER_MAGIC"],
    [flags.fileSystemMagic(abi.CGROUP2_SUPER_MAGIC), "CGROUP2_SUPER_MAGIC"],
    [flags.signalName(abi.SIGKILL), "SIGKILL"],
    [flags.seccompOperation(abi.SECCOMP_SET_MODE_FILTER), "SECCOMP_SET_MODE_FILTER"],
    [flags.prctlOption(99999), "99999"],
  ])("%s", (shown, wanted) => {
    expect(shown).toBe(wanted);
  });

  test("modes in octal, with the type of the file", () => {
    expect(flags.octal(0)).toBe("0");
    expect(flags.octal(0o1777)).toBe("01777");
    expect(flags.fileMode(abi.S_IFCHR | 0o666)).toBe("S_IFCHR|0666");
    expect(flags.fileMode(0o644)).toBe("0644");
    expect(flags.fileType(abi.S_IFDIR)).toBe("directory");
    expect(flags.fileType(0)).toBe("file");
  });

  test("device numbers as the kernel splits them", () => {
    expect(flags.device(0x103)).toBe("1:3");
    // new_encode_dev: twelve bits of major between the eight low and twelve high ones of minor.
    expect(flags.device(0xffffffff)).toBe("4095:1048575");
    expect(flags.device((259 << 8) | 0x45 | (0x123 << 20))).toBe(`259:${0x12345}`);
  });

  test("capabilities by name", () => {
    expect(flags.capabilities(0)).toEqual([]);
    expect(flags.capabilities(2 ** abi.CAP_CHECKPOINT_RESTORE + 1)).toEqual([
      "CAP_CHOWN",
      "CAP_CHECKPOINT_RESTORE",
    ]);
    expect(flags.capabilities(1n << 63n)).toEqual(["capability 63"]);
    expect(flags.capabilityName(abi.CAP_SYS_ADMIN)).toBe("CAP_SYS_ADMIN");
  });
});
