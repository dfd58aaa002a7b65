#!/bin/sh
# Installs those of the given Debian packages that are missing, and says what it does.
#
#   scripts/apt-install.sh PACKAGE...
#
# Exit status: 0 when all are there, 1 when one could not be installed, 2 when it was called wrongly.
set -eu

if [ "$#" -eq 0 ]; then
  echo "usage: scripts/apt-install.sh PACKAGE..." >&2
  exit 2
fi
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "apt-install: this is no Debian; install by hand: $*" >&2
  exit 1
fi

missing=""
for package in "$@"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  if [ "$status" = installed ]; then
    echo "apt-install: $package is installed"
  else
    missing="$missing $package"
  fi
done
[ -n "$missing" ] || exit 0

root=""
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
    echo "apt-install: only root can install:$missing" >&2
    exit 1
  fi
  root="sudo -n"
fi

# A package's daemon must not start by itself: tests start what they need, on ports of their own.
policy=/usr/sbin/policy-rc.d
own_policy=no
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
  $root chmod 755 "$policy"
  own_policy=yes
fi
cleanup() { [ "$own_policy" = no ] || $root rm -f "$policy"; }
trap cleanup EXIT

echo "apt-install: installing$missing"
# shellcheck disable=SC2086 # the names are meant to be split
if ! $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing; then
  echo "apt-install: updating the package lists, then once more"
  $root apt-get update -q
  # shellcheck disable=SC2086
  $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
fi
