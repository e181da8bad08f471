#!/usr/bin/env bash
# Make a container engine usable for the tests and the container demo.
#
#   eval "$(tools/containers.sh setup)"   install what is missing, make the base images, print exports
#   tools/containers.sh compose ARGS...   compose with the build flags this machine needs
#   tools/containers.sh status            say what is there
#
# Where Docker or Podman already works and reaches a registry, `setup` only pulls two images. Where not, it installs
# podman and runc (Debian, as root), works around what they may not do here, and makes the base images from Debian's
# packages under their public names, so that a Dockerfile stays what a user would write.
#
# Exports: ENGINE            podman or docker; SIDECALL_ENGINE chooses one
#          COMPOSE           the compose command that goes with it
#          BUILD_FLAGS       for `$ENGINE build $BUILD_FLAGS …` (unquoted) where a build fetches packages
#          CONTAINERS_CONF   only where podman does not start a container without it
#
# What was found out is kept in build/containers/; delete that directory to have it found out again.
# Exit status: 69 no engine and none can be installed, 64 usage.
set -euo pipefail

REPO=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
STATE=$REPO/build/containers
CONF=$STATE/containers.conf
FOR_BUILDS=$STATE/for-builds # what a build has to know about this machine: pip, apt, certificates
SUITE=bookworm
DEBIAN=docker.io/library/debian:bookworm-slim
BUSYBOX=docker.io/library/busybox:stable
PULL_SECONDS=120

say() { printf 'containers: %s\n' "$*" >&2; }

# The one way out for "not possible here": a sentence, then a hint.
unavailable() {
    say "$1"
    [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 69
}

quietly() { # run a command, showing what it printed only if it fails
    local log
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        rm -f "$log"
    else
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
}

# ---------------------------------------------------------------- Debian packages

have() { command -v "$1" >/dev/null 2>&1; }

apt_update_once() {
    [ -e "$STATE/apt-updated" ] && return
    say "apt-get update"
    quietly apt-get update
    : >"$STATE/apt-updated"
}

need_packages() { # need_packages COMMAND=PACKAGE...: install the packages whose command is missing
    quietly "$REPO/tools/need.sh" "$@" || exit 69
}

# ---------------------------------------------------------------- the engine

docker_works() { # a client alone, or podman's stand-in for it, does not tell a server version
    have docker && timeout 10 docker info --format '{{.ServerVersion}}' 2>/dev/null | grep -q .
}

choose_engine() {
    ENGINE=${SIDECALL_ENGINE:-}
    if [ -z "$ENGINE" ]; then
        if docker_works && docker compose version >/dev/null 2>&1; then ENGINE=docker; else ENGINE=podman; fi
    fi
    case $ENGINE in
    docker) docker_works || unavailable "Docker's engine does not answer" "start it, or leave SIDECALL_ENGINE unset" ;;
    podman) need_packages podman=podman runc=runc ;;
    *) unavailable "SIDECALL_ENGINE is neither podman nor docker: $ENGINE" ;;
    esac
}

limit() { # limit NAME ULIMIT-FLAG MOST: an entry for default_ulimits, no higher than this machine's own
    local hard most=$3
    hard=$(ulimit -H "$2")
    if [ "$hard" != unlimited ] && [ "$hard" -lt "$most" ]; then most=$hard; fi
    printf '"%s=%s:%s"' "$1" "$most" "$most"
}

write_conf() {
    cat >"$CONF" <<END
# Written by tools/containers.sh: the default runtime or limits do not start a container on this machine.
[containers]
default_ulimits = [$(limit nofile -n 20000), $(limit nproc -u 4096)]
[engine]
runtime = "runc"
END
}

try_run() { podman run --rm --network=none "$BUSYBOX" true; }

# podman asks for more open files than an unprivileged machine may grant, and crun needs a cgroup set-up of its own.
probe_podman() {
    [ -e "$STATE/podman-probed" ] && return
    rm -f "$CONF"
    if ! try_run >/dev/null 2>&1; then
        write_conf
        CONTAINERS_CONF=$CONF quietly try_run || unavailable "podman cannot start a container here (see above)"
        say "podman needs $CONF here"
    fi
    : >"$STATE/podman-probed"
}

# ---------------------------------------------------------------- base images

has_image() { "$ENGINE" image inspect "$1" >/dev/null 2>&1; }

ensure_image() { # ensure_image NAME MAKER: present, pulled or made
    has_image "$1" && return
    if timeout "$PULL_SECONDS" "$ENGINE" pull --quiet "$1" >/dev/null 2>&1; then
        say "pulled $1"
    else
        say "no registry answers: making $1 from Debian's packages"
        "$2" "$1"
    fi
}

import_image() { # import_image TARBALL NAME SHELL
    quietly "$ENGINE" import --change "CMD [\"$3\"]" "$1" "$2" ||
        unavailable "$ENGINE cannot import an image here (see above)"
}

