#!/bin/sh
# root.sh FOLDER SOURCE:PATH...   Lays out the file system of an image in FOLDER: the sources at their paths, the shared
# libraries that they are linked with, and what a user needs to have a name. The same for Docker and for build.py.
set -eu
root=$1
shift

put() {
    mkdir -p "$root$(dirname "$2")"
    cp -L "$1" "$root$2"
}

mkdir -p "$root/etc" "$root/tmp"
chmod 1777 "$root/tmp"
printf 'root:x:0:0::/:/sbin/nologin\nnonroot:x:65532:65532::/:/sbin/nologin\n' > "$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' > "$root/etc/group"
# glibc would ask the name server first, also for localhost.
printf 'hosts: files dns\n' > "$root/etc/nsswitch.conf"
for item in "$@"; do
    put "${item%%:*}" "${item#*:}"
    # A file that is no program, or that is linked statically, has none.
    for library in $(ldd "${item%%:*}" 2>/dev/null | sed -n 's/.*[[:space:]]\(\/[^ ]*\) (0x.*/\1/p'); do
        put "$library" "$library"
    done
done
