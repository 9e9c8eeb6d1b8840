// moby's (Docker's) default seccomp profile as `linux.seccomp` of a config.json.
//
// The profile is moby's own file, from Debian's package of moby's sources (golang-github-docker-docker-dev): fetched by
// `apt-get download` when a test first needs it, unpacked into .cache/, never installed (its thirty dependencies are Go
// sources) and never committed. A list of our own would only test what we already thought of; podman's list (package
// golang-github-containers-common) is another one.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./repository.ts";

const debianPackage = "golang-github-docker-docker-dev";
const pathInPackage = "./usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json";
const cached = join(repository, ".cache/moby-seccomp.json");

/** moby's profile before it is fitted to a container: what applies depends on capabilities, architecture and kernel. */
interface Profile {
  defaultAction: string;
  defaultErrnoRet?: number;
  archMap: { architecture: string; subArchitectures?: string[] | null }[];
  syscalls: {
    names: string[];
    action: string;
    errnoRet?: number;
    args?: object[] | null;
    includes?: Condition;
    excludes?: Condition;
  }[];
}

interface Condition {
  caps?: string[];
  arches?: string[];
  minKernel?: string;
}

let missing: string | undefined | null = null;

/** Why the profile cannot be had, in one line, or undefined when it is there or could be fetched. Asked once. */
export function profileMissing(): string | undefined {
  if (missing === null) {
    try {
      mobyProfile();
      missing = undefined;
    } catch (error) {
      missing = (error as Error).message.split("\n").at(-1);
    }
  }
  return missing;
}

function mobyProfile(): Profile {
  return JSON.parse(mobyProfileText()) as Profile;
}

/** moby's file; fetches it once, which needs no root. Throws when there is no apt or no network. */
export function mobyProfileText(): string {
  const given = process.env.BUNC_TEST_MOBY_PROFILE;
  if (given !== undefined) return readFileSync(given, "utf8");
  if (!existsSync(cached)) fetchProfile();
  return readFileSync(cached, "utf8");
}

function fetchProfile(): void {
  const dir = `${cached}.${process.pid}`;
  mkdirSync(dir, { recursive: true });
  try {
    // Where there is no network, that shows soon enough.
    const options = ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10"];
    const download = Bun.spawnSync(["apt-get", "download", "-q", ...options, debianPackage], {
      cwd: dir,
      stderr: "pipe",
    });
    const file = readdirSync(dir).find((name) => name.endsWith(".deb"));
    if (file === undefined) {
      const reason = download.stderr.toString().trim() || `exit code ${download.exitCode}`;
      throw new Error(
        `moby's seccomp profile is not to be had: apt-get download ${debianPackage}: ${reason} ` +
          "(run apt-get update, or put the file's path into BUNC_TEST_MOBY_PROFILE)",
      );
    }
    const script = `dpkg-deb --fsys-tarfile "$1" | tar -xO "$2"`;
    const unpack = Bun.spawnSync(["sh", "-c", script, "sh", join(dir, file), pathInPackage], {
      stderr: "pipe",
    });
    const text = unpack.stdout.toString();
    if (!text.startsWith("{"))
      throw new Error(`no ${pathInPackage} in ${file}: ${unpack.stderr.toString().trim()}`);
    // Whole or not at all: other tests may look for it meanwhile.
    writeFileSync(join(dir, "whole"), text);
    renameSync(join(dir, "whole"), cached);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** This machine's architecture, as moby's profile and as seccomp name it. */
const architecture =
  process.arch === "arm64" ? ["arm64", "SCMP_ARCH_AARCH64"] : ["amd64", "SCMP_ARCH_X86_64"];

function kernelAtLeast(version: string): boolean {
  const parts = (text: string): number[] => text.split(/[.-]/).slice(0, 2).map(Number);
  const [major, minor] = parts(readFileSync("/proc/sys/kernel/osrelease", "utf8"));
  const [wantedMajor, wantedMinor] = parts(version);
  return major! > wantedMajor! || (major === wantedMajor && minor! >= (wantedMinor ?? 0));
}

/** Fits the profile to a container's capabilities: the `linux.seccomp` moby writes. */
export function dockerSeccomp(capabilities: readonly string[]): object {
  const profile = mobyProfile();
  const [name, native] = architecture;
  const applies = ({ includes = {}, excludes = {} }: Profile["syscalls"][number]): boolean => {
    if (excludes.arches?.includes(name!) || excludes.caps?.some((cap) => capabilities.includes(cap)))
      return false;
    if (excludes.minKernel !== undefined && kernelAtLeast(excludes.minKernel)) return false;
    if (includes.arches?.length && !includes.arches.includes(name!)) return false;
    if (includes.caps?.some((cap) => !capabilities.includes(cap))) return false;
    return includes.minKernel === undefined || kernelAtLeast(includes.minKernel);
  };
  const map = profile.archMap.find((entry) => entry.architecture === native);
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: profile.defaultErrnoRet }),
    architectures: map === undefined ? [] : [map.architecture, ...(map.subArchitectures ?? [])],
    syscalls: profile.syscalls.filter(applies).map(({ names, action, errnoRet, args }) => ({
      names,
      action,
      ...(errnoRet === undefined ? {} : { errnoRet }),
      ...(args?.length ? { args } : {}),
    })),
  };
}