apt_sites() { # ORIGIN LABEL CODENAME URI of what this machine's apt uses, whichever format its sources have
    # shellcheck disable=SC2016  # the fields are apt's
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(CODENAME)|$(REPO_URI)' 'Created-By: Packages' | sort -u
}

site_of() { # site_of CODENAME: where this machine gets it, nothing if it does not
    apt_sites | awk -F'|' -v codename="$1" '$1 == "Debian" && $3 == codename { sub("/$", "", $4); print $4; exit }'
}

write_sources() { # write_sources FILE: the image's apt sources, on the machine's own mirrors
    local codename site
    for codename in "$SUITE" "$SUITE-updates" "$SUITE-security"; do
        site=$(site_of "$codename")
        [ -z "$site" ] || printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n\n' "$site" "$codename"
    done >"$1"
    [ -s "$1" ]
}

slim() { # slim ROOT: what the public slim image leaves out, now and in later installs
    rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/usr/share/{doc,man,info,locale}/*
    printf 'path-exclude=/usr/share/%s/*\n' doc man info locale >"$1/etc/dpkg/dpkg.cfg.d/docker"
}

bootstrap_debian() ( # bootstrap_debian TARBALL
    need_packages debootstrap=debootstrap
    [ "$(id -u)" = 0 ] || unavailable "debootstrap needs root" "as root, or where a registry can be reached"
    site_of "$SUITE" | grep -q . || apt_update_once
    mirror=$(site_of "$SUITE")
    root=$(mktemp -d /var/tmp/sidecall-debian.XXXXXX)
    trap 'rm -rf "$root"' EXIT
    chmod 755 "$root"
    say "debootstrap $SUITE, about half a minute"
    quietly debootstrap --variant=minbase "$SUITE" "$root" ${mirror:+"$mirror"} || unavailable "debootstrap failed"
    if write_sources "$root/etc/apt/sources.list.d/debian.sources"; then : >"$root/etc/apt/sources.list"; fi
    slim "$root"
    tar -C "$root" -c . | gzip -1 >"$1.new"
    mv "$1.new" "$1"
)

make_debian() {
    local tarball=$STATE/debian-$SUITE.tar.gz
    [ -e "$tarball" ] || bootstrap_debian "$tarball"
    import_image "$tarball" "$1" bash
}

fetch_busybox() { # fetch_busybox FOLDER: unpack Debian's static busybox there, without installing it
    cd -- "$1"
    have apt-get || unavailable "no registry and no apt-get: cannot make $BUSYBOX"
    apt-get download -qq busybox-static >/dev/null 2>&1 || { apt_update_once && quietly apt-get download busybox-static; }
    dpkg-deb -x busybox-static_*.deb unpacked
}

make_busybox() ( # a container without libc, Python or a package manager
    work=$(mktemp -d /var/tmp/sidecall-busybox.XXXXXX)
    trap 'rm -rf "$work"' EXIT
    (fetch_busybox "$work")
    mkdir -p "$work"/root/{bin,etc,root,tmp,var}
    chmod 755 "$work/root"
    chmod 1777 "$work/root/tmp"
    find "$work/unpacked" -path '*/bin/busybox' -type f -exec install -m 755 {} "$work/root/bin/busybox" \;
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$work/root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$work/root/etc/group"
    "$work/root/bin/busybox" --list | while read -r applet; do
        [ "$applet" = busybox ] || ln -s busybox "$work/root/bin/$applet"
    done
    tar -C "$work/root" --owner=0 --group=0 -cf "$work/root.tar" .
    import_image "$work/root.tar" "$1" sh
)

# ---------------------------------------------------------------- builds that fetch packages

certificate_bundle() { # the bundle this machine trusts, said by the usual variables
    local file
    for file in "${PIP_CERT:-}" "${SSL_CERT_FILE:-}" "${REQUESTS_CA_BUNDLE:-}" /etc/ssl/certs/ca-certificates.crt; do
        if [ -n "$file" ] && [ -f "$file" ]; then
            printf '%s\n' "$file"
            return
        fi
    done
}

# pip's own view of its settings (environment first, then files); a directory of this machine means nothing in a build.
pip_conf() {
    printf '[global]\ncert = /run/for-builds/ca.crt\n'
    { python3 -m pip config list 2>/dev/null || true; } | awk '
        match($0, /^[a-z:]+\./) {
            entry = substr($0, RLENGTH + 1); sub(/^\./, "", entry)
            key = entry; sub(/=.*/, "", key)
            if (key !~ /^((extra-)?index-url|trusted-host|proxy|(default-)?timeout)$/ || key in seen) next
            value = substr(entry, length(key) + 3); sub(/.$/, "", value)
            gsub(/\\n/, " ", value); gsub(/file:[^ ]*/, "", value); sub(/^ +/, "", value); sub(/ +$/, "", value)
            sub(/^default-/, "", key)
            if (value != "") { seen[key] = 1; print key " = " value }
        }'
}

