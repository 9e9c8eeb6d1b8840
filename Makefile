# bunc: `make demo` sets everything up and runs a container; `make test` runs every test.

SHELL := /bin/bash
.DELETE_ON_ERROR:

PREFIX ?= /usr/local
DESTDIR ?=
BUN := node_modules/bun/bin/bun.exe
VERSION := $(shell sed -n 's/^  "version": "\(.*\)",/\1/p' package.json)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null)

# What to build for: this machine, or arm64 from amd64 (needs gcc-aarch64-linux-gnu and libc6-dev-arm64-cross).
NATIVE := $(patsubst x86_64,amd64,$(patsubst aarch64,arm64,$(shell uname -m)))
ARCH ?= $(NATIVE)
# Where arm64's libseccomp and Bun are kept once they have been downloaded.
ARM64_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bunc-arm64

CC ?= gcc
OBJCOPY ?= objcopy
WARN := -Wall -Wextra -Werror
CFLAGS := -O2 -std=gnu17 -D_GNU_SOURCE $(WARN)
# No libc, no stack protector (it needs thread-local storage), nothing gcc could turn into a call of memcpy by itself.
INIT_CFLAGS := $(CFLAGS) -Os -ffreestanding -fno-builtin -fno-tree-loop-distribute-patterns -fno-stack-protector \
	-fno-asynchronous-unwind-tables -fPIE
INIT_LDFLAGS := -static-pie -nostdlib -Wl,--no-dynamic-linker,-z,noseparate-code,-z,norelro,--build-id=none,-s
INIT_MAX := 32768
# Small and in few segments: the library is written to a memfd and mapped by nearly every command. Nothing is to be looked up then:
# no start files, and of libc only what is rarely called.
LIB_FLAGS := -Os -shared -fPIC -fvisibility=hidden -nostartfiles -fno-asynchronous-unwind-tables \
	-Wl,-s,--build-id=none,-z,noseparate-code,-z,lazy,--hash-style=gnu

# Where libseccomp is installed, and what links with it there.
SECCOMP ?= /usr
SECCOMP_FLAGS =

INTERP := c/interp.c c/composites.c c/mkpath.c c/mount.c c/cover.c c/hook.c c/files.c c/netlink.c c/clone.S
C_HEADERS := c/bunc.h c/interp.h c/mount.h c/sys.h
TS_SOURCES = $(shell find src -name '*.ts' ! -name '*.test.ts' ! -name '*.gen.ts')
PROTO = $(patsubst %.proto,%.gen.ts,$(shell find src -name '*.proto'))
GEN = src/linux/abi.gen.ts src/linux/abi-table.gen.ts build/libbunc.ts build/libbunc-seccomp.ts $(PROTO)
TEST_GEN = test/shim/cri.gen.ts
LIBSECCOMP = $(shell sed -n 's/^.define SCMP_VER_\(MAJOR\|MINOR\|MICRO\)[ \t]*//p' $(SECCOMP)/include/seccomp.h | tr '\n' . | sed 's/.$$//')
# To build: the first line. For the tests and `make bench`: real peers (runc, crun), a real server, and tools.
APT := binutils gcc libc6-dev libseccomp-dev clang-format busybox-static \
	runc crun containerd redis-server uidmap strace iproute2 util-linux procps mandoc zsh fish
# For `make clients-test` alone.
CLIENTS_APT := docker.io iptables podman buildah conmon containernetworking-plugins

.PHONY: build demo test test-unit test-integration test-shim test-fault cgroup2-test vm-test clients-test soak-test lint format bench bench-shim install clean deps apt clients-apt npm

build: $(or $(if $(filter $(NATIVE),$(ARCH)),bunc),$(if $(filter arm64 aarch64,$(ARCH)),bunc-arm64),wrong-arch)

.PHONY: wrong-arch
wrong-arch:
	@echo 'ARCH=$(ARCH): bunc is built here for $(NATIVE)$(if $(filter amd64,$(NATIVE)), and arm64)' >&2; exit 1

# --- what must be installed ------------------------------------------------------------------------------------------

deps: apt npm

apt clients-apt:
	@missing=; for p in $(APT) $(if $(filter clients-apt,$@),$(CLIENTS_APT)); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing from Debian:$$missing"; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

npm: $(BUN)

# The package's install script puts the binary in place; npm may be told not to run scripts, so it is run here if need be.
$(BUN): package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	@$(BUN) --version >/dev/null 2>&1 || (cd node_modules/bun && node install.js)
	@touch $(BUN)

# --- C ---------------------------------------------------------------------------------------------------------------

