/** The prose of the man pages that help has no room for. Paragraphs, and pairs of a head and what is said about it. */

type Pairs = readonly (readonly [string, string])[];

export const INTRODUCTION: readonly string[] = [
  "bunc makes and runs containers as the Open Container Initiative describes them: a bundle is a directory with a file config.json and, usually, a root filesystem. It takes the commands and options of runc and may be put in its place, under containerd, Docker, podman and CRI-O.",
  "A container is made by create, runs its program from start on, and is there until delete. run does all of it in one. A container is known by an id, which is unique below the directory of --root. Other programs are run in it by exec.",
  "Containers that runc has made with the same --root are managed as bunc's own, and the reverse. Under the name runc (a link or a copy) bunc says runc in its messages, and uses runc's directory /run/runc: exchanged for the file of runc, it goes on with the containers that are running.",
  "Options stand before the command if they are global, and after it if they are the command's. They may be given with one dash or two, as --name value or --name=value; -- ends them.",
];

export const PROGRAM_EXIT: Pairs = [
  [
    "0",
    "All went well. run, exec and restore, unless detached, end with what the program ended with, or with 128 and the number of the signal that killed it.",
  ],
  ["1", "Something failed, and a line on stderr says what, where and what can be done."],
  ["3", "There is no such command."],
  ["255", "exec failed before its program ran; or the kernel could not execute the program of run."],
];

export const ENVIRONMENT: Pairs = [
  [
    "XDG_RUNTIME_DIR",
    "For an ordinary user, and for root of a user namespace unless $USER is root: --root is the directory bunc in it.",
  ],
  [
    "LISTEN_FDS, LISTEN_PID",
    "Descriptors of socket activation, which are passed to the program (sd_listen_fds(3)).",
  ],
  [
    "NOTIFY_SOCKET",
    "The program gets a socket of its own for sd_notify(3), and what matters to the service manager is passed on.",
  ],
];

export const FILES: Pairs = [
  [
    "/run/bunc",
    "The directory of containers of root, one directory with state.json for each; best on a file system that is empty after boot.",
  ],
  ["/run/runc", "The same for bunc under the name runc."],
  ["config.json", "In the bundle: what the container is to be. bunc\\-spec(8) writes one."],
];

export const PROGRAM_EXAMPLES: Pairs = [
  [
    "A shell in a container:",
    "# mkdir -p bundle/rootfs/bin && cd bundle\n# cp /bin/busybox rootfs/bin/sh\n# bunc spec\n# bunc run hello",
  ],
  [
    "What there is, and what one of them is doing:",
    "# bunc list\n# bunc ps hello\n# bunc events --stats hello",
  ],
];

export const SEE: readonly string[] = ["namespaces(7)", "cgroups(7)", "capabilities(7)", "seccomp(2)"];

const FAILED = ["1", "It failed, and a line on stderr says why."] as const;

/** By command; `default` for those without their own. */
export const EXIT: Readonly<Record<string, Pairs>> = {
  default: [["0", "It is done."], FAILED],
  run: [
    [
      "0 to 255",
      "What the program ended with, or 128 and the number of the signal that killed it; with --detach 0.",
    ],
    ["1", "The container could not be made; nothing of it is left."],
    ["255", "The kernel could not execute the program."],
  ],
  restore: [
    [
      "0 to 255",
      "What the program ended with, or 128 and the number of the signal that killed it; with --detach 0.",
    ],
    FAILED,
  ],
  exec: [
    [
      "0 to 255",
      "What the command ended with, or 128 and the number of the signal that killed it; with --detach 0.",
    ],
    ["255", "The command could not be run."],
  ],
  doctor: [
    ["0", "Containers can run here."],
    ["1", "Something is missing without which no container of this user can run."],
  ],
  validate: [
    ["0", "There is nothing to report."],
    ["1", "There is a problem, or several: one line each."],
  ],
};