apt_conf() {
    printf 'Acquire::https::CAInfo "/run/for-builds/ca.crt";\n'
    apt-config dump 2>/dev/null | grep -E '^Acquire::https?::Proxy(::| )' || true
}

write_for_builds() {
    [ -e "$FOR_BUILDS/ready" ] && return
    local bundle
    mkdir -p "$FOR_BUILDS"
    bundle=$(certificate_bundle)
    if [ -n "$bundle" ]; then cat -- "$bundle"; fi >"$FOR_BUILDS/ca.crt"
    if [ -n "$bundle" ]; then pip_conf; else pip_conf | grep -v '^cert'; fi >"$FOR_BUILDS/pip.conf"
    if [ -n "$bundle" ]; then apt_conf; else apt_conf | grep -v CAInfo || true; fi >"$FOR_BUILDS/apt.conf"
    : >"$FOR_BUILDS/ready"
}

# Files are mounted for the build only: nothing of this machine stays in the image. Docker's builder cannot mount, but
# its engine has its own settings; both take the proxies as predefined build arguments.
build_flags() {
    local name flags=(--network host)
    if [ "$ENGINE" = podman ]; then
        flags+=(--volume "$FOR_BUILDS:/run/for-builds:ro" --volume "$FOR_BUILDS/pip.conf:/etc/pip.conf:ro")
        flags+=(--volume "$FOR_BUILDS/apt.conf:/etc/apt/apt.conf.d/90for-builds:ro")
    fi
    for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
        [ -z "${!name:-}" ] || flags+=(--build-arg "$name")
    done
    local quoted
    printf -v quoted '%q ' "${flags[@]}"
    printf '%s' "${quoted% }"
}

ensure_compose() {
    COMPOSE="docker compose"
    [ "$ENGINE" = podman ] || return 0
    COMPOSE=$STATE/venv/bin/podman-compose
    [ -x "$COMPOSE" ] && return
    say "pip install podman-compose"
    quietly python3 -m venv "$STATE/venv" || unavailable "python3 -m venv failed" "apt-get install python3-venv"
    quietly "$STATE/venv/bin/pip" install --quiet podman-compose || unavailable "pip could not install podman-compose"
}

# ---------------------------------------------------------------- commands

print_exports() {
    printf 'export ENGINE=%q\n' "$ENGINE"
    printf 'export COMPOSE=%q\n' "$COMPOSE"
    printf 'export BUILD_FLAGS=%q\n' "$(build_flags)"
    if [ "$ENGINE" = podman ] && [ -e "$CONF" ]; then printf 'export CONTAINERS_CONF=%q\n' "$CONF"; fi
}

locked_setup() {
    choose_engine
    ensure_image "$BUSYBOX" make_busybox
    ensure_image "$DEBIAN" make_debian
    if [ "$ENGINE" = podman ]; then probe_podman; fi
    write_for_builds
    ensure_compose
    print_exports
}

setup() { # one at a time; the lock is not inherited by what the engine leaves running
    mkdir -p "$STATE"
    flock --close "$STATE/lock" "$BASH" "${BASH_SOURCE[0]}" locked-setup
}

compose() {
    local exports
    exports=$(setup)
    eval "$exports"
    if [ "$ENGINE" = podman ]; then
        exec "$COMPOSE" --podman-build-args "$BUILD_FLAGS" "$@"
    fi
    exec docker compose "$@"
}

status_line() { printf '%-16s %s\n' "$1" "$2"; }

status() {
    local name engine_says="no engine answers"
    if docker_works; then status_line docker "$(docker --version)"; else status_line docker "$engine_says"; fi
    if have podman; then status_line podman "$(podman --version)"; else status_line podman "not installed"; fi
    for name in runc debootstrap; do
        status_line "$name" "$(command -v "$name" || echo "not installed")"
    done
    for name in containers.conf venv/bin/podman-compose "debian-$SUITE.tar.gz"; do
        if [ -e "$STATE/$name" ]; then status_line "$(basename "$name")" "$STATE/$name"; fi
    done
    for ENGINE in docker podman; do
        have "$ENGINE" || continue
        for name in "$DEBIAN" "$BUSYBOX"; do
            if has_image "$name"; then status_line "$ENGINE image" "$name"; fi
        done
    done
}

# Our own file from an earlier eval is not a wish of the user's.
if [ "${CONTAINERS_CONF:-}" = "$CONF" ] && [ ! -e "$STATE/podman-probed" ]; then unset CONTAINERS_CONF; fi

case ${1:-} in
setup | status) "$1" ;;
compose) compose "${@:2}" ;;
locked-setup) locked_setup ;;
*)
    echo "usage: tools/containers.sh setup | status | compose ARGS..." >&2
    exit 64
    ;;
esac