build/bunc-init: $(INTERP) c/init.c $(C_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(INIT_CFLAGS) $(FAULTS) $(INIT_LDFLAGS) -o $@ $(filter %.c %.S,$^)
	@test $$(stat -c %s $@) -lt $(INIT_MAX) || { echo "$@ is larger than $(INIT_MAX) bytes"; exit 1; }

build/libbunc.so: $(INTERP) c/libbunc.c $(C_HEADERS) build/bunc-init
	$(CC) $(CFLAGS) $(FAULTS) $(LIB_FLAGS) -DBUNC_INIT_PATH='"build/bunc-init"' -o $@ \
		$(filter %.c %.S,$^)

build/faults/bunc-init: $(INTERP) c/init.c $(C_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(INIT_CFLAGS) -DBUNC_FAULTS $(INIT_LDFLAGS) -o $@ $(filter %.c %.S,$^)

build/faults/libbunc.so: $(INTERP) c/libbunc.c $(C_HEADERS) build/faults/bunc-init
	$(CC) $(CFLAGS) -DBUNC_FAULTS $(LIB_FLAGS) \
		-DBUNC_INIT_PATH='"build/faults/bunc-init"' -o $@ $(filter %.c %.S,$^)

build/libbunc-seccomp.so: c/libseccomp-bunc.c c/libseccomp-layout.c c/libseccomp-bunc.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -shared -fPIC -fvisibility=hidden -Wl,-s,--build-id=none -o $@ $(filter %.c,$^) \
		-Wl,-Bstatic -lseccomp -Wl,-Bdynamic -Wl,--exclude-libs,ALL $(SECCOMP_FLAGS)

src/linux/abi.gen.ts: c/abi.c c/bunc.h scripts/abi.ts $(BUN)
	@mkdir -p build
	$(CC) $(CFLAGS) -c -o build/abi.o c/abi.c
	$(OBJCOPY) -O binary -j bunc_abi build/abi.o build/abi.bin
	$(BUN) scripts/abi.ts build/abi.bin > $@

# For what looks constants up by name: as an object, which everything else, that has them inlined, must not load.
src/linux/abi-table.gen.ts: src/linux/abi.gen.ts
	sed -n '/^export enum abi {/,/^}/p' $< > $@

%.gen.ts: %.proto scripts/proto.ts $(BUN)
	$(BUN) scripts/proto.ts $< > $@

# A library travels in the program's own text: reading an embedded file costs more than decoding this.
build/%.ts: build/%.so Makefile
	@mkdir -p $(@D)
	@printf '// Generated: %s, base64. In a function: what does not need it does not decode the constant.\nexport default (): string => "%s";\n' '$<' "$$(base64 -w0 $<)" > $@

# --- the executable ----------------------------------------------------------------------------------------------------

# scripts/bundle.ts says how. BUN_TARGET: what another architecture needs.
BUNDLE = $(BUN) scripts/bundle.ts build/$(@F).tmp BUNC_VERSION=$(VERSION) BUNC_COMMIT=$(COMMIT) LIBSECCOMP_VERSION=$(LIBSECCOMP)

bunc: $(GEN) $(TS_SOURCES) scripts/bundle.ts $(BUN)
	@mkdir -p build
	$(BUNDLE) $(BUN_TARGET)
	mv build/$(@F).tmp $@

# For arm64 all is made in a copy of the sources, by the same rules. Its name begins with a dot: Bun looks for no tests
# there when it runs this directory's.
ARM64 := build/.arm64
# What the unit tests use of the rig, too.
ARM64_SOURCES := Makefile package.json package-lock.json tsconfig.json bunfig.toml c scripts src $(addprefix test/rig/,moby-profile.ts repository.ts)
ARM64_MAKE = $(MAKE) -C $(ARM64) NATIVE=arm64 ARCH=arm64 BUN=$(CURDIR)/$(BUN) \
	CC=aarch64-linux-gnu-gcc OBJCOPY=aarch64-linux-gnu-objcopy SECCOMP=$(abspath $(ARM64_CACHE))/usr \
	SECCOMP_FLAGS='-I$$(SECCOMP)/include -L$$(SECCOMP)/lib/aarch64-linux-gnu' \
	BUN_TARGET='target=bun-linux-arm64 executable=$(abspath $(ARM64_CACHE))/bun'

.PHONY: bunc-arm64 arm64-test
bunc-arm64: $(BUN)
	scripts/arm64 $(ARM64_CACHE) $(BUN)
	rm -rf $(ARM64)/c $(ARM64)/src
	mkdir -p $(ARM64)
	tar -c --exclude='*.gen.ts' $(ARM64_SOURCES) | tar -x -C $(ARM64)
	$(ARM64_MAKE) bunc build/libbunc-seccomp.ts
	ln -f $(ARM64)/bunc $@

# The same with fault injection compiled in, for test/fault only.
build/bunc-faults: $(GEN) build/faults/libbunc.ts $(TS_SOURCES) scripts/bundle.ts $(BUN)
	$(BUNDLE) conditions=faults
	mv build/$(@F).tmp $@

# --- tests -------------------------------------------------------------------------------------------------------------

build/test-helper: test/rig/helper.c test/rig/report.c test/rig/helper.h
	@mkdir -p $(@D)
	$(CC) $(filter-out -D_GNU_SOURCE,$(CFLAGS)) -static -o $@ $(filter %.c,$^)

build/bench-timer: test/bench/timer.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $<

C_FORMATTED = c/*.c c/*.h test/rig/*.c test/rig/*.h test/bench/*.c test/unit-c/*.c test/integration/*.c

test: deps
	$(MAKE) lint test-unit test-integration test-shim cgroup2-test test-fault

lint: $(GEN) $(TEST_GEN) $(BUN)
	clang-format --dry-run --Werror $(C_FORMATTED)
	node_modules/.bin/biome check --error-on-warnings .
	node_modules/.bin/tsc --noEmit -p .

format:
	clang-format -i $(C_FORMATTED)
	node_modules/.bin/biome check --write .

test-unit: $(GEN) build/libbunc.so
	$(BUN) test --timeout 60000 src scripts test/bench

test-integration: bunc build/test-helper
	$(BUN) test test/integration

test-shim: bunc build/test-helper $(TEST_GEN)
	$(BUN) test --timeout 120000 test/shim

# Docker, podman and buildah of Debian, some 250 MB of packages: not part of `make test`. Their daemons have everything of
# their own, a network namespace too.
clients-test: clients-apt bunc build/test-helper
	$(BUN) test --timeout 120000 test/clients

# 10,000 execs through one shim, which must not grow by them: two minutes. SOAK_EXECS is another number.
soak-test: bunc build/test-helper
	$(BUN) test test/soak

# The tests that concern cgroups, with cgroup2 alone at /sys/fs/cgroup: nothing to do where that is what the host has.
cgroup2-test: bunc build/test-helper
	test/vm/cgroup2 $(BUN) test --timeout 60000 $(or $(TESTS),cgroup.test cgroup-v2 devices events.test kill-delete lifecycle mount-special takeover.test)

# A Debian system with systemd and cgroup v2 under QEMU; LANES of test/vm/lane (root systemd user), TESTS: files.
vm-test: bunc build/test-helper $(TEST_GEN)
	test/vm/run $(LANES) -- $(TESTS)

# What was built for arm64, under qemu-user (Debian's qemu-user-static).
arm64-test: bunc-arm64 $(GEN) build/libbunc.ts
	@command -v qemu-aarch64-static >/dev/null || { echo "no qemu-aarch64-static: apt-get install qemu-user-static" >&2; exit 1; }
	ARM64_BUN=$(abspath $(ARM64_CACHE))/bun $(BUN) test --timeout 900000 ./test/arm64

test-fault: bunc build/bunc-faults build/test-helper
	$(BUN) test test/fault

bench-shim: apt bunc
	$(BUN) test/bench/shim.ts

bench: apt bunc build/bench-timer
	$(BUN) test/bench/bench.ts

# --- use ---------------------------------------------------------------------------------------------------------------

demo: deps
	$(MAKE) bunc
	scripts/demo

# Man pages and completions, from the table of commands.
build/share: src/cli/table.ts src/cli/flags.ts $(wildcard src/cli/manual/*.ts) scripts/manual.ts $(GEN) $(BUN)
	rm -rf $@
	$(BUN) scripts/manual.ts $@ $(VERSION) $(or $(shell git log -1 --format=%cs 2>/dev/null),$(shell date +%F))

# The shim is the same file under another name: containerd finds it in $$PATH. Not copied by install(1): written by 2 MB at
# once it comes to lie in the page cache in huge pages, and every command starts faster (see scripts/align.ts).
SBIN = $(DESTDIR)$(PREFIX)/sbin
install: bunc build/share
	install -d $(SBIN) $(DESTDIR)$(PREFIX)/bin
	dd if=bunc of=$(SBIN)/.bunc.new bs=2M status=none
	chmod 755 $(SBIN)/.bunc.new
	mv -f $(SBIN)/.bunc.new $(SBIN)/bunc
	ln -sf ../sbin/bunc $(DESTDIR)$(PREFIX)/bin/containerd-shim-bunc-v2
	cd build/share && find . -type f -exec install -D -m 644 {} $(abspath $(DESTDIR)$(PREFIX))/share/{} \;

clean:
	rm -rf build bunc bunc-arm64 src/linux/abi.gen.ts src/linux/abi-table.gen.ts $(PROTO) $(TEST_GEN)