/** What is said of a command after the text that help has too. */
export const LONGER: Readonly<Record<string, readonly string[]>> = {
  create: [
    "When create returns, everything of the container is there except its program: namespaces, mounts, cgroup, and a process of 100 kB that waits for start. That the program can be found has been checked. Hooks named prestart, createRuntime and createContainer have run.",
    "The standard streams of the container are those of create. With process.terminal, --console-socket is needed, which gets the terminal's master end as SCM_RIGHTS.",
  ],
  run: [
    "In the foreground run passes signals on to the program, gives it a terminal if process.terminal asks for one, waits for it and deletes the container, unless --keep is given. With --detach it returns as soon as the program runs.",
  ],
  start: [
    "The process that create left behind executes the program. It is an error if the container has been started before. poststart hooks run after it.",
  ],
  delete: [
    "What is left of processes is killed, cgroups and the state directory are removed, and poststop hooks run. A container that runs is refused, unless --force kills it first; with --force a container that does not exist is no error.",
  ],
  exec: [
    "The process joins the namespaces and the cgroup of the container, and gets the capabilities, the seccomp filter, the labels and the environment of its program. A command without a slash is looked for in the $PATH of the container. Options stand before the container's id: what follows the id is the command's.",
  ],
  kill: [
    "The signal goes to the init of the container alone. SIGKILL to a container without a pid namespace of its own goes to every process in its cgroup.",
  ],
  list: [
    "A container whose state cannot be read is named on stderr and does not hide the others. Without --root, a directory that is not there is an empty list.",
  ],
  pause: [
    "All processes are frozen by the cgroup. They still exist, hold their memory and connections, and take no signals but SIGKILL until they are resumed.",
  ],
  ps: [
    "The list is made by the ps of the host, and keeps the lines of processes in the container's cgroups.",
  ],
  state: [
    "The fields are those of the runtime-spec, with rootfs, created and owner as runc has them. The status is created, running, paused or stopped.",
  ],
  update: ["Limits can be changed in any state but stopped, and are kept in the container's state."],
  spec: [
    "What it writes is runc's file, for a program sh on a terminal. With --rootless the container has a user namespace in which the caller is root, and no cgroup settings.",
  ],
  explain: [
    "The list is the program that bunc itself would execute, compiled from config.json and facts of the host, not a description of it.",
  ],
  validate: [
    "All problems are reported at once, each with its place in config.json, as in mounts[3].options[0].",
  ],
};

export const EXAMPLES: Readonly<Record<string, Pairs>> = {
  run: [
    ["In the foreground, from the bundle in the current directory:", "# bunc run hello"],
    [
      "In the background, with what it takes to find its process:",
      "# bunc run -d --pid-file /run/web.pid -b /srv/web web",
    ],
  ],
  create: [["A container by steps:", "# bunc create -b /srv/web web\n# bunc state web\n# bunc start web"]],
  start: [["Run what has been created:", "# bunc start web"]],
  delete: [["Remove a container that may be running:", "# bunc delete --force web"]],
  exec: [
    ["A shell on a terminal:", "# bunc exec -t web sh"],
    ["As another user, with one more variable:", "# bunc exec -u 1000:1000 -e LANG=C web id"],
  ],
  kill: [["Ask it to end, then insist:", "# bunc kill web\n# bunc kill web KILL"]],
  list: [["The ids alone, for a script:", "# bunc list -q"]],
  ps: [["With the threads:", "# bunc ps web -eLf"]],
  state: [["The pid of its init:", "# bunc state web | jq .pid"]],
  events: [["What it uses now, once:", "# bunc events --stats web"]],
  update: [
    ["Half a CPU and 256 MiB:", "# bunc update --cpu-period 100000 --cpu-quota 50000 --memory 256m web"],
  ],
  checkpoint: [
    [
      "Save, and make again:",
      "# bunc checkpoint --image-path /var/lib/web web\n# bunc restore -d --image-path /var/lib/web -b /srv/web web",
    ],
  ],
  explain: [["The calls about mounts:", "$ bunc explain -b /srv/web | grep mount"]],
  validate: [["Before a file is used:", "$ bunc validate -b /srv/web && echo fine"]],
  spec: [["A bundle of one's own:", "$ mkdir -p b/rootfs && bunc spec -b b"]],
};
